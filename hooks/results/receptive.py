"""Which part of the picture a layer's units look at.

Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError, NoGradient, called, titled
from hookscope.hooks.results.looks import Call
from hookscope.hooks.results.maps import arrange

NOTHING = 1e9  # each edge of a value that depends on no pixel; see `numbers.edges`
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class EffectiveExtent:
    """How large a part of the picture holds most of what a layer's units are moved by, over several units and pictures.

    Attributes:
        side: in pixels, of the least square around a unit's place in the map that holds the share of the squared
            gradient, in the mean over the probes. Twice the picture's where the share reaches to the other edge.
        share: what was asked for, 0..1. held: what lies in the square, at least that.
        probes: how many places in how many pictures were asked; those without any gradient are left out.
        milliseconds: everything together.
    """

    side: int
    share: float
    held: float
    probes: int
    milliseconds: float = 0.0


@dataclass(frozen=True)
class ReceptiveField:
    """The boxes of pixels on which the units of a layer can depend, of every place of its maps.

    A place's box is the least rectangle that holds every such pixel of any of its channels. Pixels are those of the
    picture that the model is given, and intervals are half open.

    Attributes:
        layer: dotted name. call: 0-based call of this forward pass.
        picture: (height, width) in pixels.
        rows: int64 (height, 2), the first row of pixels that a row of the layer's maps can depend on, and the one after
            the last, over all columns; 0, 0 if there is none. columns: int64 (width, 2), the same from left to right.
        exact: whether the box of every place is just where its row and its column cross. Otherwise it lies within that,
            as where the units of a row look at different rows.
        whole: whether every unit can depend on the whole picture, from edge to edge, as after attention or a mean over
            all positions.
        note: operators that could not be looked into, as a sentence; "" if there are none.
        milliseconds: everything together.
        effective: how much of the picture units do depend on in the main; None where that was not asked for.
    """

    layer: str
    call: int
    picture: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    exact: bool
    whole: bool
    note: str = ""
    milliseconds: float = 0.0
    effective: EffectiveExtent | None = None

    def box(self, row: int, column: int) -> Box:
        """(top, left, bottom, right) in pixels of what the units at a place of the maps can depend on."""
        (top, bottom), (left, right) = self.rows[row].tolist(), self.columns[column].tolist()
        return (top, left, bottom, right) if top < bottom and left < right else (0, 0, 0, 0)

    def effective_box(self, row: int, column: int) -> Box:
        """(top, left, bottom, right) in pixels: the effective extent around a place, as far as it lies in the picture.

        Raises:
            ValueError: `effective` is None.
        """
        if self.effective is None:
            raise ValueError("this field has no effective extent; ask `effective_extent` for it")
        found = []
        for index, places, length in (
            (row, len(self.rows), self.picture[0]),
            (column, len(self.columns), self.picture[1]),
        ):
            start = round(centre_of(index, places, length) - self.effective.side / 2)
            found.append((max(start, 0), min(start + self.effective.side, length)))
        (top, bottom), (left, right) = found
        return top, left, bottom, right

    @property
    def stride(self) -> tuple[int | None, int | None]:
        """By how many pixels the fields of neighbours are apart, downwards and to the right.

        None where that is not one number, as between the units of a window or after an upsampling, or cannot be seen,
        because the picture cuts off all fields.
        """
        return _law(self.rows, self.picture[0])[0], _law(self.columns, self.picture[1])[0]

    @property
    def size(self) -> tuple[int | None, int | None]:
        """(height, width) in pixels of a field that the picture does not cut off; None where that is not known.

        It follows from fields that are cut off at one side only, so it can be almost twice the picture's.
        """
        return _law(self.rows, self.picture[0])[1], _law(self.columns, self.picture[1])[1]


def _law(intervals: np.ndarray, length: int) -> tuple[int | None, int | None]:
    """The stride and the size of intervals that are translations of each other, but for being cut off at the ends."""
    places = np.flatnonzero(intervals[:, 1] > intervals[:, 0])
    if not places.size:
        return None, None
    starts, ends = intervals[places].T
    adjacent = np.diff(places) == 1
    free = starts > starts.min(), ends < ends.max()
    steps = {
        int(step)
        for side, whether in zip((starts, ends), free, strict=True)
        for step in np.diff(side)[adjacent & whether[1:] & whether[:-1]]
    }
    step = steps.pop() if len(steps) == 1 and min(steps) > 0 else None
    if step and free[0].any() and free[1].any():
        start, end = (starts - step * places)[free[0]][0], (ends - step * places)[free[1]][0]
    else:
        start, end = intervals[len(intervals) // 2]
        if start == 0 or end == length:
            return step, None
    return step, int(end - start)


@dataclass(frozen=True)
class EffectiveField:
    """Where in the picture one unit of a layer is moved from: the square that holds most of its squared gradient.

    Attributes:
        layer: dotted name. call: 0-based call of this forward pass.
        channel: of the unit. place: (row, column) of the layer's maps. value: the unit's, for this picture.
        box: (top, left, bottom, right) in pixels, half open: the least square around `centre` that holds the share, as
            far as it lies in the picture.
        centre: (row, column) in pixels, the medians of the squared gradient.
        share: what was asked for, 0..1. held: what lies in the box, at least that.
        energy: float32 (height, width), the squared gradient at each pixel, as a share of that at all pixels.
        milliseconds: everything together.
    """

    layer: str
    call: int
    channel: int
    place: tuple[int, int]
    value: float
    box: Box
    centre: tuple[int, int]
    share: float
    held: float
    energy: np.ndarray
    milliseconds: float = 0.0


def smallest_square(energy: np.ndarray, share: float) -> tuple[Box, tuple[int, int], float]:
    """The least square around the medians of an energy that holds a share of it, clipped to the picture.

    Arguments:
        energy: float64 (height, width), at least 0, and above 0 somewhere. share: above 0, at most 1.

    Returns:
        (top, left, bottom, right), half open; its centre (row, column); and the share that it holds.

    >>> smallest_square(np.array([[0, 0, 0, 0], [0, 2, 6, 2], [0, 0, 0, 0.0]]), 0.6)
    ((1, 2, 2, 3), (1, 2), 0.6)
    """
    height, width = energy.shape
    row, column = (int(np.searchsorted(np.cumsum(side), side.sum() / 2)) for side in (energy.sum(1), energy.sum(0)))
    rows, columns = np.ogrid[:height, :width]
    distance = np.maximum(abs(rows - row), abs(columns - column))
    held = np.cumsum(np.bincount(distance.ravel(), weights=energy.ravel()))
    # a sum may miss the share by a rounding, and where all is asked for nothing would reach it
    reach = int(np.searchsorted(held, share * held[-1] * (1 - 1e-12)))
    box = max(row - reach, 0), max(column - reach, 0), min(row + reach + 1, height), min(column + reach + 1, width)
    return box, (row, column), float(held[reach] / held[-1])


def centre_of(index: int, places: int, length: int) -> float:
    """Where the middle of a row, or a column, of a layer's map lies in the picture, in pixels from its edge."""
    return (index + 0.5) * length / places


