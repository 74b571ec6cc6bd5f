"""What is usual at a layer over a baseline's pictures, and how far others are from that; numpy only.

Of each statistic: from the middle, in how far all but one in twenty pictures are at most on that side, so that it may
be skewed; and that in how far the furthest of the usual ones is, as of some statistics single pictures lie far out.
"""

from __future__ import annotations

import numpy as np

from hookscope.hooks.results.profiles import STATISTICS

FEWEST = 8  # pictures of a baseline
LEVELS = (0.05, 0.5, 0.95)
TOLD = {"mean": 0.05, "std": 0.05, "max": 0.5}  # of a layer's deviation: less than that is no difference
ZEROS_TOLD = 0.02  # and of its values
MOST = 1e30  # what more than that is, float32 may not hold

# Of the statistic that is furthest, (picture,) each: how far a picture is from the middle; which it is; whether it is
# above the middle. +inf where a value was not finite, 0 where nothing is known.
Beyond = tuple[np.ndarray, np.ndarray, np.ndarray]


class Usual:
    """What is usual at one call of a layer.

    Arguments:
        values: of the baseline, float (picture, statistic); NaN where the layer did not run, +inf where a value was not
            finite.
        unusual: the share of these pictures, the furthest, that do not set what is usual.
    """

    def __init__(self, values: np.ndarray, unusual: float = 0.0) -> None:
        self._values = values
        self._there = np.isfinite(values).all(1)
        self._unusual = unusual
        known = values[self._there].astype(np.float64)
        self._enough = len(known) >= FEWEST
        if self._enough:
            self._levels = np.quantile(known, LEVELS, axis=0)
            self._own, self._above = _from_middle(known, *_without_each(known))
            self._limits = np.maximum(np.sort(self._own, axis=0)[::-1], 1)  # one that is near is not made a measure

    def beyond(self, values: np.ndarray) -> Beyond:
        """How far other pictures are from what is usual; see `Beyond`."""
        there = np.isfinite(values).all(1)
        if not self._enough:
            return _furthest(values, there, None, None)
        far, above = _from_middle(values[there].astype(np.float64), *self._levels)
        return _furthest(values, there, far / self._limits[int(self._unusual * len(self._own))], above)

    def leave_each_out(self) -> Beyond:
        """How far each of the baseline's own pictures is from what is usual among the others."""
        if not self._enough:
            return _furthest(self._values, self._there, None, None)
        place = int(self._unusual * (len(self._own) - 1))
        among = self._own >= self._limits[place]  # without itself, the next one has its place
        limits = np.where(among, self._limits[place + 1], self._limits[place])
        return _furthest(self._values, self._there, self._own / limits, self._above)


def part_of(values: np.ndarray, usual: np.ndarray) -> tuple[int, float, bool, float, float] | None:
    """Which statistic of a layer parts most between a set's typical picture and a baseline's.

    Of each statistic the median over the set, from the baseline's, in how far the 95 % quantile of the baseline's
    pictures is from that, or the 5 % quantile where it is below.

    Arguments:
        values, usual: of the set and of the baseline, float (picture, statistic); pictures with values that are not
            finite are left out.

    Returns:
        As `STATISTICS` lists them which it is, how far that is, whether it is above; and the two medians. None if
        the set has no such picture, or the baseline fewer than `FEWEST`.
    """
    own, known = (each[np.isfinite(each).all(1)].astype(np.float64) for each in (values, usual))
    if not len(own) or len(known) < FEWEST:
        return None
    middle, levels = np.median(own, axis=0), np.quantile(known, LEVELS, axis=0)
    far, above = _from_middle(middle[None], *levels)
    which = int(far[0].argmax())
    return which, float(far[0, which]), bool(above[0, which]), float(middle[which]), float(levels[1, which])


def _from_middle(
    values: np.ndarray, low: np.ndarray, middle: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far values (picture, statistic) are from the middle, in how far a level is on that side; whether above it."""
    above = values >= middle
    usual = np.maximum(np.where(above, high - middle, middle - low), _least(middle))
    return np.minimum(np.abs(values - middle) / usual, MOST), above


def _furthest(values: np.ndarray, there: np.ndarray, known: np.ndarray | None, higher: np.ndarray | None) -> Beyond:
    """See `Beyond`.

    Arguments:
        there: which pictures have finite values. known, higher: how far these are, and whether above; None if too
            little is known.
    """
    far, above = np.where(np.isnan(values), 0.0, np.inf), np.ones(values.shape, bool)
    far[there] = 0 if known is None else known
    above[there] = True if higher is None else higher
    which = far.argmax(1)
    rows = np.arange(len(values))
    return far[rows, which], which, above[rows, which]


def _without_each(values: np.ndarray) -> list[np.ndarray]:
    """At each of `LEVELS`, of each picture, the quantile of each statistic over all others: (picture, statistic)."""
    ordered = np.sort(values, axis=0)
    ranks = np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0)
    columns, last, found = np.arange(values.shape[1]), len(values) - 2, []
    for level in LEVELS:
        place = last * level
        first = min(int(place), last)
        lower, upper = (ordered[each + (each >= ranks), columns] for each in (first, min(first + 1, last)))
        found.append(lower + (place - first) * (upper - lower))
    return found


def _least(middle: np.ndarray) -> np.ndarray:
    """What each statistic differs by at least where it is said to, from the middle of all of them (..., statistic)."""
    deviation = middle[..., [STATISTICS.index("std")]]
    found = np.maximum([TOLD.get(name, 0.0) for name in STATISTICS] * deviation, np.finfo(np.float32).tiny)
    found[..., STATISTICS.index("zeros")] = ZEROS_TOLD
    return np.asarray(found)
