"""Which layer of one architecture stands where another's does: told by hand for networks that everybody knows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torchvision
from inline_engine import INFO

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page.matching import beside, match, pairs_of, read_pairs, rungs
from hookscope.hooks.layers.describe import describe


@cache
def info(name: str) -> ModelInfo:
    with torch.random.fork_rng():
        model = torchvision.models.get_model(name, weights=None).eval()
    layers = tuple(describe(model, torch.zeros(1, 3, 224, 224)))
    preprocessing = replace(INFO.preprocessing, resize=256, crop=(224, 224))
    return replace(INFO, fingerprint=name, layers=layers, preprocessing=preprocessing)


def in_place_of(layer: str, source: str, target: str) -> str:
    found = info(source).by_name[layer]
    return match((found, found.calls[0]), info(source), info(target))


@pytest.mark.parametrize(
    ("source", "target", "layer", "rows"),
    [
        ("resnet18", "vgg16", "layer2.1.conv2", 28),
        ("resnet18", "vgg16", "layer4.1.conv2", 14),  # VGG has 14 and 7: its convolutions end at 14
        ("resnet18", "mobilenet_v3_small", "layer3.0.conv1", 14),
        ("vgg16", "resnet18", "features.17", 28),
        ("vgg16", "alexnet", "features.28", 13),
    ],
)
def test_positions_stand_for_as_much_of_the_picture(source: str, target: str, layer: str, rows: int) -> None:
    key, call = parse_key(in_place_of(layer, source, target))
    found = info(target).by_name[key]
    sizes = dict(zip(found.calls[call].axes, found.calls[call].shape, strict=True))
    if (source, layer) == ("resnet18", "layer4.1.conv2"):
        assert sizes["height"] == 7  # the pooled maps have that stride
    else:
        assert sizes["height"] == rows and found.type == "Conv2d"


def test_of_one_stride_the_nearest_in_depth_of_the_same_kind_is_taken() -> None:
    there = rungs(info("resnet18"))
    found = in_place_of("features.17", "vgg16", "resnet18")  # the first of three convolutions at 28 x 28
    same = [key for key, stride in zip(there.keys, there.strides, strict=True) if abs(stride - 3) < 0.01]
    convolutions = [key for key in same if "conv" in key or "downsample.0" in key]
    depth = info("vgg16").by_name["features.17"].calls[0].order / max(
        call.order for layer in info("vgg16").layers for call in layer.calls
    )
    depths = dict(zip(there.keys, there.depths, strict=True))
    assert found == min(convolutions, key=lambda key: abs(depths[key] - depth))


def test_what_has_no_maps_is_matched_with_what_has_none() -> None:
    assert in_place_of("fc", "resnet18", "vgg16") == "classifier.6"
    assert in_place_of("classifier.0", "vgg16", "resnet18") in ("fc", "avgpool")
    tokens = in_place_of("layer3.1.conv1", "resnet18", "vit_b_16")
    assert np.isfinite(rungs(info("vit_b_16")).strides[rungs(info("vit_b_16")).keys.index(tokens)])


def test_the_same_network_is_matched_with_itself() -> None:
    here = info("resnet18")
    for key in ("layer1.0.conv1", "layer2.0.downsample.0", "layer3.1.bn2", "maxpool", "fc"):
        layer = here.by_name[key]
        assert match((layer, layer.calls[0]), here, here) == key


def test_the_layers_before_and_after_end_at_the_ends() -> None:
    here = info("alexnet")
    keys = rungs(here).keys
    assert beside(keys[0], here, -1) == "" == beside(keys[-1], here, 1) == beside("nowhere", here, 1)
    assert beside(keys[0], here, 1) == keys[1] == "features.1"


@pytest.mark.parametrize("text", [None, 7, "", "=", "a=", "=b", "~~", "a"])
def test_nonsense_pairs_nothing(text: object) -> None:
    assert read_pairs(text) == ""


def test_pairs_are_limited_and_read_again() -> None:
    many = "~".join(f"layer{number}=other{number}" for number in range(100))
    assert len(pairs_of(many)) <= 24 and read_pairs(read_pairs(many)) == read_pairs(many)
