"""The first visit's offer: which layer of a model it shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hookscope.dashboard.panels.welcome import last_map, welcome
from hookscope.hooks.results.looks import Call, LayerInfo

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


def test_a_model_without_maps_is_offered_too() -> None:
    assert "Look into it: coffee" in str(welcome(CONVOLUTIONS[-1:])) and " at " not in str(
        welcome(CONVOLUTIONS[-1:])[1]
    )


def test_while_the_model_is_loaded_nothing_is_offered() -> None:
    assert "wait a little" in str(welcome(wait="wait a little")) and "Look into it" not in str(welcome(wait="."))