def extent_of(energies: Sequence[np.ndarray], centres: Sequence[tuple[float, float]], share: float) -> EffectiveExtent:
    """The least square around units' places that holds a share of their energy, each unit's weighing the same.

    Arguments:
        energies: float64 (height, width) each, at least 0; what is 0 everywhere is left out. centres: (row, column) of
            each one's place, in pixels from the upper left corner. share: above 0, at most 1.

    Raises:
        NoGradient: every energy is 0.

    >>> extent_of([np.array([[0, 0, 0], [2, 6, 2], [0, 0, 0.0]])], [(1.5, 1.5)], 0.6)
    EffectiveExtent(side=1, share=0.6, held=0.6, probes=1, milliseconds=0.0)
    """
    there = [(each / each.sum(), centre) for each, centre in zip(energies, centres, strict=True) if each.any()]
    if not there:
        raise NoGradient(
            "The gradient of every unit that was asked is zero at every pixel, as where all ReLUs are off. Choose the "
            "layer before it."
        )
    held = np.zeros(1)
    for energy, (row, column) in there:
        rows, columns = (
            abs(np.arange(length) + 0.5 - at) for length, at in zip(energy.shape, (row, column), strict=True)
        )
        # a pixel lies within a square of this side, as far as half pixels allow
        sides = np.ceil(2 * np.maximum(rows[:, None], columns) + 1 - 1e-9).astype(np.int64)
        found = np.bincount(sides.ravel(), energy.ravel())
        held = np.pad(held, (0, max(0, len(found) - len(held))))
        held[: len(found)] += found / len(there)
    within = np.cumsum(held)
    side = int(np.searchsorted(within, share * within[-1] * (1 - 1e-12)))
    return EffectiveExtent(side, share, float(within[side] / within[-1]), len(there))


