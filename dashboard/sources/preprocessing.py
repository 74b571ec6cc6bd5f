"""From a picture to a model's input tensor, the way that model was trained.

The resizing and cropping is done by torchvision's and timm's own operations, so the tensor is exactly theirs; beside
it each step's geometry is followed, to know which part of the original the model saw.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms.transforms import CenterCrop, Resize

from hookscope.dashboard.engine.base import Preprocessing
from hookscope.hooks.errors import HooksError

MAXIMUM_RESIZED_PIXELS = 60_000_000
MAXIMUM_INPUT_PIXELS = 5_000_000  # of models that take pictures of any size
MAXIMUM_DETECTED_PIXELS = 2_000_000  # twice of what torchvision's detectors resize a picture to
NOISE_PX = 320  # of the noise that a model which resizes by itself is recorded with
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Step = Callable[[Image.Image], Image.Image]


class PreparationError(HooksError):
    """The picture cannot become this model's input."""


@dataclass(frozen=True)
class Prepared:
    """A model's input.

    Attributes:
        pixels: uint8 (height, width, 3), what the model sees, before it is normalised.
        crop: (left, top, right, bottom) of what is in it, in pixels of the original picture.
        mean, std: red, green and blue, of values 0..1.
    """

    pixels: np.ndarray
    crop: tuple[float, float, float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def tensor(self) -> Tensor:
        """float32 (image = 1, channel, height, width), normalised: made anew, because it is four times as large."""
        plain = F.convert_image_dtype(torch.from_numpy(self.pixels).permute(2, 0, 1).contiguous(), torch.float)
        return F.normalize(plain, mean=list(self.mean), std=list(self.std)).unsqueeze(0)


@dataclass(frozen=True)
class Preprocessor:
    """How one model wants its pictures.

    Attributes:
        steps: picture -> picture, in order; resizing and cropping. info: the same for people.
    """

    steps: tuple[Step, ...]
    info: Preprocessing

    def __call__(self, picture: Image.Image) -> Prepared:
        """Prepare an RGB picture.

        Raises:
            PreparationError: it is too elongated for this model.
        """
        original = picture
        left = top = 0.0
        scale_x = scale_y = 1.0  # original pixels per pixel of `picture`
        for step in self.steps:
            self._check(step, picture)
            before, picture = picture.size, step(picture)
            if _crops(step):
                # torchvision's rounding; negative where the picture is smaller and gets a border
                left += scale_x * round((before[0] - picture.width) / 2.0)
                top += scale_y * round((before[1] - picture.height) / 2.0)
            else:
                scale_x *= before[0] / picture.width
                scale_y *= before[1] / picture.height
        if not any(self.info.crop) and picture.width * picture.height > MAXIMUM_INPUT_PIXELS:
            raise _elongated(original)
        crop = (left, top, left + scale_x * picture.width, top + scale_y * picture.height)
        return Prepared(np.array(picture), crop, self.info.mean, self.info.std)

    def noise(self, seed: int) -> Tensor:
        """A seeded noise input of the size that this model mostly gets."""
        size = self.info.crop if any(self.info.crop) else self.info.resize or NOISE_PX
        height, width = (size, size) if isinstance(size, int) else size
        return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))

    def _check(self, step: Step, picture: Image.Image) -> None:
        size = getattr(step, "size", 0)
        short = size if isinstance(size, int) else size[0] if len(size) == 1 else 0
        long = short * max(picture.size) / min(picture.size)
        if isinstance(step, Resize) and short * long > MAXIMUM_RESIZED_PIXELS:
            raise _elongated(picture)


def open_png(data: bytes) -> Image.Image:
    """The picture that the server's input store sent; RGB.

    Raises:
        PreparationError: the bytes are not a PNG.
    """
    try:
        return Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PreparationError(f"The stored image cannot be read ({error}). Choose it again.") from error


