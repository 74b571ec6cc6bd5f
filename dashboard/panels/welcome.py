"""The first visit: what this is, one step that shows something, and questions that the page can answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dash import html

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.page.view import View
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import why_no_maps

LEAST_POSITIONS = 25
SAMPLE, SAMPLE_NAME = "sample-coffee", "coffee"
PURPOSE = (
    "Hookscope shows what every layer of a vision model computed for a photograph: each channel as a map, "
    "its numbers, and where in the picture the answer comes from."
)


def is_first_visit(view: View) -> bool:
    """Whether an address says nothing yet of what is looked at."""
    return not (view.a or view.b or view.layers or view.detail)


def welcome(layers: Sequence[LayerInfo] = (), wait: str = "", *, detector: bool = False) -> list[Any]:
    """What stands where the cards will be on a first visit.

    Arguments:
        layers: the model's, of which one is offered. wait: why there are none yet.
        detector: its last layers are heads, each for objects of one size.
    """
    if not layers:
        return [html.P(PURPOSE, className="purpose"), html.P(wait)]
    key = last_map(layers, detector=detector)
    card = {"a": SAMPLE, "layers": [key] if key else []}
    questions: list[tuple[str, dict[str, Any], str]] = [
        ("Why this class?", {**card, "attributions": True}, "The pixels and positions that speak for the first class"),
        ("Which layers does the gradient reach?", {"a": SAMPLE, "tab": "gradients"}, "The gradient along the depth"),
        ("Is a layer dead?", {"a": SAMPLE, "metric": "dead"}, "A bar on every row of the tree"),
    ]
    offer = f"Look into it: {SAMPLE_NAME}" + (f" at {key}" if key else "")
    return [
        html.P(PURPOSE, className="purpose"),
        html.P(_choice(offer, card, "start")),
        html.P(
            [
                html.Span("Or ask: "),
                *(part for each in questions for part in (_choice(*each[:2], "link", each[2]), " ")),
            ]
        ),
        html.P("Or drop a photograph of your own above, and click a layer in the tree."),
    ]


def last_map(layers: Sequence[LayerInfo], *, detector: bool = False) -> str:
    """The key of the last layer whose output is maps that the answer depends on, "" if there is none.

    Of layers with the same maps at the end of a network, a convolution comes before its normalisation and activation.
    Of a transformer that answers from its class token alone, it is what the last attention reads: later positions
    count for nothing. Of a detector it is the last one of its body with some positions to tell apart: before the maps
    become larger again for its heads.
    """
    calls = [(layer, number, call) for layer in layers for number, call in enumerate(layer.calls)]
    maps = [
        each for each in calls if each[0].leaf and not each[0].operation and not why_no_maps(each[2], each[2].shape)
    ]
    if not maps:
        return ""

    def order(each: tuple[LayerInfo, int, Call]) -> int:
        return each[2].order

    if detector:
        maps = _body(sorted(maps, key=order)) or maps
    last = max(maps, key=order)
    attentions = [call.order for _, _, call in calls if call.heads]
    if last[2].grid is None:
        same = [each for each in maps if each[2].shape == last[2].shape and "conv" in each[0].type.lower()]
    elif last[2].prefix_tokens and attentions:
        same = [each for each in maps if "norm" in each[0].type.lower() and order(each) < max(attentions)]
    else:
        same = []
    layer, number, _ = max(same, key=order) if same else last
    return key_of(layer.name, number)


def _body(maps: list[tuple[LayerInfo, int, Call]]) -> list[tuple[LayerInfo, int, Call]]:
    """Those before the first map that is larger than the one before it, without those of next to no positions."""
    sizes = [dict(zip(call.axes, call.shape, strict=True)) for _, _, call in maps]
    areas = [size.get("height", 0) * size.get("width", 0) for size in sizes]
    end = next((n for n in range(1, len(areas)) if areas[n] > areas[n - 1]), len(areas))
    return [each for each, area in zip(maps[:end], areas[:end], strict=True) if area >= LEAST_POSITIONS]


def _choice(text: str, changes: dict[str, Any], class_name: str, title: str = "") -> html.Button:
    return html.Button(
        text, className=class_name, title=title, **{"data-do": "view", "data-value": json.dumps(changes)}
    )
