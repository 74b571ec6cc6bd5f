"""Every picture is accepted with the right pixels or refused in a sentence, and a child that dies is one too."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checkout import ENVIRON
from made_pictures import (
    SHOWN,
    claims,
    colours,
    encoded,
    orientation_exif,
    png,
    png_chunk,
    scans,
    tiff,
    tiff_from,
    with_scans,
)
from PIL import Image
from tempo import limit

from hookscope.dashboard.inputs import decoder as decoder_module
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.child.decoding import Refused, decode
from hookscope.dashboard.inputs.decoder import Decoder, InputRefused


class Reader:
    """Decodes bytes as the child does and hands back what it wrote; refusals come from a real child."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.decoder = Decoder()

    def __call__(self, data: bytes) -> tuple[np.ndarray, SimpleNamespace]:
        source = self.folder / "upload"
        source.write_bytes(data)
        decoded = SimpleNamespace(**decode(source, source))
        with rows.picture(source.with_suffix(".rgb").read_bytes()) as image:
            assert image.mode == "RGB"
            assert image.size == (decoded.width, decoded.height)
            return np.asarray(image), decoded

    def refusal(self, data: bytes) -> str:
        source = self.folder / "upload"
        source.write_bytes(data)
        with pytest.raises(InputRefused) as caught:
            self.decoder.decode(source, source)
        sentence = str(caught.value)
        assert sentence[0].isupper() and sentence.endswith(".") and "Error" not in sentence and "\n" not in sentence
        return sentence


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"compress_level": 9}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ],
)
def test_every_lossless_format_keeps_every_pixel(read: Reader, kind: str, options: dict[str, object]) -> None:
    pixels = colours()
    found, decoded = read(encoded(Image.fromarray(pixels), kind, **options))
    assert np.array_equal(found, pixels)
    assert decoded.notes == []


def test_jpeg_and_lossy_webp_are_what_pillow_makes_of_them(read: Reader) -> None:
    smooth = Image.fromarray(colours(4, 6)).resize((60, 40), Image.Resampling.BICUBIC)
    for kind, options in (("JPEG", {"quality": 90}), ("JPEG", {"progressive": True}), ("WEBP", {"quality": 80})):
        data = encoded(smooth, kind, **options)
        (read.folder / "reference").write_bytes(data)
        with Image.open(read.folder / "reference") as reference:
            assert np.array_equal(read(data)[0], np.asarray(reference.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_in_every_format_that_has_one(read: Reader, orientation: int) -> None:
    stored = colours()
    expected = SHOWN[orientation](stored)
    exif = orientation_exif(orientation)
    image = Image.fromarray(stored)
    grey_values = stored[:, :, 0].astype("<u2") * 257
    grey = tiff(grey_values.tobytes(), 30, 20, 16, orientation=orientation)
    for data, target in (
        (encoded(image, "PNG", exif=exif), expected),
        (encoded(image, "WEBP", lossless=True, exact=True, exif=exif), expected),
        (encoded(image, "TIFF", exif=exif), expected),
        (grey, np.repeat(expected[:, :, :1], 3, axis=2)),
    ):
        found, decoded = read(data)
        assert np.array_equal(found, target)
        assert ("turned as its EXIF orientation says" in decoded.notes) == (orientation != 1)

    blocks = np.kron(colours(2, 3), np.ones((16, 16, 1), np.uint8))
    found, _ = read(encoded(Image.fromarray(blocks), "JPEG", quality=100, subsampling=0, exif=exif))
    difference = found.astype(int) - SHOWN[orientation](blocks)
    assert np.abs(difference).max() <= 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 40])
def test_damaged_exif_is_no_reason_to_refuse(read: Reader, exif: bytes) -> None:
    found, decoded = read(encoded(Image.new("RGB", (16, 8), (10, 20, 30)), "JPEG", quality=100, exif=exif))
    assert (decoded.width, decoded.height) == (16, 8)
    assert np.abs(found.astype(int) - [10, 20, 30]).max() <= 2


