"""What the tables of uploads are made of: the arrays behind the files, and files that no library writes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from made_pictures import bmp, colours, encoded, png, png_chunk, tiff_from
from PIL import Image

# What a file carries beside its pixels, and what may never come out again.
PAYLOAD = b"PAYLOAD<script>alert(1)</script>PAYLOAD"

RGB = colours()
HEIGHT, WIDTH = RGB.shape[:2]
GREY = RGB[:, :, 0]
ALPHA = np.tile(np.arange(0, 255, 8.5).astype(np.uint8), (HEIGHT, 1))
GREY16 = (GREY.astype(np.uint16) << 8) + RGB[:, :, 1]
INDEX = GREY % 4
TABLE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
BLOCKS = np.kron(colours(2, 3), np.ones((16, 16, 1), np.uint8))  # flat squares, which JPEG keeps
IMAGE = Image.fromarray(RGB)


@dataclass(frozen=True)
class Accepted:
    """A file, and the picture it has to become.

    Attributes:
        picture: uint8 (height, width, 3), or (height, width) for grey.
        within: the largest difference of a value that is right; 0 wherever the format keeps every value.
        note: a part of what the page has to say about it.
    """

    name: str
    data: bytes
    picture: np.ndarray
    within: int = 0
    note: str = ""


@dataclass(frozen=True)
class Refused:
    """A file, and a part of the sentence that refuses it. A bomb has to be refused in under a second."""

    name: str
    data: bytes
    reason: str
    bomb: bool = False


def over_white(colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    share = (opacity.astype(float) / 255)[..., None]
    return np.floor(colour * share + 255 * (1 - share) + 0.5).astype(np.uint8)


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of small whole numbers, packed from the highest bit."""
    wide = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    return [np.packbits(row.ravel()).tobytes() for row in wide]


def flat(colour: tuple[int, int, int], width: int = 32, height: int = 32) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def insert_chunk(chunk: bytes) -> bytes:
    """A PNG with something between its header and its pixels."""
    data = encoded(IMAGE, "PNG")
    return data[:33] + chunk + data[33:]


def many_idat(rows: list[bytes]) -> bytes:
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = b"".join(png_chunk(b"IDAT", pixels[start : start + 7]) for start in range(0, len(pixels), 7))
    data = png(WIDTH, HEIGHT, 8, 2, rows)
    return data[:33] + chunks + png_chunk(b"IEND", b"")


def bad_filter() -> bytes:
    pixels = zlib.compress(b"".join(b"\x09" + row.tobytes() for row in RGB))
    return png(WIDTH, HEIGHT, 8, 2, [])[:33] + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def cut_segment(jpeg: bytes, marker: bytes) -> bytes:
    """A JPEG without the segments of this kind."""
    while (start := jpeg.find(marker)) >= 0:
        jpeg = jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]
    return jpeg


def bgr_rows(pixels: np.ndarray) -> bytes:
    return b"".join(row[:, ::-1].tobytes() + b"\0" * (-3 * len(row) % 4) for row in pixels)


def bgrx_rows(pixels: np.ndarray) -> bytes:
    return np.dstack([pixels[::-1, :, ::-1], np.zeros(pixels.shape[:2], np.uint8)]).tobytes()


def rows_555() -> bytes:
    red, green, blue = (RGB[::-1, :, axis].astype("<u2") >> 3 for axis in range(3))
    return ((red << 10) | (green << 5) | blue).tobytes()


def scaled_555() -> np.ndarray:
    return (RGB >> 3).astype(int) * 255 // 31


def rle_bmp() -> bytes:
    """Every run is one pixel long, every row ends with its mark."""
    rows = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in INDEX[::-1])
    palette = np.dstack([TABLE[None, :, ::-1], np.zeros((1, 4, 1), np.uint8)]).tobytes()
    return bmp(WIDTH, HEIGHT, 8, rows + b"\0\x01", 1, palette)


def rgb_tiff(
    data: bytes,
    order: str = "<",
    bits: int = 8,
    extra: int = 0,
    planes: bool = False,
    offset: int = 8,
    compression: int = 1,
    loop: bool = False,
) -> bytes:
    """An RGB TIFF; `extra` says what a fourth value per pixel is, 1: opacity, with the colours multiplied by it."""
    values = 4 if extra else 3
    plane = len(data) // values
    starts = [offset + plane * number for number in range(values)] if planes else [offset]
    tags = {
        256: ("I", [WIDTH]),
        257: ("I", [HEIGHT]),
        258: ("H", [bits] * values),
        259: ("H", [compression]),
        262: ("H", [2]),
        273: ("I", starts),
        277: ("H", [values]),
        278: ("I", [HEIGHT]),
        279: ("I", [plane] * values if planes else [len(data)]),
        284: ("H", [2 if planes else 1]),
    } | ({338: ("H", [extra])} if extra else {})
    return tiff_from(tags, data, order, loop)


def gif_script() -> bytes:
    """A GIF of 10,799 x 200, which as a program is a name, a comment up to the payload, and an assignment."""
    red = Image.new("P", (0x2A2F, 200))
    red.putpalette([255, 0, 0] * 256)
    data = encoded(red, "GIF")
    assert data[:8] == b"GIF87a/*"
    return data + b"*/=1;" + PAYLOAD
