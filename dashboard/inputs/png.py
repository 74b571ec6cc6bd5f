"""Writes an RGB PNG band by band, so that a large picture never lies in memory twice.

The pixels are stored and not deflated: for a 12-megapixel photograph Pillow needs 0.85 s at `compress_level=1` (and
0.40 s at 0, because it tries five filters per row) and the model's process 0.23 s to read it; stored without filters it
is 0.06 s and 0.06 s, for 36 MB instead of 21 on disk.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO


class PngWriter:
    """An RGB PNG that takes its rows in bands from the top.

    Arguments:
        file: where to write; open for writing in binary mode.
        width, height: in pixels.
    """

    def __init__(self, file: BinaryIO, width: int, height: int) -> None:
        self._file = file
        self._stride = width * 3
        self._deflate = zlib.compressobj(0)
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00")

    def band(self, pixels: bytes) -> None:
        """Write whole rows: uint8 (row, column, 3)."""
        stride = self._stride
        # Each row starts with its filter's number; 0 is none.
        rows = b"".join(b"\0" + pixels[start : start + stride] for start in range(0, len(pixels), stride))
        self._chunk(b"IDAT", self._deflate.compress(rows))

    def end(self) -> None:
        """Write what is left; the file is not closed."""
        self._chunk(b"IDAT", self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, name: bytes, data: bytes) -> None:
        self._file.write(len(data).to_bytes(4, "big") + name)
        self._file.write(data)
        self._file.write(zlib.crc32(data, zlib.crc32(name)).to_bytes(4, "big"))
