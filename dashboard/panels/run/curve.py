"""Above the layers' lines: the loss over the steps, or the learning rates, or a number that the training was given."""

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
NOTHING = "No loss was given: feed.step(loss=loss)."


def draw_curve(asked: Asked, answers: Answers) -> list[Update]:
    """The chosen one, of both runs, over the steps of which it is known."""
    curves = [each.kept.curve(asked.curve) for each in asked.runs]
    known = [each.values[np.isfinite(each.values)] for each in curves]
    spread = [each for each in known if each.size]
    if not spread:
        return [show_text(ids.RUN_LOSS, [*_choices(asked), html.P(NOTHING, className="muted")])]
    least, most = min(float(each.min()) for each in spread), max(float(each.max()) for each in spread)
    falls = asked.curve == LOSS and least >= 0 and most > WIDE * least
    axis = axis_for(spread, logarithmic=wants_log(asked.loss, falls))
    assert axis is not None
    drawn = [_thinned(each, asked.across) for each in curves]
    lines = [_lines(each, place) for place, each in enumerate(curves)]
    shows = ("run curve", asked.marks, asked.curve, asked.loss)
    address = asked.gallery.add(shows, partial(draw_lines, list(zip(drawn, lines, strict=True)), axis), "image/svg+xml")
    letters = "AB" if len(curves) > 1 else " "
    last = [f"{letter} {_last(each)}".strip() for letter, each in zip(letters, curves, strict=False)]
    words = [*_choices(asked), html.Span(", ".join(last), className="mono muted", title="The last of them")]
    what = f"{title_of_curve(asked.curve)} over the steps"
    return [show_text(ids.RUN_LOSS, [title_of(words, axis, "run_loss"), plot(address, axis, what, "low")])]


def title_of_curve(key: str) -> str:
    """What people call it."""
    return TITLES.get(key) or key.removeprefix(OWN)


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


def _last(curve: Curve) -> str:
    if not len(curve.steps):
        return "none"
    values = [value for value in curve.values[-1].tolist() if value == value or curve.values.shape[1] == 1]
    return ", ".join(map(format_number, values[:TOLD])) + (" …" if len(values) > TOLD else "")
