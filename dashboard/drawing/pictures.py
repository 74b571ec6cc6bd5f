"""Pictures of maps as files: sprites of whole walls, overlays on the model's input, Grad-CAM heat; numpy and Pillow."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hookscope.dashboard.drawing.geometry import MEAN_MAP
from hookscope.dashboard.drawing.palettes import (
    BLANK_LEVEL,
    INF_LEVEL,
    LEVELS,
    NAN_LEVEL,
    PALETTES,
    Palette,
    overlay_opacity,
)
from hookscope.dashboard.drawing.ranking import mean_map
from hookscope.dashboard.drawing.resizing import nearest, reduce_by_area, resize_bilinear
from hookscope.dashboard.drawing.scales import Scale, Scales, levels

WEBP_QUALITY = 90
WEBP_SIDE = 16_000  # a WebP has at most 16,383 pixels on a side
OVERLAY_OPACITY = 0.85  # of the value farthest from zero: the picture stays visible under it


def sprite(
    maps: np.ndarray,
    order: np.ndarray,
    columns: int,
    scale: Scales,
    palette: Palette,
    cell_px: float | None = None,
    gap: int = 0,
) -> bytes:
    """One PNG with the mean map and the channels of a wall, row by row; one byte per value.

    Arguments:
        maps: float32 (channel, height, width).
        order: the channels to show, by index, first cell to last (`ranking.order`, cut to `WallGeometry.shown`).
        columns: cells across.
        scale: one for the layer, or one per channel by index and last one for the mean map (`channel_scales`).
        palette: from `palette_for(the scale's kind, ...)`.
        cell_px: cells wider or higher than this are reduced by area; None never reduces. Cells are never enlarged.
        gap: how many pixels are between two cells, which are transparent.
    """
    cells = _cells(maps, order, scale, cell_px)
    if gap:
        cells = np.pad(cells, ((0, 0), (0, gap), (0, gap)), constant_values=BLANK_LEVEL)
    picture = _tile(cells, columns, BLANK_LEVEL)
    return _png(picture[: picture.shape[0] - gap, : picture.shape[1] - gap], palette)


def overlay_sprite(
    maps: np.ndarray,
    order: np.ndarray,
    columns: int,
    scale: Scales,
    palette: Palette,
    pixels: np.ndarray,
    cell_px: float,
) -> bytes:
    """A wall like `sprite`, as a WebP: each cell is the model's input in grey under the map, which is the more opaque
    the farther a value lies from zero.

    Arguments:
        pixels: uint8 (height, width, 3), what the model was given (`Prediction.pixels`).
        cell_px: width of a cell; here cells are enlarged, or the picture under them could not be seen.
    """
    rows = -(-(len(order) + 1) // columns)
    aspect = maps.shape[1] / maps.shape[2]
    cell_px = min(cell_px, WEBP_SIDE / columns, WEBP_SIDE / rows / aspect)
    height = max(1, round(cell_px * aspect))
    width = max(1, round(cell_px))
    small = _cells(maps, order, scale, max(height, width))
    cells = small[:, nearest(small.shape[1], height)[:, None], nearest(small.shape[2], width)]
    grey = Image.fromarray(pixels).convert("L").resize((width, height), Image.Resampling.LANCZOS)
    kind = scale.kind if isinstance(scale, Scale) else scale[0].kind
    # The blended colour of each pair of level and grey is made once, 256 x 256 colours, and then only looked up.
    alpha = overlay_opacity(kind)[:, None, None] * OVERLAY_OPACITY
    alpha[[NAN_LEVEL, INF_LEVEL]] = 1
    blended = palette.table[:, None] * alpha + np.arange(256)[None, :, None] * (1 - alpha)
    table = np.rint(blended).astype(np.uint8)
    opaque = np.concatenate([table, np.full((*table.shape[:2], 1), 255, np.uint8)], axis=2)
    image = Image.fromarray(_tile(opaque[cells, np.asarray(grey)], columns, 0))  # no cell: transparent
    file = io.BytesIO()
    image.save(file, "WEBP", quality=WEBP_QUALITY, method=2)
    return file.getvalue()


def map_png(values: np.ndarray, scale: Scale, palette: Palette) -> bytes:
    """One map, float (height, width), in the colours of a wall: a PNG with one pixel per value."""
    return _png(levels(values[None], scale)[0], palette)


@dataclass(frozen=True)
class CamOverlay:
    """A Grad-CAM map as heat to lay over the model's input.

    Attributes:
        png: palette PNG with transparency, of the picture's size; the page sets its opacity.
        peak: the map's largest value, in units of the logit per position; what the last colour stands for.
        note: a sentence if there is nothing to see, else "".
    """

    png: bytes
    peak: float
    note: str


def cam_overlay(cam: np.ndarray, size: tuple[int, int]) -> CamOverlay:
    """Draw a Grad-CAM map: ReLU, divided by its maximum, resized bilinearly, coloured; transparent where it is 0.

    Arguments:
        cam: float (height, width), signed (`GradCam.values`).
        size: (height, width) of the picture that it will lie on.
    """
    palette = PALETTES["magma"]
    finite = np.isfinite(cam)
    positive = np.where(finite, np.maximum(cam, 0), 0).astype(np.float64)
    peak = float(positive.max(initial=0))
    heat = resize_bilinear(positive / (peak or 1), *size) if positive.size else np.zeros(size)
    level = levels(heat[None], Scale(0.0, 1.0, "sequential"))[0]
    note = ""
    if not finite.all():
        note = f"{int((~finite).sum())} of {finite.size} values of the map are NaN or Inf and are not drawn."
    elif peak == 0:
        note = "No position of this layer speaks for the target: the map is zero or negative everywhere."
    # The lower third of the palette is black: it fades out, so that the picture is not darkened where little was found.
    share = np.arange(LEVELS) / (LEVELS - 1)
    opacity = np.rint(np.clip(share * 1.6, 0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(level)
    image.putpalette(palette.table.tobytes())
    image.save(file, "PNG", compress_level=1, transparency=opacity.tobytes())
    return CamOverlay(file.getvalue(), peak, note)


def picture_png(pixels: np.ndarray) -> bytes:
    """Encode a picture, uint8 (height, width, 3), as PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _cells(maps: np.ndarray, order: np.ndarray, scale: Scales, cell_px: float | None) -> np.ndarray:
    """The levels of every cell, mean map first: uint8 (cell, height, width), reduced to at most `cell_px`."""
    height, width = maps.shape[1:]
    shrink = min(1.0, (cell_px or math.inf) / max(height, width))
    size = max(1, math.floor(height * shrink + 1e-6)), max(1, math.floor(width * shrink + 1e-6))
    mean = mean_map(maps)[None]
    channels = maps if len(order) == len(maps) and (order == np.arange(len(maps))).all() else maps[order]
    scale_mean, scale_channels = _split(scale, order)
    first = levels(reduce_by_area(mean, *size), scale_mean)
    return np.concatenate([first, levels(reduce_by_area(channels, *size), scale_channels)])


def _split(scale: Scales, order: np.ndarray) -> tuple[Scale, Scales]:
    """The scale of the mean map, and that of the channels shown."""
    if isinstance(scale, Scale):
        return scale, scale
    return scale[MEAN_MAP], [scale[int(index)] for index in order]


def _tile(cells: np.ndarray, columns: int, blank: int) -> np.ndarray:
    """Lay cells (cell, height, width, ...) out row by row; places behind the last cell are `blank`."""
    count, height, width, *rest = cells.shape
    rows = math.ceil(count / columns)
    if rows * columns > count:
        empty = np.full((rows * columns - count, height, width, *rest), blank, cells.dtype)
        cells = np.concatenate([cells, empty])
    grid = cells.reshape(rows, columns, height, width, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(grid).reshape(rows * height, columns * width, *rest)


def _png(image_levels: np.ndarray, palette: Palette) -> bytes:
    image = Image.fromarray(image_levels)
    image.putpalette(palette.table.tobytes())
    file = io.BytesIO()
    # runs alone: a wall is within a tenth as small as what level 1 finds, in three quarters of its time
    image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE, transparency=BLANK_LEVEL)
    return file.getvalue()