def test_sixteen_bit_grey_is_divided_by_257(read: Reader) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (values.astype(int) * 2 + 257) // 514  # v / 257, rounded
    rows = [row.astype(">u2").tobytes() for row in values]
    for data in (
        png(256, 256, 16, 0, rows),
        tiff(values.astype("<u2").tobytes(), 256, 256, 16),
        tiff(values.astype(">u2").tobytes(), 256, 256, 16, order=">"),
        tiff(values.astype("<u4").tobytes(), 256, 256, 32),
    ):
        found, decoded = read(data)
        assert np.array_equal(found[:, :, 0], expected)
        assert np.array_equal(found[:, :, 0], found[:, :, 2])
        assert decoded.notes[0] in ("16-bit grey, 0 to 65535 of 65535 used", "32-bit grey, 0 to 65535 scaled to 8 bits")
    found, _ = read(tiff(values.astype("<u2").tobytes(), 256, 256, 16, photometric=0))
    assert np.array_equal(found[:, :, 1], 255 - expected)


def test_twelve_bit_and_sixteen_bit_colours(read: Reader) -> None:
    # Two 12-bit values, 0x800 and 0xfff, in three bytes.
    found, decoded = read(tiff(b"\x80\x0f\xff", 2, 1, 12))
    assert found[0, :, 0].tolist() == [128, 255]
    assert decoded.notes == ["12-bit grey, 2048 to 4095 of 4095 used"]
    found, decoded = read(png(2, 1, 16, 2, [struct.pack(">6H", 0, 0x8080, 0xFFFF, 0x1234, 257, 514)]))
    assert found[0].tolist() == [[0, 128, 255], [18, 1, 2]]
    assert decoded.notes == ["16-bit colours, 0 to 65535 of 65535 used"]


COLOURS16 = np.random.default_rng(5).integers(0, 65536, (21, 34, 3)).astype(np.uint16)


