"""A tensor on an accelerator reduced where it lies; nothing waits for the numbers before somebody reads them.

Each reduction only queues work: one that is read at once has the processor wait for the device, which then waits for
the next one. All that is not finite is left out on the device too, because it cannot be known in time whether there is
any, and the value may be written over before anybody asks.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.results.looks import HISTOGRAM_BINS, QUANTILE_LEVELS

LARGEST = 1 << 26  # values that are sorted at once: with their places, which torch sorts too, 1.6 GB


def lies_there(values: Tensor) -> bool:
    """Whether a tensor is in the memory of an accelerator."""
    return values.device.type != "cpu"


class Awaited:
    """Numbers that a device computes, and hands over all at once when they are read.

    Arguments:
        parts: on one device, of any shapes, some of them float64; counts must be below 2^53.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._shapes = [part.shape for part in parts]
        self._found = torch.cat([part.reshape(-1) for part in parts])  # float64, as the widest of them

    def read(self) -> list[np.ndarray]:
        """Each part as float64, in its shape."""
        found = self._found.cpu().numpy()
        ends = np.cumsum([shape.numel() for shape in self._shapes])[:-1]
        return [part.reshape(shape) for part, shape in zip(np.split(found, ends), self._shapes, strict=True)]


@dataclass(frozen=True)
class Found:
    """What a device found of the rows of a matrix.

    Attributes:
        size: values in a row. count: int64 (row,), how many of them are finite. nan: int64 (row,), how many are NaN.
        zeros: int64 (row,), how many are 0.
        mean, variance: float64 (row,), of the finite values, NaN where there is none.
        least, most: float64 (row,), infinite where no value is finite.
        neighbours: float64 (2, level) where it was asked for: the finite values of all rows that stand below and above
            each of `QUANTILE_LEVELS` in their order. below: int64 (bin - 1,): how many are smaller than the inner edges
            of equal bins. Both mean nothing where no value is finite; `below` neither where all are the same.
    """

    size: int
    count: np.ndarray
    nan: np.ndarray
    zeros: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    least: np.ndarray
    most: np.ndarray
    neighbours: np.ndarray | None = None
    below: np.ndarray | None = None


def reduce(rows: Tensor, distribution: bool) -> Callable[[], Found]:
    """Begin to reduce a real (row, value) tensor with at least one value; what is given waits for what was found.

    In few steps, because each takes as long to be queued as it takes to be done.
    """
    wide, size = rows.double(), rows.shape[1]
    inf = torch.inf
    filled = wide.nan_to_num(inf, inf, inf)
    least, most = filled.amin(1), wide.nan_to_num(-inf, -inf, -inf).amax(1)
    # with the largest value in the place of each that is not finite, which is taken out again when it is read
    variance, mean = torch.var_mean(filled.minimum(most[:, None]), 1, correction=0)
    bad = (filled == inf).sum(1)
    parts = [bad, rows.isnan().sum(1), wide.count_nonzero(1), mean, variance, least, most]
    parts += _distribution(filled.reshape(-1), bad) if distribution else ()
    awaited = Awaited(parts)

    def read() -> Found:
        found = awaited.read()
        bad, nan, other = (part.astype(np.int64) for part in found[:3])
        mean, variance, least, most = found[3:7]
        count = size - bad
        mean, variance = _without(bad, size, mean, variance, least, most)
        return Found(size, count, nan, size - other, mean, variance, least, most, *found[7:])

    return read


def _without(
    bad: np.ndarray, size: int, mean: np.ndarray, variance: np.ndarray, least: np.ndarray, most: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of rows, some of whose values are not finite and were taken for the largest one."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        share = size / (size - bad)
        away = mean - most  # about the largest value, so that a large mean loses no digits
        others = most + share * away, share * (variance + away**2) - (share * away) ** 2
        mean, variance = (np.where(bad, other, whole) for other, whole in zip(others, (mean, variance), strict=True))
    constant = least == most
    mean, variance = np.where(constant, least, mean), np.where(constant, 0.0, np.maximum(variance, 0.0))
    return np.where(bad == size, np.nan, mean), np.where(bad == size, np.nan, variance)


def _distribution(filled: Tensor, bad: Tensor) -> list[Tensor]:
    """`Found.neighbours` and `Found.below`, of values of which those that are not finite are +Inf."""
    ordered = filled.sort().values
    levels, steps = _constants(filled.device)
    last = (filled.numel() - 1 - bad.sum(0, keepdim=True)).clamp(min=0)
    low = (levels * last).long()
    # indices of one axis, for a plain number on the device would be waited for
    neighbours = ordered[torch.stack([low, (low + 1).minimum(last)])]
    least = ordered[:1]
    edges = steps * ((ordered[last] - least) / HISTOGRAM_BINS) + least
    return [neighbours, torch.searchsorted(ordered, edges)]


@functools.cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """The levels of the quantiles, and the numbers of the inner edges, on a device."""
    with torch.inference_mode(False):
        levels = torch.tensor(QUANTILE_LEVELS, dtype=torch.float64, device=device)
        return levels, torch.arange(1, HISTOGRAM_BINS, dtype=torch.float64, device=device)
