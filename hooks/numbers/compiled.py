"""The loops of `kernels` over tensors; nothing where numba is not installed.

Why compiled at all: torch has no call for several sums of one reading, so it reads a layer's output six times where
these read it once. Each runs in the thread that asks: at 5 of 10 billion values a second they are faster than other
threads wake up.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.results.distributions import channel_distances

WORTH_THREADS = 1 << 20  # values that are sorted, above which starting threads costs little beside it

_only_if_loaded: ContextVar[bool] = ContextVar("only_if_loaded", default=False)


@contextmanager
def only_if_loaded() -> Iterator[None]:
    """In this block nothing waits for the loops to be loaded, which takes half a second: the other ways serve.

    For who reduces a few tensors once; of one picture the loops save some 20 ms.
    """
    token = _only_if_loaded.set(True)
    try:
        yield
    finally:
        _only_if_loaded.reset(token)


def kernels() -> ModuleType | None:
    """The loops, or None without numba. The first call imports them, and compiles them if that was not kept."""
    if _only_if_loaded.get() and f"{__package__}.kernels" not in sys.modules:
        return None
    return _loaded()


@functools.cache
def _loaded() -> ModuleType | None:
    try:
        from hookscope.hooks.numbers import kernels as found
    except ImportError:
        return None
    return found


def _loops() -> ModuleType:
    found = kernels()
    assert found is not None, "ask `usable` first"
    return found


def usable(values: Tensor) -> bool:
    """Whether a tensor is of the kind that the loops read: float32 in this computer's memory, without gaps."""
    return (
        values.dtype == torch.float32
        and values.device.type == "cpu"
        and values.is_contiguous()
        and kernels() is not None
    )


def moments(rows: Tensor, spread: float) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The numbers of each row of a usable (row, value) tensor, and of all together.

    Arguments:
        spread: of the mean square, above which a variance has not lost digits.

    Returns:
        float64 (row, 7) and (7,): mean, standard deviation, least, largest, share of zeros, and no NaN and no infinity.
        Where a row's variance has lost digits the second is None, and the rows' numbers are mean, variance, least,
        largest, number of zeros, and two that mean nothing. Nothing at all where a value is NaN or infinite.
    """
    values, loops = rows.numpy(), _loops()
    orders, found = np.empty((len(values), 2), np.int32), np.empty((len(values), 7))
    if not loops.moments(values, values.view(np.int32), orders, orders.view(np.float32), found):
        return None
    whole = np.empty(7)
    return found, whole if loops.together(found, values.shape[1], spread, whole) else None


def by_image(values: Tensor, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The numbers of each channel of a usable (image, channel, value) tensor, of all together, and of each image.

    Arguments:
        spread: as `moments` has it.

    Returns:
        float64 (channel, 7) and (7,), as `moments` has them, and the largest magnitudes (image, channel). Nothing where
        a value is NaN or infinite, or a variance has lost digits.
    """
    images, channels, size = values.shape
    array, loops = values.numpy().reshape(images * channels, size), _loops()
    orders, each = np.empty((len(array), 2), np.int32), np.empty((len(array), 5))
    if not loops.moments(array, array.view(np.int32), orders, orders.view(np.float32), each):
        return None
    mean, variance, least, most = each[:, 0], each[:, 1], each[:, 2], each[:, 3]
    if ((least < most) & ~(variance > spread * (variance + mean**2))).any():
        return None
    found, whole, largest = np.empty((channels, 7)), np.empty(7), np.empty((images, channels))
    loops.over_images(each.reshape(images, channels, 5), found, largest)
    return (found, whole, largest) if loops.together(found, images * size, 0.0, whole) else None


def by_bits(values: np.ndarray, count: int) -> np.ndarray:
    """Int64 (2^count,): how many float32 values (value,) begin with the same bits: first positive ones, then negative.

    There may be 2^31 values at most.
    """
    counts = np.zeros(1 << count, np.int64)
    _loops().by_bits(values.view(np.int32), 32 - count, counts)
    return counts


def squares(rows: Tensor, others: Tensor) -> np.ndarray:
    """The sums of squares of two usable (row, value) tensors and of their difference, row by row: float64 (row, 3).

    Right to 1e-6: they are summed in float32 first, 2,048 at a time, where its range allows.
    """
    found = np.empty((len(rows), 3))
    _loops().squares(rows.numpy(), others.numpy(), found)
    return found


