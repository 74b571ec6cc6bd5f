"""What is healthy is left alone: no error and no warning, however often it is asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from doctor_models import IMAGENET, LITE, healthy, lite, normalise, photographs, trained
from healthy_models import HEALTHY

import hookscope as hs
from hookscope.hooks.results.findings import CheckUp, Known

OFTEN = {  # one of a kind; the others with `make test-slow`
    "torchvision:resnet18",
    "torchvision:mobilenet_v3_small",
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn",
    "torchvision:squeezenet1_1",
    "timm:convnext_atto",
    "timm:deit_tiny_patch16_224",
}
SIZES = (224, 240, 260)  # of the default model and its sisters


def assert_left_alone(found: CheckUp) -> None:
    assert not found.exceeds("warning"), str(found)
    assert not found.failed, found.failed


@pytest.mark.parametrize(
    "spec", [each if each in OFTEN else pytest.param(each, marks=pytest.mark.slow) for each in HEALTHY]
)
def test_a_healthy_model_is_left_alone(spec: str) -> None:
    model, pictures = healthy(spec)
    mean, std = ((0.0,) * 3, (1.0,) * 3) if "rcnn" in spec else IMAGENET
    assert_left_alone(hs.check(model, pictures, mean=mean, std=std))


@pytest.mark.parametrize("number", range(3))
def test_so_are_the_default_model_and_its_sisters(number: int) -> None:
    pictures = normalise(photographs(18, SIZES[number]), *LITE)
    found = hs.check(lite(number), pictures, mean=LITE[0], std=LITE[1], known=Known(random=False))
    assert_left_alone(found)
    told = {each.rule for each in found.checked if each.status != "skipped"}
    assert {"preprocessing", "batchnorm-shift", "dead-channels", "partly-initialised", "training-mode"} <= told


@pytest.mark.parametrize("kind", ["bn", "plain", "vit", "tanh"])
def test_so_are_small_networks_that_were_trained(kind: str) -> None:
    net = trained(kind)
    digits = tuple(map(str, range(10)))
    found = hs.check(
        net.model, net.pictures[:32], labels=net.labels[:32].tolist(), classes=digits, mean=net.mean, std=net.std
    )
    assert_left_alone(found)


def repeat(times: int) -> None:
    """Check the default model over and over, at one thread and at two in turns, over other pictures each time."""
    before = torch.get_num_threads()
    pictures = normalise(photographs(24), *LITE)
    model, own = lite(0), torch.Generator().manual_seed(0)
    try:
        for turn in range(times):
            torch.set_num_threads(1 + turn % 2)
            some = pictures[torch.randperm(len(pictures), generator=own)[:12]]
            assert_left_alone(hs.check(model, some, mean=LITE[0], std=LITE[1]))
    finally:
        torch.set_num_threads(before)


def test_some_repeats_find_nothing() -> None:
    repeat(3)


@pytest.mark.slow
def test_a_hundred_repeats_find_nothing() -> None:
    repeat(100)


@pytest.mark.parametrize("rules", [{"dead-channels": "off"}, {"dead-channels": "error"}])
def test_what_a_rule_finds_is_as_bad_as_somebody_says(rules: dict[str, Any]) -> None:
    found = hs.check(lite(0), normalise(photographs(8), *LITE), rules=rules)
    assert {each.severity for each in found.of("dead-channels")} <= set(rules.values())
    assert found.exceeds("error") is (rules["dead-channels"] == "error")
