"""Where the model sees a gap between two sets: along the depth, in a sentence, and the channels that carry it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.asking.layer_keys import key_of, parse_key
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.head import sets_of, state
from hookscope.dashboard.panels.pictures.links import csv_link
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.panels.pictures.telling import told
from hookscope.dashboard.panels.pictures.versus import accuracies
from hookscope.dashboard.sets.stored import STORED, Stored
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.gaps import SURE, LayerGap, beginning, describe_gap

CHANNELS = 6  # that differ most, of the chosen layer
SHOWN = 5  # pictures of each set beside a channel
HELP = (
    "The means of each channel over each picture, of up to 128 pictures of each set: a bar is how far the two sets are "
    "apart, in deviations of a channel; full colour where that is no chance (p < 0.01 by permutations, of the squared "
    "maximum mean discrepancy with KID's kernel)."
)


def choices(scene: Scene) -> html.Div | None:
    """What the chosen set can be held against: other sets, and the model's stored baseline."""
    others = [each for each in sets_of(scene) if each[0] != scene.view.set_a]
    if stored := _stored(scene):
        others.append((STORED, stored))
    if not scene.view.set_a or not others:
        return None

    def button(key: str, name: str) -> html.Button:
        pressed = key == scene.view.set_b
        change = json.dumps({"set_b": "" if pressed else key})
        return html.Button(
            name, className="pill", **{"data-do": "set", "data-value": change, "aria-pressed": str(pressed).lower()}
        )

    return html.Div(
        [html.Span("against", className="muted"), *(button(*each) for each in others)],
        className="set-choice live-only",
        role="group",
        **{"aria-label": "A second set"},
    )


def _stored(scene: Scene) -> str:
    """What the stored baseline is; "" if there is none and none is asked for."""
    sweeps = scene.service.sweeps
    stored = None if sweeps is None else sweeps.baselines.about(scene.view.model_of(scene.view.side))
    if isinstance(stored, Stored):
        return stored.name
    return "" if stored is None and scene.view.set_b != STORED else "the stored baseline"


def against(looked: Looked) -> list[Any]:
    """Where the two sets part; nothing where no second one is chosen."""
    view, sweeps = looked.scene.view, looked.scene.service.sweeps
    if not view.set_b or view.set_b == view.set_a or sweeps is None:
        return []
    if view.set_b == STORED:
        action = {"data-do": "set", "data-value": json.dumps({"set_page": "outliers"})}
        outliers = html.Button("Outliers", className="link told", **action)
        return [html.P(["How far they are from the stored baseline stands in ", outliers, "."])]
    other = look_at(looked.scene, view.set_b)
    if isinstance(other, str):
        return [html.P(other, className="sentence")]
    head = html.H2(f"{looked.pictures.name} against {other.pictures.name}", title=HELP)
    found = sweeps.gaps(looked.pictures, other.pictures, looked.model)
    if found is None:
        return [html.Div([head, html.P("computing …", className="muted")], **{"data-again": "1"})]
    if isinstance(found, str):  # with the second set's own bar, from which it can be looked through
        return [head, html.P(found, className="muted"), state(other)]
    gap = _looked_at(looked, found)
    table = csv_link(looked, "gaps", "CSV", "How far they are apart at each layer", against=other.pictures.key)
    return [
        html.Div([head, table], className="head"),
        *([state(other)] if other.progress.phase == "running" else []),
        *accuracies(looked, other),
        html.P(describe_gap(found)),
        _bars(found),
        *(_channels(looked, other, gap) if gap else []),
        *(told(looked, other, gap or found[-1])),
    ]


def _bars(gaps: tuple[LayerGap, ...]) -> html.Div:
    """A bar for each layer, in execution order; a click chooses it."""
    most = max((gap.effect for gap in gaps), default=0.0) or 1.0
    start = beginning(gaps)
    bars = []
    for gap in gaps:
        key = key_of(gap.layer, gap.call)
        sure = f"p < {SURE}" if gap.p < SURE else f"p {gap.p:.2f}"
        about = f"{key}: {format_number(gap.effect)} deviations apart, {sure}"
        kind = "gap-bar apart" if gap.apart else "gap-bar"
        change = json.dumps({"layers": [key]})
        bars.append(
            html.Button(
                html.Span(style={"height": f"{max(100 * gap.effect / most, 1):.1f}%"}),
                className=f"{kind} first" if gap is start else kind,
                title=about,
                **{"data-do": "set", "data-value": change, "aria-label": about},
            )
        )
    ends = html.Div([html.Span(gaps[0].layer), html.Span(gaps[-1].layer)], className="gap-ends muted mono")
    return html.Div([html.Div(bars, className="gap-bars"), ends], title=HELP)


def _looked_at(looked: Looked, gaps: tuple[LayerGap, ...]) -> LayerGap | None:
    """The chosen layer's gap, or that at which the sets part; None if neither is there."""
    chosen = next(filter(None, looked.scene.view.layers), "")
    place = parse_key(chosen) if chosen else None
    return next((each for each in gaps if (each.layer, each.call) == place), beginning(gaps))


def _channels(looked: Looked, other: Looked, gap: LayerGap) -> list[Any]:
    """The channels furthest apart of a layer, with pictures of both sets."""
    if looked.found is None or other.found is None:
        return []
    try:
        tops = [side.found.top(gap.layer, gap.call) for side in (looked, other) if side.found is not None]
    except LayerNotExecuted:
        return []
    rows = []
    for channel in gap.most_apart(CHANNELS):
        sides = []
        for side, top in zip((looked, other), tops, strict=True):
            assert side.found is not None
            crops, shown = Crops(side, side.found, None), top.strongest(int(channel), by="mean")
            cells = [
                crops.cell(int(number), float(value), spot.tolist())
                for number, value, spot in zip(shown.pictures[:SHOWN], shown.values, shown.spots, strict=False)
            ]
            sides.append(
                html.Div([html.Span(side.pictures.name, className="muted"), html.Div(cells, className="strip")])
            )
        about = [html.Strong(f"channel {channel}"), html.Span(_apart(gap, int(channel)), className="muted")]
        rows.append(html.Div([html.Div(about, className="about"), *sides], className="gallery"))
    key = key_of(gap.layer, gap.call)
    return [
        html.H3(["Channels of ", html.Span(key, className="mono"), " that differ most"]),
        html.Div(rows, className="galleries gap-channels"),
    ]


def _apart(gap: LayerGap, channel: int) -> str:
    value = float(gap.channels[channel])
    return f"{format_number(value)} deviations apart" if np.isfinite(value) else ""
