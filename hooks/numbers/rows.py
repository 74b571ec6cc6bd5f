"""A batch's values row by row, one row for each channel of each picture: what a sweep over many pictures keeps.

By the loops of `row_kernels`; or by torch, where numba is not installed, values lie on an accelerator, are not float32,
or are not finite. The numbers are the same.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.numbers import compiled
from hookscope.hooks.numbers.moments import Scratch, moments

NOBODY = np.iinfo(np.int64).max  # stands where no picture does: behind every other


@functools.cache
def loops() -> ModuleType | None:
    """The loops, or None without numba."""
    try:
        from hookscope.hooks.numbers import row_kernels
    except ImportError:
        return None
    return row_kernels


@dataclass(frozen=True)
class Rows:
    """What was read of the rows of a batch.

    Attributes:
        values: float32 or float64 (picture, channel, position), without gaps.
        numbers: float64 (picture, channel, 5): mean, variance, least, largest, and number of zeros of the finite
            values; NaN where there are none.
        nan, inf: int64 (picture, channel), how many are NaN, and how many infinite; None where all are finite.
        quick: whether the loops have read them, and can go on.
    """

    values: Tensor
    numbers: np.ndarray
    nan: np.ndarray | None = None
    inf: np.ndarray | None = None
    quick: bool = False

    @functools.cached_property
    def largest(self) -> np.ndarray:
        """Float32 (picture, channel): the largest value of each row, NaN left aside; -inf of one that has no other."""
        if self.nan is None:
            return self.numbers[..., 3].astype(np.float32)
        return _numpy(_without_nan(self.values).amax(2)).astype(np.float32)

    @functools.cached_property
    def means(self) -> np.ndarray:
        """Float32 (picture, channel): the mean of the finite values; -inf of a row that has none."""
        means = self.numbers[..., 0]
        return np.where(np.isnan(means), -np.inf, means).astype(np.float32)

    def places(self, picture: int) -> np.ndarray:
        """Int32 (channel,): where in each row of a picture its largest value is, the first place of equal ones."""
        rows = self.values[picture]
        found = rows.numpy() if self.nan is None and rows.device.type == "cpu" else _numpy(_without_nan(rows))
        return found.argmax(1).astype(np.int32)


def read(values: Tensor) -> Rows:
    """Read the rows of a float32 or float64 tensor (picture, channel, position) without gaps."""
    pictures, channels, size = values.shape
    kernels = loops() if compiled.usable(values) else None
    if kernels is not None and values.numel():
        table = np.empty((pictures * channels, 5))
        if _read(kernels, values.numpy().reshape(-1, size), table):
            return Rows(values, table.reshape(pictures, channels, 5), quick=True)
    found = moments(values.reshape(-1, size), Scratch())
    columns = (found.mean, found.variance, found.min, found.max, found.zeros)
    numbers = np.stack([column.astype(np.float64) for column in columns], 1).reshape(pictures, channels, 5)
    if not found.nan.any() and not found.inf.any() and size:
        return Rows(values, numbers)
    return Rows(values, numbers, found.nan.reshape(pictures, channels), found.inf.reshape(pictures, channels))


def _read(kernels: ModuleType, rows: np.ndarray, numbers: np.ndarray) -> bool:
    """Fill in the numbers of each row; whether all values were finite.

    In one thread: one that is woken for half a millisecond comes late, and while it is awake it is in the way of those
    that the model's own layers keep waiting.
    """
    ends = np.empty((len(rows), 2), np.int32)
    return bool(kernels.each_row(rows, rows.view(np.int32), rows.view(np.uint32), ends, ends.view(np.float32), numbers))


class Totals:
    """The numbers of each channel over every picture that was added, in float64 (Chan, Golub and LeVeque 1979).

    Arguments:
        channels: how many there are. threshold: of a magnitude, above which a channel fires; NaN counts as firing.

    Attributes:
        table: float64 (channel, 9): finite values, their mean, sum of squared deviations, least, largest, how many are
            0, in how many pictures the channel fired, and how many values were NaN, and infinite.
        pictures: how many were added.
    """

    def __init__(self, channels: int, threshold: float) -> None:
        self.table = np.zeros((channels, 9))
        self.table[:, 3], self.table[:, 4] = np.inf, -np.inf
        self.threshold = threshold
        self.pictures = 0

    def add(self, rows: Rows) -> None:
        """Add a batch."""
        pictures, channels, size = rows.values.shape
        self.pictures += pictures
        if rows.quick:
            kernels = loops()
            assert kernels is not None
            kernels.add(rows.numbers, size, self.threshold, self.table)
            return
        none = np.zeros((pictures, channels), np.int64)
        nan, inf = none if rows.nan is None else rows.nan, none if rows.inf is None else rows.inf
        for picture in range(pictures):
            self._add(rows.numbers[picture], size, nan[picture], inf[picture])

    def _add(self, numbers: np.ndarray, size: int, nan: np.ndarray, inf: np.ndarray) -> None:
        """Add one picture's rows, of which some values may not be finite."""
        count, mean, squares, least, most, zeros, fired, all_nan, all_inf = self.table.T  # views
        own, variance, low, high, none = np.where(np.isnan(numbers), 0, numbers).T
        fresh = size - nan - inf
        some = fresh > 0
        both = np.maximum(count + fresh, 1)
        away = np.where(some, own - mean, 0)
        squares += variance * fresh + away**2 * (count * fresh / both)
        mean += away * (fresh / both)
        count += fresh
        least[:] = np.where(some, np.minimum(least, low), least)
        most[:] = np.where(some, np.maximum(most, high), most)
        zeros += none
        fired += (some & (np.maximum(-low, high) > self.threshold)) | (nan + inf > 0)
        all_nan += nan
        all_inf += inf


