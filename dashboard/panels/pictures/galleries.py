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
from hookscope.dashboard.sets.layer_numbers import MANY
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.summaries import LayerSummary
from hookscope.hooks.results.sweeps import Firing, LayerTop

PER_PAGE = 12
LISTED = 14
INDICES = 60  # of channels that never fire
SILENT = "Channels that never fire"
DEAD = "It is 0 everywhere in every picture, so no picture shows what it looks for."
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
        html.Div([*head, csv_link(looked, "galleries", layer=key), *choices], className="head"),
        html.P(f"Over {format_count(summary.inputs)} pictures. {said}", className="muted"),
        *_dead(summary),
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
        [
            html.Div(about, className="about"),
            _crops(crops, top, channel, which) if fired else html.P(DEAD, className="muted"),
        ],
        className="gallery",
    )


def _crops(crops: Crops, top: LayerTop, channel: int, which: str) -> html.Div:
    return html.Div(cells(crops, top, channel, which), className="crops")


def _dead(summary: LayerSummary) -> list[html.P]:
    """Which channels never fire, by number; nothing where all do."""
    never = np.flatnonzero(summary.fired == 0).tolist()
    if not never:
        return []
    left = len(never) - INDICES
    rest = f" and {left:,} more, all of them in the CSV" if left > 0 else ""
    numbers = html.Span(", ".join(map(str, never[:INDICES])), className="mono")
    count = "One channel never fires" if len(never) == 1 else f"{format_count(len(never))} channels never fire"
    return [html.P([f"{count}: ", numbers, f"{rest}."], className="dead-channels")]


def silent(looked: Looked) -> list[Any]:
    """The layers whose channels fire seldom or never, the worst first."""
    now = looked.progress.now
    if now is None or not now.firing:
        return []
    read = looked.progress.read
    found = [each for each in now.firing if each.activation and (each.never or (each.seldom and read > MANY))]
    found.sort(key=lambda each: -each.never / max(each.channels, 1))
    over = f"over {format_count(read)} pictures"
    if not found:
        text = f"None, after an activation function, {over}."
        return [html.H2(SILENT), html.P(text, className="muted")]
    table = [csv_link(looked, "silent", "CSV", "Which channels these are, by number")] if looked.found else []
    return [
        html.Div([html.H2(SILENT), *table], className="head"),
        html.P(f"After activation functions, {over}. A click shows the channels.", className="muted"),
        _silent_table(found[:LISTED], read),
        *_more_silent(found[LISTED:], read),
    ]


def _more_silent(found: list[Firing], read: int) -> list[html.Details]:
    """The layers after the first ones, folded."""
    if not found:
        return []
    text = "and one layer more" if len(found) == 1 else f"and {format_count(len(found))} layers more"
    return [html.Details([html.Summary(text), _silent_table(found, read)])]


def _silent_table(found: list[Firing], read: int) -> html.Table:
    """A row for each layer; of few pictures none fires in under a hundredth, and there is no column for that."""
    seldom = ["in under 1 %"] if read > MANY else []
    head = html.Tr([html.Th(text) for text in ("after", "never", *seldom, "of")])
    rows = [_silent_row(each, bool(seldom)) for each in found]
    return html.Table([html.Thead(head), html.Tbody(rows)], className="classes")


def _silent_row(each: Firing, seldom: bool) -> html.Tr:
    key = key_of(each.layer, each.call)
    change = {"layers": [key], "channels": "seldom", "from_channel": 0}
    action = {"data-do": "set", "data-value": json.dumps(change), "data-scroll": ids.SET_CHANNELS}
    layer = html.Button(key, className="link told mono", title="Show its channels", **action)
    numbers = (each.never, each.seldom, each.channels) if seldom else (each.never, each.channels)
    return html.Tr([html.Td(layer), *(html.Td(format_count(number), className="mono") for number in numbers)])
