"""Where things lie: a wall's rows and columns, which channel was clicked, the crop on the original picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEAN_MAP = -1  # the channel that stands for the wall's first cell, the mean over all channels
READABLE_PX = 28  # a cell of "auto" is at least so wide and high
SMALLEST_PX = 8  # a wall grows beyond its maximal height rather than have cells smaller than this


@dataclass(frozen=True)
class WallGeometry:
    """How a wall is laid out.

    Attributes:
        columns, rows: cells across and down; the first cell is the mean map.
        shown: how many channels it shows, the mean map not counted.
        total: how many the layer has.
        map_height, map_width: of one channel, in values.
        cell_px: width of a cell on the screen, in CSS pixels; what a sprite's cells are reduced to.
        height_px: height of one panel on the screen, in CSS pixels.
    """

    columns: int
    rows: int
    shown: int
    total: int
    map_height: int
    map_width: int
    cell_px: float
    height_px: int

    def rows_of(self, count: int) -> int:
        """How many rows a side takes that has `count` channels, which may be fewer than the wall has room for."""
        return math.ceil((min(self.shown, count) + 1) / self.columns)

    @property
    def text(self) -> str:
        """What is on the wall, e.g. "32 of 512 channels"."""
        return f"{self.shown} of {self.total} channel{'' if self.total == 1 else 's'}"


def wall_geometry(
    count: int, height: int, width: int, panel_px: int, max_height_px: int = 420, show: int | str = "auto"
) -> WallGeometry:
    """Lay out a wall: the largest cells with which it fills the panel's width and stays below the maximal height.

    Arguments:
        count: channels of the layer. height, width: of one channel.
        panel_px: width of one panel on the screen, in CSS pixels.
        max_height_px: what the wall should not exceed; only a wall of many requested channels does.
        show: "auto" (as many as have cells of `READABLE_PX`), "all", or a number of channels.
    """
    aspect = max(height, 1) / max(width, 1)
    if show == "auto":
        across = _most_columns(panel_px, aspect, READABLE_PX)
        down = max(1, int(max_height_px / (panel_px / across * aspect) + 1e-6))
        shown = min(count, max(across * down - 1, 1))
    else:
        shown = count if show == "all" else min(count, max(int(show), 1))
    cells = shown + 1
    widest = _most_columns(panel_px, aspect, READABLE_PX if show == "auto" else SMALLEST_PX)
    columns = 1
    while columns < widest and _height(cells, columns, panel_px, aspect) > max_height_px:
        columns += 1
    rows = math.ceil(cells / columns)
    height_px = max(1, round(_height(cells, columns, panel_px, aspect)))
    return WallGeometry(columns, rows, shown, count, height, width, panel_px / columns, height_px)


def _most_columns(panel_px: int, aspect: float, least_px: float) -> int:
    """How many columns fit if the shorter side of a cell is at least so long."""
    return max(1, int(panel_px * min(aspect, 1) // least_px))


def _height(cells: int, columns: int, panel_px: int, aspect: float) -> float:
    return math.ceil(cells / columns) * panel_px / columns * aspect


def crop_overlay_style(crop: tuple[float, float, float, float], size: tuple[int, int]) -> dict[str, str]:
    """Where a CSS rectangle lies over a preview to show what the model saw: left, top, width, height in per cent.

    Arguments:
        crop: (left, top, right, bottom) in pixels of the original picture; what lies outside of it is cut off.
        size: (width, height) of the original picture.
    """
    width, height = max(size[0], 1), max(size[1], 1)
    left, right = (min(max(edge / width, 0), 1) * 100 for edge in (crop[0], crop[2]))
    top, bottom = (min(max(edge / height, 0), 1) * 100 for edge in (crop[1], crop[3]))
    place = {"left": left, "top": top, "width": max(right - left, 0), "height": max(bottom - top, 0)}
    return {name: f"{value:.3f}%" for name, value in place.items()}