def png16(*chunks: tuple[bytes, bytes], up: bool = False) -> bytes:
    """A PNG of these colours; with `up`, each row is written as what differs from the one above, as encoders do."""
    rows_of = [row.astype(">u2").tobytes() for row in COLOURS16]
    if not up:
        return png(34, 21, 16, 2, rows_of, *chunks)
    above = [bytes(34 * 6), *rows_of[:-1]]
    differs = [
        bytes((byte - other) & 255 for byte, other in zip(*pair, strict=True))
        for pair in zip(rows_of, above, strict=True)
    ]
    parts = [png_chunk(b"IHDR", struct.pack(">IIBBBBB", 34, 21, 16, 2, 0, 0, 0))]
    parts += [png_chunk(b"IDAT", zlib.compress(b"".join(b"\2" + row for row in differs))), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(order: str = "<", compression: int = 1, orientation: int = 1) -> bytes:
    data = COLOURS16.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    tags = {256: 34, 257: 21, 259: compression, 262: 2, 273: 8, 274: orientation, 277: 3, 278: 21, 279: len(data)}
    made = {tag: ("I" if tag in (256, 257, 273, 278, 279) else "H", [value]) for tag, value in tags.items()}
    return tiff_from({**made, 258: ("H", [16, 16, 16])}, data, order)


@pytest.mark.parametrize(
    ("data", "turned"),
    [
        (png16(), 0),
        (png16(up=True), 0),
        (png16((b"eXIf", orientation_exif(8))), 1),
        (tiff16(), 0),
        (tiff16(">"), 0),
        (tiff16(compression=8), 0),
        (tiff16(">", compression=8), 0),
        (tiff16(orientation=8), 1),
    ],
)
def test_colours_of_16_bits_keep_them(read: Reader, data: bytes, turned: int) -> None:
    found, decoded = read(data)
    right = np.rot90(COLOURS16, turned)
    exact = rows.exact((read.folder / "upload.rgb").read_bytes())
    assert exact is not None and np.array_equal(exact.values, right) and (exact.low, exact.high) == (0, 65535)
    assert np.array_equal(found, right >> 8)
    assert f"16-bit colours, {right.min()} to {right.max()} of 65535 used" in decoded.notes and not decoded.spread


@pytest.mark.parametrize(
    "data", [png16((b"tRNS", struct.pack(">3H", 1, 2, 3))), encoded(Image.new("RGB", (9, 9)), "PNG")]
)
def test_what_is_kept_of_other_colours_is_8_bits(read: Reader, data: bytes) -> None:
    _, decoded = read(data)
    assert rows.exact((read.folder / "upload.rgb").read_bytes()) is None
    assert decoded.notes in ([], ["16-bit colours cut to 8 bits"])


@pytest.mark.parametrize(
    ("values", "expected", "note"),
    [
        ([0.0, 0.5, 1.0, np.nan], [0, 128, 255, 0], "32-bit grey, 0 to 1 scaled to 8 bits"),
        ([0.0, 99.6, 255.0, np.inf], [0, 100, 255, 255], "32-bit grey, 0 to 255 scaled to 8 bits"),
        ([-100.0, 0.0, 300.0, -np.inf], [0, 64, 255, 0], "32-bit grey, -100 to 300 stretched to 8 bits"),
        ([-7.0] * 4, [0] * 4, "32-bit grey, -7 to -6 stretched to 8 bits"),
        ([np.nan] * 4, [0] * 4, "32-bit grey, 0 to 1 scaled to 8 bits"),
    ],
)
def test_float_tiff(read: Reader, values: list[float], expected: list[int], note: str) -> None:
    found, decoded = read(tiff(np.array(values, "<f4").tobytes(), 2, 2, 32, sample_format=3))
    assert found[:, :, 0].ravel().tolist() == expected
    assert decoded.notes == [note]


def test_signed_and_long_integers(read: Reader) -> None:
    found, decoded = read(tiff(np.array([-1000, 0, 1000, 3000], "<i2").tobytes(), 2, 2, 16, sample_format=2))
    assert found[:, :, 0].ravel().tolist() == [0, 64, 128, 255]
    assert decoded.notes == ["signed grey, -1000 to 3000 stretched to 8 bits"]
    found, _ = read(tiff(np.array([0, 7, 255, 128], "<u4").tobytes(), 2, 2, 32))
    assert found[:, :, 0].ravel().tolist() == [0, 7, 255, 128]


def test_transparency_is_drawn_over_white(read: Reader) -> None:
    pixels = np.dstack([colours(), np.tile(np.arange(0, 255, 8.5).astype(np.uint8), (20, 1))])
    alpha = pixels[:, :, 3:].astype(float) / 255
    expected = np.floor(pixels[:, :, :3] * alpha + 255 * (1 - alpha) + 0.5)
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        found, decoded = read(encoded(Image.fromarray(pixels), kind, **options))
        assert np.abs(found - expected).max() <= 1 and np.abs(found - expected).mean() < 0.05
        assert decoded.notes == ["transparency drawn over white"]

    grey = np.array([[[0, 0], [0, 255], [100, 0], [100, 255]]], np.uint8)
    found, _ = read(encoded(Image.fromarray(grey, "LA"), "PNG"))
    assert found[0, :, 0].tolist() == [255, 0, 255, 100]

    opaque = np.dstack([colours(), np.full((20, 30), 255, np.uint8)])
    found, decoded = read(encoded(Image.fromarray(opaque), "PNG"))
    assert np.array_equal(found, opaque[:, :, :3])
    assert decoded.notes == []


def test_one_colour_that_means_transparent(read: Reader) -> None:
    rgb = png(2, 1, 8, 2, [bytes([1, 2, 3, 4, 5, 6])], (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert read(rgb)[0][0].tolist() == [[255, 255, 255], [4, 5, 6]]
    grey8 = png(2, 1, 8, 0, [bytes([7, 9])], (b"tRNS", struct.pack(">H", 7)))
    assert read(grey8)[0][0, :, 0].tolist() == [255, 9]
    grey16 = png(3, 1, 16, 0, [struct.pack(">3H", 1000, 1001, 65535)], (b"tRNS", struct.pack(">H", 1000)))
    found, decoded = read(grey16)
    assert found[0, :, 0].tolist() == [255, 4, 255]
    assert decoded.notes == ["16-bit grey scaled to 8 bits", "transparency drawn over white"]
    grey2 = png(4, 1, 2, 0, [bytes([0b00011011])], (b"tRNS", struct.pack(">H", 1)))
    assert read(grey2)[0][0, :, 0].tolist() == [0, 255, 170, 255]
    grey4 = png(2, 1, 4, 0, [bytes([0x3F])], (b"tRNS", struct.pack(">H", 3)))
    assert read(grey4)[0][0, :, 0].tolist() == [255, 255]
    bilevel = png(8, 1, 1, 0, [bytes([0b10100000])], (b"tRNS", struct.pack(">H", 0)))
    assert read(bilevel)[0][0, :, 0].tolist() == [255] * 8
    wide = png(2, 1, 16, 2, [struct.pack(">6H", 1, 2, 3, 0x1234, 0, 0)], (b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert read(wide)[0][0].tolist() == [[255, 255, 255], [18, 0, 0]]


def test_palettes_bilevel_and_grey(read: Reader) -> None:
    table = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    palette = png(4, 1, 2, 3, [bytes([0b00011011])], (b"PLTE", table))
    assert read(palette)[0][0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]
    seen_through = png(4, 1, 2, 3, [bytes([0b00011011])], (b"PLTE", table), (b"tRNS", bytes([255, 0, 128])))
    assert read(seen_through)[0][0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 255], [9, 9, 9]]

    image = Image.fromarray(colours()).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(read(encoded(image, kind))[0], expected)
    bilevel = Image.fromarray(colours()[:, :, 0] > 127)
    grey = Image.fromarray(colours()[:, :, 0])
    for image in (bilevel, grey):
        for kind in ("PNG", "BMP", "TIFF"):
            assert np.array_equal(read(encoded(image, kind))[0], np.asarray(image.convert("RGB")))


def test_cmyk(read: Reader) -> None:
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [51, 0, 0, 102]]])
    blocks = np.kron(inks[0][None], np.ones((16, 16, 1))).astype(np.uint8)
    expected = (255 - blocks[:, :, :3].astype(float)) * (255 - blocks[:, :, 3:].astype(float)) / 255
    image = Image.fromarray(blocks, "CMYK")
    assert np.abs(read(encoded(image, "TIFF"))[0] - expected).max() <= 1
    jpeg = encoded(image, "JPEG", quality=100, subsampling=0)
    assert np.abs(read(jpeg)[0] - expected).max() <= 3

    # The same file said to be YCCK. Stored values are inverted: luma 100, no colour, no black ink is RGB 155.
    flat = Image.new("CMYK", (16, 16), (155, 127, 127, 0))
    ycck = encoded(flat, "JPEG", quality=100, subsampling=0)
    position = ycck.index(b"Adobe") + 11
    assert ycck[position] == 0
    found, _ = read(ycck[:position] + b"\x02" + ycck[position + 1 :])
    assert np.abs(found.astype(int) - 155).max() <= 2


def test_the_first_frame_and_how_many_there_are(read: Reader) -> None:
    frames = [Image.new("RGB", (8, 6), (10 * number, 200, 0)) for number in range(24)]
    rest = {"save_all": True, "append_images": frames[1:]}
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        found, decoded = read(encoded(frames[0], kind, **rest, **options))
        assert (found == [0, 200, 0]).all(), kind
        assert decoded.notes == ["first of 24 frames"], kind
    small = [Image.new("1", (1, 1), number % 2) for number in range(1100)]
    for kind in ("GIF", "TIFF"):
        _, decoded = read(encoded(small[0], kind, save_all=True, append_images=small[1:]))
        assert decoded.notes == ["first of 1000 or more frames"], kind
    # What a phone appends to a JPEG is no frame.
    _, decoded = read(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:2]))
    assert decoded.notes == []


