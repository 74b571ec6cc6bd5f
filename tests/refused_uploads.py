"""Files that are refused, and the reason for each: cut, damaged, bombs, and what is no picture of ours."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from made_pictures import (
    bmp,
    claims,
    colours,
    encoded,
    png,
    png_chunk,
    tiff,
    tiff_from,
    with_scans,
)
from PIL import Image
from upload_parts import (
    BLOCKS,
    GREY,
    HEIGHT,
    IMAGE,
    RGB,
    WIDTH,
    Refused,
    bad_filter,
    bgr_rows,
    cut_segment,
    insert_chunk,
    rgb_tiff,
)


def cut() -> list[Refused]:
    """Files that end too early."""
    found = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(Image.fromarray(colours(60, 90)), kind)
        for share in (5, 40, 90):
            found.append(Refused(f"{kind}, {share} % of it", data[: len(data) * share // 100], "damaged, cut short"))
    return found


def damaged() -> list[Refused]:
    """Files in which something is wrong."""
    whole = encoded(IMAGE, "PNG")
    wrong_checksum = bytearray(whole)
    wrong_checksum[len(whole) // 2] ^= 1
    webp = bytearray(encoded(IMAGE, "WEBP", lossless=True))
    webp[25:] = b"\xff" * len(webp[25:])
    data = "damaged, cut short"
    no_pixels = png(WIDTH, HEIGHT, 8, 2, [])
    return [
        Refused("PNG, one bit of its pixels", bytes(wrong_checksum), data),
        Refused("PNG, no pixels", no_pixels, data),
        Refused("PNG, rows missing", png(WIDTH, HEIGHT, 8, 2, [row.tobytes() for row in RGB[:9]]), data),
        Refused("PNG, no palette", png(WIDTH, HEIGHT, 8, 3, [row.tobytes() for row in GREY]), data),
        Refused("PNG, no such colour type", png(WIDTH, HEIGHT, 8, 5, [row.tobytes() for row in GREY]), data),
        Refused("PNG, 0 pixels wide", png(0, HEIGHT, 8, 2, [b""] * HEIGHT), ""),
        Refused("PNG, no such filter", bad_filter(), data),
        Refused("JPEG, no tables", cut_segment(encoded(Image.fromarray(BLOCKS), "JPEG"), b"\xff\xdb"), data),
        Refused("WebP, junk inside", bytes(webp), data),
        Refused("GIF, no frame", b"GIF89a" + struct.pack("<HH", 8, 8) + b"\0\0\0;", data),
        Refused("BMP, 0 high", bmp(WIDTH, 0, 24, b""), ""),
        Refused("BMP, no such compression", bmp(WIDTH, HEIGHT, 24, bgr_rows(RGB), 9), data),
        Refused("TIFF, pixels beyond the end", rgb_tiff(RGB.tobytes(), offset=10**6), data),
        Refused("TIFF, LAB", encoded(Image.fromarray(RGB, "LAB"), "TIFF"), "colours are LAB; save it as RGB"),
        Refused("PNG, a comment with a wrong checksum", insert_chunk(png_chunk(b"tEXt", b"a\0b")[:-1] + b"\0"), data),
        Refused("TIFF, 64-bit floats", tiff(bytes(8 * GREY.size), WIDTH, HEIGHT, 64, sample_format=3), data),
        Refused("TIFF, no such compression", rgb_tiff(RGB.tobytes(), compression=34712), data),
    ]


def bombs() -> list[Refused]:
    """Small files that promise much, refused before anybody makes room for it."""
    found = []
    for size, words in (
        ((60_000, 60_000), "at most 50 million are read"),
        ((7100, 7100), "7,100 x 7,100 pixels"),
        ((1, 10_000), "at most 100 times the other"),
    ):
        found += [Refused(f"{kind}, {size[0]} x {size[1]}", data, words, True) for kind, data in claims(*size).items()]
    progressive = encoded(Image.fromarray(BLOCKS), "JPEG", progressive=True)
    size = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    huge = png_chunk(b"IHDR", size + b"\x08\x02\0\0\0")
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))
    profile = png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(bytes(80_000_000), 9))
    tile = {256: ("I", [8]), 257: ("I", [8]), 258: ("H", [8]), 259: ("H", [8]), 262: ("H", [1]), 277: ("H", [1])}
    tile |= {322: ("I", [60_000]), 323: ("I", [60_000]), 324: ("I", [8]), 325: ("I", [64])}
    return [
        *found,
        Refused("PNG, as large as a PNG can be", b"\x89PNG\r\n\x1a\n" + huge, "", True),
        Refused("PNG, text of 80 MB", insert_chunk(text * 3), "damaged, cut short", True),
        Refused("PNG, cut behind a colour profile of 80 MB", insert_chunk(profile)[: 60 + len(profile)], "", True),
        Refused("JPEG, 65 scans", with_scans(progressive, 65), "more than 64 scans", True),
        Refused("JPEG, 20,000 scans", with_scans(progressive, 20_000), "more than 64 scans", True),
        Refused("TIFF, a tile of 60,000 x 60,000", tiff_from(tile, zlib.compress(bytes(64))), "", True),
    ]


def not_allowed() -> list[Refused]:
    """What is no picture of ours, by whatever name; each is told what to do with it."""
    ours = "upload a PNG, JPEG, WebP, GIF, BMP or TIFF file"
    archive = io.BytesIO()
    zipfile.ZipFile(archive, "w").close()
    jpeg = encoded(Image.fromarray(BLOCKS), "JPEG")
    eps = io.BytesIO()
    IMAGE.save(eps, "EPS")
    return [
        Refused("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "an SVG drawing"),
        Refused("SVG with XML in front", b"<?xml version='1.0'?>\n<!-- x -->\n<svg/>", "an SVG drawing"),
        Refused("web page", b"<!DOCTYPE html><script>alert(1)</script>", "a web page"),
        Refused("EPS", eps.getvalue(), "a PostScript drawing"),
        Refused("PDF", b"%PDF-1.7\n", "a PDF document"),
        Refused("PDF with a JPEG inside", b"%PDF-1.7\n" + jpeg, "a PDF document"),
        Refused("PSD", b"8BPS\0\x01" + bytes(20), "a Photoshop document"),
        Refused("ICO", encoded(IMAGE, "ICO"), "an icon"),
        Refused("HEIC", b"\0\0\0\x18ftypheic" + bytes(20), "a HEIC picture"),
        Refused("AVIF", b"\0\0\0\x18ftypavif" + bytes(20), "an AVIF picture"),
        Refused("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(20), "a JPEG 2000 picture"),
        Refused("JPEG XL", b"\xff\x0a" + bytes(20), "a JPEG XL picture"),
        Refused("camera's raw file", b"FUJIFILMCCD-RAW 0201", ours),
        Refused("DDS", encoded(IMAGE, "DDS"), ours),
        Refused("PPM", encoded(IMAGE, "PPM"), ours),
        Refused("PCX", encoded(IMAGE, "PCX"), ours),
        Refused("TGA", encoded(IMAGE, "TGA"), ours),
        Refused("SGI", encoded(IMAGE, "SGI"), ours),
        Refused("video", b"\0\0\0\x18ftypmp42" + bytes(20), "a video"),
        Refused("WebM", b"\x1aE\xdf\xa3" + bytes(20), "a video"),
        Refused("ZIP archive", archive.getvalue() or b"PK\x05\x06", "an archive"),
        Refused("gzip", b"\x1f\x8b\x08" + bytes(20), "an archive"),
        Refused("pickle", b"\x80\x04\x95\x10" + bytes(20), ours),
        Refused("program", b"\x7fELF\x02\x01\x01" + bytes(20), ours),
        Refused("text", b"just text", ours),
        Refused("zeros", bytes(5000), ours),
        Refused("base64 of a picture, as a form would send it", b"data:image/png;base64,iVBORw0KGgo=", ours),
    ]


REFUSED = [*cut(), *damaged(), *bombs(), *not_allowed()]
