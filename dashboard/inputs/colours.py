"""Which three channels of an array are seen as red, green and blue: what a person looks at, and no network gets."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from hookscope.dashboard.inputs.rows import Exact

PREVIEW_LONGER_SIDE = 640
_BAND_PIXELS = 2**20
WRITTEN = re.compile(r"[0-9]{1,2}(\.[0-9]{1,2}){2}")
Three = tuple[int, int, int]


def usual(channels: int) -> Three:
    """The first three of so many channels; of two, the second is green and blue."""
    return (0, 0, 0) if channels == 1 else (0, 1, 1) if channels == 2 else (0, 1, 2)


def read(text: str, channels: int) -> Three:
    """The three that a text like "4.1.0" names; the usual ones where it names none, or one that is not there.

    >>> read("4.1.0", 5), read("4.1.0", 4), read("", 2)
    ((4, 1, 0), (0, 1, 2), (0, 1, 1))
    """
    if not WRITTEN.fullmatch(text):
        return usual(channels)
    red, green, blue = map(int, text.split("."))
    return (red, green, blue) if max(red, green, blue) < channels else usual(channels)


def write(three: Three, channels: int) -> str:
    """The text that `read` reads; "" for the usual ones.

    >>> write((4, 1, 0), 5), write((0, 1, 2), 5)
    ('4.1.0', '')
    """
    return "" if three == usual(channels) else ".".join(map(str, three))


def bands(exact: Exact, three: Three, multiple_of: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """RGB bands from the top, each (first row, band), a multiple of so many rows high.

    Whole numbers are seen by their type's range; floats between their smallest and their largest value in any channel,
    or nothing would be seen of them.
    """
    values, black, white = exact.values, exact.low, exact.high
    if values.dtype.kind == "f":
        black, white = float(values.min()), float(values.max())
        white = white if white > black else black + 1.0
    step = max(1, _BAND_PIXELS // values.shape[1] // multiple_of) * multiple_of
    for top in range(0, values.shape[0], step):
        band = values[top : top + step, :, list(three)].astype(np.float64)
        scaled = np.clip((band - black) / (white - black) * 255 + 0.5, 0, 255).astype(np.uint8)
        yield top, Image.fromarray(np.ascontiguousarray(scaled))


def preview(exact: Exact, three: Three) -> bytes:
    """A JPEG of at most 640 pixels on the longer side."""
    height, width = exact.values.shape[:2]
    factor = max(1, max(width, height) // (2 * PREVIEW_LONGER_SIDE))
    small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top, band in bands(exact, three, factor):
        small.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    small.thumbnail((PREVIEW_LONGER_SIDE, PREVIEW_LONGER_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()
