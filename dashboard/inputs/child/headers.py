"""What a picture's bytes say about themselves, read before any decoder sees them.

A header may promise more than a decoder should be asked for: a canvas of gigabytes, thousands of scans. Nothing here
allocates more than the bytes it is given, and every loop ends after a fixed number of steps.
"""

from __future__ import annotations

import mmap
import re
import zlib

Data = bytes | mmap.mmap

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"\x93NUMPY", "NPY"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_OTHER_KINDS = (
    (re.compile(rb"ftyp(heic|heix|hevc|mif1|msf1)"), "a HEIC picture; save it as JPEG"),
    (re.compile(rb"ftypavi[fs]"), "an AVIF picture; save it as PNG or JPEG"),
    (re.compile(rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", re.S), "a video; save one frame of it as PNG or JPEG"),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml|<!--).*<svg|(\xef\xbb\xbf)?\s*<svg", re.S | re.I),
        "an SVG drawing; export it as PNG",
    ),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|script)", re.I),
        "a web page; save the picture itself, not the page around it",
    ),
    (re.compile(rb"%PDF"), "a PDF document; export the page as PNG"),
    (re.compile(rb"8BPS"), "a Photoshop document; export it as PNG"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 picture; save it as JPEG or PNG"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL picture; save it as JPEG or PNG"),
    (re.compile(rb"%!PS|\xc5\xd0\xd3\xc6"), "a PostScript drawing; export it as PNG"),
    (re.compile(rb"\0\0[\1\2]\0[^\0]\0"), "an icon; save it as PNG"),
    (
        re.compile(rb"PK(\x03\x04|\x05\x06)|\x1f\x8b|7z\xbc\xaf|Rar!"),
        "an archive; unpack it, choose one picture or array",
    ),
)
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.S)
_JPEG_SEGMENTS = 20_000
_PNG_CHUNKS = 100_000
_GIF_BLOCKS = 100_000
_INFLATED_BYTES = 2**16
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def kind(head: bytes) -> str | None:
    """The format that the first bytes announce: "PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "NPY", or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def guess(head: bytes) -> str | None:
    """What a file that is no picture of ours seems to be, and what to do with it; None if it says nothing."""
    for pattern, what in _OTHER_KINDS:
        if pattern.match(head) or (what.startswith(("a HEIC", "an AVIF")) and pattern.match(head, 4)):
            return what
    return None


def is_npz(data: Data) -> bool:
    """Whether a zip archive is one of NumPy's: its first member's name says so."""
    length = int.from_bytes(data[26:28], "little")
    return data[30 : 30 + min(length, 1000)].endswith(b".npy")


def webp_size(head: bytes) -> tuple[int, int] | None:
    """(width, height) of the canvas. Pillow allocates it twice while it opens the file, so it is checked before."""
    chunk = head[12:16]
    if chunk == b"VP8X" and len(head) >= 30:
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if chunk == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and len(head) >= 30:
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def jpeg_scans(data: Data, limit: int) -> int:
    """How many scans a JPEG holds up to its end-of-image marker, counted to `limit` + 1 at most.

    A progressive JPEG may repeat scans at will, and each costs a pass over all its pixels: 50 KB can hold minutes.
    """
    scans = 0
    position = 2
    for _ in range(_JPEG_SEGMENTS):
        # Inside a scan 0xff is followed by 0 (a stuffed byte) or a restart marker; what else follows is a segment.
        found = _JPEG_MARKER.search(data, position)
        if found is None or found[1] == b"\xd9":
            return scans
        scans += found[1] == b"\xda"
        if scans > limit:
            return scans
        position = found.end()
        if found[1] not in (b"\x01", b"\xd8"):
            position += int.from_bytes(data[position : position + 2], "big")
    return limit + 1


def png_is_whole(data: Data) -> bool:
    """Whether the chunks that make a PNG's pixels are there, with the checksums they carry.

    Pillow skips the checksums of the pixels, and shows a palette's numbers as grey where the palette is missing.
    """
    position = 8
    ended = False
    coloured = data[25:26] != b"\3"  # as the header says; 3 needs a palette
    for _ in range(_PNG_CHUNKS):
        name = data[position + 4 : position + 8]
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if len(name) < 4:
            return ended
        # A capital first letter: needed for the pixels.
        if name[:1].isupper() or name == b"tRNS":
            with memoryview(data) as view, view[position + 4 : end] as chunk:
                checksum = zlib.crc32(chunk)
            if data[end : end + 4] != checksum.to_bytes(4, "big"):
                return False
        coloured |= name == b"PLTE"
        if name == b"IDAT" and not coloured:
            return False
        if name == b"IEND":
            return True
        ended = name == b"IDAT"
        position = end + 4
    return False


def png_has_all_rows(data: Data) -> bool:
    """Whether the pixels of a whole PNG, once inflated, are as many as its header says."""
    width, height = (int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    bits, colour, interlaced = data[24], data[25], data[28]
    depth = bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    wanted = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-max(0, width - left) // across), -(-max(0, height - top) // down)
        wanted += rows * (1 + (columns * depth + 7) // 8) if columns else 0
    inflate = zlib.decompressobj()
    position = 8
    while wanted > 0 and len(name := data[position + 4 : position + 8]) == 4:
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        rest = data[position + 8 : end] if name == b"IDAT" else b""
        while wanted > 0 and (made := inflate.decompress(rest, _INFLATED_BYTES)):
            wanted -= len(made)
            rest = inflate.unconsumed_tail
        position = end + 4
    return wanted <= 0


def gif_frames(data: Data, limit: int) -> int:
    """How many frames a GIF holds, counted to `limit` at most; Pillow would seek through all of them."""
    frames = 0
    position = 13 + _gif_colours(data[10:11])
    for _ in range(_GIF_BLOCKS):
        block = data[position : position + 1]
        if block == b"!":
            position = _gif_skip(data, position + 2)
        elif block == b",":
            frames += 1
            if frames >= limit:
                return frames
            position = _gif_skip(data, position + 11 + _gif_colours(data[position + 9 : position + 10]))
        else:
            return frames
    return frames


def _gif_colours(flags: bytes) -> int:
    """The size of the colour table that a descriptor announces."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _gif_skip(data: Data, position: int) -> int:
    """Where the chain of sub-blocks that starts here ends."""
    size = len(data)
    while position < size and (length := data[position]):
        position += length + 1
    return position + 1
