"""How a model of transformers wants its pictures: as its own image processor prepares them, which is run itself.

Where a position of the result lies in the picture is measured and not read: the processor is also given a picture whose
colours are its own coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from hookscope.dashboard.asking.texts import say
from hookscope.dashboard.engine.base import Fit, Preprocessing
from hookscope.dashboard.sources.building import ModelNotFound
from hookscope.dashboard.sources.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessor
from hookscope.dashboard.sources.presets import plain
from hookscope.hooks.errors import ModelNotSupported

MODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # as Pillow counts them
INSIDE = 255 * 0.999  # of the third colour: less is border, or mixed with it


class ProcessorMissing(ModelNotFound):
    """The folder does not say how pictures are prepared."""


@dataclass(frozen=True)
class Processed:
    """A picture as a processor prepares it, but for mean and deviation.

    Arguments:
        processor: of transformers.
    """

    processor: Any

    def __call__(self, picture: Image.Image) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """float32 (channel, height, width) of 0..1, and what of the picture that is: left, top, right, bottom."""
        values = self._run(picture)
        if not _is(self.processor, "do_rescale"):
            values = values / np.float32(255)
        return values, self._crop(picture.size, values.shape[1:])

    def _run(self, picture: Image.Image, **changes: Any) -> np.ndarray:
        found = self.processor(images=picture, return_tensors="pt", do_normalize=False, **changes)["pixel_values"]
        if not isinstance(found, torch.Tensor) or found.ndim != 4 or found.shape[0] != 1:
            raise ModelNotSupported(
                f"{type(self.processor).__name__} makes no single picture of a photograph. Open the model through a "
                "factory that takes one."
            )
        return np.ascontiguousarray(found[0].float().numpy())

    def _crop(self, size: tuple[int, int], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
        """Where the result lies in a picture of this (width, height), in its pixels."""
        width, height = size
        ramp = np.empty((height, width, 3), np.uint8)
        ramp[..., 0] = np.round((np.arange(width) + 0.5) / width * 255)
        ramp[..., 1] = np.round((np.arange(height) + 0.5) / height * 255)[:, None]
        ramp[..., 2] = 255
        seen = self._run(Image.fromarray(ramp), do_rescale=False)
        inside = seen[2] >= INSIDE
        left, right = _edges(seen[0], inside, width, axis=1)
        top, bottom = _edges(seen[1], inside, height, axis=0)
        return left, top, right, bottom


def _edges(seen: np.ndarray, inside: np.ndarray, length: int, axis: int) -> tuple[float, float]:
    """Where the first and the last edge of an axis lie, from the coordinate that each position has got."""
    usable = inside.any(1 - axis)
    count = seen.shape[axis]
    if usable.sum() < 2:
        return 0.0, float(length)
    means = np.nanmean(np.where(inside, seen, np.nan)[(slice(None), usable) if axis else usable], 1 - axis)
    places = np.flatnonzero(usable) + 0.5
    # a position at the edge is mixed with none beyond it: the fit is through all of them
    slope, start = np.polyfit(places, means / 255 * length, 1)
    return float(start), float(start + slope * count)


def from_processor(library: Any, name: str, how: dict[str, Any]) -> tuple[Preprocessor, str]:
    """The preparation that belongs to a folder, and the name of the processor that does it.

    Raises:
        ProcessorMissing: there is none.
    """
    processor = processor_of(library, name, how)
    return Preprocessor((), info_of(processor), Processed(processor)), type(processor).__name__


def processor_of(library: Any, name: str, how: dict[str, Any]) -> Any:
    """A folder's image processor, which also makes boxes of what a detector answers.

    Raises:
        ProcessorMissing: there is none.
    """
    try:
        return library.AutoImageProcessor.from_pretrained(name, **how)
    except Exception as error:
        raise ProcessorMissing(
            f"{name} does not say how pictures are prepared: it has no preprocessor_config.json that can be read "
            f"({say(error)}). Put it there, or say it: --mean, --std and --input-size."
        ) from error


def info_of(processor: Any) -> Preprocessing:
    """A processor's settings in our words."""
    size, crop = _size(processor, "size"), _size(processor, "crop_size")
    cuts = _is(processor, "do_center_crop") and bool(crop)
    resizes = _is(processor, "do_resize") and bool(size)
    pair = (int(size["height"]), int(size["width"])) if size.get("height") and size.get("width") else None
    shortest = int(size.get("shortest_edge") or 0)
    cut = (int(crop["height"]), int(crop["width"])) if cuts and crop.get("height") else (0, 0)
    share = getattr(processor, "crop_pct", None)
    if shortest and share and not cuts and shortest < 384:  # ConvNeXt's: below 384 the centre is cut out
        shortest, cut = int(shortest / share), (shortest, shortest)
    fit: Fit = "none" if not resizes else "squash" if pair and not any(cut) else "crop"
    normalises = _is(processor, "do_normalize")
    top = 1 if _is(processor, "do_rescale") else 255
    mean = tuple(processor.image_mean) if normalises else (0.0,) * 3
    std = tuple(processor.image_std) if normalises else (1.0,) * 3
    return Preprocessing(
        resize=(pair or shortest) if resizes else 0,
        crop=cut,
        interpolation=MODES.get(int(getattr(processor, "resample", None) or 0), "bilinear"),
        mean=tuple(float(each) / top for each in mean),
        std=tuple(float(each) / top for each in std),
        fit=fit,
        range=top,
    )


def plainly(config: Any) -> Preprocessor:
    """For a folder without a processor: of the size in its configuration; the operator has said the rest."""
    size: Any = getattr(config, "image_size", None)
    size = size or getattr(getattr(config, "vision_config", None), "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    prepared = plain((height, width), None, "bilinear", IMAGENET_MEAN, IMAGENET_STD, "squash")
    return Preprocessor(
        prepared.steps, replace(prepared.info, assumed=("size", "fit", "interpolation", "order", "range"))
    )


def _size(processor: Any, name: str) -> dict[str, Any]:
    found = getattr(processor, name, None) or {}
    return {key: value for key, value in dict(found).items() if value}


def _is(processor: Any, name: str) -> bool:
    return bool(getattr(processor, name, False))