def from_torchvision(transforms: Any) -> Preprocessor:
    """From the preset that belongs to torchvision's weights (`weights.transforms()`).

    A detector's resizes and normalises nothing, because the model does both itself. Only pictures above
    `MAXIMUM_DETECTED_PIXELS` are made smaller: Mask R-CNN gives a mask of the picture's size for each of 100 boxes.
    """
    if not hasattr(transforms, "resize_size"):
        plain_info = Preprocessing(0, (0, 0), "bilinear", (0.0,) * 3, (1.0,) * 3)
        return Preprocessor((_shrunk,), plain_info)
    resize, crop = [*transforms.resize_size], [*getattr(transforms, "crop_size", [])]
    steps: list[Step] = [Resize(resize, transforms.interpolation, antialias=transforms.antialias)]
    if crop:
        steps.append(CenterCrop(crop * 2 if len(crop) == 1 else crop))
    return Preprocessor(
        tuple(steps),
        Preprocessing(
            resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
            crop=(crop[0], crop[-1]) if crop else (0, 0),
            interpolation=transforms.interpolation.value,
            mean=_three(transforms.mean),
            std=_three(transforms.std),
        ),
    )


def from_timm(config: Mapping[str, Any]) -> Preprocessor:
    """From the data configuration that belongs to a timm model (`timm.data.resolve_data_config`)."""
    from timm.data import create_transform

    transform = create_transform(**config, is_training=False)
    steps = tuple(
        each for each in transform.transforms if isinstance(each, Resize | CenterCrop) or _timm_geometry(each)
    )
    rest = [type(each).__name__ for each in transform.transforms if each not in steps]
    if rest not in (["MaybeToTensor", "Normalize"], ["ToTensor", "Normalize"]):
        raise PreparationError(
            f"timm prepares pictures for this model in a way that is not supported here ({rest}). "
            "Open it through a factory that brings its own settings."
        )
    height, width = config["input_size"][1:]
    target = getattr(steps[0], "size", (height, width)) if steps else (height, width)
    return Preprocessor(
        steps,
        Preprocessing(
            resize=target if isinstance(target, int) else (int(target[0]), int(target[-1])),
            crop=(height, width),
            interpolation=config["interpolation"],
            mean=_three(config["mean"]),
            std=_three(config["std"]),
        ),
    )


def plain(
    size: tuple[int, int],
    resize: int | None,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> Preprocessor:
    """Resize the shorter side, crop the centre, normalise: what is customary for a classifier of one's own.

    Arguments:
        resize: length of the shorter side; None for the customary 256 / 224 of the crop.
    """
    modes = [mode.value for mode in InterpolationMode]
    if interpolation not in modes:
        raise PreparationError(f"There is no interpolation {interpolation!r}; choose one of {', '.join(modes)}.")
    shorter = resize or math.ceil(max(size) / 0.875)
    return Preprocessor(
        (Resize(shorter, InterpolationMode(interpolation)), CenterCrop(size)),
        Preprocessing(shorter, size, interpolation, _three(mean), _three(std)),
    )


def _shrunk(picture: Image.Image) -> Image.Image:
    """A picture that is too large for a detector, made smaller; any other as it is."""
    ratio = math.sqrt(MAXIMUM_DETECTED_PIXELS / (picture.width * picture.height))
    if ratio >= 1:
        return picture
    size = (max(int(picture.width * ratio), 1), max(int(picture.height * ratio), 1))
    return picture.resize(size, Image.Resampling.BILINEAR)


def _crops(step: Step) -> bool:
    return isinstance(step, CenterCrop) or type(step).__name__ == "CenterCropOrPad"


def _timm_geometry(step: Any) -> bool:
    return type(step).__name__ in ("ResizeKeepRatio", "CenterCropOrPad")


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        values = [*values] * 3
    if len(values) != 3:
        raise PreparationError(
            f"This model wants {len(values)} channels, and pictures have red, green and blue. "
            "Put what makes its channels of them in front of it, in a factory."
        )
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _elongated(picture: Image.Image) -> PreparationError:
    return PreparationError(
        f"The image is {picture.width} x {picture.height} pixels, too elongated to be resized for this model. "
        "Cut it to the part you want to see."
    )
