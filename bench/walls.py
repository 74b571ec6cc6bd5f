"""The walls that are timed: three layers of ResNet-50 at random weights, and the bare forward pass up to each."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from bench.application import ROOT
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, load

MODEL = "torchvision:resnet50@random"
FIRST = "conv1"  # what a card shows before the clicks that are timed
PHOTOGRAPH = ROOT / "assets" / "samples" / "coffee.png"


@dataclass(frozen=True)
class Wall:
    """One layer whose wall is timed.

    Attributes:
        layer: dotted name. channels: how many it has. side: height and width of one, in values.
        before: the modules that run before it, in order and without what it does not need.
    """

    layer: str
    channels: int
    side: int
    before: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.channels:,} × {self.side} × {self.side}"


_STEM = ("conv1", "bn1", "relu", "maxpool")
_INSIDE = ("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3")  # a bottleneck's, up to its last norm
WALLS = (
    Wall("layer1.0.bn1", 64, 56, (*_STEM, "layer1.0.conv1")),
    Wall("layer2.0.bn3", 512, 28, (*_STEM, "layer1", *(f"layer2.0.{name}" for name in _INSIDE))),
    Wall("layer4.0.bn3", 2048, 7, (*_STEM, "layer1", "layer2", "layer3", *(f"layer4.0.{name}" for name in _INSIDE))),
)


def resnet() -> LoadedModel:
    """The model as Hookscope's worker loads it: the same seed, so the same weights."""
    return load(ModelOptions(MODEL), "cpu")


def modules_to(model: nn.Module, wall: Wall) -> Sequence[nn.Module]:
    """What runs, one after the other, from the picture to a wall's layer."""
    return [model.get_submodule(name) for name in (*wall.before, wall.layer)]


def bare_forward(modules: Sequence[nn.Module], picture: Tensor) -> float:
    """Milliseconds of a forward pass through modules, without any hook; the second of two, so that it is warm."""
    began = 0.0
    with torch.no_grad():
        for _ in range(2):
            began = time.perf_counter()
            values = picture
            for module in modules:
                values = module(values)
    return (time.perf_counter() - began) * 1000


def photograph(number: int) -> bytes:
    """The sample picture of a coffee cup as PNG, another picture by its size, so that no answer to it is kept yet."""
    with Image.open(PHOTOGRAPH) as image:
        small = image.convert("RGB").resize((360 + number, 240))
    file = io.BytesIO()
    small.save(file, "PNG", compress_level=1)
    return file.getvalue()
