"""What comes back of A's answer where A's values are put into B: per layer, per channel, per position. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RestoredLayer:
    """What comes back when one call of a layer gets A's values in B's run.

    Of m = (M - M_B) / (M_A - M_B) 0 is nothing and 1 all of A's answer; it may leave 0..1.

    Attributes:
        layer, call: where.
        estimate: of m for the whole layer, from one gradient; NaN if there is none.
        whole: m where the whole layer is restored; NaN while it is not known.
        strongest: m where only the channels are restored that differ most; NaN without channels, or not known.
        channels: which these are, the one that differs most first.
        all_paths: whether the whole answer becomes A's, all its numbers: every path passes here, and `whole` is 1
            whatever the layer does.
        branch: the addition that its output goes into ("layer1.0/add"): it is one branch of a residual block; else "".
        reason: why nothing can be restored here, as a sentence; else "".
    """

    layer: str
    call: int
    estimate: float = math.nan
    whole: float = math.nan
    strongest: float = math.nan
    channels: tuple[int, ...] = ()
    all_paths: bool = False
    branch: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Restored:
    """What comes back along the depth, as far as it is known.

    Attributes:
        target, target_b: the two classes; M is the logit of the first minus that of the second. Where A and B have one
            class, the second is A's runner-up.
        of_a, of_b: M of A and of B.
        layers: in execution order.
        done, total: layers with exact values, and how many there will be.
        agreement: Spearman's correlation of estimate and exact value over the layers where not all paths pass; NaN
            below three of these.
        runner_up: whether A and B have one class.
    """

    target: int
    target_b: int
    of_a: float
    of_b: float
    layers: tuple[RestoredLayer, ...]
    done: int = 0
    total: int = 0
    agreement: float = math.nan
    runner_up: bool = False


@dataclass(frozen=True)
class RestoredParts:
    """What comes back when parts of one layer get A's values: its channels one by one, or its positions.

    Attributes:
        layer, call: where. by: "channels" or "positions".
        estimate: float64 of each part, from one gradient. exact: the same measured; NaN where it is not known.
            Of channels (channel,), of positions (row, column): squares of the layer's positions.
        done, total: how many are measured, and how many will be. agreement: Spearman's correlation of the two over
            those; NaN below three.
        target, target_b, of_a, of_b, runner_up: of what; see `Restored`.
        steps: over how many values from b to a the estimate's gradient was averaged; 0 for the one gradient at b.
        whole: m where all of the layer is restored, NaN while it is not known. all_paths: see `RestoredLayer`.
    """

    layer: str
    call: int
    by: str
    estimate: np.ndarray
    exact: np.ndarray
    done: int = 0
    total: int = 0
    agreement: float = math.nan
    target: int = -1
    target_b: int = -1
    of_a: float = math.nan
    of_b: float = math.nan
    runner_up: bool = False
    whole: float = math.nan
    all_paths: bool = False
    steps: int = 0

    @property
    def how(self) -> str:
        """How the estimate was made, in words."""
        return f"by the mean gradient of {self.steps} steps from B to A" if self.steps else "by one gradient"

    @property
    def best(self) -> np.ndarray:
        """What is known of each part: measured, or while it is not, estimated; float64, as `exact`."""
        return np.where(np.isfinite(self.exact), self.exact, self.estimate)

    @property
    def strongest(self) -> np.ndarray:
        """The parts, by index, int64 (part,): those first that bring most back, whatever its sign.

        What is measured comes before what is only estimated: the two are not on one scale. While it is measured, the
        parts stand in the order in which that happens.
        """
        if self.done < self.total:
            return np.argsort(-np.abs(np.nan_to_num(self.estimate.ravel())), kind="stable")
        only_estimated = ~np.isfinite(self.exact.ravel())
        return np.lexsort((-np.abs(np.nan_to_num(self.best.ravel())), only_estimated))

    def by_channel(self, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """What is measured and what is estimated of each channel; None if these are not so many channels."""
        return (self.exact, self.estimate) if self.exact.shape == (count,) else None

    def moved(self, share: np.ndarray | float) -> np.ndarray:
        """M of B's run where this share comes back."""
        return np.asarray(self.of_b + share * (self.of_a - self.of_b))


def spearman(one: Sequence[float] | np.ndarray, other: Sequence[float] | np.ndarray) -> float:
    """Spearman's rank correlation, equal values sharing a rank; NaN below three values, or if one side is constant.

    >>> spearman([1, 2, 3], [10, 20, 40])
    1.0
    """
    first, second = (np.asarray(each, np.float64).ravel() for each in (one, other))
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3:
        return math.nan
    ranks = [_ranks(each[known]) for each in (first, second)]
    spread = [each - each.mean() for each in ranks]
    size = math.sqrt(float((spread[0] ** 2).sum() * (spread[1] ** 2).sum()))
    return round(float((spread[0] * spread[1]).sum() / size), 12) if size else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = (ends - (counts - 1) / 2)[inverse]
    return ranks
