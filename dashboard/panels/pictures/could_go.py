"""The page "What could go": how many of the chosen layer's channels nobody would miss, measured over a set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.numbers import format_count, format_number, format_share, short_count
from hookscope.dashboard.drawing.pruning_figure import (
    channels_csv,
    curve_csv,
    indices_json,
    pruning_figure,
)
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures import going
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.galleries import PER_PAGE, chosen_layer
from hookscope.dashboard.panels.pictures.going import Pruning, choice, limit_of
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.panels.pictures.mistakes import step_through
from hookscope.dashboard.panels.pictures.pages import Page
from hookscope.dashboard.panels.regions import (
    MIN_HEIGHT_PX,
    graph,
    keep_room,
    refuse,
    show_figure,
    show_text,
    stop_button,
)
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.importance import PruneCurve, indices
from hookscope.hooks.results.prunable import Prunable, Prunables, Pruned
from hookscope.hooks.results.sweeps import LayerTop

NAME = "could-go"
PART = "pruning of one"
RANKED = 12  # channels on a page of the table
SHOWN = 3  # pictures beside a channel
HELP = (
    "The channels are muted together, the least important first, and the model is asked anew each time: the removal of "
    "many is not the sum of the removals of each. Beside it random orders: a ranking that does no better has told "
    "nothing."
)
CHART_HELP = "Disagreement by the share of channels that are removed; the curve's CSV has its numbers"
RANKINGS = (
    ("taylor", "|a·g|", "By the mean over the pictures of |sum of activation × gradient| (Molchanov 2017)"),
    ("gate", "(a·g)²", "By the mean over the pictures of its square, of a gate at each channel (Molchanov 2019)"),
)
LIMITS = (
    ("0", "0 %", "No picture may be answered otherwise than by the whole model"),
    ("1", "≤ 1 %", "At most 1 % of the pictures may be answered otherwise than by the whole model"),
    ("5", "≤ 5 %", "At most 5 % of the pictures may be answered otherwise than by the whole model"),
)
AMOUNTS = tuple((each, each, f"Over the first {each} pictures of the set's shuffled order") for each in ("64", "256"))


def _layout() -> html.Div:
    return html.Div(
        [
            html.Div(
                [
                    Markup(ids.SET_GOING, className="set-going"),
                    html.Div(
                        [
                            html.Div(
                                graph(ids.SET_GOING_CURVE, MIN_HEIGHT_PX), role="group", **{"aria-label": CHART_HELP}
                            ),
                            Markup(ids.SET_GOING_CHANNELS, hidden=True),
                        ],
                        className="going-row",
                    ),
                ],
                className="panel still",
            ),
            Markup(ids.SET_GOING_LAYERS, className="panel"),
        ],
        className="set-page",
    )


def _parts(looked: Looked) -> list[Part]:
    listed = going.listed(looked)
    return [_one(looked, listed), going.every(looked, listed)]


def _one(looked: Looked, listed: Unit) -> Part:
    """The chosen layer."""
    key, pruning = chosen_layer(looked), looked.scene.view.of(Pruning)
    unit: Unit | None = None
    if key and looked.scene.call_of(key) is not None:
        beside, alone = (going.measured(looked, key, orders) for orders in (going.ORDERS, 0))
        values = looked.scene.service.value
        if pruning.prune or values(beside) is not None:
            unit = beside
        elif values(alone) is not None:  # of the table
            unit = alone
    units = (listed,) if unit is None else (unit, listed)
    seen = looked.found is not None  # so that there are pictures to show of each channel
    shows = (going.steady(looked), seen, replace(pruning, prune_every=False), key, unit, listed)
    return Part(PART, units, shows, _draw, error=ids.SET_GOING)


def _draw(
    looked: Looked, seen: bool, pruning: Pruning, key: str, unit: Unit | None, listed: Unit, answers: Answers
) -> list[Update]:
    there = result_of(answers, listed, Prunables)
    layer = next((each for each in there.layers if key_of(each.layer, each.call) == key), None) if there else None
    found = result_of(answers, unit, Pruned)
    head = [
        html.H2(["What of ", html.Span(key, className="mono"), " could go"] if key else "What could go", title=HELP)
    ]
    choices = html.Div([*head, *_choices(looked, pruning)], className="head")
    texts: list[Any] = [choices]
    if not key:
        texts.append(html.P("Choose a layer, in the tree or in the table below.", className="muted"))
    elif found is None:
        texts += [_about(layer), *_waiting(looked, pruning, key, unit, answers)]
    if found is None or unit is None:
        region = show_text(ids.SET_GOING_CHANNELS, None, hidden=True)
        return [show_text(ids.SET_GOING, texts, hidden=False), keep_room(ids.SET_GOING_CURVE, MIN_HEIGHT_PX), region]
    texts += [_sentence(found, key, pruning), *_beside(found.curve, pruning)]
    texts.append(html.P([*_how_far(looked, unit, found, answers), *_files(looked, unit, found, pruning)]))
    texts += [refuse(each, PART) for each in failures(answers, (unit,))]
    return [
        show_text(ids.SET_GOING, texts, hidden=False),
        show_figure(ids.SET_GOING_CURVE, pruning_figure(found.curve, limit_of(pruning))),
        show_text(ids.SET_GOING_CHANNELS, _channels(looked, found, pruning), hidden=False),
    ]


def _choices(looked: Looked, pruning: Pruning) -> list[html.Div]:
    found = [
        choice("prune_by", "ranked by", RANKINGS, pruning.prune_by),
        choice("prune_at", "disagreement", LIMITS, pruning.prune_at, anew=False),
    ]
    if len(looked.pictures.members) > int(AMOUNTS[0][0]):
        found.append(choice("prune_over", "pictures", AMOUNTS, pruning.prune_over))
    return found


def _about(layer: Prunable | None) -> html.P | None:
    """What is known of the layer before anything is measured."""
    if layer is None:
        return None
    if not layer.removal.exact:
        return html.P(f"{format_count(layer.channels)} channels. {layer.removal.note}", className="muted")
    each = f"{format_count(layer.removal.parameters)} parameters and {short_count(layer.removal.multiply_adds)}"
    text = f"{format_count(layer.channels)} channels; with each would go {each} multiply-adds a picture."
    return html.P(f"{text} {layer.removal.note}".strip(), className="muted")


def _waiting(looked: Looked, pruning: Pruning, key: str, unit: Unit | None, answers: Answers) -> list[Any]:
    """A button that begins, how far it is, or why it came to nothing."""
    if unit is None:
        return [html.P(_begin(f"Measure {key}", looked, pruning), className="live-only")]
    if wrong := failures(answers, (unit,)):
        return [refuse(each, PART) for each in wrong]
    if unit not in answers.progress:
        return [html.P("computing …", className="muted")]
    done, total = answers.progress[unit]
    return [html.P([f"ranking its channels … {done:,} of {total:,} pictures ", stop_button(PART)], className="muted")]


def _begin(text: str, looked: Looked, pruning: Pruning) -> html.Button:
    amount = going.amount(looked, pruning)
    help_text = f"{HELP} It is measured while this page is open, and what is measured stays; you can go on clicking."
    action = {"data-do": "set", "data-value": json.dumps({"prune": True, "from_ranked": 0})}
    return html.Button(f"{text} over {amount:,} pictures", className="pill primary", title=help_text, **action)


def _sentence(found: Pruned, key: str, pruning: Pruning) -> html.P:
    """How many channels can go, and what that saves."""
    curve, limit = found.curve, limit_of(pruning)
    can_go, removal = curve.removable(limit), curve.removal
    at = f"At {'≤ ' if limit else ''}{pruning.prune_at} % disagreement: "
    much = f" {format_count(can_go.count)} of {format_count(curve.channels)} channels"
    if removal.exact:
        saved = f"{_million(can_go.parameters)} parameters, {_million(can_go.multiply_adds)} multiply-adds a picture."
        note = f" {removal.note}" if removal.note else ""
        return html.P([at, html.Strong(key), f"{much}, {saved}{note}"], className="going-sentence")
    kept = f" can be muted, and not removed. {removal.note}"
    return html.P([at, html.Strong(key), f"{much}{kept}"], className="going-sentence")


def _million(count: int) -> str:
    return f"{count / 1e6:.2g} M" if 100_000 <= count < 10_000_000 else short_count(count)


def _beside(curve: PruneCurve, pruning: Pruning) -> list[html.P]:
    """What random orders and the labels say of that."""
    limit = limit_of(pruning)
    count = curve.removable(limit).count
    point = int(np.flatnonzero(curve.counts == count)[0])
    said = []
    if allowed := int(limit * curve.pictures + 1e-9):
        said.append(f"That is {allowed:,} of {curve.pictures:,} pictures.")
    elif limit:
        said.append(f"Of {curve.pictures:,} pictures none may change then.")
    if count and len(curve.random_orders):
        band = curve.random_agreement
        least, most = (format_share(1 - float(each[point])) for each in (band.most, band.least))
        said.append(f"As many in random orders change {least if least == most else f'{least} to {most}'}.")
    if curve.labelled:
        whole, left = (format_share(float(each)) for each in (curve.accuracy[0], curve.accuracy[point]))
        said.append(f"Accuracy {whole} with all, {left} without them.")
    return [html.P(" ".join(said), className="muted")] if said else []


def _how_far(looked: Looked, unit: Unit, found: Pruned, answers: Answers) -> list[Any]:
    total, curve = len(looked.pictures.members), found.curve
    if not found.complete:
        text = f"{curve.pictures:,} of {found.pictures:,} pictures so far "
        return [html.Span(text, className="muted"), *([] if failures(answers, (unit,)) else [stop_button(PART)])]
    asked = unit.question.pictures
    text = f"Over {curve.pictures:,} of {total:,} pictures"
    text += ", the first of the set's shuffled order" if asked < total else ""
    text += f"; {asked - curve.pictures:,} cannot be read. " if curve.pictures < min(asked, total) else ". "
    more = []
    if not unit.question.orders:
        action = {"data-do": "set", "data-value": json.dumps({"prune": True})}
        button = html.Button("with random orders beside it", className="link", title=HELP, **action)
        more = [html.Span([button, " · "], className="live-only")]
    return [html.Span(text, className="muted", title=curve.how), *more]


def _files(looked: Looked, unit: Unit, found: Pruned, pruning: Pruning) -> list[Any]:
    """Its numbers; nothing while they are not all there."""
    if not found.complete:
        return []
    limit, curve = limit_of(pruning), found.curve
    layer = curve.layer.replace("/", "-") or "model"
    about = (NAME, unit, limit)
    files = [
        ("curve as CSV", "curve.csv", "text/csv", partial(curve_csv, curve)),
        ("channels as CSV", "channels.csv", "text/csv", partial(channels_csv, found, pruning.prune_by, limit)),
    ]
    if curve.removal.exact:
        draw = partial(indices_json, {curve.layer: indices(curve, limit)})
        files.append(("indices for Torch-Pruning", "indices.json", "application/json", draw))
    links: list[Any] = []
    for text, ending, media_type, draw in files:
        name = f"hookscope-{layer}-{ending}"
        address = looked.scene.file((*about, ending), draw, media_type, name)
        links += [" · " if links else "", html.A(text, href=address, download=name, className="link")]
    return [html.Span(links, className="live-only")]


def _channels(looked: Looked, found: Pruned, pruning: Pruning) -> list[Any]:
    """The channels, the least important first; a click shows a channel's gallery."""
    curve, importance = found.curve, found.importance
    values = importance.taylor if pruning.prune_by == "taylor" else importance.gate
    count, most = curve.removable(limit_of(pruning)).count, float(values.max(initial=0.0)) or 1.0
    start = min(pruning.from_ranked, curve.channels - 1) // RANKED * RANKED
    top = _top(looked, curve)
    heads = ["rank", "channel", "importance", "", "can go", *(["its strongest pictures"] if top else [])]
    rows = []
    for rank, channel in enumerate(curve.order[start : start + RANKED].tolist(), start):
        bar = html.Span(html.Span(style={"width": f"{100 * values[channel] / most:.1f}%"}), className="going-bar")
        cells = [
            html.Td(f"{rank + 1:,}", className="mono"),
            html.Td(_gallery_of(curve, channel)),
            html.Td(format_number(float(values[channel])), className="mono"),
            html.Td(bar),
            html.Td("yes" if rank < count else ""),
            *([html.Td(_strip(looked, top, channel))] if top else []),
        ]
        rows.append(html.Tr(cells))
    where = "" if importance.at == curve.layer else f", taken behind {importance.at}"
    what = "|sum of activation × gradient|" if pruning.prune_by == "taylor" else "(sum of activation × gradient)²"
    about = f"Importance: the mean over the pictures of {what}, of each picture's own first class{where}."
    table = html.Table(
        [html.Thead(html.Tr([html.Th(text) for text in heads])), html.Tbody(rows)], className="classes going"
    )
    return [
        html.H3("Its channels, the least important first"),
        html.P(about, className="muted"),
        table,
        step_through(start, curve.channels, "from_ranked", RANKED),
    ]


