"""Where an attention head looks, as a picture: the input in grey, under the share that each patch is given."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from hookscope.dashboard.drawing.palettes import PALETTES, overlay_opacity
from hookscope.dashboard.drawing.pictures import OVERLAY_OPACITY, WEBP_QUALITY
from hookscope.dashboard.drawing.resizing import nearest
from hookscope.dashboard.drawing.scales import Scale, levels

SIDE_PX = 180  # of the longer side
MARK = (64, 224, 255)  # the query's outline: a colour that neither magma nor grey has


def attention_picture(
    shares: np.ndarray, pixels: np.ndarray | None, query: tuple[int, int] | None, side_px: int = SIDE_PX
) -> bytes:
    """Draw one map as a WebP; 0 is transparent (black without a picture), the map's largest share the brightest.

    Arguments:
        shares: float (height, width), 0..1, what each position is given.
        pixels: uint8 (height, width, 3), what the network was given; None if the map does not lie on it.
        query: (row, column) of the position that looks, to outline it; None if it has no place on the map.
        side_px: of the longer side.
    """
    rows, columns = shares.shape
    height, width = pixels.shape[:2] if pixels is not None else (rows, columns)
    scale = side_px / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    down, across = nearest(rows, height), nearest(columns, width)
    level = levels((shares / (float(shares.max(initial=0)) or 1))[None], Scale(0.0, 1.0, "sequential"))[0]
    level = level[down[:, None], across]
    colours = PALETTES["magma"].table[level].astype(np.float64)
    if pixels is not None:
        grey = np.asarray(Image.fromarray(pixels).convert("L").resize((width, height), Image.Resampling.LANCZOS))
        alpha = (overlay_opacity("sequential") * OVERLAY_OPACITY)[level][..., None]
        colours = colours * alpha + grey[..., None] * (1 - alpha)
    picture = np.rint(colours).astype(np.uint8)
    if query is not None:
        inside = (down == query[0])[:, None] & (across == query[1])
        within = inside.copy()
        thick = max(1, round(side_px / SIDE_PX / 2))
        for axis in (0, 1):
            for step in (-thick, thick):
                within &= np.roll(inside, step, axis)
        picture[inside & ~within] = MARK
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=WEBP_QUALITY, method=2)
    return file.getvalue()
