"""Pictures for the tests, made byte by byte where Pillow cannot write what a camera, a scanner or an attacker can."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file of this format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colours(height: int = 20, width: int = 30) -> np.ndarray:
    """uint8 (height, width, 3), every pixel its own colour, no two sides alike."""
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, bits: int, colour_type: int, rows: list[bytes], *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG from packed rows; `chunks` stand before the pixels. Colour types: 0 grey, 2 RGB, 3 palette."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), *(png_chunk(*chunk) for chunk in chunks)]
    parts.append(png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))))
    return b"".join([*parts, png_chunk(b"IEND", b"")])


def adam7(pixels: np.ndarray) -> bytes:
    """An interlaced PNG of RGB pixels, which Pillow reads and does not write."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::across] for top, left, down, across in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part if part.size)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def bmp(width: int, height: int, bits: int, pixels: bytes, compression: int = 0, palette: bytes = b"") -> bytes:
    """A BMP from packed rows, the lowest first unless the height is negative; rows are padded by the caller."""
    return _bmp(struct.pack("<IiiHH", 40, width, height, 1, bits), compression, len(palette) // 4, b"", palette, pixels)


def bmp_with_opacity(rgba: np.ndarray) -> bytes:
    """A BMP of version 4 that says which bits are which: uint8 (height, width, 4)."""
    height, width = rgba.shape[:2]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
    return _bmp(
        struct.pack("<IiiHH", 108, width, height, 1, 32), 3, 0, masks, b"", rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    )


def _bmp(info: bytes, compression: int, colours_used: int, more: bytes, palette: bytes, pixels: bytes) -> bytes:
    info += struct.pack("<IIiiII", compression, len(pixels), 2835, 2835, colours_used, 0) + more
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + palette + pixels


def tiff_from(tags: dict[int, tuple[str, list[int]]], data: bytes, order: str = "<", loop: bool = False) -> bytes:
    """A TIFF whose data start at byte 8, from tags {number: (struct's letter, values)}.

    With `loop`, the directory says that the next one is itself.
    """
    kinds = {"B": 1, "H": 3, "I": 4}
    data += b"\0" * (len(data) % 2)
    directory = 8 + len(data)
    entries, more = b"", b""
    for tag, (letter, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            where = struct.pack(f"{order}I", directory + 2 + 12 * len(tags) + 4 + len(more))
            more += packed
        else:
            where = packed.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", tag, kinds[letter], len(values)) + where
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count, following = struct.pack(f"{order}H", len(tags)), struct.pack(f"{order}I", directory if loop else 0)
    return mark + struct.pack(f"{order}I", directory) + data + count + entries + following + more


def tiff(
    values: bytes,
    width: int,
    height: int,
    bits: int,
    photometric: int = 1,
    sample_format: int = 1,
    order: str = "<",
    orientation: int = 1,
) -> bytes:
    """An uncompressed grey TIFF of one strip.

    Photometric 0: white is zero. Sample formats: 1 unsigned, 2 signed, 3 float.
    """
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 274: orientation, 277: 1, 278: height}
    tags |= {279: len(values), 339: sample_format}
    long = (256, 257, 273, 278, 279)
    return tiff_from({tag: ("I" if tag in long else "H", [value]) for tag, value in tags.items()}, values, order)


def scans(jpeg: bytes) -> list[tuple[int, int]]:
    """Where each scan of a JPEG starts and ends."""
    starts = [match.start() for match in re.finditer(rb"\xff\xda", jpeg)]
    return [(start, re.compile(rb"\xff[^\0\xd0-\xd7]").search(jpeg, start + 2).start()) for start in starts]  # type: ignore[union-attr]


def with_scans(jpeg: bytes, total: int) -> bytes:
    """A progressive JPEG whose second scan is repeated until there are `total`; its pixels stay the same."""
    found = scans(jpeg)
    start, end = found[1]
    return jpeg[:end] + jpeg[start:end] * (total - len(found)) + jpeg[end:]


def orientation_exif(orientation: int) -> bytes:
    """An EXIF block that says nothing but how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


# What EXIF 2.32 says of each orientation: where the stored picture's first row and first column are to be seen.
SHOWN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.transpose(1, 0, 2),  # left, top
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],  # right, top
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],  # left, bottom
}


def claims(width: int, height: int) -> dict[str, bytes]:
    """Files of a few bytes whose headers promise a picture of this size."""
    jpeg = encoded(Image.new("RGB", (8, 8)), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    gif = encoded(Image.new("P", (8, 8)), "GIF")
    bmp = encoded(Image.new("RGB", (8, 8)), "BMP")
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    webp = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas
    files = {
        "png": png(width, height, 8, 2, [b"\0" * 9]),
        "webp": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
        "tiff": tiff(b"\0" * 64, width, height, 8),
        "bmp": bmp[:18] + struct.pack("<ii", width, height) + bmp[26:],
    }
    if max(width, height) <= 65535:
        files["jpeg"] = jpeg[:frame] + struct.pack(">HH", height, width) + jpeg[frame + 4 :]
        files["gif"] = gif[:6] + struct.pack("<HH", width, height) + gif[10:]
    return files
