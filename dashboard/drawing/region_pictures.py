"""The regions of a segmenter's classes in colours, to lie over the picture."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Collection

import numpy as np
from PIL import Image

TURN = 0.381966  # of the colour circle from one class to the next: the golden ratio's, so that near numbers differ most
FIRST = 0.5
SHOWN, CHOSEN, BESIDE = 0.45, 0.6, 0.12  # opacity of a region: none is chosen; it is; another is
EDGE = 0.9


def colour_of(index: int) -> tuple[int, int, int]:
    """A class's colour, red, green and blue of 0 to 255; the same in the list and on the picture.

    >>> colour_of(0)
    (73, 242, 242)
    """
    red, green, blue = colorsys.hsv_to_rgb((FIRST + index * TURN) % 1, 0.7, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def regions_png(regions: np.ndarray, chosen: int | None, left_out: Collection[int] = ()) -> bytes:
    """Draw regions as a PNG of a pixel per position, transparent where there is none, with a line at their edges.

    Arguments:
        regions: int (row, column), the class at each position, -1 for none.
        chosen: the class that stands out, None for none. left_out: classes that are not drawn: the background.
    """
    picture = np.zeros((*regions.shape, 4), np.uint8)
    edge = np.zeros(regions.shape, bool)
    edge[1:] |= regions[1:] != regions[:-1]
    edge[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    for index in map(int, np.unique(regions)):
        if index < 0 or index in left_out:
            continue
        here = regions == index
        inside = SHOWN if chosen is None else CHOSEN if index == chosen else BESIDE
        line = EDGE if chosen in (None, index) else inside * 2
        picture[here, :3] = colour_of(index)
        picture[here, 3] = round(inside * 255)
        picture[here & edge, 3] = round(line * 255)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def runs(regions: np.ndarray) -> str:
    """Regions as text, row by row: "class:count,class:count,...".

    >>> runs(np.array([[0, 0, 2], [2, -1, -1]]))
    '0:2,2:2,-1:2'
    """
    flat = regions.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if flat.size else np.zeros(0, int)
    counts = np.diff([*starts, flat.size])
    return ",".join(f"{flat[start]}:{count}" for start, count in zip(starts, counts, strict=True))
