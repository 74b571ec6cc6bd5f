"""Attributions of the input: how much each pixel of A and of B matters for the class; asked for when opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import InputMap, Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.attribution_pictures import attribution_overlay
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import computing, refuse, show_text
from hookscope.hooks.methods import INPUTS
from hookscope.hooks.results.looks import InputAttribution, Prediction
from hookscope.hooks.results.maps import frame

NAME = "attributions"


@state
@dataclass(frozen=True)
class Opened:
    """Whether the attributions of the input are shown."""

    attributions: bool = False


def layout() -> html.Section:
    """Draw the fold, closed."""
    return html.Section(
        [
            html.Button(
                "Attributions of the input",
                id=ids.ATTRIBUTIONS_FOLD,
                className="fold",
                title=f"How much each pixel matters for the class: {', '.join(row.title for row in INPUTS.values())}",
                **{"data-do": "attributions", "aria-expanded": "false", "aria-controls": ids.ATTRIBUTIONS},
            ),
            Markup(ids.ATTRIBUTIONS, className="attributions", hidden=True),
        ],
        className="attribution-side",
        **{"aria-label": "Attributions of the input"},
    )


def part(scene: Scene) -> Part:
    """The part that draws all methods for every input; nothing is asked while they are closed."""
    if not scene.view.of(Opened).attributions or not scene.inputs:
        return close(scene.view.of(Opened).attributions)
    predictions = scene.predictions()
    pictures = [(side, which) for side in scene.inputs for which in ((0, 1) if scene.second(side) else (0,))]
    units = {
        method: [(side, scene.unit(side, InputMap(method, scene.target(side), which))) for side, which in pictures]
        for method in INPUTS
    }
    asked = (*predictions.values(), *(unit for each in units.values() for _, unit in each))
    return Part(NAME, asked, (scene.only(*EXPLAINED), predictions, units), _draw, error=ids.ATTRIBUTIONS)


def close(opened: bool = False) -> Part:
    """The part while there is nothing to show.

    Arguments:
        opened: the person has opened them, and there is no input yet.
    """
    said_instead = html.P("Choose a picture above.", className="sentence") if opened else None

    return Part.still(NAME, [*_fold(opened), show_text(ids.ATTRIBUTIONS, said_instead, hidden=not opened)])


def _fold(opened: bool) -> list[Update]:
    return [(ids.ATTRIBUTIONS_FOLD, {"aria-expanded": "true" if opened else "false"})]


def _draw(
    scene: Scene, predictions: dict[str, Unit], units: dict[str, list[tuple[str, Unit]]], answers: Answers
) -> list[Update]:
    columns = [
        html.Div(
            [
                html.H3(row.title.capitalize(), className="small-title", title=row.text),
                html.Div([_map(scene, side, unit, predictions[side], answers) for side, unit in units[method]]),
            ]
        )
        for method, row in INPUTS.items()
    ]
    return [*_fold(True), show_text(ids.ATTRIBUTIONS, columns, hidden=False)]


def _map(scene: Scene, side: str, unit: Unit, prediction: Unit, answers: Answers) -> html.Div:
    row = INPUTS[unit.question.method]
    letter = html.Span(
        f"{side.upper()}, edited" if scene.edits(side) else side.upper(), className=f"letter small {side}"
    )
    problem = next((each for one in (prediction, unit) if isinstance(each := _answer(answers, one), Failure)), None)
    if problem is not None:
        return html.Div([letter, refuse(scene.worded(side, problem), NAME)], className="attribution")
    found = result_of(answers, unit, InputAttribution)
    if found is None or result_of(answers, prediction, Prediction) is None:
        waiting = html.Div(className="stack waiting")
        return html.Div(
            [waiting, html.Div([letter, " ", *computing(answers, unit, NAME)], className="muted")],
            className="attribution",
        )
    name, second = scene.explained_name(side, found.target, found.against), bool(unit.question.picture)
    values = frame(found.values, scene.frames(unit.model), scene.walls.moment)
    overlay = attribution_overlay(values)
    heat = scene.picture(("attribution", unit, scene.walls.moment), partial(_heat, scene, unit))
    facts = [
        row.text,
        f"Here that is {name}." if found.against >= 0 else "",
        found.note,
        f"{scene.explained(side).capitalize()} {format_number(found.logit)}.",
    ]
    if not math.isnan(found.baseline_logit):
        facts.append(f"{scene.explained(side).capitalize()} of the mean colour {format_number(found.baseline_logit)}.")
    # a detector resizes by itself: its attributions lie on the picture that it was given
    picture = scene.whole if scene.form(side) == "boxes" else scene.seen
    stack = html.Div(
        [
            html.Img(src=picture(side, second=second), alt=""),
            html.Img(src=heat, alt=f"{row.title} of {name}", className="heat"),
        ],
        className="stack",
        style={"aspectRatio": f"{values.shape[1]} / {values.shape[0]}"},  # before they are loaded too
        title=" ".join(filter(None, [*facts, "The scale ends at the 99th percentile."])),
    )
    which = f"{scene.info_of(side).pictures[unit.question.picture]}: " if scene.second(side) else ""
    caption = [letter, html.Span(f"{which}{name}", className="class"), html.Span(overlay.text, className="muted")]
    note = [html.Div(found.note, className="muted")] if found.note else []
    return html.Div([stack, html.Div(caption, className="cam-caption"), *note], className="attribution")


def _heat(scene: Scene, unit: Unit) -> bytes:
    values = scene.kept(unit, InputAttribution).values
    return attribution_overlay(frame(values, scene.frames(unit.model), scene.walls.moment)).png


def _answer(answers: Answers, unit: Unit) -> Any:
    answer = answers.get(unit)
    return answer.result if answer else None


PANEL = Panel(
    "attributions",
    "main",
    urgency=5,  # they take seconds
    layout=lambda setup: layout(),
    parts=lambda scene: [part(scene)],
    waiting=lambda wait: [close()],
    saved=lambda scene: layout(),
    tabs=("layers",),
)