def test_a_gif_that_is_transparent(read: Reader) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    found, _ = read(encoded(image, "GIF", transparency=1))
    assert found[0].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_digest_depends_on_pixels_and_size_alone(read: Reader) -> None:
    image = Image.fromarray(colours())
    digests = {read(encoded(image, kind))[1].digest for kind in ("PNG", "BMP", "TIFF")}
    assert len(digests) == 1
    flat = Image.new("RGB", (6, 4))
    assert read(encoded(flat, "PNG"))[1].digest != read(encoded(flat.resize((4, 6)), "PNG"))[1].digest


def test_the_preview_is_small_and_looks_the_same(read: Reader) -> None:
    wide = Image.fromarray(colours(5, 7)).resize((3001, 1999), Image.Resampling.BICUBIC)
    read(encoded(wide, "PNG"))
    with Image.open(read.folder / "upload.jpg") as preview:
        assert preview.size == (640, 426)
        reference = np.asarray(wide.resize((640, 426), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(np.asarray(preview) - reference).mean() < 2
    read(encoded(Image.new("RGB", (100, 1), (1, 2, 3)), "PNG"))
    with Image.open(read.folder / "upload.jpg") as preview:
        assert preview.size == (100, 1)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "bmp", "jpeg", "gif"])
def test_a_bomb_is_refused_in_under_a_second(read: Reader, kind: str) -> None:
    for (width, height), words in {
        (60_000, 60_000): "at most 50 million are read",
        (7100, 7100): "7,100 x 7,100 pixels",
        (1, 10_000): "at most 100 times the other",
        (10_000, 99): "at most 100 times the other",
    }.items():
        started = time.monotonic()
        assert words in read.refusal(claims(width, height)[kind])
        assert time.monotonic() - started < limit(1)


