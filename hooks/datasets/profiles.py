"""Collects a handful of numbers of each picture at each layer: what `baseline` finds outliers by.

They are made of what a sweep has read of each channel anyway, so that no value of a layer is read again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hookscope.hooks.datasets.collecting import Collector, OfLayers, Patterns, Place
from hookscope.hooks.datasets.layer_batch import LayerBatch
from hookscope.hooks.numbers.rows import Rows
from hookscope.hooks.results.profiles import STATISTICS, LayerProfile


def profiles(layers: Patterns = None) -> Collector:
    """Of each picture, at each layer, the mean, the standard deviation, the share of zeros and the largest value.

    Arguments:
        layers: see `layers.names.select`; by default every module without children. 16 bytes are kept for each of them
            and each picture, 3 MB for 1,000 pictures and 190 layers.
    """
    return ProfileCollector(layers)


class ProfileCollector(OfLayers):
    """See `profiles`."""

    whole = True  # asks for no channel; see `Plan.read`

    def __init__(self, layers: Patterns) -> None:
        super().__init__(layers)
        self._known: dict[Place, _Table] = {}

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        rows = batch.rows
        if rows is None or not rows.values.numel():
            return
        place = batch.layer, batch.call
        if place not in self._known:
            self._known[place] = _Table()
        self._known[place].add(batch.pictures, profile(rows))

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        return {"profiles": tuple(LayerProfile(*place, *table.ordered()) for place, table in self._known.items())}


class _Table:
    """Rows for pictures in the order in which they come; a sweep may have thousands of batches of one picture."""

    def __init__(self) -> None:
        self._pictures = np.empty(0, np.int64)
        self._values = np.empty((0, len(STATISTICS)), np.float32)
        self._count = 0

    def add(self, pictures: np.ndarray, values: np.ndarray) -> None:
        end = self._count + len(pictures)
        if end > len(self._pictures):
            known, room = self.ordered(), max(2 * end, 64)
            self._pictures, self._values = np.empty(room, np.int64), np.empty((room, len(STATISTICS)), np.float32)
            self._pictures[: self._count], self._values[: self._count] = known
        self._pictures[self._count : end], self._values[self._count : end] = pictures, values
        self._count = end

    def ordered(self) -> tuple[np.ndarray, np.ndarray]:
        """Their numbers, rising, and their values; their own memory."""
        order = np.argsort(self._pictures[: self._count], kind="stable")
        return self._pictures[order], self._values[order]


def profile(rows: Rows) -> np.ndarray:
    """Float32 (picture, statistic) of a batch: `STATISTICS` of each picture's channels and positions together."""
    pictures, _, size = rows.values.shape
    found = np.empty((pictures, len(STATISTICS)))
    if rows.quick and (loop := _loop()) is not None:
        loop(rows.numbers, size, found)
    else:
        _profile(rows.numbers, size, found)
    found[:, 1] **= 0.5
    if rows.nan is not None and rows.inf is not None:
        found[(rows.nan + rows.inf).any(1)] = np.inf
    with np.errstate(over="ignore"):  # of float64 values beyond float32
        return found.astype(np.float32)


def _profile(numbers: np.ndarray, size: int, found: np.ndarray) -> None:
    """See `profile_kernels.profile`."""
    channels = numbers.shape[1]
    sums = np.ones(channels) @ numbers  # (picture, 5); one product is faster than a sum along that axis
    found[:, 0] = sums[:, 0] / channels
    away = numbers[..., 0] - found[:, :1]
    found[:, 1] = (sums[:, 1] + (away * away).sum(1)) / channels  # of as many values in each channel
    found[:, 2], found[:, 3] = sums[:, 4] / (channels * size), numbers[..., 3].max(1)


@functools.cache
def _loop() -> Callable[[np.ndarray, int, np.ndarray], None] | None:
    """The same, compiled; None without numba."""
    try:
        from hookscope.hooks.numbers import profile_kernels
    except ImportError:
        return None
    found: Callable[[np.ndarray, int, np.ndarray], None] = profile_kernels.profile
    return found
