"""How a panel's regions are mounted and updated: figures in graphs, plain elements in markup."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import dcc, html

from hookscope.dashboard.answers.parts import ComponentId, Update
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.edits import words_of
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.markup import to_markup
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.drawing.plain_figures import GRAPH_CONFIG, Draft
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels import frames, match
from hookscope.dashboard.panels.card.wall import reduced
from hookscope.hooks.results.looks import Activation, Call, LayerInfo
from hookscope.hooks.results.maps import depth_of, plane_of

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


def paint_over(component_id: ComponentId, maps: Sequence[np.ndarray]) -> Update:
    """The update that paints maps over those of the figure that is there, in its own scales: see assets/trying.js.

    For what follows a slider: Plotly takes 90 ms for a figure, and meanwhile the slider cannot be moved.

    Arguments:
        maps: float (height, width), in the order of the figure's heatmaps.
    """
    values = [np.ascontiguousarray(array, "<f4") for array in maps]
    packed = [{"size": list(array.shape), "values": base64.b64encode(array.tobytes()).decode()} for array in values]
    return component_id, {"tried": {"maps": packed}}


def keep_room(component_id: ComponentId, height_px: int) -> Update:
    """The update that leaves a mounted graph's room empty.

    What it showed is hidden and not replaced by an empty figure: Plotly takes 20 to 40 ms for one of those too, which
    the answer that is waited for would have to wait for.
    """
    return component_id, {"style": {"height": f"{height_px}px", "visibility": "hidden", "overflow": "hidden"}}


def show_text(component_id: ComponentId, children: Any, **properties: Any) -> Update:
    """The update that shows plain elements or text in a mounted `Markup`."""
    return component_id, {"tree": to_markup(children), **properties}


def show_instead(
    text_id: ComponentId, graph_id: ComponentId, children: Any, room_px: int = MIN_HEIGHT_PX
) -> list[Update]:
    """The updates that show words where a figure would be.

    Arguments:
        room_px: the height of the figure, where one is on its way.
    """
    return [show_text(text_id, children), keep_room(graph_id, room_px)]


def refuse(failure: Failure, part: str) -> html.Div:
    """Why there is no answer, where it would have been.

    Arguments:
        part: "Try again" asks the parts again whose names begin so; a refusal that is final offers no such thing.
    """
    if failure.final:
        return html.Div(failure.sentence, className="sentence")
    again = html.Button("Try again", className="link", **{"data-do": "retry", "data-value": part})
    return html.Div([html.Span(failure.sentence), " ", again], className="sentence error", role="alert")


def computing(answers: Answers, unit: Unit, part: str) -> list[Any]:
    """What stands where an answer will be: how far it is, if it takes long, and then a way to stop it.

    Arguments:
        part: the name of the part whose other answers are stopped with it.
    """
    if unit not in answers.progress:
        return ["computing …"]
    done, total = answers.progress[unit]
    return [f"computing … {done:,} of {total:,} pictures ", stop_button(part)]


def stop_button(part: str) -> html.Button:
    """What withdraws the answers that a part waits for; what is known of them stays."""
    return html.Button("stop", className="link", **{"data-do": "stop", "data-value": part})


def random_weights(info: ModelInfo) -> list[html.Span]:
    """The badge that stays on everything a model with random weights computed, cut on a narrow page; else nothing."""
    first, _, rest = info.reservation.partition(" ")
    text = [first, html.Span(f" {rest}", className="roomy")]
    return [html.Span(text, title=info.weights, className="badge warn")] if first else []


def reservations(scene: Scene) -> list[html.Span]:
    """The badges of what every picture of a scene has to say: random weights, and what is prepared otherwise."""
    found = [html.Span(text, title=info.weights, className="badge warn") for text, info in scene.random.items()]
    for side in scene.inputs:
        if text := scene.prepared(side):
            help_text = "This picture is not prepared as the model wants it."
            found.append(html.Span(f"{side.upper()} prepared: {text}", title=help_text, className="badge note"))
        found += edited(scene, side, whose=f"{side.upper()} ")
    return found


def edited(scene: Scene, side: str, whose: str = "") -> list[html.Span]:
    """The badge of what was computed with edits of the model, which names them; else nothing."""
    if not (edits := scene.edits(side)):
        return []
    help_text = f"Computed with this changed in the model: {words_of(edits)}. The bar above takes it back."
    return [html.Span(f"{whose}edited", title=help_text, className="badge warn edited")]


def empty_figure(height_px: int) -> go.Figure:
    """A figure of a height that shows nothing."""
    draft = Draft(height_px, "empty")
    draft.update_layout(xaxis={"visible": False, "fixedrange": True}, yaxis={"visible": False, "fixedrange": True})
    return draft.figure()


def notes(scene: Scene, key: str, layer: LayerInfo, call: Call, there: Sequence[Activation] = ()) -> list[html.Span]:
    """What every picture of a layer has to say of itself; `there` are the activations that it is drawn from."""
    found: list[tuple[str, str, str]] = []
    number = parse_key(key)[1]
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
    for info in scene.models.values():
        if parse_key(key) in info.of_second:
            first, second = info.pictures
            help_text = f"Its value comes from the second picture alone: whatever {first} is, it stays the same."
            found.append((f"sees {second} only", help_text, "note"))
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
        rows, columns = plane_of(call)
        each = f"{call.frames} frames of " if call.frames > 1 else ""
        text = f"tokens as {each}a {rows}×{columns} grid"
        left_out = f", {call.prefix_tokens} prefix tokens left out; numbers are of all" if call.prefix_tokens else ""
        found.append((text, f"Each token is drawn where its patch lies{left_out}.", "note"))
    for side in scene.inputs:
        if scene.call_of(key, side) is None:
            text = f"{side.upper()}: no such layer in {scene.info_of(side).title}"
            found.append((text, "What stands here is of the other side alone.", "note"))
    found += reduced(there)
    if len({a.shape for a in there}) > 1:
        found.append(
            ("A and B differ in size", "There is no difference of two activations of different shapes.", "note")
        )
    badges = [html.Span(text, title=help_text, className=f"badge {kind}") for text, help_text, kind in found]
    badges += [match.control(scene, key, side) for side in scene.inputs if scene.key_in(key, side) not in ("", key)]
    return [*reservations(scene), *frames.control(depth_of(call, call.shape), scene.walls.moment), *badges]
