"""What stands over the steps of each layer: its numbers as lines, and alarms as pins."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.drawing.run_figures import (
    Axis,
    Line,
    Thinned,
    columns_for,
    depth_colours,
    depth_gradient,
    draw_lines,
    step_ticks,
    thin,
)
from hookscope.dashboard.feeds.series import OWN, Column
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import COLUMNS, Asked, Shown, layer_of
from hookscope.hooks.results.feeds import Alarm
from hookscope.hooks.results.findings import SEVERITIES

PIN_PLACES = 60  # alarms that are nearer than one of these are one pin
SAID = 3  # alarms of a pin that are told
CHOSEN_WIDTH = 2.8
OWN_NAMES = 12


def draw_columns(asked: Asked, answers: Answers) -> list[Update]:
    """Which number the lines are."""
    own = [Shown(OWN, name, name, "a metric of your own: @feed.metric") for name in asked.run.kept.own_names()]
    buttons = []
    for each in [*COLUMNS.values(), *own[:OWN_NAMES]]:
        absent = each.group == "u" and not any(run.info.optimizer for run in asked.runs)
        title = "No optimizer was given to hs.follow, so there are no updates." if absent else each.help
        buttons.append(
            html.Button(
                each.title[:60],
                className="pill",
                title=title,
                disabled=absent or None,
                **{"data-do": "set", "data-value": json.dumps({"run_column": each.key})},
                **{"aria-pressed": "true" if each.key == asked.column.key else "false"},
            )
        )
    words = [html.Span("of each layer", className="muted"), *buttons]
    group = html.Div(words, className="set-choice live-only", role="group", **{"aria-label": "Number of each layer"})
    return [show_text(ids.RUN_COLUMNS, group)]


def draw_layers(asked: Asked, answers: Answers) -> list[Update]:
    """The chosen column of every layer, as a line each."""
    axis = asked.axis
    column = asked.column
    if axis is None:
        text = f"No layer has this number: {column.title}." if asked.run.looks else ""
        below = _steps_below(asked) if asked.run.looks else None
        return [show_text(ids.RUN_LINES, [html.P(text, className="muted"), below])]
    shows = ("run lines", asked.marks, column.key, asked.layer, asked.scale)
    address = asked.gallery.add(shows, partial(_layers_svg, asked, axis), "image/svg+xml")
    layers = asked.values(asked.run).layers
    first, last = (layers[0], layers[-1]) if layers else ("", "")
    gradient = html.Span(className="run-gradient", style={"background": depth_gradient()})
    legend = [
        html.Span(column.title),
        html.Span(
            [html.Span(first, className="name"), gradient, html.Span(last, className="name")],
            className="run-legend muted mono",
            title=f"The colour says how deep a layer is, from {first} to {last}",
        ),
        html.Span(["thick: ", html.Span(asked.layer, className="name mono")], className="muted run-thick"),
    ]
    what = f"{column.title} of {format_count(len(layers))} layers over the steps"
    title = title_of(legend, axis, "" if column.of_shares else "run_scale")
    return [show_text(ids.RUN_LINES, [title, plot(address, axis, what), _steps_below(asked)])]


def _steps_below(asked: Asked) -> html.Div:
    """Which steps stand where, below all pictures over the steps."""
    ticks = step_ticks(*asked.across)
    marks = [html.Span(f"{step:,}", style={"left": f"{100 * share:.2f}%"}) for share, step in ticks]
    return html.Div(html.Div(marks, className="run-frame"), className="run-values run-steps-below mono muted")


def title_of(words: Sequence[Any], axis: Axis, field: str) -> html.Div:
    """What a picture is of, and a switch for its axis: `field` of the view holds it, "" of one that has none."""
    return html.Div(
        [*words, html.Span(className="spacer"), _switch(axis, field) if field else None], className="run-title"
    )


def _switch(axis: Axis, field: str) -> html.Div:
    what = "curve above" if field == "run_loss" else "number of each layer"
    buttons = [
        html.Button(
            text,
            className="link",
            disabled=(text == "log" and axis.signed) or None,
            title="There are values below 0, which have no logarithm." if text == "log" and axis.signed else None,
            **{"data-do": "set", "data-value": json.dumps({field: text})},
            **{"aria-pressed": "true" if (text == "log") == axis.logarithmic else "false"},
        )
        for text in ("log", "linear")
    ]
    return html.Div(buttons, className="run-axis live-only", role="group", **{"aria-label": f"Axis of the {what}"})


def plot(address: str, axis: Axis, what: str, kind: str = "") -> html.Div:
    """A picture with its ticks."""
    ticks = [html.Span(text, style={"bottom": f"{100 * share:.2f}%"}) for share, text in axis.ticks]
    frame = html.Div(html.Img(src=address, alt=what, draggable="false"), className="run-frame")
    return html.Div([html.Div(ticks, className="run-ticks mono"), frame], className=f"run-plot {kind}")


def _svg(drawn: Sequence[Thinned], lines: Sequence[Sequence[Line]], axis: Axis) -> bytes:
    return draw_lines(list(zip(drawn, lines, strict=True)), axis)


def _layers_svg(asked: Asked, axis: Axis) -> bytes:
    tables = [_table(asked, each) for each in asked.runs]
    first = tables[0][0].layers
    colours = dict(zip(first, depth_colours(len(first)), strict=True))
    drawn = []
    count = sum(len(found.layers) for found, _ in tables)
    for place, (found, broken) in reversed(list(enumerate(tables))):  # the run itself lies above
        lines = [_line(asked, layer, colours.get(layer, "#868e96"), dashed=place > 0) for layer in found.layers]
        # the number is of the finite values alone, and where others are among them it would look like a small one
        values = found.values if broken is None else np.where(broken, np.nan, found.values)
        drawn.append((thin(found.steps, values, asked.across, columns_for(count), broken), lines))
    return draw_lines(drawn, axis)


def _line(asked: Asked, layer: str, colour: str, *, dashed: bool) -> Line:
    if layer == asked.layer:
        return Line(colour, CHOSEN_WIDTH, 1, dashed)
    return Line(colour, 1.2, 0.62, dashed)


def _table(asked: Asked, run: Followed) -> tuple[Column, np.ndarray | None]:
    """The column, and bool (look, layer) where values were not finite; None for a column that does not count them."""
    column = asked.column
    if column.group not in ("a", "g", "w"):
        return asked.values(run), None
    wanted = [(column.group, name) for name in (column.name, "nan", "inf")]
    found, nan, inf = run.kept.columns(*wanted)  # at once: a picture is drawn while the run is read on
    return found, (nan.values > 0) | (inf.values > 0)


def draw_pins(asked: Asked, answers: Answers) -> list[Update]:
    """Alarms on the time axis."""
    first, last = asked.across
    groups: dict[tuple[int, int], list[Alarm]] = {}
    for place, each in enumerate(asked.runs):
        for alarm in each.alarms:
            at = round((alarm.step - first) / max(last - first, 1) * PIN_PLACES)
            groups.setdefault((place, at), []).append(alarm)
    pins = [_pin(alarms, place, asked) for (place, _), alarms in groups.items()]
    frame = html.Div(pins, className="run-frame")
    return [show_text(ids.RUN_PINS, html.Div(frame, className="run-plot pins") if pins else None)]


def _pin(alarms: list[Alarm], place: int, asked: Asked) -> html.Button:
    first, last = asked.across
    worst = min(alarms, key=lambda alarm: SEVERITIES.index(alarm.severity))
    share = (worst.step - first) / max(last - first, 1)
    told = [_told(each) for each in alarms[:SAID]]
    more = f" and {len(alarms) - SAID:,} more" if len(alarms) > SAID else ""
    letter = f"{'AB'[place]} " if asked.other else ""
    words = [html.Span([html.Strong(letter + head), html.Span(rest)], className="pin-line") for head, rest in told]
    layer = layer_of(asked.runs[place], worst)
    changes = {"run_step": str(worst.step), **({"run_layer": layer} if layer else {})}
    side = "right" if share > 0.5 else "left"
    return html.Button(
        [
            html.Span(str(len(alarms)) if len(alarms) > 1 else "", className="count"),
            html.Span([*words, html.Span(more) if more else None], className=f"pin-said {side}"),
        ],
        className=f"pin is-{worst.severity} {'b' if place else 'a'}",
        style={"left": f"{100 * share:.2f}%"},
        **{"data-do": "set", "data-value": json.dumps(changes)},
        **{"aria-label": f"{letter}step {worst.step:,}: {told[0][0]}{told[0][1]}{more}"[:600]},
    )


def _told(alarm: Alarm) -> tuple[str, str]:
    return f"Step {alarm.step:,}. {alarm.sentence}"[:400], f" Do: {alarm.advice}"[:400] if alarm.advice else ""
