"""Pictures for the tests, made byte by byte where Pillow cannot write what a camera, a scanner or an attacker can."""

from __future__ import annotations

import io
import re
import struct
import zlib
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
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (274, 3, orientation),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(values)),
        (339, 3, sample_format),
    ]
    values += b"\0" * (len(values) % 2)
    entries = b""
    for tag, kind, value in tags:
        entries += struct.pack(f"{order}HHI", tag, kind, 1)
        entries += struct.pack(f"{order}I", value) if kind == 4 else struct.pack(f"{order}HH", value, 0)
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", 8 + len(values)) + values + directory


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
