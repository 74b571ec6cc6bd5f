"""How far the values of one channel are from those of another where it does not matter which stands where.

An object that has only moved leaves the values of a channel as they are and puts them elsewhere: both distances are 0
then. They are exact, from sorted values, and take channels with different numbers of values. Nothing imports torch.
"""

from __future__ import annotations

import math

import numpy as np


def channel_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wasserstein-1 and Kolmogorov-Smirnov distance of each channel's values in A and in B.

    The first is in the layer's own units: by how much values have to move, on average, for the one distribution to
    become the other. The second, 0..1, is the largest difference of the two shares of values up to a number.

    Arguments:
        a, b: float (channel, position), of as many channels; the numbers of positions may differ. NaN and infinite
            values are left out; a channel without another value has NaN.

    Returns:
        Two float64 (channel,).

    >>> channel_distances(np.array([[0.0, 1.0]]), np.array([[1.0, 2.0]]))
    (array([1.]), array([0.5]))
    """
    found = [_distances(one, other) for one, other in zip(a, b, strict=True)]
    both = np.array(found, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _distances(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    first, second = (_sorted(values) for values in (one, other))
    if not first.size or not second.size:
        return math.nan, math.nan
    return _wasserstein(first, second), max(_excess(first, second), _excess(second, first))


def _sorted(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    return np.sort(values if finite.all() else values[finite])


def _excess(first: np.ndarray, second: np.ndarray) -> float:
    """By how much the share of the first's values up to a number is at most above that of the second's.

    It is so right after one of the first's own values; of equal ones the last counts, and is the largest.
    """
    shares = np.arange(1, first.size + 1) / first.size
    return float((shares - np.searchsorted(second, first, "right") / second.size).max())


def _wasserstein(first: np.ndarray, second: np.ndarray) -> float:
    """The area between the two shares; of as many values the mean distance of those of one rank."""
    if first.size == second.size:
        return float(np.abs(first.astype(np.float64) - second).mean())
    merged = np.sort(np.concatenate([first, second])).astype(np.float64)
    shares = [np.searchsorted(each, merged[:-1], "right") / each.size for each in (first, second)]
    return float(np.dot(np.abs(shares[0] - shares[1]), np.diff(merged)))
