"""What a panel is: a region of the page, or several that belong together, in one object.

`panels/order.py` lists them. Whoever shows all panels (the page, what streams to it, the exported file) goes through
that list and knows none of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import dash

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import Tab, View

Place = Literal["top", "side", "main", ""]
Trying = Literal["", "moves", "rests"]  # whether a slider is being dragged, and what it does


@dataclass(frozen=True)
class Setup:
    """What a page knows before anything was chosen.

    Attributes:
        models: what the operator offers, as they were written. store: has the samples.
        prefix: the path that the page is served under.
        tensorboard: whether what is shown may be written for TensorBoard. baselines: whether any is stored.
    """

    models: tuple[str, ...]
    store: InputStore
    prefix: str
    tensorboard: bool = False
    baselines: bool = False


@dataclass(frozen=True)
class Waiting:
    """What a page knows while its model is not there.

    Attributes:
        sentence: how far it is. comes: whether it is on its way; else its load has failed.
        mounted: how many cards the page has. feeds: the runs that can be followed. prefix: as of `Setup`.
        offered: the models that can be chosen, as of `Scene`.
    """

    view: View
    store: InputStore
    gallery: Gallery
    sentence: str
    comes: bool
    mounted: int
    feeds: Feeds | None = None
    prefix: str = "/"
    offered: tuple[str, ...] = ()


def _nothing(*_: Any) -> Any:
    return ()


@dataclass(frozen=True)
class Panel:
    """A region of the page.

    Attributes:
        name: unique among the panels.
        layout: the elements, drawn once with nothing chosen. place: where they go; panels of one place stand in the
            order of the list.
        parts: what is drawn in them. urgency: parts of a panel with a smaller one are asked for before.
        waiting: the same while there is no model. tabs: behind which tabs the parts are shown.
        saved: the elements of the exported page, which gets the same parts; None leaves the panel out.
        register: makes its Dash callbacks.
        live: the parts that are drawn while a slider is being dragged, of which nothing is kept; usually none.
        resting: those that are drawn besides once the slider is held still.
    """

    name: str
    place: Place = ""
    urgency: float = 0
    layout: Callable[[Setup], Any] = _nothing
    parts: Callable[[Scene], Sequence[Part]] = _nothing
    waiting: Callable[[Waiting], Sequence[Part]] = _nothing
    saved: Callable[[Scene], Any] | None = None
    register: Callable[[dash.Dash], None] = _nothing
    tabs: tuple[Tab, ...] = get_args(Tab)
    live: Callable[[Scene], Sequence[Part]] = _nothing
    resting: Callable[[Scene], Sequence[Part]] = _nothing
