"""What stands at the chosen step: where it is on the time axis, the column along the depth, one layer's numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.markup import to_markup
from hookscope.dashboard.drawing.numbers import format_count, format_number, format_share
from hookscope.dashboard.feeds.series import OWN
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked
from hookscope.hooks.results.feeds import PLACES, TITLES, Look

MOST_BARS = 300
MOST_SCALARS, MOST_NOTES, MOST_RATES = 6, 4, 3
SHARES = ("zeros",)
WHOLE = ("dead", "channels", "nan", "inf", "inputs", "count")
WORDS = {"zeros": "exactly 0", "nan": "NaN", "inf": "infinite", "inputs": "pictures", "count": "values", "std": "dev."}


def draw_marker(asked: Asked, answers: Answers) -> list[Update]:
    """Where the chosen step is, and what the slider goes over."""
    look = asked.look()
    if look is None:
        return [show_text(ids.RUN_MARKER, None), show_text(ids.RUN_AT, None)]
    first, last = asked.across
    share = (look.step - first) / max(last - first, 1)
    line = html.Div(className="line", style={"left": f"{100 * share:.3f}%"})
    newest = asked.run.newest
    at_newest = newest is not None and newest.step == look.step
    about = {
        "data-steps": as_runs(asked.run.kept.steps()),
        "data-across": f"{first},{last}",
        "data-place": str(int(np.searchsorted(asked.run.kept.steps(), look.step))),
        "data-follows": "1" if asked.step is None else "",
    }
    words: list[Any] = [
        html.Span(["step ", html.Strong(format_count(look.step), className="run-step")]),
        html.Span(" · ".join(_facts(look, asked.run)), className="muted run-facts"),
        *(html.P(text, className="muted") for text in look.notes[:MOST_NOTES]),
    ]
    if asked.other is not None and (aside := _of_other(asked, look)):
        words.append(html.Span(aside, className="muted"))
    if asked.step is not None and asked.step != look.step:
        words.append(
            html.Span(f"Step {asked.step:,} was not looked at; this is the last one before.", className="muted")
        )
    if asked.step is not None:
        follow = html.Button(
            "follow the newest" if asked.run.state.kind != "ended" else "the last",
            className="link live-only",
            **{"data-do": "set", "data-value": json.dumps({"run_step": ""})},
        )
        words.append(follow)
    elif at_newest and asked.run.state.kind != "ended":
        words.append(html.Span("the newest, and so on", className="muted live-only"))
    return [
        show_text(ids.RUN_MARKER, html.Div(line, className="run-frame")),
        show_text(ids.RUN_AT, html.Div(words, className="run-at-words", **about)),
    ]


def _of_other(asked: Asked, look: Look) -> str:
    """At which step the run beside is shown, where it is another one."""
    beside = asked.look(asked.other)
    if beside is None:
        return f"B was not looked at up to step {look.step:,}"
    return "" if beside.step == look.step else f"B at step {beside.step:,}"


def as_runs(steps: np.ndarray) -> str:
    """Rising steps in few characters: "first+distance*count" of each stretch of equal distances.

    >>> as_runs(np.array([0, 50, 100, 150, 170, 171]))
    '0+50*4,170+1*2'
    """
    if not len(steps):
        return ""
    found, start = [], 0
    while start < len(steps):
        stop = start + 1
        distance = int(steps[stop] - steps[start]) if stop < len(steps) else 1
        while stop < len(steps) and steps[stop] - steps[stop - 1] == distance:
            stop += 1
        found.append(f"{steps[start]}+{distance}*{stop - start}")
        start = stop
    return ",".join(found)


def _facts(look: Look, run: Followed) -> list[str]:
    found = [f"look {look.number + 1:,}"]
    found += [f"loss {format_number(look.loss)}"] if look.loss == look.loss else []
    if look.rates:
        rates = ", ".join(format_number(rate) for rate in look.rates[:MOST_RATES])
        found.append(f"learning rate {rates}{' …' if len(look.rates) > MOST_RATES else ''}")
    if look.scale == look.scale:
        found.append(f"scale {format_number(look.scale)}")
    found += ["the update was left out"] if look.skipped else []
    found += [f"{name[:30]} {format_number(value)}" for name, value in list(look.scalars.items())[:MOST_SCALARS]]
    found += [f"looking took {1000 * look.cost:.0f} ms"] if look.cost == look.cost else []
    return found


def values_at(asked: Asked, run: Followed, look: Look | None) -> dict[str, float]:
    """The column of every layer of a look; only those that have it."""
    if look is None:
        return {}
    column = asked.column
    key = column.group, column.name
    numbers = look.own.get(column.name) if column.group == OWN else look.numbers[:, PLACES[key]]
    if numbers is None:
        return {}
    return {name: float(value) for name, value in zip(look.layers, numbers, strict=True) if value == value}


def broken_at(look: Look | None, group: str) -> dict[str, str]:
    """The layers of a look that hold values that are not finite, and how many."""
    if look is None or group not in ("a", "g", "w"):
        return {}
    nan, inf = (np.nan_to_num(look.column(group, name)) for name in ("nan", "inf"))
    return {
        look.layers[place]: f"{nan[place]:,.0f} NaN, {inf[place]:,.0f} infinite"
        for place in np.flatnonzero((nan > 0) | (inf > 0))
    }


def draw_depth(asked: Asked, answers: Answers) -> list[Update]:
    """The column along the depth at the chosen step, a bar for each layer."""
    look, axis = asked.look(), asked.axis
    if look is None or axis is None:
        return [show_text(ids.RUN_DEPTH, None)]
    values = values_at(asked, asked.run, look)
    broken = broken_at(look, asked.column.group)
    beside = asked.look(asked.other) if asked.other else None
    others = values_at(asked, asked.other, beside) if asked.other else {}
    names = [name for name in look.layers if name in values or name in broken]
    each = -(-len(names) // MOST_BARS) or 1
    chosen = []
    for start in range(0, len(names), each):
        group = names[start : start + each]
        bad = [name for name in group if name in broken]
        name = bad[0] if bad else max(group, key=lambda layer: values.get(layer, -np.inf))
        chosen.append(asked.layer if asked.layer in group else name)
    heights, marks = (
        dict(zip(chosen, axis.shares(np.array([each.get(name, np.nan) for name in chosen])).tolist(), strict=True))
        for each in (values, others)
    )
    aside = _of_other(asked, look) if asked.other else ""
    bars = [
        _bar(
            name, name == asked.layer, (values.get(name), heights[name]), (others.get(name), marks[name]), broken, aside
        )
        for name in chosen
    ]
    if not bars:
        text = f"No layer has this number at step {look.step:,}: {asked.column.title}."
        return [show_text(ids.RUN_DEPTH, html.P(text, className="muted"))]
    more = f" Each bar is the largest of {each} layers." if each > 1 else ""
    head = html.Div([html.H2(f"{asked.column.title} along the depth"), html.Span(more, className="muted")])
    told = [html.Span(aside, className="muted")] if aside else []
    ends = [html.Span(names[0]), html.Span(names[-1])]
    across = html.Span(
        ["over all steps ", html.Span(f"{format_number(axis.least)} … {format_number(axis.most)}", className="mono")],
        className="muted",
    )
    # hundreds of bars as what the browser draws: to make components of them takes longer than all else
    tree = [
        *to_markup(html.Div([head, *told, across], className="run-title")),
        ["div", {"className": "run-bars"}, bars],
        *to_markup(html.Div(ends, className="ends muted mono")),
    ]
    return [(ids.RUN_DEPTH, {"tree": tree})]


def _bar(
    name: str,
    chosen: bool,
    value: tuple[float | None, float],
    other: tuple[float | None, float],
    broken: Mapping[str, str],
    aside: str,
) -> list[Any]:
    """A bar as a node of a `Markup`'s tree: the value and its height 0..1, and the same of the run beside it.

    Arguments:
        aside: at which step that is, where it is another one.
    """
    bad = broken.get(name, "")
    height = 100.0 if bad or value[0] is None else 100 * value[1]
    text = f"{name}: {bad or format_number(value[0])}"
    parts = [["span", {"className": "fill", "style": {"height": f"{max(height, 2):.1f}%"}}, []]]
    if other[0] is not None:
        parts.append(["span", {"className": "other", "style": {"bottom": f"{100 * other[1]:.1f}%"}}, []])
        text += f" · {aside or 'B'} {format_number(other[0])}"
    attributes = {
        "className": f"run-bar{' broken' if bad else ''}{' chosen' if chosen else ''}",
        "title": text,  # and its name for readers, as it holds no text
        "data-do": "set",
        "data-value": json.dumps({"run_layer": name}),
        "aria-pressed": "true" if chosen else "false",
    }
    return ["button", attributes, parts]


def draw_layer(asked: Asked, answers: Answers) -> list[Update]:
    """Every number of the chosen layer at the chosen step."""
    look = asked.look()
    if look is None:
        return [show_text(ids.RUN_LAYER, None)]
    head = html.Div(
        [html.H2(asked.layer, className="mono", title=asked.layer), open_layer(asked.layer)], className="run-title"
    )
    if asked.layer not in look.layers:
        text = f"There is no such layer in the look at step {look.step:,}: it did not run then, or it is not followed."
        return [show_text(ids.RUN_LAYER, [head, html.P(text, className="muted")])]
    beside = asked.look(asked.other) if asked.other else None
    numbers = _numbers(look, asked.layer)
    others = _numbers(beside, asked.layer) if beside is not None and asked.layer in beside.layers else {}
    rows = []
    for (group, name), value in numbers.items():
        cells = [html.Td(group), html.Td(name), html.Td(_text(name, value), className="mono")]
        cells += [
            html.Td(_text(name, others[group, name]) if (group, name) in others else "", className="mono")
        ] * bool(others)
        bad = name in (WORDS["nan"], WORDS["inf"]) and value > 0
        rows.append(html.Tr(cells, className="bad" if bad else ""))
    aside = _of_other(asked, look) if asked.other else ""
    titles = [html.Th(text) for text in ("", "", *(("A", aside or "B") if others else ("",)))]
    table = html.Table(
        [html.Thead(html.Tr(titles)), html.Tbody(rows)] if others else html.Tbody(rows), className="checked"
    )
    missing = [html.P(text, className="muted") for text in _of_finite(look, asked.layer)]
    if asked.other is not None and not others:
        nothing = f"{asked.other.name} has no such layer at that step." if beside is not None else f"{aside}."
        missing.append(html.P(nothing, className="muted"))
    return [show_text(ids.RUN_LAYER, [head, table, *missing])]


def _of_finite(look: Look, layer: str) -> list[str]:
    """What the numbers are of where not all values are finite."""
    numbers, found = look.of(layer), []
    for group, what in (("a", "activations"), ("g", "gradients"), ("w", "weights")):
        if numbers.get((group, "nan"), 0) or numbers.get((group, "inf"), 0):
            none = (group, "rms") not in numbers
            text = f"No value of the {what} is finite, so they have no mean, deviation or norm."
            found.append(text if none else f"The numbers of the {what} are of those values that are finite.")
    return found


def open_layer(layer: str) -> html.Button:
    """To what the layer computes for a picture, in the model that the page has."""
    name, _, call = layer.rpartition(":")
    key = f"{name}:{int(call) - 1}" if name and call.isdecimal() and int(call) > 1 else layer
    return html.Button("open the layer", className="link live-only", **{"data-do": "layer", "data-value": key})


def _numbers(look: Look, layer: str) -> dict[tuple[str, str], float]:
    found = {(TITLES[group], WORDS.get(name, name)): value for (group, name), value in look.of(layer).items()}
    place = look.layers.index(layer)
    own = {("own", name): float(values[place]) for name, values in look.own.items() if values[place] == values[place]}
    return found | own


def _text(name: str, value: float) -> str:
    if name == WORDS["zeros"]:
        return format_share(value)
    if name in (*WHOLE, *WORDS.values()) and name != "dev." and np.isfinite(value):
        return format_count(value)
    return format_number(value)
