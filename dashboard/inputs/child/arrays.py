"""Arrays of numbers as pictures: .npy, .npz with one array, the grey pages of a TIFF. Runs in the decoding child.

An array is (height, width), (channel, height, width) or (height, width, channel), of at most 16 channels: the axis that
is so short is the channels', and where both are, the model's channels decide later. Whole numbers count by their type's
range, so that the network gets 0 to 1; floats as they are.
"""

from __future__ import annotations

import ast
import lzma
import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from hookscope.dashboard.inputs import colours, rows
from hookscope.dashboard.inputs.axes import GREY, NAMES
from hookscope.dashboard.inputs.child.pixels import Unreadable

MOST_CHANNELS = 16
MOST_VALUES = 50_000_000
_NAMED = 5  # of an archive's arrays
_HEADER_BYTES = 10_000  # of what stands before the numbers
_AXES = "(height, width), (channel, height, width) or (height, width, channel)"


class Array:
    """Numbers as a picture: its first three channels, or its only one, are what a person sees at first.

    Arguments:
        values: (row, column, channel), of a type that `rows.TYPES` has. low, high: the values that become 0 and 1.
        either: whether these axes may as well be (channel, row, column). whole: they were whole numbers, and low and
            high are the ends of their type.

    Attributes:
        width, height: in pixels. channels: how many. notes: what a person has to know.
    """

    def __init__(
        self, values: np.ndarray, low: float, high: float, what: str, either: bool = False, whole: bool = False
    ) -> None:
        self._exact = rows.Exact(values, low, high, either)
        self.either = either
        self.height, self.width, self.channels = values.shape
        least, most = float(values.min()), float(values.max())
        self.notes = [f"{what}, {least:g} to {most:g}"]
        if whole:
            self.notes[0] += f" of {high:g} used" if low == 0 else f" of {low:g} to {high:g} used"
        self.spread = whole and most > least and (most - least) < (high - low) / 2

    def bands(self, multiple_of: int) -> Iterator[tuple[int, Image.Image]]:
        """RGB bands from the top, each (first row, band), a multiple of so many rows high."""
        yield from colours.bands(self._exact, colours.usual(self.channels), multiple_of)

    def exact(self) -> Iterator[bytes]:
        """What the network gets, as `rows` has it."""
        values = self._exact.values
        mark = rows.EITHER if self.either else rows.MORE
        yield rows.exact_head(self.channels, values.dtype.str, self._exact.low, self._exact.high, mark)
        yield np.ascontiguousarray(values).tobytes()


def npy(source: Path, check_size: Callable[[int, int], None]) -> Array:
    """The array of a .npy file.

    Raises:
        Unreadable: it holds objects, is of another shape, or is cut.
    """
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _array(data[:], check_size)


def npz(source: Path, check_size: Callable[[int, int], None]) -> Array:
    """The only array of a .npz file.

    Raises:
        Unreadable: it holds several, or one that unpacks to more than may be read.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if len(members) != 1:
                raise Unreadable(
                    f"This archive holds {len(members)} arrays ({_named(members)}); save the one that is the picture "
                    "with numpy.save."
                )
            if members[0].file_size > 8 * MOST_VALUES + _HEADER_BYTES:
                _check_count(members[0].file_size // 4)
            with archive.open(members[0]) as file:
                data = file.read(8 * MOST_VALUES + _HEADER_BYTES)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError) as error:
        raise Unreadable("This archive is damaged, cut or locked; save the array anew with numpy.save.") from error
    return _array(data, check_size)


def pages(images: list[Image.Image]) -> Array:
    """The grey pages of a TIFF, one channel each."""
    stacked = np.stack([np.asarray(image) for image in images], -1)
    return _of_values(stacked, f"{len(images)} pages")


def _array(data: bytes, check_size: Callable[[int, int], None]) -> Array:
    """The array of a .npy file's bytes. Its header is read as text, so nothing in it can be run."""
    if data[6:7] not in (b"\1", b"\2", b"\3"):
        raise Unreadable("This array is of a version that is not read; save it anew with numpy.save.")
    wide = data[6] > 1
    start = 12 if wide else 10
    (length,) = struct.unpack("<I" if wide else "<H", data[8:start].ljust(4 if wide else 2, b"\0"))
    try:
        header = ast.literal_eval(data[start : start + min(length, _HEADER_BYTES)].decode("latin-1"))
        shape, order, kind = header["shape"], header["fortran_order"], np.dtype(header["descr"])
        if not isinstance(shape, tuple) or any(type(each) is not int or each < 0 for each in shape):
            raise ValueError("a length that is none")
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise Unreadable("This array's header cannot be read; save it anew with numpy.save.") from error
    if kind.hasobject or kind.kind not in "buif" or kind.itemsize > 8:
        raise Unreadable(
            f"This array holds {kind.name or kind} values, which are not read; save it as float32 or uint8."
        )
    count = int(np.prod(shape, dtype=object))
    _check_count(count)
    if count * kind.itemsize > len(data) - start - length:
        raise Unreadable("This array is cut short; save it anew with numpy.save.")
    values = np.frombuffer(data, kind, count, start + length).reshape(shape, order="F" if order else "C")
    placed, axes = _placed(values, check_size)
    named = f" as {axes}" if axes else ""
    return _of_values(placed, f"{' x '.join(map(str, shape))} {kind.name}{named}", either=not axes)