def _gallery_of(curve: PruneCurve, channel: int) -> html.Button:
    change = {
        "set_page": "",
        "layers": [key_of(curve.layer, curve.call)],
        "channels": "index",
        "from_channel": channel // PER_PAGE * PER_PAGE,
    }
    action = {"data-do": "set", "data-value": json.dumps(change)}
    return html.Button(f"channel {channel}", className="going-link", title="Show what it looks for", **action)


def _top(looked: Looked, curve: PruneCurve) -> LayerTop | None:
    """The pictures that its channels answer to, if the set has been looked through."""
    if looked.found is None:
        return None
    try:
        return looked.found.top(curve.layer, curve.call)
    except LayerNotExecuted:
        return None


def _strip(looked: Looked, top: LayerTop, channel: int) -> html.Div:
    assert looked.found is not None
    crops, shown = Crops(looked, looked.found, None), top.strongest(channel)
    if not shown.values.any():  # it never fires
        return html.Div()
    spots: Sequence[Any] = shown.spots.tolist()
    cells = [
        crops.cell(int(number), float(value), spot)
        for number, value, spot in zip(shown.pictures[:SHOWN], shown.values, spots, strict=False)
    ]
    return html.Div(cells, className="strip")


PAGE = Page(
    NAME,
    "What could go",
    "How many channels of each layer can be removed before the model answers something else",
    _layout,
    _parts,
)
