"""A map of one target against another as heat in two colours: red where it speaks for the one, blue for the other."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hookscope.dashboard.drawing.palettes import BLANK_LEVEL, PALETTES, overlay_opacity
from hookscope.dashboard.drawing.resizing import resize_bilinear
from hookscope.dashboard.drawing.scales import Scale, levels

PALETTE = PALETTES["blue-red"]
FOR, FOR_OTHER = ("#" + bytes(PALETTE.table[level].tolist()).hex() for level in (225, 27))
NOTHING = "No position of this layer speaks for the one more than for the other: the map is zero everywhere."


@dataclass(frozen=True)
class AgainstOverlay:
    """Heat in two colours to lay over the model's input.

    Attributes:
        png: palette PNG with transparency, of the picture's size. limit: what the last colours of both ends stand for.
        note: a sentence if there is nothing to see, else "".
    """

    png: bytes
    limit: float
    note: str


def net_map(values: np.ndarray, opposite: np.ndarray) -> np.ndarray:
    """What speaks for the one, less what speaks for the other; of Grad-CAM the map itself.

    Arguments:
        values, opposite: float (height, width), see `GradCam`.
    """
    net: np.ndarray = np.maximum(values, 0) - np.maximum(opposite, 0)
    return net


def against_overlay(net: np.ndarray, size: tuple[int, int]) -> AgainstOverlay:
    """Draw a `net_map`: divided by its largest size, resized bilinearly, the more opaque the farther from zero.

    Arguments:
        size: (height, width) of the picture that it will lie on.
    """
    finite = np.isfinite(net)
    limit = float(np.abs(net[finite]).max(initial=0))
    heat = resize_bilinear(np.where(finite, net, 0).astype(np.float64) / (limit or 1), *size)
    level = levels(heat[None], Scale(-1.0, 1.0, "diverging"))[0]
    note = "" if limit else NOTHING
    if not finite.all():
        note = f"{int((~finite).sum())} of {finite.size} values of the map are NaN or Inf and are not drawn."
    opacity = np.rint(overlay_opacity("diverging") * 255).astype(np.uint8)
    opacity[BLANK_LEVEL] = 0
    image, file = Image.fromarray(level), io.BytesIO()
    image.putpalette(PALETTE.table.tobytes())
    image.save(file, "PNG", compress_level=1, transparency=opacity.tobytes())
    return AgainstOverlay(file.getvalue(), limit, note)