def places(values: np.ndarray, seen: Call) -> np.ndarray:
    """Values that lie as a layer's output does, as (channel, height, width)."""
    return arrange(values, seen.axes, seen.grid, seen.prefix_tokens)


def unit_of(seen: Call, layer: str, channel: int, place: tuple[int, int]) -> tuple[Any, ...]:
    """Where a unit of a layer's maps lies in its output: an index for each axis.

    Raises:
        HooksError: there is no such unit.
    """
    units = places(np.arange(math.prod(seen.shape)).reshape(seen.shape), seen)
    if not all(0 <= index < length for index, length in zip((channel, *place), units.shape, strict=True)):
        raise HooksError(
            f"{titled(layer)} has {units.shape[0]} channels of {units.shape[1]} x {units.shape[2]} places, counted "
            f"from 0, so there is no channel {channel} at row {place[0]}, column {place[1]}."
        )
    return np.unravel_index(units[channel, place[0], place[1]], seen.shape)


def field_of(edges: np.ndarray, seen: Call, picture: tuple[int, int], layer: str, call: int) -> ReceptiveField:
    """The edges of a layer's output as the boxes of its places, over all channels.

    Raises:
        HooksError: none of its values depends on the picture.
    """
    sides = np.stack([places(side, seen).min(axis=0) for side in np.broadcast_to(edges, (4, *seen.shape))])
    sides[:, sides[0] >= NOTHING] = NOTHING
    if sides.min() == NOTHING:
        raise HooksError(
            f"No value of {called(layer)} depends on the picture, as far as torch's operators tell; what is computed "
            "outside of torch cannot be followed. Choose another layer."
        )
    of_rows, of_columns = sides[0::2].min(axis=2), sides[1::2].min(axis=1)
    crossed = np.stack(np.broadcast_arrays(of_rows[0, :, None], of_columns[0], of_rows[1, :, None], of_columns[1]))
    exact = bool((sides == np.where((crossed == NOTHING).any(axis=0), NOTHING, crossed)).all())
    rows, columns = (
        np.where(first < NOTHING, (first, -last), 0).astype(np.int64).T for first, last in (of_rows, of_columns)
    )
    whole = exact and bool((rows == (0, picture[0])).all() and (columns == (0, picture[1])).all())
    return ReceptiveField(layer, call, picture, rows, columns, exact, whole)


def effective_field_of(
    gradient: np.ndarray, share: float, layer: str, call: int, channel: int, place: tuple[int, int]
) -> EffectiveField:
    """The square that holds most of a gradient, float64 (channel, height, width), of one unit; its value is not known.

    Raises:
        NoGradient: it is zero everywhere. HooksError: it is not finite.
    """
    energy = np.square(gradient).sum(axis=0)
    if not np.isfinite(energy).all():
        raise HooksError(f"The gradient of this unit of {called(layer)} is not finite. Choose another unit or picture.")
    if not energy.any():
        raise NoGradient(
            f"The gradient of this unit of {called(layer)} is zero at every pixel, as where a ReLU is off. Choose the "
            "layer before it, or another unit."
        )
    box, centre, held = smallest_square(energy, share)
    shares = (energy / energy.sum()).astype(np.float32)
    return EffectiveField(layer, call, channel, place, math.nan, box, centre, share, held, shares)