def test_the_largest_and_the_longest_picture_that_are_accepted(read: Reader) -> None:
    _, decoded = read(encoded(Image.new("1", (10_000, 5000)), "PNG"))
    assert (decoded.width, decoded.height) == (10_000, 5000)
    assert read(encoded(Image.new("1", (1000, 10)), "PNG"))[1].width == 1000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_that_is_cut_is_refused(read: Reader, kind: str) -> None:
    data = encoded(Image.fromarray(colours(60, 90)), kind)
    for share in (0.02, 0.3, 0.6, 0.9):
        assert read.refusal(data[: int(len(data) * share)])


def test_damaged_png_data_is_refused(read: Reader) -> None:
    data = bytearray(encoded(Image.fromarray(colours(60, 90)), "PNG"))
    data[len(data) // 2] ^= 1
    assert "damaged, cut short" in read.refusal(bytes(data))


def test_scan_bombs(read: Reader) -> None:
    image = Image.fromarray(colours(4, 6)).resize((60, 40))
    progressive = encoded(image, "JPEG", progressive=True)
    expected = read(progressive)[0]
    with_64 = with_scans(progressive, 64)
    assert len(scans(with_64)) == 64
    assert np.array_equal(read(with_64)[0], expected)
    assert "more than 64 scans" in read.refusal(with_scans(progressive, 65))
    assert "more than 64 scans" in read.refusal(with_scans(progressive, 5000))
    # Markers inside a thumbnail or a comment are not the picture's.
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 2 * 1000) + b"\xff\xda" * 1000
    assert np.array_equal(read(progressive[:2] + comment + progressive[2:])[0], expected)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html><script>alert(1)</script></html>", "a web page"),
        (b"  <html><body>x</body></html>", "a web page"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b"<svg/>", "an SVG drawing"),
        (b"%PDF-1.7", "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video"),
        (b"PK\x03\x04rest", "an archive"),
        (b"8BPS\0\x01", "a Photoshop document"),
        (b"just text", "upload a PNG, JPEG, WebP, GIF, BMP or TIFF file"),
        (b"\0" * 100, "upload a PNG, JPEG, WebP, GIF, BMP or TIFF file"),
        (b"P6 1 1 255 \0\0\0", "upload a PNG, JPEG, WebP, GIF, BMP or TIFF file"),
        (b"\x80\x04\x95\x10", "upload a PNG, JPEG, WebP, GIF, BMP or TIFF file"),
        (b"\x89PNG\r\n\x1a\n", "damaged, cut short"),
        (b"\xff\xd8\xff", "damaged, cut short"),
        (b"GIF89a", "damaged, cut short"),
        (b"BM", "damaged, cut short"),
        (b"II*\0", "damaged, cut short"),
        (b"RIFF\0\0\0\0WEBP", "damaged, cut short"),
    ],
)
def test_what_is_no_picture_is_named(read: Reader, data: bytes, words: str) -> None:
    assert words in read.refusal(data)


def test_a_picture_under_another_name_and_with_something_behind_it(read: Reader) -> None:
    # The decoder never sees the name; what follows the picture is never served, because only pixels are.
    pixels = colours()
    data = encoded(Image.fromarray(pixels), "PNG") + b"<script>alert(1)</script>"
    assert np.array_equal(read(data)[0], pixels)
    assert b"script" not in (read.folder / "upload.rgb").read_bytes()


