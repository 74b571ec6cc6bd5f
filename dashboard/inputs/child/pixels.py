"""From whatever mode Pillow decodes to plain RGB: orientation, transparency, 16 bits, CMYK, palettes.

Everything works in bands of rows, so that a picture of 50 megapixels lies in memory once as its decoder left it and
never again as a copy. Runs in the decoding child.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image, ImageFile

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.child import headers

if TYPE_CHECKING:
    import numpy as np

PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff"}
_BAND_PIXELS = 2**20
MOST_PAGES, MOST_VALUES = 16, 50_000_000  # of a TIFF whose pages are channels
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SAMPLE_FORMAT = 258, 262, 339


class Unreadable(Exception):
    """The picture decodes, and its colours cannot be turned into RGB; the text says what to do."""


class Picture:
    """A decoded picture, and how its values become 8-bit RGB.

    Attributes:
        width, height: as a person sees it, the orientation applied.
        notes: what was done to the pixels, in words for the page.
        frames: how many there are, of which this is the first; counted up to a limit. turned: by its orientation.
        channels: of what the network gets where that is more than the 8 bits that are shown; else 0.
    """

    either = False  # its axes are known

    def __init__(self, source: Path, kind: str, check_size: Callable[[int, int], None], count_frames: int) -> None:
        importlib.import_module(f"PIL.{PLUGINS[kind]}ImagePlugin")
        self.notes: list[str] = []
        # Opened by us and not by name: an uncompressed TIFF that has a name is mapped into memory by Pillow 13, which
        # then reads one with an orientation of 5 to 8 with width and height exchanged.
        with source.open("rb") as file:
            image: Image.Image = Image.open(file, formats=(kind,))
            check_size(*image.size)
            self.frames = _frames(image, source, kind, count_frames)
            if self.frames > 1:
                self.notes.append(f"first of {self.frames}{' or more' * (self.frames >= count_frames)} frames")
            # Before loading for a TIFF, which Pillow turns then; after it for the others: a PNG's EXIF may stand behind
            # its pixels, and asking for it loads them, where a damaged file would go unnoticed.
            orientation = _orientation(image) if kind == "TIFF" else 1
            packed = _packed_as(image)
            self._bits = 16 if ";16" in packed else _tiff_bits(image) if kind == "TIFF" else 8
            self._signed = kind == "TIFF" and _tag(image, _TIFF_SAMPLE_FORMAT) == (2,)
            self._inverted = kind == "TIFF" and image.mode[0] in "IF" and _tag(image, _TIFF_PHOTOMETRIC) == (0,)
            if kind == "WEBP":
                _let_webp_canvases_go(image)
            image.load()
            if kind == "PNG" and _ends_blank(image) and not _has_all_rows(source):
                raise OSError("rows are missing")
            if kind != "TIFF":
                orientation = _orientation(image)
        self.turned = orientation in _TURNS
        if self.turned:
            if kind != "TIFF":
                image = image.transpose(_TURNS[orientation])
            self.notes.append("turned as its EXIF orientation says")
        if image.mode in ("LAB", "HSV"):
            raise Unreadable(f"This picture's colours are {image.mode}; save it as RGB and upload that.")
        self._image = image
        self._lower: Image.Image | None = None
        self._transparent = _transparent(image.info.get("transparency"), packed)
        if self._transparent is not None:
            image.info["transparency"] = self._transparent
        self._low, self._high = self._range()
        self.width, self.height = image.size
        self.spread, self.channels = False, 0
        if self._is_grey16(image.mode) and self._bits > 8 and self._transparent is None:
            self._use_all_bits()
        if image.mode == "RGB" and self._bits == 16 and self._transparent is None:
            self._use_lower_bytes(source, kind, orientation)

    def bands(self, multiple_of: int) -> Iterator[tuple[int, Image.Image]]:
        """The picture as RGB bands from the top, each (first row, band), a multiple of so many rows high."""
        rows = max(1, _BAND_PIXELS // self.width // multiple_of) * multiple_of
        seen_through = False
        for top in range(0, self.height, rows):
            band = self._image.crop((0, top, self.width, min(top + rows, self.height)))
            rgb, mask = self._rgb(band)
            if mask is not None and mask.getextrema()[0] != 255:
                seen_through = True
                white = Image.new("RGB", rgb.size, (255, 255, 255))
                white.paste(rgb, mask=mask)
                rgb = white
            yield top, rgb
        if seen_through:
            self.notes.append("transparency drawn over white")

    def _use_all_bits(self) -> None:
        """Grey of more than 8 bits: the network gets all of them, and a person is told how much of the range is used.

        What is kept of it is the numbers as they count: where white is 0 in the file, they are turned.
        """
        found, high = _finite_extremes(self._image)
        least, most = int(found), int(high)
        top = 2**self._bits - 1
        if self._inverted:
            least, most = top - most, top - least
        self.channels = 1
        self.notes[-1] = f"{self._bits}-bit grey, {least} to {most} of {top} used"
        self.spread = 0 < most - least < top / 2

    def _use_lower_bytes(self, source: Path, kind: str, orientation: int) -> None:
        """Colours of 16 bits: the network gets all of them, but of pictures that are too large to be kept so."""
        from hookscope.dashboard.inputs.child import wide  # which takes numpy, that most pictures do not need

        if self.width * self.height * 3 > MOST_VALUES or (lower := wide.read_lower(source, kind)) is None:
            return
        self._lower = lower.transpose(_TURNS[orientation]) if orientation in _TURNS and kind != "TIFF" else lower
        ends = [(int(band.min()), int(band.max())) for band in wide.bands(self._image, self._lower)]
        least, most = min(low for low, _ in ends), max(high for _, high in ends)
        self.channels = 3
        self.notes[-1] = f"16-bit colours, {least} to {most} of {wide.TOP} used"
        self.spread = 0 < most - least < wide.TOP / 2

    def exact(self) -> Iterator[bytes]:
        """What the network gets where that is more than the 8 bits that are shown, as `rows` has it."""
        if self._lower is not None:
            from hookscope.dashboard.inputs.child import wide

            yield rows.exact_head(3, "<u2", 0.0, float(wide.TOP))
            for values in wide.bands(self._image, self._lower):
                yield values.astype("<u2").tobytes()
            return
        if not self._is_grey16(self._image.mode) or self._bits <= 8 or self._transparent is not None:
            return
        import numpy as np

        top = 2**self._bits - 1
        yield rows.exact_head(1, "<u2", 0.0, float(top))
        step = max(1, _BAND_PIXELS // self.width)
        for first in range(0, self.height, step):
            band = _values(self._image.crop((0, first, self.width, min(first + step, self.height))))
            values = top - band.astype(np.int64) if self._inverted else band
            yield np.ascontiguousarray(values.astype("<u2")).tobytes()

    def _rgb(self, band: Image.Image) -> tuple[Image.Image, Image.Image | None]:
        """A band's colours, and its opacity (mode "L") if it may have one."""
        mode = band.mode
        if self._is_grey16(mode):
            return self._grey16(band)
        if mode in ("I", "F"):
            return self._grey32(band), None
        if mode in ("La", "RGBa"):  # colours multiplied by the opacity
            band = band.convert("LA" if mode == "La" else "RGBA")
        if band.mode in ("LA", "PA", "RGBA") or self._transparent is not None:
            if band.mode == "1":
                band = band.convert("L")
                band.info["transparency"] = self._transparent
            rgba = band.convert("RGBA")
            return rgba.convert("RGB"), rgba.getchannel("A")
        return band.convert("RGB"), None

    def _is_grey16(self, mode: str) -> bool:
        return mode.startswith("I;16") or (mode == "I" and self._bits <= 16 and not self._signed)

    def _grey16(self, band: Image.Image) -> tuple[Image.Image, Image.Image | None]:
        """Whole numbers below 2**bits. Pillow's own conversion cuts at 255, which turns mid-grey white."""
        scale = 255 / (2**self._bits - 1)
        mask = None
        if isinstance(self._transparent, int):
            import numpy as np

            mask = Image.fromarray(np.where(_values(band) == self._transparent, 0, 255).astype(np.uint8))
        grey = band.convert("I").point(lambda value: value * scale + 0.5).convert("L")
        return self._finish(grey), mask

    def _grey32(self, band: Image.Image) -> Image.Image:
        import numpy as np

        values = np.nan_to_num(_values(band).astype(np.float64), nan=self._low, posinf=self._high, neginf=self._low)
        scaled = np.clip((values - self._low) / (self._high - self._low) * 255, 0, 255)
        return self._finish(Image.fromarray(np.floor(scaled + 0.5).astype(np.uint8)))

    def _finish(self, grey: Image.Image) -> Image.Image:
        if self._inverted:
            grey = grey.point([255 - level for level in range(256)])
        return grey.convert("RGB")

    def _range(self) -> tuple[float, float]:
        """The values that become black and white, where the mode alone does not say."""
        image, bits = self._image, self._bits
        if self._is_grey16(image.mode):
            self.notes.append(f"{bits}-bit grey scaled to 8 bits")
            return 0.0, float(2**bits - 1)
        if image.mode not in ("I", "F"):
            if bits > 8:
                self.notes.append(f"{bits}-bit colours cut to 8 bits")
            return 0.0, 255.0
        low, high = _finite_extremes(image)
        usual = (1.0, 255.0) if image.mode == "F" else (255.0, 65535.0)
        what = "signed grey" if self._signed and image.mode == "I" else f"{bits}-bit grey"
        white = next((white for white in usual if low >= 0 and high <= white), None)
        if white is not None:
            self.notes.append(f"{what}, 0 to {white:g} scaled to 8 bits")
            return 0.0, white
        self.notes.append(f"{what}, {low:g} to {high:g} stretched to 8 bits")
        return low, high


