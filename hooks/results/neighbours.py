"""How far a picture's features are from their k-th nearest among others; numpy only."""

from __future__ import annotations

import numpy as np

BLOCK = 1024  # rows of either side that are held against each other at once: 8 MB of distances


def unit(features: np.ndarray) -> np.ndarray:
    """Float32 (picture, channel) of length 1; of one that is zero, or that is not finite, as it is."""
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
        usable = np.isfinite(lengths) & (lengths > 0)
        return np.where(usable, features / np.where(usable, lengths, 1), features).astype(np.float32)


def kth_distances(others: np.ndarray, given: np.ndarray, k: int, itself: bool = False) -> np.ndarray:
    """Float64 (picture,): the distance of each from the k-th nearest of the others.

    Arguments:
        others, given: (picture, channel). Others that are not finite are nobody's neighbour. itself: whether the given
            are the others: none is then its own neighbour.

    Returns:
        NaN of one that holds NaN; +inf of one that is not finite otherwise, or that has fewer than k neighbours.

    >>> kth_distances(np.array([[0.0], [1.0], [3.0]]), np.array([[0.0]]), 2)
    array([1.])
    """
    usable = np.flatnonzero(np.isfinite(others).all(1))
    found = np.where(np.isnan(given).any(1), np.nan, np.inf)
    there = np.flatnonzero(np.isfinite(given).all(1))
    for start in range(0, len(there), BLOCK):
        rows = there[start : start + BLOCK]
        nearest = np.full((len(rows), k), np.inf)
        queries = given[rows].astype(np.float64)
        for first in range(0, len(usable), BLOCK):
            some = usable[first : first + BLOCK]
            squares = _squares(queries, others[some].astype(np.float64))
            if itself:
                squares[rows[:, None] == some] = np.inf
            nearest = np.partition(np.concatenate([nearest, squares], 1), k - 1, axis=1)[:, :k]
        found[rows] = np.sqrt(nearest[:, k - 1])
    return found


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances (row of one, row of other)."""
    found = (one * one).sum(1)[:, None] + (other * other).sum(1) - 2 * (one @ other.T)
    return np.asarray(np.maximum(found, 0))
