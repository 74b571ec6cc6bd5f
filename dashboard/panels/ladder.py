"""The levels of a detector's pyramid under the chosen box: which see it, and how much more than what is around it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.attribution_pictures import attribution_overlay
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels import detections
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import computing, refuse, show_text
from hookscope.hooks.results import pyramid
from hookscope.hooks.results.looks import Activation, Prediction
from hookscope.hooks.results.maps import maps

NAME = "ladder"
TWO_STAGES = "roi_heads"  # the module of torchvision's detectors that takes each box's features from one level
_HELP = (
    "The mean size of each level's activation, the box on it, and how much larger it is inside the box than outside. "
    "A box that no level sees much of is hard to find, whatever comes after."
)


@state
@dataclass(frozen=True)
class Opened:
    """Whether the levels of a detector's pyramid are shown."""

    ladder: bool = False


def parts(scene: Scene) -> list[Part]:
    """One part; nothing is asked while the fold is closed, and there is no fold where there is no pyramid."""
    sides = {side: found for side in scene.inputs if (found := _levels(scene, side))}
    opened = scene.view.of(Opened).ladder
    if not sides or not opened:
        return [Part.still(NAME, [show_text(ids.LADDER, _fold(opened) if sides else None, hidden=not sides)])]
    units = {
        side: (scene.prediction(side), *(scene.unit(side, ActivationOf(name)) for name in found))
        for side, found in sides.items()
    }
    asked = tuple(unit for each in units.values() for unit in each)
    return [Part(NAME, asked, (scene.only("ladder", *EXPLAINED), units), _draw, error=ids.LADDER)]


def _levels(scene: Scene, side: str) -> tuple[str, ...]:
    return pyramid.levels(scene.info_of(side).layers) if scene.form(side) == "boxes" else ()


def _fold(opened: bool) -> list[Any]:
    more = {"data-do": "set", "data-value": json.dumps({"ladder": not opened})}
    return [
        html.Button(
            "Levels of the pyramid", className="fold", title=_HELP, **more, **{"aria-expanded": str(opened).lower()}
        )
    ]


def _draw(scene: Scene, units: dict[str, tuple[Unit, ...]], answers: Answers) -> list[Update]:
    rows = [_side(scene, side, each, answers) for side, each in units.items()]
    return [show_text(ids.LADDER, [*_fold(True), *rows], hidden=False)]


def _side(scene: Scene, side: str, units: tuple[Unit, ...], answers: Answers) -> html.Div:
    letter = html.Span(side.upper(), className=f"letter small {side}")
    if wrong := failures(answers, units):
        return html.Div([letter, refuse(scene.worded(side, wrong[0]), NAME)], className="rungs")
    prediction = result_of(answers, units[0], Prediction)
    found = [result_of(answers, unit, Activation) for unit in units[1:]]
    if prediction is None or any(each is None for each in found):
        return html.Div([letter, " ", *computing(answers, units[-1], NAME)], className="rungs muted")
    boxes = prediction.detections
    if boxes is None or not len(boxes.scores):
        return html.Div([letter, html.Span(" There is no box.", className="muted")], className="rungs")
    chosen = detections.chosen_box(scene.aim(side), boxes)
    index = int(np.argmax(boxes.scores)) if chosen is None else chosen
    box = _seen(boxes.boxes[index], prediction)
    rungs = [_rung(each, box, prediction) for each in found if each is not None]
    two_stages = any(TWO_STAGES in layer.name for layer in scene.info_of(side).layers)
    taken = pyramid.assigned(box, [each.stride for each in rungs if each is not None]) if two_stages else -1
    place = detections.place(boxes.boxes[index], prediction.crop)
    drawn = [
        _figure(scene, side, unit, rung, place, number == taken)
        for number, (unit, rung) in enumerate(zip(units[1:], rungs, strict=True))
    ]
    name = scene.class_name(side, int(boxes.labels[index]))
    return html.Div([html.Div([letter, f" box {index}, {name}"], className="rung-title"), *drawn], className="rungs")


def _seen(box: np.ndarray, prediction: Prediction) -> tuple[float, float, float, float]:
    """A box of the original picture, in pixels of what the network saw."""
    left, top, right, bottom = prediction.crop
    height, width = prediction.pixels.shape[:2]
    x, y = width / (right - left), height / (bottom - top)
    return (box[0] - left) * x, (box[1] - top) * y, (box[2] - left) * x, (box[3] - top) * y


def _rung(activation: Activation, box: tuple[float, ...], prediction: Prediction) -> pyramid.Rung:
    values = maps(activation)
    assert values is not None  # the recorded run has seen height and width
    return pyramid.rung(values, box, prediction.pixels.shape[:2])


def _figure(scene: Scene, side: str, unit: Unit, rung: pyramid.Rung, place: dict[str, str], taken: bool) -> html.Div:
    heat = scene.picture(("rung", unit), partial(_heat, scene, unit))
    contrast = "—" if math.isnan(rung.contrast) else f"× {format_number(rung.contrast)}"
    rows, columns = rung.values.shape
    words = f"stride {rung.stride:.0f}, {rows} × {columns}: inside {contrast}"
    help_text = (
        f"{unit.layer}: mean {format_number(rung.inside)} inside the box, {format_number(rung.outside)} outside."
        + (" The box's features are taken from this level: floor(4 + log2(sqrt(w h) / 224))." if taken else "")
    )
    stack = html.Div(
        [
            html.Img(src=scene.seen(side), alt=""),
            html.Img(src=heat, alt=f"Level of {words}", className="heat"),
            html.Div(className="rung-box", style=place),
        ],
        className="stack",
    )
    badge = [html.Span("assigned", className="badge note")] if taken else []
    caption = html.Div([html.Span(words), *badge], className="muted")
    return html.Div([stack, caption], className="rung taken" if taken else "rung", title=help_text)


def _heat(scene: Scene, unit: Unit) -> bytes:
    values = maps(scene.kept(unit, Activation))
    assert values is not None
    return attribution_overlay(np.abs(values).mean(0)).png


PANEL = Panel(
    NAME,
    "main",
    urgency=5,
    layout=lambda setup: Markup(ids.LADDER, className="ladder", hidden=True),
    parts=parts,
    waiting=lambda wait: [Part.still(NAME, [show_text(ids.LADDER, None, hidden=True)])],
    saved=lambda scene: Markup(ids.LADDER, className="ladder", hidden=True),
    tabs=("layers",),
)
