"""How a panel's regions are mounted and updated: figures in graphs, plain elements in markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from hookscope.dashboard.answers.parts import ComponentId, Update
from hookscope.dashboard.asking.answers import Failure
from hookscope.dashboard.components.markup import to_markup
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.drawing.plain_figures import GRAPH_CONFIG, Draft
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.card.wall import reduced
from hookscope.hooks.results.looks import Activation, Call, LayerInfo

RANDOM_WEIGHTS = "random weights"
MIN_HEIGHT_PX = 10  # Plotly draws nothing lower


def graph(component_id: ComponentId, height_px: int, class_name: str = "") -> dcc.Graph:
    """A mounted graph that takes its place and shows nothing yet."""
    style = {"height": f"{height_px}px"}
    return dcc.Graph(
        id=component_id, figure=empty_figure(height_px), config=GRAPH_CONFIG, className=class_name, style=style
    )


def show_figure(component_id: ComponentId, figure: go.Figure) -> Update:
    """The update that shows a figure in a mounted graph, which takes the figure's height."""
    return component_id, {"figure": figure, "style": {"height": f"{figure.layout.height}px"}}


def keep_room(component_id: ComponentId, height_px: int) -> Update:
    """The update that leaves a mounted graph's room empty.

    What it showed is hidden and not replaced by an empty figure: Plotly takes 20 to 40 ms for one of those too, which
    the answer that is waited for would have to wait for.
    """
    return component_id, {"style": {"height": f"{height_px}px", "visibility": "hidden", "overflow": "hidden"}}


def show_text(component_id: ComponentId, children: Any, **properties: Any) -> Update:
    """The update that shows plain elements or text in a mounted `Markup`."""
    return component_id, {"tree": to_markup(children), **properties}


def refuse(failure: Failure, part: str) -> html.Div:
    """Why there is no answer, where it would have been.

    Arguments:
        part: "Try again" asks the parts again whose names begin so; a refusal that is final offers no such thing.
    """
    if failure.final:
        return html.Div(failure.sentence, className="sentence")
    again = html.Button("Try again", className="link", **{"data-do": "retry", "data-value": part})
    return html.Div([html.Span(failure.sentence), " ", again], className="sentence error", role="alert")


def random_weights(info: ModelInfo, *, narrow: bool = False) -> list[html.Span]:
    """The badge that stays on everything a model with random weights computed; nothing for a trained one.

    Arguments:
        narrow: it may be cut to "random" on a narrow page.
    """
    text: Any = RANDOM_WEIGHTS
    if narrow:
        first, rest = RANDOM_WEIGHTS.split(" ")
        text = [first, html.Span(f" {rest}", className="roomy")]
    return [html.Span(text, title=info.weights, className="badge warn")] if info.random else []


def empty_figure(height_px: int) -> go.Figure:
    """A figure of a height that shows nothing."""
    draft = Draft(height_px, "empty")
    draft.update_layout(xaxis={"visible": False, "fixedrange": True}, yaxis={"visible": False, "fixedrange": True})
    return draft.figure()


def notes(scene: Scene, layer: LayerInfo, call: Call, number: int, there: Sequence[Activation] = ()) -> list[html.Span]:
    """What every picture of a layer has to say of itself; `there` are the activations that it is drawn from."""
    found: list[tuple[str, str, str]] = []
    for one, count in (
        ("NaN", sum(a.statistics.nan for a in there)),
        ("infinite", sum(a.statistics.inf for a in there)),
    ):
        if count:
            found.append(
                (f"{format_count(count)} {one}", f"{one} values are counted and left out of every number.", "warn")
            )
    if len(layer.calls) > 1:
        text = f"call {number + 1} of {len(layer.calls)}"
        found.append((text, "This module runs several times in one forward pass; the tree offers each call.", "note"))
    if call.overwritten_by:
        text = f"value before {call.overwritten_by}"
        help_text = (
            f"{call.overwritten_by} writes into this value in place afterwards. You see what the layer computed."
        )
        found.append((text, help_text, "note"))
    if call.outputs > 1:
        path = next((f" ({a.path})" for a in there if a.path), "")
        text = f"output 1 of {call.outputs}{path}"
        found.append((text, "This module returns several tensors; the first is shown.", "note"))
    if call.grid is not None:
        rows, columns = call.grid
        left_out = f", {call.prefix_tokens} prefix tokens left out" if call.prefix_tokens else ""
        found.append(
            (f"tokens as a {rows}×{columns} grid", f"Each token is drawn where its patch lies{left_out}.", "note")
        )
    found += reduced(there)
    if len({a.shape for a in there}) > 1:
        found.append(
            ("A and B differ in size", "There is no difference of two activations of different shapes.", "note")
        )
    badges = [html.Span(text, title=help_text, className=f"badge {kind}") for text, help_text, kind in found]
    return [*random_weights(scene.info), *badges]
