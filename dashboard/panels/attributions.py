"""Attributions of the input: how much each pixel of A and of B matters for the class; asked for when opened."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.attribution_pictures import attribution_overlay
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import refuse, show_text
from hookscope.hooks.methods import INPUTS
from hookscope.hooks.results.looks import InputAttribution, Prediction

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
    predictions = scene.units("prediction")
    units = [scene.unit(side, method) for method in INPUTS for side in scene.inputs]
    shows = (scene.only("target"), predictions)
    return Part(NAME, (*predictions.values(), *units), shows, _draw, error=ids.ATTRIBUTIONS)


def close(opened: bool = False) -> Part:
    """The part while there is nothing to show.

    Arguments:
        opened: the person has opened them, and there is no input yet.
    """
    said_instead = html.P("Choose a picture above.", className="sentence") if opened else None

    return Part.still(NAME, [*_fold(opened), show_text(ids.ATTRIBUTIONS, said_instead, hidden=not opened)])


def _fold(opened: bool) -> list[Update]:
    return [(ids.ATTRIBUTIONS_FOLD, {"aria-expanded": "true" if opened else "false"})]


def _draw(scene: Scene, predictions: dict[str, Unit], answers: Answers) -> list[Update]:
    columns = [
        html.Div(
            [
                html.H3(row.title.capitalize(), className="small-title", title=row.text),
                html.Div([_map(scene, side, method, predictions[side], answers) for side in scene.inputs]),
            ]
        )
        for method, row in INPUTS.items()
    ]
    return [*_fold(True), show_text(ids.ATTRIBUTIONS, columns, hidden=False)]


def _map(scene: Scene, side: str, method: str, prediction: Unit, answers: Answers) -> html.Div:
    unit = scene.unit(side, method)
    letter = html.Span(side.upper(), className=f"letter small {side}")
    problem = next((each for one in (prediction, unit) if isinstance(each := _answer(answers, one), Failure)), None)
    if problem is not None:
        return html.Div([letter, refuse(scene.worded(problem), NAME)], className="attribution")
    found = result_of(answers, unit, InputAttribution)
    if found is None or result_of(answers, prediction, Prediction) is None:
        waiting = html.Div(className="stack waiting")
        return html.Div([waiting, html.Div([letter, " computing …"], className="muted")], className="attribution")
    name = scene.class_name(found.target)
    overlay = attribution_overlay(found.values)
    heat = scene.picture(("attribution", unit), partial(_heat, scene, unit))
    facts = [INPUTS[method].text, found.note, f"{scene.explained.capitalize()} {format_number(found.logit)}."]
    if not math.isnan(found.baseline_logit):
        facts.append(f"Logit of the mean colour {format_number(found.baseline_logit)}.")
    stack = html.Div(
        [
            # a detector resizes by itself: its attributions lie on the picture that it was given
            html.Img(src=scene.whole(side) if scene.info.kind == "detector" else scene.seen(side), alt=""),
            html.Img(src=heat, alt=f"{INPUTS[method].title} of {name}", className="heat"),
        ],
        className="stack",
        style={"aspectRatio": f"{found.values.shape[1]} / {found.values.shape[0]}"},  # before they are loaded too
        title=" ".join(filter(None, [*facts, "The scale ends at the 99th percentile."])),
    )
    caption = [letter, html.Span(name, className="class"), html.Span(overlay.text, className="muted")]
    note = [html.Div(found.note, className="muted")] if found.note else []
    return html.Div([stack, html.Div(caption, className="cam-caption"), *note], className="attribution")


def _heat(scene: Scene, unit: Unit) -> bytes:
    return attribution_overlay(scene.kept(unit, InputAttribution).values).png


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
