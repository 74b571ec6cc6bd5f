"""The first visit's offer: which layer of a model it shows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.panels import welcome as welcome_module
from hookscope.dashboard.panels.welcome import last_map, offer, welcome, why_recommended
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import why_no_maps

NCHW = ("image", "channel", "height", "width")
TOKENS = ("image", "token", "channel")


def layer(name: str, kind: str, order: int, *shape: int, axes: tuple[str, ...] = NCHW, **more: object) -> LayerInfo:
    call = replace(Call(shape, axes[: len(shape)], order), **more)  # type: ignore[arg-type]
    return LayerInfo(name, kind, 0, 0, (call,), True)


CONVOLUTIONS = [
    layer("stem", "Conv2d", 1, 1, 32, 112, 112),
    layer("head", "Conv2d", 2, 1, 1280, 7, 7),
    layer("norm", "BatchNorm2d", 3, 1, 1280, 7, 7),
    layer("pool", "AdaptiveAvgPool2d", 4, 1, 1280, 1, 1),
    layer("fc", "Linear", 5, 1, 1000),
]
GRID = {"axes": TOKENS, "grid": (14, 14)}
TRANSFORMER = [
    layer("patches", "Conv2d", 1, 1, 768, 14, 14),
    layer("ln_1", "LayerNorm", 2, 1, 197, 768, prefix_tokens=1, **GRID),  # type: ignore[arg-type]
    layer("attention", "MultiheadAttention", 3, 1, 197, 768, prefix_tokens=1, heads=12, **GRID),  # type: ignore[arg-type]
    layer("ln", "LayerNorm", 4, 1, 197, 768, prefix_tokens=1, **GRID),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    ("layers", "key"),
    [
        (CONVOLUTIONS, "head"),
        ([*CONVOLUTIONS[:1], *CONVOLUTIONS[2:]], "norm"),  # a pool of one position is no map
        (TRANSFORMER, "ln_1"),  # only the class token of what comes after the last attention counts
        (CONVOLUTIONS[-1:], ""),
        ([], ""),
    ],
)
def test_the_layer_that_is_offered(layers: list[LayerInfo], key: str) -> None:
    assert last_map(layers) == key


def defined(layers: list[LayerInfo]) -> str:
    """The same as its docstring says it, of every layer."""
    maps = [each for each in layers if not why_no_maps(each.calls[0], each.calls[0].shape)]
    if not maps:
        return ""
    last = max(maps, key=lambda each: each.calls[0].order)
    if last.calls[0].grid is None:
        rivals = [each for each in maps if "conv" in each.type.lower() and each.calls[0].shape == last.calls[0].shape]
    else:
        reads = max((each.calls[0].order for each in layers if each.calls[0].heads), default=-1)
        rivals = [each for each in maps if "norm" in each.type.lower() and each.calls[0].order < reads]
        rivals = rivals if last.calls[0].prefix_tokens else []
    return max(rivals or [last], key=lambda each: each.calls[0].order).name


def test_whatever_the_order_of_the_layers_it_is_the_one_that_is_meant() -> None:
    draw = random.Random(0)
    kinds = [*CONVOLUTIONS, *TRANSFORMER]
    found = set()
    for _ in range(500):
        chosen = [draw.choice(kinds) for _ in range(draw.randrange(1, 12))]
        orders = draw.sample(range(50), len(chosen))
        layers = [
            replace(each, name=f"l{order}", calls=(replace(each.calls[0], order=order),))
            for each, order in zip(chosen, orders, strict=True)
        ]
        assert last_map(layers) == defined(layers)
        found.add(next((each.type for each in layers if each.name == last_map(layers)), ""))
    assert found == {"", "Conv2d", "BatchNorm2d", "LayerNorm", "MultiheadAttention"}


def test_of_twenty_thousand_layers_only_the_last_ones_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        welcome_module, "why_no_maps", lambda call, shape: asked.append(call.order) or why_no_maps(call, shape)
    )
    layers = [layer(f"l{order}", "ReLU", order, 1, 8, 4, 4) for order in range(20_000)]
    assert last_map([*layers, layer("fc", "Linear", 20_000, 1, 10)]) == "l19999"
    assert asked == [20_000, 19_999]


def test_of_a_detector_the_body_is_offered_and_not_a_head() -> None:
    layers = [
        layer("stem", "Conv2d", 1, 1, 16, 160, 160),
        layer("body", "Conv2d", 2, 1, 480, 10, 10),
        layer("body_act", "Hardswish", 3, 1, 480, 10, 10),
        layer("extra", "Conv2d", 4, 1, 256, 2, 2),
        layer("head", "Conv2d", 5, 1, 24, 20, 20),
        layer("last_head", "Conv2d", 6, 1, 24, 2, 2),
    ]
    assert last_map(layers) == "last_head" and last_map(layers, detector=True) == "body"


def test_the_layer_is_recommended_with_a_reason_and_offered_to_who_has_a_picture() -> None:
    assert "the last maps of 7 × 7 positions on the way to the answer" in why_recommended(CONVOLUTIONS, "head")
    assert "the class token alone" in why_recommended(TRANSFORMER, "ln_1")
    assert "before the heads" in why_recommended(CONVOLUTIONS, "head", detector=True)
    assert '{"layers": ["head"]}' in str(offer(CONVOLUTIONS)) and offer(CONVOLUTIONS[-1:]) == []
    nodes = tree_nodes(CONVOLUTIONS, "net", ("head", "Because."))
    assert {node["name"]: node["advice"] for node in nodes if "advice" in node} == {"head": "Because."}


def test_a_model_without_maps_is_offered_too() -> None:
    assert "Look into it: coffee" in str(welcome(CONVOLUTIONS[-1:])) and " at " not in str(
        welcome(CONVOLUTIONS[-1:])[1]
    )


def test_while_the_model_is_loaded_nothing_is_offered() -> None:
    assert "wait a little" in str(welcome(wait="wait a little")) and "Look into it" not in str(welcome(wait="."))