def test_text_bombs_in_a_png_cost_nothing(read: Reader) -> None:
    bomb = b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    data = encoded(Image.fromarray(colours()), "PNG")
    started = time.monotonic()
    try:
        read(data[:33] + png_chunk(b"zTXt", bomb) * 20 + data[33:])
    except (Refused, ValueError) as error:
        assert error
    assert time.monotonic() - started < limit(2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "decoder crashed"),
        ("import os; os.abort()", "decoder crashed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "The system ended"),
        ("import os; os._exit(7)", "decoder crashed"),
        ("print('nonsense')", "could not be read"),
        ('print(\'{"digest": "../../x", "width": 1, "height": 1, "notes": []}\')', "could not be read"),
        ("while True: pass", "takes longer than 0.3 s"),
        ("import time; time.sleep(60)", "takes longer than 0.3 s"),
    ],
)
def test_whatever_happens_to_the_child_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    monkeypatch.setattr(decoder_module, "_START", body)
    monkeypatch.setattr(decoder_module, "_START_SECONDS", 0.5)
    (tmp_path / "upload").write_bytes(b"x")
    with pytest.raises(InputRefused, match=words):
        Decoder(timeout_seconds=0.3).decode(tmp_path / "upload", tmp_path / "upload")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps RLIMIT_DATA")
def test_memory_over_the_limit_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = "import hookscope.dashboard.inputs.child.decoding as d; d.MEMORY_BYTES = 100 * 2**20\n"
    monkeypatch.setattr(decoder_module, "_START", decoder_module._START.replace("sys.exit", smaller + "sys.exit"))
    (tmp_path / "upload").write_bytes(encoded(Image.new("RGB", (7000, 7000)), "PNG"))
    with pytest.raises(InputRefused, match="too much memory"):
        Decoder().decode(tmp_path / "upload", tmp_path / "upload")


def test_stopping_ends_the_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "_START", "import time; time.sleep(60)")
    (tmp_path / "upload").write_bytes(b"x")
    decoder = Decoder()
    refused: list[str] = []

    def decode() -> None:
        try:
            decoder.decode(tmp_path / "upload", tmp_path / "upload")
        except InputRefused as error:
            refused.append(str(error))

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert len(decoder._running) == 2  # the others wait for their turn
    started = time.monotonic()
    decoder.close()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < limit(1)
    assert len(refused) == 4 and all("stopping" in sentence for sentence in refused)
    assert not decoder._running


def test_a_full_queue_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder(at_once=1, queue_seconds=0.05)
    assert decoder._turns.acquire()
    with pytest.raises(InputRefused, match="try again in a minute") as caught:
        decoder.decode(tmp_path / "upload", tmp_path / "upload")
    assert caught.value.status == 503


def test_those_who_cannot_even_wait_are_told_at_once(tmp_path: Path) -> None:
    decoder = Decoder(at_once=1, waiting=1, queue_seconds=60)
    assert decoder._turns.acquire()  # one is read
    (tmp_path / "upload").write_bytes(encoded(Image.fromarray(colours()), "PNG"))
    decoded: list[int] = []
    threads = [
        threading.Thread(target=lambda: decoded.append(decoder.decode(tmp_path / "upload", tmp_path / "made").width))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    while decoder._places._value:  # type: ignore[attr-defined]
        time.sleep(0.01)
    started = time.monotonic()
    with pytest.raises(InputRefused, match="try again in a minute"):
        decoder.decode(tmp_path / "upload", tmp_path / "upload")
    assert time.monotonic() - started < limit(1)
    decoder._turns.release()
    for thread in threads:
        thread.join()
    assert decoded == [30, 30]


def test_the_child_runs_as_a_module_and_loads_nothing_large(tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(encoded(Image.fromarray(colours()), "PNG"))
    command = [sys.executable, "-X", "importtime", "-m", "hookscope.dashboard.inputs.child.decoding"]
    command += [str(tmp_path / "upload"), str(tmp_path / "made"), "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRON)
    assert json.loads(done.stdout)["width"] == 30
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"numpy", "torch", "flask", "dash"})
