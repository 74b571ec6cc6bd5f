"""How models want their pictures: as torchvision's presets and timm's configurations say, or as an operator does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from torchvision.transforms import InterpolationMode
from torchvision.transforms.transforms import CenterCrop, Resize

from hookscope.dashboard.engine.base import Fit, Preprocessing
from hookscope.dashboard.sources import steps as ways
from hookscope.dashboard.sources.preprocessing import PreparationError, Preprocessor
from hookscope.dashboard.sources.steps import Step

SMALL = 64  # pixels: of the longer side of what a model is given


def from_torchvision(transforms: Any) -> Preprocessor:
    """From the preset that belongs to torchvision's weights (`weights.transforms()`).

    A detector's resizes and normalises nothing, because the model does both itself. Only pictures above
    `MAXIMUM_DETECTED_PIXELS` are made smaller: Mask R-CNN gives a mask of the picture's size for each of 100 boxes.
    """
    if not hasattr(transforms, "resize_size"):
        plain_info = Preprocessing(0, (0, 0), "bilinear", (0.0,) * 3, (1.0,) * 3)
        return Preprocessor((ways.shrunk,), replace(plain_info, fit="none"))
    resize, crop = [*transforms.resize_size], [*getattr(transforms, "crop_size", [])]
    steps: list[Step] = [Resize(resize, transforms.interpolation, antialias=getattr(transforms, "antialias", False))]
    if crop:
        steps.append(CenterCrop(crop * 2 if len(crop) == 1 else crop))
    return Preprocessor(
        tuple(steps),
        Preprocessing(
            resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
            crop=(crop[0], crop[-1]) if crop else (0, 0),
            interpolation=transforms.interpolation.value,
            mean=_each(transforms.mean),
            std=_each(transforms.std),
        ),
    )


def from_timm(config: Mapping[str, Any]) -> Preprocessor:
    """From the data configuration that belongs to a timm model (`timm.data.resolve_data_config`)."""
    from timm.data import create_transform

    transform = create_transform(**config, is_training=False)
    steps = tuple(
        each for each in transform.transforms if isinstance(each, Resize | CenterCrop) or ways.is_timm_geometry(each)
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
            mean=_each(config["mean"]),
            std=_each(config["std"]),
            fit="pad" if config.get("crop_mode") == "border" else "crop",
        ),
    )


def plain(
    size: tuple[int, int],
    resize: int | tuple[int, int] | None,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    fit: Fit = "crop",
    order: Literal["rgb", "bgr"] = "rgb",
    top: int = 1,
    *,
    assumed: bool = False,
) -> Preprocessor:
    """Resize the shorter side, crop the centre, normalise: what is customary for a classifier of one's own.

    Arguments:
        resize: length of the shorter side before "crop"; None for the customary 256 / 224 of the crop.
        mean, std: per channel, red, green and blue (or blue first by `order`), or one for all; of pixels of 0..1.
        fit, order, top: how the picture gets its size, its channels' order, and the range in which mean and deviation
            were told; see `Preprocessing`.
        assumed: whether nobody said how pictures get their size. Then one that has it stays as it is, and below
            `SMALL` pixels as much of a picture is kept as its shape allows: on so few pixels nobody cuts an eighth off.
    """
    modes = [mode.value for mode in InterpolationMode]
    if interpolation not in modes:
        raise PreparationError(f"There is no interpolation {interpolation!r}; choose one of {', '.join(modes)}.")
    if isinstance(resize, tuple):
        fit, size = "squash", resize
    kept = 1.0 if assumed and max(size) < SMALL else 0.875
    shorter = resize if isinstance(resize, int) else math.ceil(max(size) / kept)
    steps = ways.fitting(fit, size, shorter, InterpolationMode(interpolation), assumed=assumed)
    if order == "bgr":
        steps = (*steps, ways.swapped)
    info = Preprocessing(
        {"crop": shorter, "none": 0}.get(fit, size),
        size if fit in ("crop", "pad") else (0, 0),
        interpolation,
        _each(mean),
        _each(std),
        fit,
        order,
        top,
    )
    return Preprocessor(steps, info)


def told_normalising(
    mean: Sequence[float] | None, std: Sequence[float] | None, top: int, own: Preprocessing
) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """(mean, deviation) of pixels of 0..1, and the range in which they were told.

    Arguments:
        mean, std: as somebody told them; None if not. top: the range of pixels to which they belong, 1 or 255; 0 if
            nobody told, then 255 where a mean is above 1, which no mean of pixels up to 1 is.
        own: where those come from that nobody told. Of a range alone nothing is subtracted and nothing divided.
    """
    found = top or (255 if mean is not None and max(mean) > 1 else 1)
    if mean is None and std is None and top:
        return (0.0,) * 3, (1 / top,) * 3, top
    low = own.mean if mean is None else tuple(each / found for each in mean)
    spread = own.std if std is None else tuple(each / found for each in std)
    return low, spread, found


def _each(values: Sequence[float]) -> tuple[float, ...]:
    """A number per channel; a single one is for all three."""
    return tuple(float(each) for each in values) * (3 if len(values) == 1 else 1)
