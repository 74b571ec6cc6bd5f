"""The first visit: what this is, one step that shows something, and questions that the page can answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dash import html

from hookscope.dashboard.asking.layer_keys import key_of, parse_key
from hookscope.dashboard.page.view import View
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import plane_of, why_no_maps

LEAST_POSITIONS = 25
SAMPLE, SAMPLE_NAME = "sample-coffee", "coffee"
# To the default model a missile, and with the patch on its tip a drilling platform. Two photographs, or one and its
# crop, are apart from the first layer on, which says nothing of where the answer changes.
PARTED, PATCH = "sample-rocket", "box.grey.265.106.331.172"
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
        ("Why not the next?", {**card, "against": "next"}, "The first class against the runner-up, each in a colour"),
        (
            "Where do two pictures part?",
            {"a": PARTED, "b": PARTED, "prepare_b": PATCH, "tab": "depth", "depth": "apart"},
            "A rocket, and the same with a grey patch on its tip: how far they are apart, layer by layer",
        ),
        ("Which layers does the gradient reach?", {"a": SAMPLE, "tab": "depth"}, "The gradient along the depth"),
        (
            "Which pictures does it get wrong?",
            {"tab": "pictures", "set_a": "set-reference"},
            "A whole set of pictures: the built-in photographs, and your own in folders by class",
        ),
        ("Is something wrong with it?", {"tab": "findings"}, "A check-up by rules, with evidence and what to do"),
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

    def order(each: tuple[LayerInfo, int, Call]) -> int:
        return each[2].order

    def has_maps(each: tuple[LayerInfo, int, Call]) -> bool:
        return not why_no_maps(each[2], each[2].shape)

    # From the end on, where it is found: to ask each of 20,000 layers whether it has maps takes half of the whole tree.
    backwards = sorted((each for each in calls if each[0].leaf and not each[0].operation), key=order, reverse=True)
    if detector:
        maps = sorted(filter(has_maps, backwards), key=order)
        backwards = sorted(_body(maps) or maps, key=order, reverse=True)
    last = next(filter(has_maps, backwards), None)
    if last is None:
        return ""
    same: list[tuple[LayerInfo, int, Call]] = []
    if last[2].grid is None:
        same = [each for each in backwards if each[2].shape == last[2].shape and "conv" in each[0].type.lower()]
    elif last[2].prefix_tokens and (attentions := [call.order for _, _, call in calls if call.heads]):
        end = max(attentions)
        same = [each for each in backwards if order(each) < end and "norm" in each[0].type.lower()]
    layer, number, _ = next(filter(has_maps, same), last)
    return key_of(layer.name, number)


def why_recommended(layers: Sequence[LayerInfo], key: str, *, detector: bool = False) -> str:
    """Why that layer is the one to look at maps of, for the tree's tooltip."""
    name, number = parse_key(key)
    call = next(each for each in layers if each.name == name).calls[number]
    rows, columns = plane_of(call)
    where = f"maps of {rows} × {columns} positions"
    if detector:
        reason = f"the last layer of its body with {where} to tell apart, before the heads for boxes of each size"
    elif call.grid is not None and call.prefix_tokens:
        reason = f"what the last attention reads, {where}: after it the answer is read from the class token alone"
    else:
        reason = f"the last {where} on the way to the answer, and so the closest to it"
    return f"Recommended for maps: {reason}."


def _body(maps: list[tuple[LayerInfo, int, Call]]) -> list[tuple[LayerInfo, int, Call]]:
    """Those before the first map that is larger than the one before it, without those of next to no positions."""
    sizes = [dict(zip(call.axes, call.shape, strict=True)) for _, _, call in maps]
    areas = [size.get("height", 0) * size.get("width", 0) for size in sizes]
    end = next((n for n in range(1, len(areas)) if areas[n] > areas[n - 1]), len(areas))
    return [each for each, area in zip(maps[:end], areas[:end], strict=True) if area >= LEAST_POSITIONS]


def offer(layers: Sequence[LayerInfo], *, detector: bool = False) -> list[Any]:
    """The recommended layer as a click, for whoever has a picture and no layer yet; nothing where there is none."""
    key = last_map(layers, detector=detector)
    if not key:
        return []
    return [
        html.P(
            [
                "Or begin with ",
                _choice(key, {"layers": [key]}, "link", why_recommended(layers, key, detector=detector)),
                ".",
            ]
        )
    ]


def _choice(text: str, changes: dict[str, Any], class_name: str, title: str = "") -> html.Button:
    return html.Button(
        text, className=class_name, title=title, **{"data-do": "view", "data-value": json.dumps(changes)}
    )
