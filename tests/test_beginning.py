"""Runs that begin behind what was kept: bit by bit the whole run's, over several architectures, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers import assert_untouched
from torch import Tensor, nn

import hookscope as hs
from hookscope.hooks.causes.beginning import prefix_of
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.results.edits import Level, Scale


class Preactivated(nn.Module):
    """The ReLU writes over what the skip connection holds, and only then adds it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu, self.conv = nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.stem(x)
        return self.head(self.conv(self.relu(kept)) + kept).mean((2, 3))


class Reused(nn.Module):
    """One activation for all places."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.act = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.two(self.act(self.one(x)))).mean((2, 3))


class Remembering(nn.Module):
    """A part of one's own leaves something behind that a later one reads."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.seen = nn.Conv2d(3, 4, 3), torch.empty(0)

        def forward(self, x: Tensor) -> Tensor:
            self.seen = x.mean((2, 3))
            return self.conv(x)

    def __init__(self) -> None:
        super().__init__()
        self.part, self.head = self.Part(), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.part(x)).mean((2, 3)) * self.part.seen


class Random(nn.Module):
    """No two runs are alike."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        values = self.one(x)
        return self.two(values + torch.rand(values.shape)).mean((2, 3))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make().eval()
    own = torch.Generator().manual_seed(1)
    for weights in net.parameters():  # as they are made, heads of zeros would hide mistakes, and so would means of 0
        if not weights.any():
            weights.data = 0.05 * torch.randn(weights.shape, generator=own)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean += 0.1 * torch.randn(module.running_mean.shape, generator=own)
    return net


def picture(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))


def run(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


NETS: dict[str, tuple[Callable[[], nn.Module], int, str, str]] = {  # the edited layer, and one that is not run again
    "ResNet-18": (torchvision.models.resnet18, 64, "layer3.0", "layer1.0.conv1"),
    "DenseNet": (torchvision.models.densenet121, 64, "features.denseblock3.denselayer2", "features.conv0"),
    "EfficientNet": (lambda: timm.create_model("efficientnet_lite0"), 64, "blocks.4.0", "blocks.2.0.conv_pw"),
    "ViT": (lambda: torchvision.models.vit_b_16(image_size=64), 64, "encoder.layers.encoder_layer_6", "conv_proj"),
    "timm's ViT": (
        lambda: timm.create_model("vit_tiny_patch16_224", img_size=64),
        64,
        "blocks.5.mlp",
        "blocks.3.attn.qkv",
    ),
    "Swin": (torchvision.models.swin_t, 64, "features.5.1", "features.1.0.attn.qkv"),
    "segmenter": (
        lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights_backbone=None),
        64,
        "classifier.cbr",
        "backbone.3.block.0.0",
    ),
    "preactivated": (Preactivated, 8, "conv", "stem"),
    "remembering": (Remembering, 8, "head", "part.conv"),
}


@pytest.mark.parametrize("name", NETS)
def test_a_run_from_the_prefix_gives_every_bit_of_the_whole_run(name: str) -> None:
    make, side, layer, before = NETS[name]
    net, x = seeded(make), picture(side)
    layers = describe(net, x)
    with assert_untouched(net):
        prefix = prefix_of(net, (x,), [(layer, 0)], layers)
        assert prefix is not None
        computed: list[Tensor] = []
        skipped = net.get_submodule(before)
        leaf = next(part for part in skipped.modules() if not any(True for _ in part.children()))
        real = leaf.forward
        plain = _tensors(run(net, x))
        changed = []
        for edits in ([Scale(layer, None, 0.0, 0)], [Scale(layer, 1, 1.35, 0)], [Level(layer, 2, 0)]):
            with hs.edit(net, edits, layers=layers):
                whole = _tensors(run(net, x))
                leaf.forward = lambda *given: computed.append(given[0]) or real(*given)
                with prefix.replayed():
                    again = _tensors(run(net, x))
                del leaf.forward
            assert all(map(torch.equal, whole, again)) and prefix.intact
            changed.append(not all(map(torch.equal, whole, plain)))
        assert changed[0]  # else it would prove nothing
        assert not computed


def _tensors(value: Any) -> list[Tensor]:
    return list(value.values()) if isinstance(value, dict) else [value]


def test_what_came_before_is_a_leaf_of_the_gradient_and_maps_are_the_same() -> None:
    net, x = seeded(torchvision.models.resnet18), picture(64)
    layers = describe(net, x)
    prefix = prefix_of(net, (x,), [("layer3", 0)], layers)
    assert prefix is not None
    with hs.edit(net, [Scale("layer3", 3, 0.0, 0)], layers=layers):
        ((_, _, whole),) = grad_cam(net, x, [("layer3", 0)], 7, layers)
        with prefix.replayed():
            ((_, _, again),) = grad_cam(net, x, [("layer3", 0)], 7, layers)
    assert np.array_equal(whole.values, again.values) and whole.values.any()


def test_where_a_run_cannot_begin_there_is_no_prefix() -> None:
    for make, place in ((Reused, ("act", 1)), (Random, ("two", 0))):
        net, x = seeded(make), picture(8)
        assert prefix_of(net, (x,), [place], describe(net, x)) is None
    net, x = seeded(Preactivated), picture(8)
    layers = describe(net, x)
    assert prefix_of(net, (x,), [("head", 0), ("stem", 0)], layers) is None  # nothing lies before the stem
    assert prefix_of(net, (x,), [("head", 0)], layers, limit_bytes=100) is None
    assert prefix_of(net, (x,), [("head", 0)], layers) is not None


def test_who_writes_into_what_is_kept_is_noticed() -> None:
    net, x = seeded(Preactivated), picture(8)
    prefix = prefix_of(net, (x,), [("head", 0)], describe(net, x))
    assert prefix is not None
    with prefix.replayed(), torch.no_grad():
        first = net(x)
        net.conv(torch.empty(0)).zero_()  # somebody who writes where nobody did in the run that was tried
    assert not prefix.intact and torch.equal(first, run(net, x))