class Ranking:
    """The pictures for which each channel has its largest numbers.

    Arguments:
        channels: how many there are. ranks: how many pictures are kept of each.

    Attributes:
        values: float32 (channel, rank), the largest first; -inf where there are fewer pictures.
        pictures: int64 (channel, rank), their numbers; `NOBODY` there.
        places: int32 (channel, rank), where in the row the largest value is.
    """

    def __init__(self, channels: int, ranks: int) -> None:
        self.values = np.full((channels, ranks), -np.inf, np.float32)
        self.pictures = np.full((channels, ranks), NOBODY, np.int64)
        self.places = np.full((channels, ranks), -1, np.int32)

    def add(self, by: Literal["largest", "means"], rows: Rows, pictures: np.ndarray) -> None:
        """Rank a batch.

        Arguments:
            by: the number of each row that counts. pictures: int64 (picture,), their numbers in the set.
        """
        if rows.quick:
            kernels = loops()
            assert kernels is not None
            column = 3 if by == "largest" else 0
            array = rows.values.numpy()
            kernels.rank(rows.numbers, column, array, pictures, self.values, self.pictures, self.places)
            return
        numbers = rows.largest if by == "largest" else rows.means
        for index, number in enumerate(pictures):
            self._add(numbers[index], int(number), rows.places(index))

    def _add(self, numbers: np.ndarray, picture: int, places: np.ndarray) -> None:
        values = np.concatenate([self.values, numbers[:, None]], 1)
        whose = np.concatenate([self.pictures, np.full((len(numbers), 1), picture)], 1)
        whose[:, -1] = np.where(numbers > -np.inf, picture, NOBODY)
        order = np.lexsort((whose, -values), axis=1)[:, : self.values.shape[1]]
        self.values = np.take_along_axis(values, order, 1)
        self.pictures = np.take_along_axis(whose, order, 1)
        self.places = np.take_along_axis(np.concatenate([self.places, places[:, None]], 1), order, 1)


def _without_nan(values: Tensor) -> Tensor:
    return torch.where(values.isnan(), -torch.inf, values)


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array
