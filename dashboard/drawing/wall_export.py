"""A card's wall as one picture file that explains itself: title, labels, panels, colour bars with their ranges."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hookscope.dashboard.asking.texts import shorten
from hookscope.dashboard.drawing.palettes import LEVELS, NON_FINITE_LEGEND, Palette
from hookscope.dashboard.drawing.scales import Scales, scale_text

MARGIN = 24
GAP = 20
BAR = 10
CELL_PX = 48
LINE_LENGTH = 500  # characters
MAX_SIDE = 16_384  # what viewers and browsers still open
PAPER, INK, QUIET = "#ffffff", "#212529", "#5c636a"


@dataclass(frozen=True, eq=False)
class ExportPanel:
    """One wall in an exported picture.

    Attributes:
        label: drawn above it, e.g. "A: coffee.png".
        picture: its sprite, PNG or JPEG bytes.
        scale, palette: what its colours mean.
        rows: of its cells, if not as many as the others have.
    """

    label: str
    picture: bytes
    scale: Scales
    palette: Palette
    rows: int = 0


def wall_png(
    panels: Sequence[ExportPanel],
    title: str,
    lines: Sequence[str] = (),
    *,
    columns: int,
    rows: int,
    cell_px: int = CELL_PX,
) -> bytes:
    """Draw a card's walls side by side into one PNG, on white.

    Arguments:
        panels: A; or A, B, B - A; their sprites may have been drawn without reduction.
        title: the layer, its type and shape. lines: model, inputs, rank, notes; "random weights" if they are random.
        columns, rows: of the walls, for the gaps between the cells.
        cell_px: cells smaller than this are enlarged to the next whole multiple of their size, with hard edges.
    """
    large, small = _font(20), _font(14)
    title, lines = _printable(title, large), [_printable(line, small) for line in lines]
    sides = [_cell_side(panel.picture, columns, panel.rows or rows) for panel in panels]
    walls = [_wall(panel.picture, columns, panel.rows or rows, max(cell_px, *sides)) for panel in panels]
    texts = [(_printable(panel.label, small), _printable(scale_text(panel.scale), small)) for panel in panels]
    widths = [
        max(wall.width, *(round(small.getlength(text)) for text in pair))
        for wall, pair in zip(walls, texts, strict=True)
    ]
    head = MARGIN + 30 + 20 * len(lines) + 8
    inner = max(
        [sum(widths) + GAP * (len(walls) - 1), large.getlength(title), *(small.getlength(line) for line in lines)]
    )
    tall = max((wall.height for wall in walls), default=0)
    paper = Image.new("RGB", (round(inner) + 2 * MARGIN, head + 22 + tall + 64 + MARGIN), PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text((MARGIN, MARGIN), title, INK, large)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + 30 + 20 * number), line, QUIET, small)
    left = MARGIN
    for panel, wall, width, (label, scale) in zip(panels, walls, widths, texts, strict=True):
        draw.text((left, head), label, INK, small)
        paper.paste(wall, (left, head + 22), wall)
        below = head + 22 + tall + 10
        paper.paste(_bar(panel.palette, min(wall.width, 320)), (left, below))
        draw.text((left, below + BAR + 4), scale, QUIET, small)
        left += width + GAP
    draw.text((MARGIN, head + 22 + tall + 44), NON_FINITE_LEGEND, QUIET, _font(11))
    file = io.BytesIO()
    paper.save(file, "PNG")
    return file.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, the one that is there on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError(
            "Pillow was built without FreeType, so no text can be drawn: install Pillow's wheel from PyPI."
        )
    return font


def _printable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text in the letters that the font has, which are few beyond Latin: a file may have any name.

    Cut, because the paper is as wide as its longest line, and a nested layer's name alone may be 40,000 pixels.
    """
    text = shorten(text, LINE_LENGTH)
    missing = bytes(font.getmask("\uffff"))
    for sign, plain in (("×", "x"), ("−", "-"), ("±", "+-"), ("\n", " ")):
        text = text.replace(sign, plain)
    return "".join("?" if letter != " " and bytes(font.getmask(letter)) == missing else letter for letter in text)


def _cell_side(picture: bytes, columns: int, rows: int) -> int:
    with Image.open(io.BytesIO(picture)) as image:
        return max(image.width // columns, image.height // rows)


def _wall(picture: bytes, columns: int, rows: int, cell_px: int) -> Image.Image:
    """The sprite, enlarged by a whole number and with a gap of one pixel between its cells, RGBA."""
    image = Image.open(io.BytesIO(picture)).convert("RGBA")
    wide, high = image.width // columns, image.height // rows
    factor = max(1, -(-cell_px // max(wide, high)))
    factor = max(1, min(factor, MAX_SIDE // max(image.width, image.height)))
    pixels = np.asarray(image).repeat(factor, axis=0).repeat(factor, axis=1)
    cells = pixels.reshape(rows, high * factor, columns, wide * factor, 4)
    spaced = np.zeros((rows, high * factor + 1, columns, wide * factor + 1, 4), np.uint8)
    spaced[:, :-1, :, :-1] = cells
    return Image.fromarray(spaced.reshape(rows * (high * factor + 1), columns * (wide * factor + 1), 4))


def _bar(palette: Palette, width: int) -> Image.Image:
    places = np.linspace(0, LEVELS - 1, max(width, 1)).round().astype(int)
    return Image.fromarray(np.broadcast_to(palette.table[places], (BAR, len(places), 3)).copy())
