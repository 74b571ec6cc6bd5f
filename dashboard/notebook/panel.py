"""`hs.panel`: what was captured, as components for one's own Dash application.

It stands alone: no callbacks, no files of ours and no server, but `html` and `dcc.Graph`, with every picture in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hookscope.dashboard.notebook.walls import NotShown, read_look
from hookscope.hooks.results.looks import LayerInfo

if TYPE_CHECKING:
    from dash import html

    from hookscope.hooks.looks.records import Captured


def panel(
    captured: Captured, *, layers: Sequence[LayerInfo] = (), image: int = 0, name: str = "", **view: Any
) -> html.Div:
    """A Dash component with a wall of channels, a histogram and the numbers of each captured layer, as Plotly figures.

        app = dash.Dash()
        app.layout = html.Div([html.H1("My model"), hs.panel(captured)])

    Arguments:
        captured: what `hookscope.capture` gave, with values or with numbers alone.
        layers: what `hookscope.describe(model, image)` said, from which it is known what a layer's axes are. Without it
            they are read off the layer's type where that tells, and else four axes are taken for (image, channel,
            height, width), which is then said.
        image: which one of a batch.
        name: the beginning of every component's id; "" for one that no other call has.
        view: how walls are drawn, as of `hookscope.show`.

    Raises:
        NotShown: nothing was captured, there is no such image or choice, or Dash is not installed; a sentence.
    """
    look = read_look(view)
    try:
        from hookscope.dashboard.notebook.components import build
    except ImportError as error:
        missing = error.name or error
        raise NotShown(f"A panel needs {missing}, which is not installed: pip install 'hookscope[page]'.") from None
    return build(captured, layers, image, name, look)