def distances(rows: Tensor, others: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The two distances of `results.distributions.channel_distances` of usable (row, value) tensors, float64 (row,).

    In as many threads as torch has where there is much to be sorted.
    """
    loops, one, other = _loops(), rows.numpy(), others.numpy()
    found = np.empty((len(one), 2))

    def measure(place: np.ndarray) -> None:
        first, second = (np.sort(each[place[0] : place[-1] + 1], axis=1) for each in (one, other))
        loops.distances(first, second, found[place[0] : place[-1] + 1])

    if not one.size or not other.size:
        return channel_distances(one, other)
    threads = torch.get_num_threads() if one.size + other.size > WORTH_THREADS else 1
    parts = [part for part in np.array_split(np.arange(len(one)), threads) if part.size]
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(measure, parts))
    for row in np.flatnonzero(np.isnan(found[:, 0])):  # it has values that are not finite
        found[row] = np.stack(channel_distances(one[row : row + 1], other[row : row + 1]), 1)
    return found[:, 0], found[:, 1]


def histogram(values: np.ndarray, edges: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Int64 (bin,): how many finite values (value,) lie in each bin.

    Arguments:
        edges: float64 (bin + 1,), equally far apart, no value outside. limits: float32 (bin + 1,), the smallest float32
            not below each.
    """
    bins = len(edges) - 1
    closed = np.append(limits[:-1], np.float32(np.inf))  # the largest value is in the last bin
    counts = np.zeros(bins, np.int64)
    _loops().histogram(values, float(edges[0]), bins / (edges[-1] - edges[0]), closed, counts)
    return counts


def ranked(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Float64 (rank,): the values that stand at some places (from 0) of the sorted finite float32 values (value,).

    Values are counted by the first bits of their order, and those in a bin that holds a wanted rank by the next bits,
    and by the last: exact, and without sorting anything. There may be 2^31 values at most.
    """
    loops = _loops()
    bits = values.view(np.int32)
    positive, negative = by_bits(values, loops.FIRST).reshape(2, -1)
    counts = np.concatenate([negative[::-1], positive])
    zero = len(counts) // 2  # the bin of 0 and of less than any activation is: half of all values after a ReLU
    upto = np.cumsum(counts)
    of_zero = (upto[zero - 1] <= ranks) & (ranks < upto[zero])
    if of_zero.any() and counts[zero] == len(bits) - np.count_nonzero(bits):
        found = np.zeros(len(ranks))
        if not of_zero.all():
            found[~of_zero] = _sought(bits, counts, ranks[~of_zero])
        return found
    return _sought(bits, counts, ranks)


def _sought(bits: np.ndarray, counts: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """The values of some ranks, once the first digits are counted."""
    loops = _loops()
    first, within, slots, slot = _found(counts[None], np.zeros(len(ranks), np.int64), ranks)
    kept, where = np.empty(len(bits), np.int32), np.empty(len(bits), np.int16)
    left = loops.chosen(bits, slots[0], kept, where)
    counts = np.zeros((slots.max() + 1, 1 << loops.NEXT), np.int64)
    loops.by_next(kept[:left], where[:left], loops.NEXT, counts)
    middle, within, slots, slot = _found(counts, slot, within)
    left = loops.narrowed(kept[:left], where[:left], slots)
    counts = np.zeros((slots.max() + 1, 1 << loops.NEXT), np.int64)
    loops.by_next(kept[:left], where[:left], 0, counts)
    last, *_ = _found(counts, slot, within)
    order = (first << 2 * loops.NEXT | middle << loops.NEXT | last) - (1 << 31)
    return _values(order.astype(np.int32)).astype(np.float64)


def _found(
    counts: np.ndarray, slot: np.ndarray, ranks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """In which bin of `counts` (slot, bin) each rank within its slot lies.

    Returns:
        the bins and the ranks within them, both (rank,); an int16 table (slot, bin) of the slots of what lies in those
        bins, -1 elsewhere; and the new slot of each rank.
    """
    upto = np.cumsum(counts)
    before = np.append(0, upto)
    wide = counts.shape[1]
    ranks = ranks + before[slot * wide]
    places = np.searchsorted(upto, ranks, "right")
    taken, new = np.unique(places, return_inverse=True)
    slots = np.full(counts.shape, -1, np.int16)
    slots.reshape(-1)[taken] = np.arange(len(taken))
    return places - slot * wide, ranks - before[places], slots, new


def _values(orders: np.ndarray) -> np.ndarray:
    """The float32 values of their orders, as `kernels.signed` makes them, int32."""
    return (orders ^ (orders >> 31 & 0x7FFFFFFF)).view(np.float32)
