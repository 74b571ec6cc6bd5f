"""Attributions of the input as heat to lay over what the network saw; numpy and Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import BLANK_LEVEL, PALETTES, overlay_opacity
from hookscope.dashboard.drawing.scales import Scale, levels

SHARE = 0.99  # of the values that the scale spans: a few pixels far above all others would leave the rest unseen


@dataclass(frozen=True)
class AttributionOverlay:
    """An attribution as a picture.

    Attributes:
        png: palette PNG of the map's size, the more opaque the farther a value lies from zero.
        text: the scale in words, or why there is nothing to see.
    """

    png: bytes
    text: str


def attribution_overlay(values: np.ndarray) -> AttributionOverlay:
    """Draw an attribution: red speaks for the class and blue against it, or magma where it has no sign.

    Arguments:
        values: float (height, width), of the size of what the network saw.
    """
    scale = attribution_scale(values)
    palette = PALETTES["blue-red" if scale.kind == "diverging" else "magma"]
    level = levels(values[None], scale)[0]
    opacity = np.rint(overlay_opacity(scale.kind) * 255).astype(np.uint8)
    opacity[BLANK_LEVEL] = 0
    file = io.BytesIO()
    image = Image.fromarray(level)
    image.putpalette(palette.table.tobytes())
    image.save(file, "PNG", compress_level=1, transparency=opacity.tobytes())
    if not scale.high > 0:
        return AttributionOverlay(file.getvalue(), scale.text)
    sign = "±" if scale.kind == "diverging" else "0 … "
    return AttributionOverlay(file.getvalue(), f"{sign}{format_number(scale.high)}")


def attribution_scale(values: np.ndarray) -> Scale:
    """The scale up to the 99th percentile of the finite sizes (to the largest, if that is 0); signed if values are."""
    size = np.abs(values[np.isfinite(values)]).astype(np.float64)
    signed = bool((values < 0).any())
    if not size.size:
        return Scale(np.nan, np.nan, "diverging" if signed else "sequential")
    limit = float(np.quantile(size, SHARE)) or float(size.max())
    return Scale(-limit, limit, "diverging") if signed else Scale(0.0, limit, "sequential")
