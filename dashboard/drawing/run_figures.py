"""A run's numbers as pictures: lines of layers over the steps, and ridges of one layer's distributions; SVG, no words.

Ticks and words stand beside them on the page, so the pictures fit a light and a dark page. A picture of thousands of
looks is thinned to columns, each with the smallest and the largest value of its looks, so that no peak is lost.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hookscope.dashboard.drawing.numbers import format_number

WIDTH, HEIGHT = 1000, 400  # units of a picture, which is stretched to its place
POINTS = 40_000  # of all lines of a picture
COLUMNS = 480  # that a line is thinned to, at most
DECADES = 24  # that a logarithmic axis shows, from its largest value down
BELOW = 0.08  # of an axis is for what is below it, 0 among it
TICKS = 6
NEAR = 0.08  # of the width, within which no step is told beside the first or the last
LARGEST = 1e300  # values beyond stand at the edge
BROKEN = "#e03131"
RIDGE_OVERLAP = 2.2  # rows that a ridge may rise over
RIDGE_COLOURS = "#4c8dd6", "#1c6fc4"  # of the ground and the line


@dataclass(frozen=True)
class Axis:
    """How values stand from the bottom to the top.

    Attributes:
        low, high: the ends; of a logarithmic axis their logarithms to the base 10. logarithmic: whether it is one.
            Then 0 and what is below the axis stand at the bottom, where a tick says so.
        ticks: (share of the height, text). signed: whether there are values below 0, which no logarithm has.
        least, most: of the values.
    """

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]
    signed: bool = False
    least: float = math.nan
    most: float = math.nan

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Where values stand, float64 0..1 from the bottom; NaN where there is none, 1 of an infinite one."""
        values = np.asarray(values, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            placed = np.log10(np.maximum(values, 0)) if self.logarithmic else values
            return np.clip((placed - self.low) / (self.high - self.low), 0, 1)


@dataclass(frozen=True)
class Thinned:
    """Values of several layers in columns of neighbouring steps.

    Attributes:
        places: float64 (column,), where each stands, 0..1 from the left.
        low, high: float64 (column, layer), the smallest and the largest finite value; NaN where there is none.
        infinite: bool (column, layer), whether one of them is not finite.
    """

    places: np.ndarray
    low: np.ndarray
    high: np.ndarray
    infinite: np.ndarray


@dataclass(frozen=True)
class Line:
    """How a line is drawn."""

    colour: str
    width: float = 1.4
    opacity: float = 0.85
    dashed: bool = False


def axis_for(values: Sequence[np.ndarray], *, logarithmic: bool, of_shares: bool = False) -> Axis | None:
    """The axis on which all finite values of some arrays stand; None if there are none.

    Arguments:
        logarithmic: if there is a value above 0, and none below. of_shares: from 0 to 1 whatever they are.
    """
    finite = [np.clip(each[np.isfinite(each)].astype(np.float64), -LARGEST, LARGEST) for each in values]
    finite = [each for each in finite if each.size]
    if not finite:
        return None
    least, most = (float(pick(each)) for pick, each in zip((min, max), _ends(finite), strict=True))
    if of_shares:
        return Axis(0.0, 1.0, False, ((0.0, "0"), (0.5, "50 %"), (1.0, "100 %")), False, least, most)
    if logarithmic and most > 0 and least >= 0:
        above = [float(each[each > 0].min()) for each in finite if (each > 0).any()]
        high = math.log10(most)
        low = max(math.log10(min(above)), high - DECADES)
        middle, span = (low + high) / 2, max(high - low, 0.3)
        low, high = middle - span / 2 - 0.04 * span, middle + span / 2 + 0.04 * span
        ticks = [(10**each, text) for each, text in _decades(low, high)]
        if math.log10(min(above)) < low or least == 0:
            ticks = [(0.0, "0" if math.log10(min(above)) >= low else "less"), *ticks]
            low -= BELOW * span
        found = Axis(low, high, True, (), False, least, most)
        places = found.shares(np.array([value for value, _ in ticks])).tolist()
        return replace(found, ticks=tuple((place, text) for place, (_, text) in zip(places, ticks, strict=True)))
    signed, smallest, largest = least < 0, least, most
    if least == most:
        least, most = least - (abs(least) or 1) / 2, most + (abs(most) or 1) / 2
    space = (most - least) * 0.04
    low, high = least - space, most + space
    return Axis(low, high, False, _steps(low, high), signed, smallest, largest)


def _ends(arrays: list[np.ndarray]) -> tuple[list[float], list[float]]:
    return [float(each.min()) for each in arrays], [float(each.max()) for each in arrays]


def _decades(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Logarithms to the base 10 between two, with their texts."""
    stride = max(1, math.ceil((high - low) / TICKS))
    powers = [power for power in range(math.ceil(low), math.floor(high) + 1) if power % stride == 0]
    if len(powers) > 1:
        return tuple((float(power), _power(power)) for power in powers)
    found = [(low + (high - low) * share) for share in (0.06, 0.5, 0.94)]
    return tuple((each, f"{10**each:.2g}") for each in found)


def _power(power: int) -> str:
    return format_number(10.0**power) if -3 <= power <= 4 else f"1e{power}"


def _steps(low: float, high: float) -> tuple[tuple[float, str], ...]:
    wanted = (high - low) / 4
    size = 10 ** math.floor(math.log10(wanted))
    stride = next(each * size for each in (1, 2, 5, 10) if each * size >= wanted)
    first = math.ceil(low / stride)
    values = [number * stride for number in range(first, first + 8) if number * stride <= high]
    return tuple(((value - low) / (high - low), format_number(round(value, 12))) for value in values)


def step_ticks(first: int, last: int) -> tuple[tuple[float, int], ...]:
    """Steps that are told below a picture: the first, the last, and round ones between that are not near to these.

    Returns:
        (share of the width, step).

    >>> step_ticks(0, 580)
    ((0.0, 0), (0.3448275862068966, 200), (0.6896551724137931, 400), (1.0, 580))
    """
    span = max(last - first, 1)
    size = 10 ** math.floor(math.log10(span / 5)) if span > 5 else 1
    stride = next(int(each * size) for each in (1, 2, 5, 10) if each * size >= span / 5)
    between = range(first - first % stride + stride, last, stride)
    found = [step for step in between if NEAR * span <= step - first <= (1 - NEAR) * span]
    return tuple(((step - first) / span, step) for step in [*dict.fromkeys([first, *found, last])])


def thin(
    steps: np.ndarray,
    values: np.ndarray,
    across: tuple[int, int],
    most: int = COLUMNS,
    broken: np.ndarray | None = None,
) -> Thinned:
    """Values by step in at most so many columns of neighbouring steps.

    Arguments:
        steps: int64 (look,), rising. values: (look, layer). across: the first and the last step of the picture.
        broken: bool (look, layer), where something else is not finite.
    """
    first, span = across[0], max(across[1] - across[0], 1)
    if not len(steps):
        none = np.zeros((0, values.shape[1]))
        return Thinned(np.zeros(0), none, none, none.astype(bool))
    shares = (steps - first) / span
    columns = np.minimum((shares * most).astype(np.int64), most - 1) if len(steps) > most else np.arange(len(steps))
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    counts = np.diff(np.append(starts, len(steps)))
    places = np.add.reduceat(shares, starts) / counts
    infinite = np.isinf(values)
    finite = np.where(infinite, np.nan, values)
    infinite = infinite if broken is None else infinite | broken
    low, high = (pick.reduceat(finite, starts, axis=0).astype(np.float64) for pick in (np.fmin, np.fmax))
    return Thinned(places, low, high, np.logical_or.reduceat(infinite, starts, axis=0))


def columns_for(layers: int) -> int:
    """How many columns lines of so many layers have."""
    return max(min(COLUMNS, POINTS // (2 * max(layers, 1))), 8)


def draw_lines(drawn: Sequence[tuple[Thinned, Sequence[Line]]], axis: Axis) -> bytes:
    """An SVG of lines, one for each layer of each of some runs; later ones lie above. What is not finite is red."""
    parts = [_grid(axis)]
    for thinned, lines in drawn:
        across = np.rint(thinned.places * WIDTH).astype(np.int64).tolist()
        low, high = (np.rint((1 - axis.shares(each)) * HEIGHT) for each in (thinned.low, thinned.high))
        for index in sorted(range(len(lines)), key=lambda place: lines[place].width):
            path = "".join(_path(across, low[:, index].tolist(), high[:, index].tolist()))
            if path:
                parts.append(_stroke(path, lines[index]))
        broken = [across[place] for place in np.flatnonzero(thinned.infinite.any(axis=1))]
        if broken:
            parts.append(_stroke("".join(f"M{x} 0v14" for x in broken), Line(BROKEN, 3, 1)))
    return _svg(parts)


def _path(across: list[int], low: list[float], high: list[float]) -> Iterator[str]:
    """A line through the smallest and the largest value of each column; a gap where there is none."""
    on = False
    for x, bottom, top in zip(across, low, high, strict=True):
        if bottom != bottom:  # NaN
            on = False
            continue
        yield f"{'L' if on else 'M'}{x} {bottom:.0f}{'' if on else 'h0'}"
        if top != bottom:
            yield f"V{top:.0f}"
        on = True


def _stroke(path: str, line: Line) -> str:
    dashes = ' stroke-dasharray="6 4"' if line.dashed else ""
    return (
        f'<path d="{path}" fill="none" stroke="{line.colour}" stroke-width="{line.width}" stroke-opacity='
        f'"{line.opacity}" stroke-linejoin="round" stroke-linecap="round" vector-effect="non-scaling-stroke"{dashes}/>'
    )


def _grid(axis: Axis) -> str:
    lines = "".join(f"M0 {HEIGHT * (1 - share):.0f}H{WIDTH}" for share, _ in axis.ticks)
    return f'<path d="{lines}" stroke="#808a94" stroke-opacity="0.22" vector-effect="non-scaling-stroke"/>'


def _svg(parts: Sequence[str]) -> bytes:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">'
    return f"{head}{''.join(parts)}</svg>".encode()


def depth_colours(count: int) -> list[str]:
    """A colour for each layer by its place, from blue at the first to red at the last, on a light or a dark ground."""
    return [_colour(place / max(count - 1, 1)) for place in range(count)]


def depth_gradient() -> str:
    """The same as a CSS gradient."""
    return f"linear-gradient(to right, {', '.join(_colour(place / 8) for place in range(9))})"


def _colour(share: float) -> str:
    hue = (222 - 214 * share) / 360
    # green and yellow are brighter than blue and red at the same lightness
    lightness = 0.55 - 0.13 * math.sin(math.pi * min(max((share - 0.15) / 0.75, 0), 1))
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.68)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def draw_ridges(rows: Sequence[np.ndarray], zero: int = -1) -> bytes:
    """An SVG of distributions, the first at the back; each as high as its share of its values.

    Arguments:
        rows: float64 (bin,), at least one. zero: the bin that holds what is 0, which is cut where it is higher than
            the others; -1 for none.
    """
    count = len(rows)
    shapes = [_shape(row, zero) for row in rows]
    row_height = HEIGHT / (count + RIDGE_OVERLAP - 1)
    parts = []
    for number, shape in enumerate(shapes):
        bottom = (RIDGE_OVERLAP + number) * row_height
        width = WIDTH / len(shape)
        points = "".join(
            f"L{(place + 0.5) * width:.1f} {bottom - value * RIDGE_OVERLAP * row_height * 0.96:.1f}"
            for place, value in enumerate(shape)
        )
        outline = f"M0 {bottom:.1f}{points}L{WIDTH} {bottom:.1f}"
        ground, line = RIDGE_COLOURS
        parts.append(f'<path d="{outline}Z" fill="{ground}" fill-opacity="0.34"/>')
        parts.append(_stroke(outline, Line(line, 1, 0.9)))
    return _svg(parts)


def _shape(row: np.ndarray, zero: int) -> np.ndarray:
    """Heights 0..1; the bin of 0 does not make the others small."""
    others = np.delete(row, zero) if zero >= 0 else row
    most = float(others.max(initial=0)) or float(row.max(initial=0)) or 1.0
    return np.minimum(row / most, 1.0)


def ridge_bottom(number: int, count: int) -> float:
    """Where the foot of a ridge stands, 0..1 from the top."""
    return (RIDGE_OVERLAP + number) / (count + RIDGE_OVERLAP - 1)
