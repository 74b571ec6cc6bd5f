"""The pixels of a painting: what fills its shapes, on a picture and on what that only stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from hookscope.dashboard.inputs import colours
from hookscope.dashboard.inputs.painting import Shape, shapes_of
from hookscope.dashboard.inputs.rows import Exact

SEED = 7
Region = tuple[int, int, int, int]
Fill = Callable[[Exact, Region], np.ndarray]


def paint(picture: Image.Image, exact: Exact | None, text: str) -> tuple[Image.Image, Exact | None]:
    """A picture with something painted on it, and the same of what it only stands for.

    Arguments:
        picture: RGB. exact: with its channels last; None if the picture is all there is.
        text: what is painted. Each shape covers those before it; mean and blur are those of the picture itself.
    """
    shapes = shapes_of(text)
    if not shapes:
        return picture, exact
    painted = Image.fromarray(_painted(Exact(np.asarray(picture), 0.0, 255.0), shapes).values)
    return painted, None if exact is None else _painted(exact, shapes)


def preview(picture: Image.Image, exact: Exact | None, three: colours.Three, text: str) -> bytes:
    """A JPEG of a painted picture, at most 640 pixels on the longer side; of three of its channels.

    Arguments:
        picture, exact, text: as `paint` takes them.
    """
    painted, values = paint(picture, exact, text)
    return colours.preview(values or Exact(np.asarray(painted), 0.0, 255.0), three)


def _painted(exact: Exact, shapes: list[Shape]) -> Exact:
    values = np.array(exact.values)
    height, width = values.shape[:2]
    for shape in shapes:
        left, top, right, bottom = region = shape.region(width, height)
        if left >= right or top >= bottom:  # beside the picture
            continue
        filled = (FILLS.get(shape.fill) or _colour(shape.fill))(exact, region)
        mask = _mask(shape, region)
        whole = values.dtype.kind != "f"
        part = values[top:bottom, left:right]
        part[mask] = (np.rint(filled) if whole else filled).astype(values.dtype)[mask]
    return replace(exact, values=values)


def _mask(shape: Shape, region: Region) -> np.ndarray:
    """bool (row, column): which pixels of the region it covers."""
    left, top, right, bottom = region
    paper = Image.new("1", (right - left, bottom - top))
    draw, points = ImageDraw.Draw(paper), [(x - left, y - top) for x, y in shape.points]
    if not shape.width:
        draw.rectangle([points[0], points[1]], fill=1)
    if shape.width and len(points) > 1:
        draw.line(points, fill=1, width=shape.width, joint="curve")
    radius = (shape.width - 1) / 2
    for x, y in points if shape.width else ():
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1)
    return np.asarray(paper)


def _room(exact: Exact, region: Region) -> tuple[int, int, int]:
    left, top, right, bottom = region
    return bottom - top, right - left, exact.values.shape[2]


def _grey(exact: Exact, region: Region) -> np.ndarray:
    return np.full(_room(exact, region), (exact.low + exact.high) / 2)


def _mean(exact: Exact, region: Region) -> np.ndarray:
    return np.broadcast_to(exact.values.mean(axis=(0, 1), dtype=np.float64), _room(exact, region))


def _noise(exact: Exact, region: Region) -> np.ndarray:
    """The same at the same place each time: a patch that is moved uncovers other noise, not other numbers."""
    left, top, right, bottom = region
    room = (bottom, *exact.values.shape[1:])
    drawn = np.random.default_rng(SEED).random(room, dtype=np.float32)[top:, left:right]
    return exact.low + drawn.astype(np.float64) * (exact.high - exact.low)


def _blur(exact: Exact, region: Region) -> np.ndarray:
    """Three means over a square, which are close to a Gaussian; the square's side is a twelfth of the shorter side."""
    height, width = exact.values.shape[:2]
    reach = max(1, min(height, width) // 24)
    left, top, right, bottom = region
    margin = 3 * reach
    rows = slice(max(top - margin, 0), min(bottom + margin, height))
    columns = slice(max(left - margin, 0), min(right + margin, width))
    part = exact.values[rows, columns].astype(np.float64)
    for _ in range(3):
        for axis in (0, 1):
            part = _mean_along(part, reach, axis)
    return part[top - rows.start : bottom - rows.start, left - columns.start : right - columns.start]


def _mean_along(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """The mean over 2 reach + 1 values along an axis; over those that there are, near the rim."""
    length = values.shape[axis]
    sums = np.concatenate([np.zeros_like(values.take([0], axis)), values.cumsum(axis)], axis)
    places = np.arange(length)
    first, last = np.maximum(places - reach, 0), np.minimum(places + reach + 1, length)
    counts = (last - first).reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    found: np.ndarray = (sums.take(last, axis) - sums.take(first, axis)) / counts
    return found


def _colour(digits: str) -> Fill:
    """Red, green and blue; of other channels its brightness."""

    def fill(exact: Exact, region: Region) -> np.ndarray:
        three = np.array([int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)])
        channels = exact.values.shape[2]
        colours = channels == 3 or exact.frames > 0
        shares = np.tile(three, channels // 3) if colours else np.full(channels, three @ (0.299, 0.587, 0.114))
        return np.broadcast_to(exact.low + shares * (exact.high - exact.low), _room(exact, region))

    return fill


FILLS: Mapping[str, Fill] = {"grey": _grey, "mean": _mean, "blur": _blur, "noise": _noise}
