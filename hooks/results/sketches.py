"""Counts of values in fixed bins, so that what was counted in two batches adds up exactly.

A histogram between a batch's own minimum and maximum cannot be merged with another one without guessing. Here the bins
are the same for everybody: a float32's sign, exponent and first six bits of its fraction, so that a bin is at most 1/64
of its values wide, from 1e-38 to 3e38, and 0 has a bin of its own (shared only with subnormal numbers). Quantiles read
from it are within 1/64 of the value. The idea is that of Masson, Rim and Lee, "DDSketch: A Fast and Fully-Mergeable
Quantile Sketch with Relative-Error Guarantees", VLDB 2019; taking bits instead of a logarithm is what makes it fast.
"""

from __future__ import annotations

import numpy as np

from hookscope.hooks.results.looks import HISTOGRAM_BINS
from hookscope.hooks.results.summaries import Sketch

FRACTION_BITS = 6
SHIFT = 23 - FRACTION_BITS  # of a float32's bits, to its bin
SIGN = 1 << (31 - SHIFT)
INFINITE = 255 << FRACTION_BITS  # the first key of infinities and NaN


def merge(first: Sketch, second: Sketch) -> Sketch:
    """The counts of both together: exact, and the order does not matter."""
    keys, where = np.unique(np.concatenate([first.keys, second.keys]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, where, np.concatenate([first.counts, second.counts]))
    return Sketch(keys.astype(np.int32), counts)


def limits(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float64 (bin,): the lowest and the highest value of each bin; both are 0 for the bin of 0."""
    size = np.abs(keys.astype(np.int64))
    near = _from_bits(size << SHIFT)
    far = _from_bits(np.minimum((size + 1) << SHIFT, 0x7F7FFFFF))
    near, far = np.where(size, near, 0.0), np.where(size, far, 0.0)
    return np.where(keys < 0, -far, near), np.where(keys < 0, -near, far)


def cumulative(sketch: Sketch, least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """The share of values below each of a rising list of positions, linear within a bin; two arrays (position,).

    Arguments:
        least, most: the exact extremes, by which the outermost bins are cut.
    """
    low, high = limits(sketch.keys)
    low, high = low.clip(least, most), high.clip(least, most)
    after = np.cumsum(sketch.counts) / max(int(sketch.counts.sum()), 1)
    before = np.concatenate([[0.0], after[:-1]])
    return np.stack([low, high], 1).reshape(-1), np.stack([before, after], 1).reshape(-1)


def quantiles(sketch: Sketch, levels: np.ndarray, least: float, most: float) -> np.ndarray:
    """Float64 (level,): the value below which each share of the values lies, to 1/64 of it; NaN if there is none."""
    if not sketch.counts.size:
        return np.full(len(levels), np.nan)
    positions, shares = cumulative(sketch, least, most)
    return np.interp(levels, shares, positions)


def histogram(sketch: Sketch, least: float, most: float) -> tuple[np.ndarray, np.ndarray]:
    """Int64 (bin,) counts in equal bins between the extremes, and float64 (bin + 1,) edges.

    The total is exact; a value close to an edge may be counted on its other side.
    """
    if not sketch.counts.size:
        return np.zeros(HISTOGRAM_BINS, np.int64), np.full(HISTOGRAM_BINS + 1, np.nan)
    edges = histogram_edges(least, most)
    total = int(sketch.counts.sum())
    positions, shares = cumulative(sketch, least, most)
    # A step (the bin of 0) stands twice at one position; a value on an inner edge belongs to the bin above it.
    below = np.rint(_interpolate_below(edges[1:-1], positions, shares) * total)
    return np.diff(below, prepend=0, append=total).astype(np.int64), edges


def histogram_edges(least: float, most: float) -> np.ndarray:
    """Float64 (bin + 1,) equal bins; if all values are the same, half a unit to either side of it."""
    if least == most:
        half = max(0.5, abs(least) * 1e-6)
        least, most = least - half, most + half
    return np.linspace(least, most, HISTOGRAM_BINS + 1)


def wasserstein(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """The area between two cumulative distributions, in the values' unit.

    It is how far, on average, a value has to be moved to turn one set into the other (Wasserstein-1, or earth mover's
    distance; Vallender 1974).

    Arguments:
        first, second: what `cumulative` gives.
    """
    positions = np.unique(np.concatenate([first[0], second[0]]))
    widths = np.diff(positions)
    after = _interpolate_above(positions[:-1], *first) - _interpolate_above(positions[:-1], *second)
    before = _interpolate_below(positions[1:], *first) - _interpolate_below(positions[1:], *second)
    # between two positions the difference is a straight line: two triangles where it crosses 0, else a trapezium
    crossing = after * before < 0
    size = np.abs(after) + np.abs(before)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = np.where(crossing, (after**2 + before**2) / (2 * size), size / 2)
    return float(area @ widths)


def divergence(first: Sketch, second: Sketch) -> float:
    """The Jensen-Shannon divergence of two sets of values over these bins, in bits, 0 (the same) to 1 (nothing shared).

    Source: Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on Information Theory 1991.
    NaN if either is empty.
    """
    if not first.counts.size or not second.counts.size:
        return float("nan")
    keys = np.union1d(first.keys, second.keys)
    shares = np.zeros((2, len(keys)))
    for row, sketch in zip(shares, (first, second), strict=True):
        row[np.searchsorted(keys, sketch.keys)] = sketch.counts / sketch.counts.sum()
    value = entropy(shares.mean(0)) - (entropy(shares[0]) + entropy(shares[1])) / 2
    return min(max(value, 0.0), 1.0)


def entropy(weights: np.ndarray) -> float:
    """Shannon's entropy of counts or shares, in bits; NaN if there are none."""
    total = weights.sum()
    if not total:
        return float("nan")
    shares = weights[weights > 0] / total
    return float(-(shares @ np.log2(shares))) + 0.0


def _from_bits(bits: np.ndarray) -> np.ndarray:
    return bits.astype(np.int32).view(np.float32).astype(np.float64)


def _interpolate_below(at: np.ndarray, positions: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The share of values strictly below each position."""
    return _interpolate(at, positions, shares, "left")


def _interpolate_above(at: np.ndarray, positions: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The share of values at or below each position."""
    return _interpolate(at, positions, shares, "right")


def _interpolate(at: np.ndarray, positions: np.ndarray, shares: np.ndarray, side: str) -> np.ndarray:
    index = np.searchsorted(positions, at, side)  # type: ignore[call-overload]
    left, right = np.maximum(index - 1, 0), np.minimum(index, len(positions) - 1)
    width = positions[right] - positions[left]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = shares[left] + (shares[right] - shares[left]) * (at - positions[left]) / width
    return np.where(index == 0, 0.0, np.where(index == len(positions), 1.0, inside))