def _placed(values: np.ndarray, check_size: Callable[[int, int], None]) -> tuple[np.ndarray, str]:
    """As (row, column, channel), and what its axes were; "" if they may also be (channel, row, column)."""
    shape = values.shape
    while values.ndim > 3 and values.shape[0] == 1:  # one picture of a batch
        values = values[0]
    if values.ndim == 2 and 0 not in shape:
        check_size(shape[1], shape[0])
        return values[:, :, None], GREY
    if values.ndim != 3 or 0 in shape:
        raise Unreadable(f"This array is of shape {shape}, and a picture is {_AXES}; save it so.")
    possible, problems = [], []
    for axes, channels, (height, width) in (
        ("channels-last", values.shape[2], values.shape[:2]),
        ("channels-first", values.shape[0], values.shape[1:]),
    ):
        if channels <= MOST_CHANNELS:
            try:
                check_size(width, height)
                possible.append(axes)
            except Unreadable as problem:
                problems.append(problem)
    if problems and not possible:
        raise problems[0]
    if not possible:
        raise Unreadable(
            f"This array is of shape {shape}, and a picture has at most {MOST_CHANNELS} channels, first or last; save "
            "the part that is the picture."
        )
    if len(possible) == 2:  # a model's channels decide, or a person
        return values, ""
    return np.moveaxis(values, 0, 2) if possible == ["channels-first"] else values, NAMES[possible[0]]


def _of_values(values: np.ndarray, what: str, either: bool = False) -> Array:
    kind = values.dtype
    if kind.kind == "b":
        return Array(values.astype(np.uint8), 0.0, 1.0, what, either)
    if kind.kind == "f":
        if not np.isfinite(values).all():
            wrong = int((~np.isfinite(values)).sum())
            raise Unreadable(f"{wrong:,} of this array's values are NaN or infinite; replace them and save it anew.")
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not np.isfinite(single).all():
            raise Unreadable(
                "This array has values above 3e38, which float32 does not hold; divide them, save it anew."
            )
        return Array(single, 0.0, 1.0, what, either)
    low, high = float(np.iinfo(kind).min), float(np.iinfo(kind).max)
    small = kind.newbyteorder("=").type in (np.uint8, np.uint16)
    return Array(values.astype(kind.type if small else np.float32), low, high, what, either, whole=True)


def _named(members: list[zipfile.ZipInfo]) -> str:
    """The names of an archive's first arrays, as far as they are plain."""
    names = [re.sub(r"[^\w.-]", "?", each.filename.removesuffix(".npy")[:30]) for each in members[:_NAMED]]
    return ", ".join(names) + (", ..." if len(members) > _NAMED else "")


def _check_count(count: int) -> None:
    if count > MOST_VALUES:
        raise Unreadable(
            f"This array has {count:,} values, and at most {MOST_VALUES // 10**6} million are read; save a part of it."
        )
