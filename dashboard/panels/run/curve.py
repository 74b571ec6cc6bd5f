"""Above the layers' lines: the loss over the steps, or the learning rates, or a number that the training was given.

What it is at the chosen step is a part of its own, so that a move of the slider draws no line anew.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.run_figures import Line, Thinned, axis_for, depth_colours, draw_lines, thin
from hookscope.dashboard.feeds.curves import LOSS, OWN, RATE, SCALE, Curve
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.charts import plot, title_of
from hookscope.dashboard.panels.run.choice import Asked, wants_log

COLOURS = "#1c7ed6", "#e8590c"  # of the run, and of the one beside it
WIDE = 20.0  # a loss that falls by more has a logarithmic axis
SHOWN, TOLD = 12, 4  # names that can be chosen, and values of one step that are told
TITLES = {LOSS: "loss", RATE: "learning rate", SCALE: "scale of the loss"}
HELP = {
    LOSS: "of every step that was given one: feed.step(loss=loss)",
    RATE: "of each group of the optimiser, at the steps that were looked at",
    SCALE: "by which the scaler multiplied the loss",
}


def draw_curve(asked: Asked, answers: Answers) -> list[Update]:
    """The chosen one, of both runs, over the steps of which it is known."""
    curves = [_curve(each, asked.curve) for each in asked.runs]
    known = [each.values[np.isfinite(each.values)] for each in curves]
    spread = [each for each in known if each.size]
    if not spread:
        nothing = html.P("No loss was given: feed.step(loss=loss).", className="muted")
        return [show_text(ids.RUN_LOSS, [*_choices(asked), nothing])]
    least, most = min(float(each.min()) for each in spread), max(float(each.max()) for each in spread)
    falls = asked.curve == LOSS and least >= 0 and most > WIDE * least
    axis = axis_for(spread, logarithmic=wants_log(asked.loss, falls))
    assert axis is not None
    drawn = [_thinned(each, asked.across) for each in curves]
    lines = [_lines(each, place) for place, each in enumerate(curves)]
    shows = ("run curve", asked.marks, asked.curve, asked.loss)
    address = asked.gallery.add(shows, partial(draw_lines, list(zip(drawn, lines, strict=True)), axis), "image/svg+xml")
    what = f"{title_of_curve(asked.curve)} over the steps"
    return [show_text(ids.RUN_LOSS, [title_of(_choices(asked), axis, "run_loss"), plot(address, axis, what, "low")])]


def draw_value(asked: Asked, answers: Answers) -> list[Update]:
    """What the chosen one is at the chosen step, of both runs: the last that is known and not behind it."""
    look = asked.look()
    curves = [_curve(each, asked.curve) for each in asked.runs]
    if look is None or not any(len(each.steps) for each in curves):
        return [show_text(ids.RUN_CURVE_AT, None)]
    words: list[Any] = []
    for letter, curve in zip("AB", curves, strict=False):
        place = int(np.searchsorted(curve.steps, look.step, "right")) - 1
        of = "" if place < 0 or curve.steps[place] == look.step else f" at {curve.steps[place]:,}"
        whose = f"{letter} " if asked.other else ""
        words.append(html.Span([f"{whose}{_value(curve, place)}", html.Span(of, className="muted")]))
    about = f"{title_of_curve(asked.curve)} at step {look.step:,}: the last that is known up to it"
    return [show_text(ids.RUN_CURVE_AT, html.Div(words, className="run-curve-at mono", title=about))]


def title_of_curve(key: str) -> str:
    """What people call it."""
    return TITLES.get(key) or key.removeprefix(OWN)


def _curve(run: Followed, key: str) -> Curve:
    """One run's, made once for what was read: a long run has hundreds of thousands of losses, and the slider moves."""
    found: Curve = run.kept.once(("curve", run.mark, key), partial(run.kept.curve, key))
    return found


def _choices(asked: Asked) -> list[Any]:
    """What else there is over the steps; the name alone where there is nothing."""
    there = tuple(dict.fromkeys(key for each in asked.runs for key in each.kept.curves()))
    if there == (asked.curve,):
        return [html.Span(title_of_curve(asked.curve))]
    pills = [_pill(key, key == asked.curve) for key in there if key in there[:SHOWN] or key == asked.curve]
    return [html.Div(pills, className="set-choice", role="group", **{"aria-label": "Curve over the steps"})]


def _pill(key: str, pressed: bool) -> html.Button:
    return html.Button(
        title_of_curve(key)[:40],
        className="pill" if pressed else "pill live-only",
        title=HELP.get(key, f"a number of your own: feed.step({key.removeprefix(OWN)}=...)"),
        **{"data-do": "set", "data-value": json.dumps({"run_curve": "" if key == LOSS else key})},
        **{"aria-pressed": "true" if pressed else "false"},
    )


def _thinned(curve: Curve, across: tuple[int, int]) -> Thinned:
    alone = curve.values.shape[1] == 1  # groups of an optimiser may be fewer at some steps, which is nothing broken
    return thin(curve.steps, curve.values, across, broken=np.isnan(curve.values) if alone else None)


def _lines(curve: Curve, place: int) -> list[Line]:
    count = curve.values.shape[1]
    colours = depth_colours(count) if count > 1 else [COLOURS[place]]
    return [Line(colour, 1.8, 1, dashed=place > 0) for colour in colours]


def _value(curve: Curve, place: int) -> str:
    if place < 0:
        return "none"
    values = [value for value in curve.values[place].tolist() if value == value or curve.values.shape[1] == 1]
    return ", ".join(map(format_number, values[:TOLD])) + (" …" if len(values) > TOLD else "")