class Source(Protocol):
    """What can be written: a picture that was decoded, an array, or what was written before."""

    width: int
    height: int

    def bands(self, multiple_of: int) -> Iterator[tuple[int, Image.Image]]: ...
    def exact(self) -> Iterator[bytes]: ...


def write(picture: Source, target: Path, preview_longer_side: int) -> str:
    """Write every pixel to `target`.rgb and a small copy to `target`.jpg.

    Returns:
        SHA-256 of the size, the pixels and what stands behind them, hexadecimal.
    """
    width, height = picture.width, picture.height
    digest = hashlib.sha256(f"{width} {height} RGB ".encode())
    factor = max(1, max(width, height) // (2 * preview_longer_side))
    small = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    with target.with_suffix(rows.SUFFIX).open("wb") as file:
        file.write(rows.head(width, height))
        for top, band in picture.bands(multiple_of=factor):
            data = band.tobytes()
            digest.update(data)
            file.write(data)
            small.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
        for data in picture.exact():
            digest.update(data)
            file.write(data)
    small.thumbnail((preview_longer_side, preview_longer_side), Image.Resampling.LANCZOS)
    small.save(target.with_suffix(".jpg"), "JPEG", quality=92, subsampling=0)
    return digest.hexdigest()


def _let_webp_canvases_go(image: Any) -> None:
    """Have the decoder's two canvases freed as soon as the first frame is out, before Pillow makes room for its copy.

    libwebp's decoder of animations keeps the frame and the one before it, 4 bytes per pixel each, for still pictures
    too: at 50 megapixels the child took 785 MB where 600 do. `load_prepare` is the plugin's step between the two.
    """
    prepare = image.load_prepare

    def let_go_and_prepare() -> None:
        image._decoder = None
        prepare()

    image.load_prepare = let_go_and_prepare


def _ends_blank(image: Image.Image) -> bool:
    """Whether one of the last two rows is all zeros: Pillow leaves rows so that a PNG's data do not reach."""
    rows = range(max(0, image.height - 2), image.height)  # the odd ones are the last pass of an interlaced picture
    return any(not any(image.crop((0, row, image.width, row + 1)).tobytes()) for row in rows)


def _has_all_rows(source: Path) -> bool:
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return headers.png_has_all_rows(data)


def grey_pages(source: Path, check_size: Callable[[int, int], None]) -> list[Image.Image]:
    """The pages of a TIFF that holds 2 to 16 grey ones of one size, as bands of a satellite or stains; else none."""
    found: list[Image.Image] = []
    importlib.import_module("PIL.TiffImagePlugin")
    with source.open("rb") as file, contextlib.suppress(EOFError):
        image = Image.open(file, formats=("TIFF",))
        check_size(*image.size)
        for page in range(MOST_PAGES + 1):
            image.seek(page)
            if image.mode not in ("L", "F") and not image.mode.startswith("I;16"):
                return []
            if found and (image.size != found[0].size or image.mode != found[0].mode):
                return []
            if page == MOST_PAGES or image.width * image.height * (page + 1) > MOST_VALUES:
                return []
            found.append(image.copy())
    return found if len(found) > 1 else []


def _frames(image: Image.Image, source: Path, kind: str, limit: int) -> int:
    """How many frames or pages there are, counted to `limit` at most."""
    if kind == "GIF":
        with source.open("rb") as file:
            return headers.gif_frames(file.read(), limit)
    if kind != "TIFF":  # JPEG: what a phone appends (depth, brightness) is no frame
        return min(limit, getattr(image, "n_frames", 1)) if kind in ("PNG", "WEBP") else 1
    with contextlib.suppress(EOFError, OSError, SyntaxError, ValueError), Image.open(source, formats=(kind,)) as pages:
        for page in range(1, limit):
            try:
                pages.seek(page)
            except EOFError:
                return page
        return limit
    return 1


def _orientation(image: Image.Image) -> int:
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to refuse the picture
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _packed_as(image: Image.Image) -> str:
    """How the values lie in the file, as Pillow names it, e.g. "L;2" or "RGB;16B"; only known before loading."""
    arguments = image.tile[0].args if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _tiff_bits(image: Image.Image) -> int:
    found = _tag(image, _TIFF_BITS)
    return int(found[0]) if found else 1


def _transparent(colour: object, packed: str) -> object:
    """The colour that means transparent, in the values that the decoder makes; Pillow leaves it in the file's."""
    if isinstance(colour, int) and packed in ("L;2", "L;4"):
        return colour * (85 if packed == "L;2" else 17)
    if isinstance(colour, tuple) and packed.startswith("RGB;16"):
        return tuple(value >> 8 for value in colour)
    return colour


def _tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    found = getattr(image, "tag_v2", {}).get(tag, ())
    return found if isinstance(found, tuple) else (found,)


def _values(band: Image.Image) -> np.ndarray:
    import numpy as np

    return np.asarray(band)


def _finite_extremes(image: Image.Image) -> tuple[float, float]:
    """The smallest and largest finite value; (0, 1) above it if there is but one or none."""
    import numpy as np

    low, high = np.inf, -np.inf
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        values = _values(image.crop((0, top, image.width, min(top + rows, image.height))))
        values = values[np.isfinite(values)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0
