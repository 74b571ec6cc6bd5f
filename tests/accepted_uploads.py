"""Files that are pictures, and the picture that each has to become: worked out with numpy from what it was made of."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
from made_pictures import (
    SHOWN,
    adam7,
    bmp,
    bmp_with_opacity,
    encoded,
    orientation_exif,
    png,
    png_chunk,
    tiff,
)
from PIL import Image
from upload_parts import (
    ALPHA,
    BLOCKS,
    GREY,
    GREY16,
    HEIGHT,
    IMAGE,
    INDEX,
    PAYLOAD,
    RGB,
    TABLE,
    WIDTH,
    Accepted,
    bgr_rows,
    bgrx_rows,
    flat,
    gif_script,
    insert_chunk,
    many_idat,
    over_white,
    packed,
    rgb_tiff,
    rle_bmp,
    rows_555,
    scaled_555,
)


def plain() -> list[Accepted]:
    """Every format as its programs write it."""
    rows = [row.tobytes() for row in RGB]
    gif = Image.fromarray(INDEX, "P")
    gif.putpalette(TABLE.tobytes())
    lossless = [
        ("PNG", encoded(IMAGE, "PNG")),
        ("PNG, level 9", encoded(IMAGE, "PNG", compress_level=9)),
        ("PNG, interlaced", adam7(RGB)),
        ("PNG, pixels in many chunks", many_idat(rows)),
        ("PNG, wrong checksum of its colour profile", insert_chunk(png_chunk(b"iCCP", b"x\0\0" + b"junk"))),
        ("WebP, lossless", encoded(IMAGE, "WEBP", lossless=True, exact=True)),
        ("BMP", encoded(IMAGE, "BMP")),
        ("BMP, top row first", bmp(WIDTH, -HEIGHT, 24, bgr_rows(RGB))),
        ("BMP, 32 bits", bmp(WIDTH, HEIGHT, 32, bgrx_rows(RGB))),
        ("TIFF", encoded(IMAGE, "TIFF")),
        ("TIFF, LZW", encoded(IMAGE, "TIFF", compression="tiff_lzw")),
        ("TIFF, LZW with predictor", encoded(IMAGE, "TIFF", compression="tiff_lzw", tiffinfo={317: 2})),
        ("TIFF, Deflate", encoded(IMAGE, "TIFF", compression="tiff_adobe_deflate")),
        ("TIFF, PackBits", encoded(IMAGE, "TIFF", compression="packbits")),
        ("TIFF, strips of four rows", encoded(IMAGE, "TIFF", compression="tiff_lzw", tiffinfo={278: 4})),
        ("TIFF, big", encoded(IMAGE, "TIFF", big_tiff=True)),
        ("TIFF, big-endian", rgb_tiff(RGB.tobytes(), order=">")),
        ("TIFF, planes apart", rgb_tiff(RGB.transpose(2, 0, 1).tobytes(), planes=True)),
        ("TIFF, directories in a circle", rgb_tiff(RGB.tobytes(), loop=True)),
    ]
    found = [Accepted(name, data, RGB) for name, data in lossless]
    found += [
        Accepted("JPEG", encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, subsampling=0), BLOCKS, 3),
        Accepted(
            "JPEG, progressive",
            encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, subsampling=0, progressive=True),
            BLOCKS,
            3,
        ),
        Accepted("JPEG, grey", encoded(Image.fromarray(BLOCKS[:, :, 0]), "JPEG", quality=100), BLOCKS[:, :, 0], 2),
        Accepted(
            "JPEG, said to be RGB", encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, keep_rgb=True), BLOCKS, 2
        ),
        Accepted("WebP, lossy", encoded(Image.new("RGB", (32, 32), (90, 120, 60)), "WEBP"), flat((90, 120, 60)), 3),
        Accepted("GIF", encoded(gif, "GIF"), TABLE[INDEX]),
        Accepted("GIF, not interlaced", encoded(gif, "GIF", interlace=0), TABLE[INDEX]),
        Accepted("BMP, run-length encoded", rle_bmp(), TABLE[INDEX]),
        Accepted("BMP, 16 bits", bmp(WIDTH, HEIGHT, 16, rows_555()), scaled_555()),
    ]
    return found


def depths() -> list[Accepted]:
    """1 to 32 bits per value, whole numbers and others. 16 bits become 8 by value / 257."""
    rounded = (GREY16.astype(int) * 2 + 257) // 514
    be = [row.astype(">u2").tobytes() for row in GREY16]
    bilevel = (GREY > 127).astype(np.uint8)
    level4 = GREY >> 4
    grey_alpha = np.stack([GREY16, ALPHA.astype(np.uint16) * 257], -1)
    wide = np.stack([GREY16, GREY16[::-1], GREY16[:, ::-1]], -1)
    unit = GREY.astype("<f4") / 255
    spread = GREY.astype("<f4") * 2 - 100
    low, high = float(spread.min()), float(spread.max())
    stretched = np.floor((spread.astype(float) - low) / (high - low) * 255 + 0.5)
    holes = unit.copy()
    holes[0, :3] = [np.nan, np.inf, -np.inf]
    filled = GREY.copy()
    filled[0, :3] = [0, 255, 0]
    signed = GREY.astype("<i2") - 100
    signed_range = signed.astype(float) - signed.min()
    cut, scaled = "16-bit colours cut to 8 bits", "of 65535 used"
    return [
        Accepted("PNG, 1-bit grey", png(WIDTH, HEIGHT, 1, 0, packed(bilevel, 1)), bilevel * 255),
        Accepted("PNG, 2-bit grey", png(WIDTH, HEIGHT, 2, 0, packed(INDEX, 2)), INDEX * 85),
        Accepted("PNG, 4-bit grey", png(WIDTH, HEIGHT, 4, 0, packed(level4, 4)), level4 * 17),
        Accepted("PNG, 8-bit grey", encoded(Image.fromarray(GREY), "PNG"), GREY),
        Accepted("PNG, 16-bit grey", png(WIDTH, HEIGHT, 16, 0, be), rounded, note=scaled),
        Accepted(
            "PNG, 16-bit grey with opacity",
            png(WIDTH, HEIGHT, 16, 4, [row.astype(">u2").tobytes() for row in grey_alpha]),
            over_white(np.repeat(rounded[..., None], 3, -1), ALPHA),
            2,
            cut,
        ),
        Accepted(
            "PNG, 16-bit RGB",
            png(WIDTH, HEIGHT, 16, 2, [r.astype(">u2").tobytes() for r in wide]),
            wide >> 8,
            note=scaled,
        ),
        Accepted("TIFF, 16-bit grey", tiff(GREY16.astype("<u2").tobytes(), WIDTH, HEIGHT, 16), rounded, note=scaled),
        Accepted(
            "TIFF, 16-bit grey, big-endian",
            tiff(GREY16.astype(">u2").tobytes(), WIDTH, HEIGHT, 16, order=">"),
            rounded,
            note=scaled,
        ),
        Accepted(
            "TIFF, 16-bit grey, white is zero",
            tiff(GREY16.astype("<u2").tobytes(), WIDTH, HEIGHT, 16, photometric=0),
            255 - rounded,
            note=scaled,
        ),
        Accepted("TIFF, 8-bit grey, white is zero", tiff(GREY.tobytes(), WIDTH, HEIGHT, 8, photometric=0), 255 - GREY),
        Accepted("TIFF, 1 bit", encoded(Image.fromarray(bilevel * 255).convert("1"), "TIFF"), bilevel * 255),
        Accepted(
            "TIFF, 1 bit as a fax",
            encoded(Image.fromarray(bilevel * 255).convert("1"), "TIFF", compression="group4"),
            bilevel * 255,
        ),
        Accepted(
            "TIFF, 12-bit grey",
            tiff(b"\x80\x0f\xff", 2, 1, 12),
            np.array([[128, 255]]),
            note="of 4095 used",
        ),
        Accepted(
            "TIFF, 32-bit whole numbers",
            tiff(GREY.astype("<u4").tobytes(), WIDTH, HEIGHT, 32),
            GREY,
            note="0 to 255 scaled",
        ),
        Accepted(
            "TIFF, signed",
            tiff(signed.tobytes(), WIDTH, HEIGHT, 16, sample_format=2),
            np.floor(signed_range / signed_range.max() * 255 + 0.5),
            note="signed grey",
        ),
        Accepted(
            "TIFF, floats to 1", tiff(unit.tobytes(), WIDTH, HEIGHT, 32, sample_format=3), GREY, note="0 to 1 scaled"
        ),
        Accepted(
            "TIFF, floats to 255",
            tiff(GREY.astype("<f4").tobytes(), WIDTH, HEIGHT, 32, sample_format=3),
            GREY,
            note="0 to 255 scaled",
        ),
        Accepted(
            "TIFF, any floats",
            tiff(spread.tobytes(), WIDTH, HEIGHT, 32, sample_format=3),
            stretched,
            note="stretched to 8 bits",
        ),
        Accepted(
            "TIFF, floats that are none",
            tiff(holes.tobytes(), WIDTH, HEIGHT, 32, sample_format=3),
            filled,
            note="0 to 1 scaled",
        ),
        Accepted("TIFF, 16-bit RGB", rgb_tiff(wide.astype("<u2").tobytes(), bits=16), wide >> 8, note=scaled),
    ]


def colour_kinds() -> list[Accepted]:
    """Palettes, inks, opacity: whatever is not RGB."""
    half = np.dstack([RGB, ALPHA])
    premultiplied = np.dstack([(RGB * (ALPHA[..., None] / 255)).astype(np.uint8), ALPHA])
    grey_rgb = np.repeat(GREY[..., None], 3, -1)
    drawn = "transparency drawn over white"
    index = packed(INDEX, 2)
    opacity = np.array([255, 0, 128, 255], np.uint8)
    cmyk = np.dstack([BLOCKS, np.roll(BLOCKS[:, :, 0], 16, axis=1)])
    printed = (255 - cmyk[:, :, :3].astype(float)) * (255 - cmyk[:, :, 3:].astype(float)) / 255
    luma, blue, red = (RGB[:, :, axis].astype(float) for axis in range(3))
    ycc = np.stack(  # JFIF 1.02
        [
            luma + 1.402 * (red - 128),
            luma - 0.344136 * (blue - 128) - 0.714136 * (red - 128),
            luma + 1.772 * (blue - 128),
        ],
        -1,
    )
    keyed = RGB.copy()
    keyed[RGB[:, :, 0] == RGB[3, 4, 0]] = RGB[3, 4]
    see_through = (keyed == RGB[3, 4]).all(-1)
    gif = Image.fromarray(INDEX, "P")
    gif.putpalette(TABLE.tobytes())
    return [
        Accepted("PNG, palette", png(WIDTH, HEIGHT, 2, 3, index, (b"PLTE", TABLE.tobytes())), TABLE[INDEX]),
        Accepted("BMP, palette", encoded(gif, "BMP"), TABLE[INDEX]),
        Accepted("TIFF, palette", encoded(gif, "TIFF"), TABLE[INDEX]),
        Accepted(
            "PNG, palette with opacity",
            png(WIDTH, HEIGHT, 2, 3, index, (b"PLTE", TABLE.tobytes()), (b"tRNS", opacity.tobytes())),
            over_white(TABLE[INDEX], opacity[INDEX]),
            1,
            drawn,
        ),
        Accepted(
            "GIF, one colour transparent",
            encoded(gif, "GIF", transparency=1),
            np.where((INDEX == 1)[..., None], 255, TABLE[INDEX]),
            0,
            drawn,
        ),
        Accepted("PNG, RGBA", encoded(Image.fromarray(half), "PNG"), over_white(RGB, ALPHA), 1, drawn),
        Accepted(
            "PNG, RGBA and nothing to see",
            encoded(Image.fromarray(half * np.uint8([1, 1, 1, 0])), "PNG"),
            flat((255, 255, 255), WIDTH, HEIGHT),
            0,
            drawn,
        ),
        Accepted("PNG, RGBA and opaque", encoded(IMAGE.convert("RGBA"), "PNG"), RGB),
        Accepted(
            "WebP, RGBA",
            encoded(Image.fromarray(half), "WEBP", lossless=True, exact=True),
            over_white(RGB, ALPHA),
            1,
            drawn,
        ),
        Accepted("TIFF, RGBA", encoded(Image.fromarray(half), "TIFF"), over_white(RGB, ALPHA), 1, drawn),
        Accepted(
            "TIFF, colours multiplied by opacity",
            rgb_tiff(premultiplied.tobytes(), extra=1),
            over_white(RGB, ALPHA),
            4,
            drawn,
        ),
        Accepted("BMP, opacity", bmp_with_opacity(half), over_white(RGB, ALPHA), 1, drawn),
        Accepted(
            "PNG, grey with opacity",
            encoded(Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), "PNG"),
            over_white(grey_rgb, ALPHA),
            1,
            drawn,
        ),
        Accepted(
            "PNG, one RGB colour transparent",
            png(WIDTH, HEIGHT, 8, 2, [row.tobytes() for row in keyed], (b"tRNS", struct.pack(">3H", *RGB[3, 4]))),
            np.where(see_through[..., None], 255, keyed),
            0,
            drawn,
        ),
        Accepted(
            "PNG, one grey transparent",
            png(WIDTH, HEIGHT, 8, 0, [row.tobytes() for row in GREY], (b"tRNS", struct.pack(">H", GREY[3, 4]))),
            np.where(GREY[3, 4] == GREY, 255, GREY),
            0,
            drawn,
        ),
        Accepted(
            "PNG, one 16-bit grey transparent",
            png(
                WIDTH,
                HEIGHT,
                16,
                0,
                [row.astype(">u2").tobytes() for row in GREY16],
                (b"tRNS", struct.pack(">H", GREY16[3, 4])),
            ),
            np.where(GREY16[3, 4] == GREY16, 255, (GREY16.astype(int) * 2 + 257) // 514),
            0,
            drawn,
        ),
        Accepted("JPEG, CMYK", encoded(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=100, subsampling=0), printed, 4),
        Accepted("TIFF, CMYK", encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"), printed, 1),
        Accepted("TIFF, YCbCr", encoded(Image.fromarray(RGB, "YCbCr"), "TIFF"), np.clip(ycc, 0, 255), 2),
        Accepted(
            "TIFF, JPEG inside", encoded(Image.fromarray(BLOCKS), "TIFF", compression="jpeg", quality=100), BLOCKS, 4
        ),
    ]


def orientations() -> list[Accepted]:
    """How the camera was held, for every format that says it: rows and columns as EXIF 2.32 has them."""
    found = []
    for number, turn in SHOWN.items():
        exif = orientation_exif(number)
        note = "turned as its EXIF orientation says" if number > 1 else ""
        jpeg = encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, subsampling=0, exif=exif)
        found += [
            Accepted(f"PNG, orientation {number}", encoded(IMAGE, "PNG", exif=exif), turn(RGB), 0, note),
            Accepted(
                f"WebP, orientation {number}", encoded(IMAGE, "WEBP", lossless=True, exif=exif), turn(RGB), 0, note
            ),
            Accepted(f"TIFF, orientation {number}", encoded(IMAGE, "TIFF", exif=exif), turn(RGB), 0, note),
            Accepted(f"JPEG, orientation {number}", jpeg, turn(BLOCKS), 3, note),
        ]
    found += [
        Accepted(f"PNG, orientation {number} is none", encoded(IMAGE, "PNG", exif=orientation_exif(number)), RGB)
        for number in (0, 9, 65535)
    ]
    junk = encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0MM\0*" + b"\xff" * 9)
    return [*found, Accepted("JPEG, EXIF of junk", junk, BLOCKS, 3)]


def animated() -> list[Accepted]:
    """The first frame, and how many there are."""
    frames = [Image.new("RGB", (32, 32), (10 * number, 200, 0)) for number in range(24)]
    rest = {"save_all": True, "append_images": frames[1:]}
    first = flat((0, 200, 0))
    note = "first of 24 frames"
    return [
        Accepted("GIF, animated", encoded(frames[0], "GIF", **rest), first, 0, note),
        Accepted("GIF, animated without pauses", encoded(frames[0], "GIF", duration=0, **rest), first, 0, note),
        Accepted("WebP, animated", encoded(frames[0], "WEBP", lossless=True, **rest), first, 0, note),
        Accepted("PNG, animated", encoded(frames[0], "PNG", **rest), first, 0, note),
        Accepted("TIFF, of many pages", encoded(frames[0], "TIFF", **rest), first, 0, note),
        Accepted("JPEG with another behind it, as phones make", encoded(frames[0], "MPO", **rest), first, 3),
    ]


def polyglots() -> list[Accepted]:
    """Pictures that are something else as well; only the picture may come out."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("payload.html", PAYLOAD)
    exif = Image.Exif()
    exif[0x010E] = PAYLOAD.decode()
    jpeg = encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, subsampling=0)
    comment = b"\xff\xfe" + struct.pack(">H", len(PAYLOAD) + 11) + b"%PDF-1.4\n" + PAYLOAD
    return [
        Accepted("PNG and ZIP archive", encoded(IMAGE, "PNG") + archive.getvalue(), RGB),
        Accepted("PNG and web page", encoded(IMAGE, "PNG") + b"<html>" + PAYLOAD, RGB),
        Accepted("PNG with text", insert_chunk(png_chunk(b"tEXt", b"Comment\0" + PAYLOAD)), RGB),
        Accepted("PNG with a private chunk", insert_chunk(png_chunk(b"prVt", PAYLOAD)), RGB),
        Accepted("PNG with EXIF text", encoded(IMAGE, "PNG", exif=exif.tobytes()), RGB),
        Accepted(
            "PNG whose palette is a program",
            png(WIDTH, HEIGHT, 8, 2, [r.tobytes() for r in RGB], (b"PLTE", PAYLOAD)),
            RGB,
        ),
        Accepted("GIF and JavaScript", gif_script(), flat((255, 0, 0), 0x2A2F, 200)),
        Accepted("JPEG and PDF", jpeg[:2] + comment + jpeg[2:], BLOCKS, 3),
        Accepted("JPEG and web page", jpeg + b"<html>" + PAYLOAD, BLOCKS, 3),
        Accepted(
            "JPEG with EXIF text",
            encoded(Image.fromarray(BLOCKS), "JPEG", quality=100, subsampling=0, exif=exif.tobytes()),
            BLOCKS,
            3,
        ),
        Accepted("WebP with XMP", encoded(IMAGE, "WEBP", lossless=True, xmp=PAYLOAD), RGB),
        Accepted("BMP and JavaScript", encoded(IMAGE, "BMP") + b"*/=1;" + PAYLOAD, RGB),
        Accepted("TIFF with a description", encoded(IMAGE, "TIFF", description=PAYLOAD.decode()), RGB),
    ]


ACCEPTED = [*plain(), *depths(), *colour_kinds(), *orientations(), *animated(), *polyglots()]
