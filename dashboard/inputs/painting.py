"""What is painted on a picture, to see what a part of it does: boxes and strokes, each with something to fill them.

As a text, which an address holds: "box.grey.12.30.80.90~stroke.ff0000.7.12.30.14.33", in pixels of the picture.

    box.FILL.LEFT.TOP.RIGHT.BOTTOM      both corners belong to it, so that "box.grey.5.5.5.5" is one pixel
    stroke.FILL.WIDTH.X.Y.X.Y...        a brush of that width along the points
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

FILLS = ("grey", "mean", "blur", "noise")
MOST_SHAPES = 40
MOST_CHARACTERS = 1_200  # of an address that is to stay below 2,000
_FILL = "|".join([*FILLS, "[0-9a-f]{6}"])
_SHAPE = re.compile(rf"(?P<kind>box|stroke)\.(?P<fill>{_FILL})(?P<numbers>(\.[0-9]{{1,5}}){{3,400}})")


@dataclass(frozen=True)
class Shape:
    """One thing that was painted.

    Attributes:
        fill: one of `FILLS`, or a colour as six hexadecimal digits.
        width: of a stroke's brush, in pixels; 0 of a box.
        points: x and y in pixels from the top left, of a box its two corners.
    """

    fill: str
    width: int
    points: tuple[tuple[int, int], ...]

    def region(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of what it covers of a picture of that size, the last two not included."""
        xs, ys = zip(*self.points, strict=True)
        rim = self.width // 2 + 1 if self.width else 0
        left, top = max(min(xs) - rim, 0), max(min(ys) - rim, 0)
        return left, top, max(min(max(xs) + rim + 1, width), left), max(min(max(ys) + rim + 1, height), top)


def read_painting(text: object) -> str:
    """What of a text is a painting, as it is written; "" if nothing is.

    >>> read_painting("box.grey.1.2.3.4~nonsense"), read_painting("box.grey.3.4.1.2"), read_painting(None)
    ('box.grey.1.2.3.4', 'box.grey.1.2.3.4', '')
    """
    return write_shapes(shapes_of(str(text))) if text else ""


def shapes_of(text: str) -> list[Shape]:
    """The shapes of a text, in the order in which they are painted; what makes no sense is left out."""
    found = []
    for each in text[:MOST_CHARACTERS].split("~")[:MOST_SHAPES]:
        match = _SHAPE.fullmatch(each)
        if not match:
            continue
        numbers = [int(number) for number in match["numbers"][1:].split(".")]
        width = 0 if match["kind"] == "box" else numbers.pop(0)
        if len(numbers) % 2 or (not width and (match["kind"] == "stroke" or len(numbers) != 4)):
            continue
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        if not width:
            (left, top), (right, bottom) = points
            points = [(min(left, right), min(top, bottom)), (max(left, right), max(top, bottom))]
        found.append(Shape(match["fill"], width, tuple(points)))
    return found


def write_shapes(shapes: Iterable[Shape]) -> str:
    """The text that `shapes_of` reads."""
    written = []
    for shape in shapes:
        numbers = [*([shape.width] if shape.width else []), *(number for point in shape.points for number in point)]
        written.append(".".join(["stroke" if shape.width else "box", shape.fill, *map(str, numbers)]))
    return "~".join(written)


def say_painting(text: str) -> str:
    """What is painted, in words: "2 boxes, 1 stroke painted on it"; "" if nothing is.

    >>> say_painting("box.grey.1.2.3.4~stroke.blur.7.1.2.3.4"), say_painting("")
    ('1 box, 1 stroke painted on it', '')
    """
    widths = [shape.width for shape in shapes_of(text)]
    counts = [(sum(not width for width in widths), "box", "boxes"), (sum(map(bool, widths)), "stroke", "strokes")]
    said = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    return f"{', '.join(said)} painted on it" if said else ""
