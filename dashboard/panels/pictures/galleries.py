"""What the channels of a layer look for over a set, and which never fire."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import key_of, parse_key
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.numbers import format_count, format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.links import csv_link
from hookscope.dashboard.panels.pictures.looked import Looked, Looking
from hookscope.dashboard.panels.pictures.mistakes import step_through
from hookscope.dashboard.panels.pictures.strips import CROPS, cells, choice, field_of, field_unit
from hookscope.dashboard.panels.regions import show_text
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.summaries import LayerSummary
from hookscope.hooks.results.sweeps import Firing, LayerTop

PER_PAGE = 12
LISTED = 14
ORDERS = (
    ("index", "by index", ""),
    ("seldom", "seldom first", "Those that fire in the fewest pictures first"),
    ("strongest", "strongest first", "Those with the largest value first, in deviations of their own"),
)


def part(looked: Looked) -> Part:
    """The galleries of the chosen layer's channels, and the question where its units look."""
    key = chosen_layer(looked)
    units: tuple[Unit, ...] = ()
    if key and looked.found is not None and looked.scene.call_of(key) is not None:
        units = (field_unit(looked, key),)
    return Part("set channels", units, (looked, units), _draw, error=ids.SET_CHANNELS)


def chosen_layer(looked: Looked) -> str:
    """The key of the layer whose channels are shown; "" if none is chosen."""
    return next(filter(None, looked.scene.view.layers), "")


def _draw(looked: Looked, units: tuple[Unit, ...], answers: Answers) -> list[Update]:
    return [
        show_text(ids.SET_CHANNELS, channels(looked, *field_of(answers, units[0] if units else None)), hidden=False)
    ]


def channels(looked: Looked, field: ReceptiveField | None, said: str) -> list[Any]:
    """The galleries of the chosen layer's channels.

    Arguments:
        field: where its units look; None if that is not known, or not yet. said: the same in words.
    """
    key = chosen_layer(looked)
    if not key:
        return [
            html.H2("What channels look for"),
            html.P(
                "Choose a layer in the tree: its channels, each with the pictures it answers to.", className="muted"
            ),
        ]
    layer, call = parse_key(key)
    head: list[Any] = [html.H2(["What the channels of ", html.Span(key, className="mono"), " look for"])]
    if looked.found is None:
        text = "Its galleries come with the first saved part." if looked.progress.phase == "running" else ""
        return [*head, html.P(text or "They are there once the set has been looked through.", className="muted")]
    try:
        top, summary = looked.found.top(layer, call), looked.found.summary(layer, call)
    except LayerNotExecuted:
        return [*head, html.P("This layer has no channels of which pictures could be ranked.", className="muted")]
    looking = looked.scene.view.of(Looking)
    order = _order(looking.channels, top, summary)
    start = min(looking.from_channel, max(len(order) - 1, 0)) // PER_PAGE * PER_PAGE
    choices = [
        choice(CROPS, "crops", looking.crops),
        choice(ORDERS, "channels", looking.channels, from_channel=0),
    ]
    crops = Crops(looked, looked.found, field)
    rows = [_row(crops, top, summary, int(channel), looking.crops) for channel in order[start : start + PER_PAGE]]
    return [
        html.Div([*head, *choices, csv_link(looked, "galleries", layer=key)], className="head"),
        html.P(f"Over {format_count(summary.inputs)} pictures. {said}", className="muted"),
        html.Div(rows, className="galleries"),
        step_through(start, len(order), "from_channel", PER_PAGE),
    ]


def _order(chosen: str, top: LayerTop, summary: LayerSummary) -> np.ndarray:
    if chosen == "seldom":
        return np.argsort(summary.fired, kind="stable")
    if chosen == "strongest":
        spread = summary.statistics.channels["std"]
        largest = top.by_max.values[:, 0] - summary.statistics.channels["mean"]
        with np.errstate(invalid="ignore", divide="ignore"):
            away = np.where(spread > 0, largest / spread, -np.inf)
        return np.argsort(-away, kind="stable")
    return np.arange(len(summary.fired))


def _row(crops: Crops, top: LayerTop, summary: LayerSummary, channel: int, which: str) -> html.Div:
    fired = int(summary.fired[channel])
    share = fired / summary.inputs if summary.inputs else 0.0
    words = "never fired" if not fired else f"fired in {share:.0%}"
    largest = float(top.by_max.values[channel, 0])
    about = [
        html.Strong(f"channel {channel}"),
        html.Span(words, className="warning" if not fired else "muted"),
        html.Span(f"largest {format_number(largest)}", className="muted"),
    ]
    return html.Div(
        [html.Div(about, className="about"), html.Div(cells(crops, top, channel, which), className="crops")],
        className="gallery",
    )


def silent(looked: Looked) -> list[Any]:
    """The layers whose channels fire seldom or never, the worst first."""
    now = looked.progress.now
    if now is None or not now.firing:
        return []
    found = [each for each in now.firing if each.activation and (each.never or each.seldom)]
    found.sort(key=lambda each: -each.never / max(each.channels, 1))
    title = "Channels that never fire"
    seen = format_count(now.seen)
    if not found:
        return [html.H2(title), html.P(f"None, after an activation function, over {seen} pictures.", className="muted")]
    head = html.Tr([html.Th(text) for text in ("after", "never", "in under 1 %", "of")])
    rows = [_silent_row(each) for each in found[:LISTED]]
    left = len(found) - LISTED
    more = [html.P(f"and {left:,} layers more.", className="muted")] if left > 0 else []
    return [
        html.H2(title),
        html.P(f"After activation functions, over {seen} pictures.", className="muted"),
        html.Table([html.Thead(head), html.Tbody(rows)], className="classes"),
        *more,
    ]


def _silent_row(each: Firing) -> html.Tr:
    key = key_of(each.layer, each.call)
    change = {"layers": [key], "channels": "seldom", "from_channel": 0}
    action = {"data-do": "set", "data-value": json.dumps(change)}
    layer = html.Button(key, className="link mono", title="Show its channels", **action)
    numbers = (each.never, each.seldom, each.channels)
    return html.Tr([html.Td(layer), *(html.Td(format_count(number), className="mono") for number in numbers)])
