"""Small models of every kind whose pages are recorded: a classifier with all sorts of layers, a detector, a segmenter.

All weights come from a seed, so the page shows the same numbers wherever it runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SIZE = 32


class Block(nn.Module):
    """One convolution whose output an in-place ReLU overwrites, and a module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, stride=4, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.wide = nn.Conv2d(12, 70, 3, stride=2, padding=1)
        self.training_only = nn.Dropout(0.5)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (image, 3, height, width) to features (image, 70, height / 8, width / 8)."""
        return self.relu(self.wide(self.relu(self.conv(pixels))))


class Classifier(nn.Module):
    """Has a dead channel, a layer without maps, one that gives a single number, and one that never runs."""

    def __init__(self, spoilt: bool = False) -> None:
        super().__init__()
        self.block = Block()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(70, 6)
        self.spread = Spread()
        self.spoilt = spoilt
        with torch.no_grad():
            self.block.conv.weight[3] = 0
            self.block.conv.bias[3] = -1.0  # type: ignore[index]  # dead after the ReLU

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (image, 6)."""
        features = self.block(pixels)
        self.spread(features)
        logits = self.head(self.pool(features).flatten(1))
        return logits / 0 if self.spoilt else logits


class Spread(nn.Module):
    """One number for the whole batch."""

    def forward(self, values: Tensor) -> Tensor:
        """The standard deviation, without an axis."""
        return values.std()


class Detector(nn.Module):
    """Three boxes whose scores are what three channels have learnt of the picture; torchvision's form of answer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Boxes (box, 4) in pixels, labels (box,), scores (box,) in falling order, for each image."""
        return [self.look(image) for image in images]

    def look(self, image: Tensor) -> dict[str, Tensor]:
        """What one image (3, height, width) holds."""
        height, width = image.shape[-2:]
        features = self.body(image[None])[0]
        scores, order = torch.sigmoid(features.mean((1, 2)) * 3).sort(descending=True)
        corners = torch.tensor([[0.1, 0.2, 0.5, 0.7], [0.3, 0.3, 0.9, 0.8], [0.0, 0.5, 0.4, 1.0]])
        scale = torch.tensor([width, height, width, height])
        return {"boxes": corners[order] * scale, "labels": order, "scores": scores}


class Segmenter(nn.Module):
    """Logits at every position, as torchvision's segmenters answer."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """`out`: logits (image, 4, height, width)."""
        small = self.head(self.body(pixels))
        return {"out": nn.functional.interpolate(small, size=pixels.shape[-2:], mode="bilinear")}


def made(module: type[nn.Module], classes: int, **more: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A model with weights from a seed, and its settings."""
    torch.manual_seed(7)
    names = [*("cat", "dog", "<b>cup</b>", "tree", "house", "cloud")[:classes]]
    title = f"Recorded {module.__name__.lower()}"
    return module(**more).eval(), {"input_size": SIZE, "resize": 37, "classes": names, "title": title}


def classifier() -> tuple[nn.Module, dict[str, Any]]:
    """Six classes."""
    return made(Classifier, 6)


def spoilt() -> tuple[nn.Module, dict[str, Any]]:
    """Answers with infinities."""
    return made(Classifier, 6, spoilt=True)


def detector() -> tuple[nn.Module, dict[str, Any]]:
    """Three boxes."""
    return made(Detector, 3)


def segmenter() -> tuple[nn.Module, dict[str, Any]]:
    """Four classes at every position."""
    return made(Segmenter, 4)


def failing() -> nn.Module:
    """Cannot be made."""
    raise ValueError("the configuration names 11 stages and 12 widths")
