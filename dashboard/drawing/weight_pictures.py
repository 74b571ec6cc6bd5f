"""A parameter as a picture: filters of three inputs in colour, others by their values, a matrix as it is."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hookscope.dashboard.drawing.palettes import BLANK_LEVEL, INF_LEVEL, NAN_LEVEL, PALETTES, Palette
from hookscope.dashboard.drawing.resizing import reduce_by_area
from hookscope.dashboard.drawing.scales import Scale, layer_scale, levels
from hookscope.hooks.results.weights import Parameter

MOST_FILTERS = 512
MATRIX_PX = 512  # a side of a larger matrix is reduced to so many cells, each the mean of what lies in it
COLUMNS = 16


@dataclass(frozen=True)
class Tiles:
    """What is drawn of a parameter.

    Attributes:
        cells: float32 (filter, height, width), or (filter, height, width, 3) in colour.
        text: what a cell is, for people.
    """

    cells: np.ndarray
    text: str

    @property
    def columns(self) -> int:
        """How many stand in a row."""
        return min(len(self.cells), COLUMNS)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the picture, in values, gaps included."""
        count, height, width = self.cells.shape[:3]
        return self.columns * (width + 1) - 1, math.ceil(count / self.columns) * (height + 1) - 1


def tiles(parameter: Parameter, values: np.ndarray | None = None) -> Tiles | None:
    """How a parameter is drawn; None if it is a mere list, or its values are not there.

    Arguments:
        values: others of its shape in the place of its own, such as a difference.
    """
    values = parameter.values if values is None else values
    if values.shape != parameter.shape or values.ndim < 2 or not values.size:
        return None
    if values.ndim == 2:
        rows, columns = (min(length, MATRIX_PX) for length in values.shape)
        reduced = reduce_by_area(values[None], rows, columns) if (rows, columns) != values.shape else values[None]
        means = "" if (rows, columns) == values.shape else f", reduced to {rows} × {columns} means"
        return Tiles(reduced, f"a row for each output, a column for each input{means}")
    filters = np.moveaxis(values, parameter.output_axis, 0)[:MOST_FILTERS]
    filters = filters.reshape(*filters.shape[:2], -1, filters.shape[-1])  # (filter, input, height, width)
    of = f"{len(filters):,} of {len(parameter.norms):,} filters"
    if filters.shape[1] == 3:
        return Tiles(np.moveaxis(filters, 1, -1), f"{of}, their inputs as red, green and blue; grey is 0")
    if filters.shape[1] == 1:
        return Tiles(filters[:, 0], of)
    return Tiles(filters.mean(1, dtype=np.float64).astype(np.float32), f"{of}, each the mean over its inputs")


def scale_of(*found: Tiles) -> Scale:
    """One scale for all, symmetric about zero."""
    high = layer_scale(*(np.abs(each.cells) for each in found)).high
    return Scale(-high, high, "diverging")


def picture(found: Tiles, scale: Scale, palette: Palette = PALETTES["blue-red"]) -> bytes:
    """A PNG of the tiles, a value a pixel, with a transparent pixel between them."""
    file = io.BytesIO()
    if found.cells.ndim == 4:
        limit = scale.high if scale.high > 0 else 1.0
        share = np.nan_to_num(found.cells / limit, nan=0, posinf=1, neginf=-1)
        level = np.rint(np.clip(share * 127.5 + 127.5, 0, 255)).astype(np.uint8)
        level[np.isinf(found.cells).any(-1)] = palette.table[INF_LEVEL]  # if one of the three is, as everywhere
        level[np.isnan(found.cells).any(-1)] = palette.table[NAN_LEVEL]
        opaque = np.concatenate([level, np.full((*level.shape[:3], 1), 255, np.uint8)], axis=3)
        Image.fromarray(_laid_out(opaque, found.columns, 0), "RGBA").save(file, "PNG")
    else:
        image = Image.fromarray(_laid_out(levels(found.cells, scale), found.columns, BLANK_LEVEL))
        image.putpalette(palette.table.tobytes())
        image.save(file, "PNG", transparency=BLANK_LEVEL)
    return file.getvalue()


def _laid_out(cells: np.ndarray, columns: int, blank: int) -> np.ndarray:
    """Cells (cell, height, width, ...) row by row, with a gap of one between them."""
    count, height, width, *rest = cells.shape
    rows = math.ceil(count / columns)
    paper = np.full((rows, columns, height + 1, width + 1, *rest), blank, cells.dtype)
    paper.reshape(rows * columns, height + 1, width + 1, *rest)[:count, :-1, :-1] = cells
    return paper.swapaxes(1, 2).reshape(rows * (height + 1), columns * (width + 1), *rest)[:-1, :-1]
