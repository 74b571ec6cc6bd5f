"""Colours of 16 bits each, of which Pillow's decoders keep the upper byte: decoded once more for the lower one.

Pillow's unpackers take the first of a value's two bytes from "RGB;16B" and the second from "RGB;16L", whatever the
file's byte order, so that the one which does not fit it gives the lower bytes. Runs in the decoding child.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

_NATIVE = "RGB;16L" if sys.byteorder == "little" else "RGB;16B"
_OTHER = {"RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B"}
_BAND_PIXELS = 2**20
TOP = 2**16 - 1


def read_lower(source: Path, kind: str) -> Image.Image | None:
    """The lower bytes of a picture's 16-bit colours, as RGB; None if its values do not lie in it so.

    Raises:
        OSError: the file is damaged.
    """
    with source.open("rb") as file:
        image = Image.open(file, formats=(kind,))
        if not isinstance(image, ImageFile.ImageFile) or image.mode != "RGB":
            return None
        tiles = []
        for tile in image.tile:
            packed, *more = tile.args if isinstance(tile.args, tuple) else (tile.args,)
            other = _OTHER.get(_NATIVE if packed == "RGB;16N" else str(packed))
            if other is None:
                return None
            tiles.append(tile._replace(args=(other, *more) if isinstance(tile.args, tuple) else other))
        image.tile = tiles
        image.load()
        return image


def bands(upper: Image.Image, lower: Image.Image) -> Iterator[np.ndarray]:
    """Whole values from the top: uint16 (row, column, channel) each."""
    step = max(1, _BAND_PIXELS // upper.width)
    for top in range(0, upper.height, step):
        box = (0, top, upper.width, min(top + step, upper.height))
        yield np.asarray(upper.crop(box)).astype(np.uint16) << 8 | np.asarray(lower.crop(box))
