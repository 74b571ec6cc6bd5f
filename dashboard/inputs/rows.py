"""A picture's pixels as they lie on the disk and go to a worker: width and height, then the rows.

    width, uint32 little-endian | height, uint32 little-endian | uint8 (row, column, 3), red, green and blue

Nothing is packed: a 12-megapixel photograph takes 36 MB, and no time to write or to read. Behind them stands what these
pixels are only the picture of, where a file has more than three channels or more than 8 bits:

    "more" | channels, uint32 | type, 3 bytes as numpy writes it | the values that become 0 and 1, float64 each |
    (row, column, channel) of that type

"both" in the place of "more" says that these axes may as well be (channel, row, column); "clip", that the channels are
those of all frames, red, green and blue of each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

if TYPE_CHECKING:
    import numpy as np

SUFFIX = ".rgb"
TYPES = ("|u1", "<u2", "<f4")
_HEAD = struct.Struct("<II")
_MORE = struct.Struct("<4sI3sdd")
MORE, EITHER, CLIP = b"more", b"both", b"clip"


@dataclass(frozen=True)
class Exact:
    """What a network is given, of a picture that is shown in fewer colours.

    Attributes:
        values: (row, column, channel). low, high: the values that become 0 and 1.
        either: whether the axes may as well be (channel, row, column).
        frames: of a clip, whose channels are three of each; 0 of a picture.
    """

    values: np.ndarray
    low: float
    high: float
    either: bool = False
    frames: int = 0

    def turned(self) -> Exact:
        """The same with the first axis as the channels."""
        import numpy as np

        return replace(self, values=np.moveaxis(self.values, 0, 2), either=False)


def head(width: int, height: int) -> bytes:
    """What stands before the rows."""
    return _HEAD.pack(width, height)


def exact_head(channels: int, type_: str, low: float, high: float, mark: bytes = MORE) -> bytes:
    """What stands before the exact values.

    Arguments:
        mark: `EITHER` of axes that may be read in two ways, `CLIP` of frames.
    """
    if type_ not in TYPES:
        raise ValueError(f"values of type {type_} are not kept")
    return _MORE.pack(mark, channels, type_.encode(), low, high)


def picture(data: bytes) -> Image.Image:
    """The picture of a file's bytes.

    Raises:
        ValueError: they are not such a file's, or not all of it.
    """
    width, height, end = _measured(data)
    return Image.frombytes("RGB", (width, height), data[_HEAD.size : end])


def exact(data: bytes) -> Exact | None:
    """What the picture of a file's bytes only stands for; None if that is all of it.

    Raises:
        ValueError: as `picture`.
    """
    import numpy as np

    width, height, end = _measured(data)
    if len(data) == end:
        return None
    mark, channels, type_, low, high = _MORE.unpack_from(data, end)
    values = np.frombuffer(data, np.dtype(type_.decode()), width * height * channels, end + _MORE.size)
    frames = channels // 3 if mark == CLIP else 0
    return Exact(values.reshape(height, width, channels), low, high, mark == EITHER, frames)


def _measured(data: bytes) -> tuple[int, int, int]:
    """Width, height, and where the rows end."""
    if len(data) < _HEAD.size:
        raise ValueError("the file is cut")
    width, height = _HEAD.unpack_from(data)
    end = _HEAD.size + width * height * 3
    if not width * height or len(data) < end:
        raise ValueError(f"the file does not hold {width} x {height} pixels")
    if len(data) > end:
        mark, channels, type_, _, _ = _MORE.unpack_from(data.ljust(end + _MORE.size, b"\0"), end)
        size = int(type_[2:].decode("latin-1")) if type_.decode("latin-1") in TYPES else 0
        known = mark in (MORE, EITHER) or (mark == CLIP and channels and not channels % 3)
        if not known or not size or len(data) != end + _MORE.size + width * height * channels * size:
            raise ValueError(f"the file does not hold {width} x {height} pixels")
    return width, height, end


class Kept:
    """A picture that was decoded before, band by band, to be written once more.

    Attributes:
        width, height: in pixels. notes: there are none. spread, channels, either: not known any more.
    """

    spread = either = False
    channels = 0

    def __init__(self, file: BinaryIO) -> None:
        self.width, self.height = _HEAD.unpack(file.read(_HEAD.size))
        self.notes: list[str] = []
        self._file = file

    def bands(self, multiple_of: int) -> Iterator[tuple[int, Image.Image]]:
        """RGB bands from the top, each (first row, band), a multiple of so many rows high."""
        rows = max(1, 2**20 // self.width // multiple_of) * multiple_of
        for top in range(0, self.height, rows):
            high = min(rows, self.height - top)
            yield top, Image.frombytes("RGB", (self.width, high), self._file.read(self.width * high * 3))

    def exact(self) -> Iterator[bytes]:
        """What stands behind the rows, if anything does."""
        while chunk := self._file.read(2**20):
            yield chunk
