"""What is done to a picture on its way into a model: resizing, cropping, borders, the order of its channels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms.transforms import CenterCrop, Resize

from hookscope.dashboard.engine.base import Fit

MAXIMUM_DETECTED_PIXELS = 2_000_000  # twice of what torchvision's detectors resize a picture to
Step = Callable[[Any], Any]  # a picture, or a tensor (channel, height, width) of 0..1, becomes one of its kind


# Of tensors torchvision resizes by these not at all, or takes other pixels than of pictures (the nearest ones).
BY_PILLOW = {InterpolationMode[name] for name in ("NEAREST", "BOX", "HAMMING", "LANCZOS")}


def applied(step: Step, picture: Any) -> Any:
    """What a step makes of a picture, or of a tensor, which is resized as the picture of the same numbers would be.

    >>> applied(Resize((1, 2), InterpolationMode.BOX), torch.tensor([[[0.0, 1.0, 0.5, 0.5]]]))
    tensor([[[0.5000, 0.5000]]])
    """
    if not isinstance(picture, Tensor) or getattr(step, "interpolation", None) not in BY_PILLOW:
        return step(picture)
    channels = [step(Image.fromarray(channel.float().numpy())) for channel in picture]
    return torch.stack([torch.from_numpy(np.array(channel)) for channel in channels])


@dataclass(frozen=True)
class ResizeInto:
    """All of the picture within (height, width), its proportions kept."""

    size: tuple[int, int]
    interpolation: InterpolationMode

    def __call__(self, picture: Any) -> Any:
        width, height = size(picture)
        ratio = min(self.size[0] / height, self.size[1] / width)
        target = [max(round(height * ratio), 1), max(round(width * ratio), 1)]
        return F.resize(picture, target, self.interpolation, antialias=True)


@dataclass(frozen=True)
class Pad:
    """Black around the picture, as much on both sides, until it is (height, width)."""

    size: tuple[int, int]

    def __call__(self, picture: Any) -> Any:
        (width, height), (high, wide) = size(picture), self.size
        left, top = -cut_before(width, wide), -cut_before(height, high)
        return F.pad(picture, [left, top, wide - width - left, high - height - top])


class ShorterUnlessItFits(Resize):
    """The shorter side to a length; a picture that has the model's size already, (height, width), stays as it is."""

    def __init__(self, shorter: int, mode: InterpolationMode, whole: tuple[int, int]) -> None:
        super().__init__(shorter, mode, antialias=True)
        self.whole = whole

    def forward(self, img: Any) -> Any:
        """The picture or tensor."""
        return img if size(img) == self.whole[::-1] else super().forward(img)


def fitting(
    fit: Fit, size: tuple[int, int], shorter: int, mode: InterpolationMode, *, assumed: bool = False
) -> tuple[Step, ...]:
    """The steps that bring a picture to a size, (height, width).

    Arguments:
        shorter: to what "crop" resizes the shorter side before it cuts the centre out.
        assumed: whether nobody said how: then "crop" leaves a picture of this very size as it is.
    """
    if fit == "squash":
        return (Resize(size, mode, antialias=True),)
    if fit == "pad":
        return ResizeInto(size, mode), Pad(size)
    if fit == "none":
        return (shrunk,)
    resize = ShorterUnlessItFits(shorter, mode, size) if assumed else Resize(shorter, mode, antialias=True)
    return resize, CenterCrop(size)


def size(picture: Any) -> tuple[int, int]:
    """(width, height) of a picture or a tensor."""
    height, width = picture.shape[-2:] if isinstance(picture, Tensor) else picture.size[::-1]
    return int(width), int(height)


def shrunk(picture: Any) -> Any:
    """A picture that is too large for a detector, made smaller; any other as it is."""
    width, height = size(picture)
    ratio = math.sqrt(MAXIMUM_DETECTED_PIXELS / (width * height))
    if ratio >= 1:
        return picture
    return F.resize(picture, [max(int(height * ratio), 1), max(int(width * ratio), 1)], antialias=True)


def swapped(picture: Any) -> Any:
    """Blue first: what a model gets whose pictures were read by OpenCV."""
    return picture.flip(0) if isinstance(picture, Tensor) else Image.merge("RGB", picture.split()[::-1])


def grey(picture: Any) -> Any:
    """The same brightness (ITU-R 601) in all three channels; of a tensor in one."""
    if not isinstance(picture, Tensor):
        return picture.convert("L").convert("RGB")
    if picture.shape[0] != 3:
        return picture
    return (picture * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)


def colourless(picture: Any) -> Any:
    """The same brightness in all three channels, of a tensor too."""
    found = grey(picture)
    return found.expand(3, -1, -1) if isinstance(found, Tensor) else found


def crops(step: Step) -> bool:
    """Whether a step takes a part of the picture, or puts a border around it, and resizes nothing."""
    return isinstance(step, CenterCrop | Pad) or type(step).__name__ == "CenterCropOrPad"


def cut_before(before: int, after: int) -> int:
    """How many pixels torchvision and timm cut away before the centre; negative where they put a border instead.

    >>> cut_before(9, 4), cut_before(5, 8)
    (2, -1)
    """
    return round((before - after) / 2.0) if before >= after else -((after - before) // 2)


def is_timm_geometry(step: Any) -> bool:
    """Whether a step is one of timm's own that resize or crop."""
    return type(step).__name__ in ("ResizeKeepRatio", "CenterCropOrPad")
