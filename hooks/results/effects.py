"""What each channel of a layer does to the number that is explained: estimated by a gradient, and measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Muting = Literal["zero", "mean"]
UNKNOWN = -1  # of `Effects.top_changed`: not measured, or the answer has no first class
LEAST_FOR_RANKS = 3  # channels, below which a correlation of ranks says nothing


@dataclass(frozen=True)
class ChannelShares:
    """How much of the explained number each channel of a layer speaks for: gradient x activation, from one pass.

    Attributes:
        layer, call: where.
        target: the class index that is explained, -1 if the target is no class. score: its value.
        against: of one target against another the other's class index, as `target`, and `score` is the difference; else
            -1.
        values: float64 (channel,), the sum over the channel's positions of activation x gradient, signed: positive
            speaks for the target. It is also what the channel's muting is estimated to take away.
        milliseconds: everything together.
    """

    layer: str
    call: int
    target: int
    score: float
    values: np.ndarray
    milliseconds: float = 0.0
    against: int = -1


@dataclass(frozen=True)
class Together:
    """What happens where several channels are muted at once, which is not the sum of muting each.

    Attributes:
        channels: int64 (channel,). effect: change of the explained number. top: the first class then, -1 if unknown.
    """

    channels: np.ndarray
    effect: float
    top: int = UNKNOWN


@dataclass(frozen=True)
class Effects:
    """The change of the explained number that muting each channel of a layer brings, one channel at a time.

    Attributes:
        layer, call: where.
        target: the class index that is explained, -1 if the target is no class. score: its value with nothing muted.
        against: of one target against another the other's class index, as `target`, and `score` is the difference; else
            -1.
        muting: what a muted channel becomes: "zero", or "mean", its own mean over its positions.
        estimate: float64 (channel,), Taylor's: the sum over the positions of (muted - activation) x gradient; NaN
            where there is no gradient. no_estimate: why not, as a sentence; "" if there is one.
        measured: float64 (channel,), the change that came of a forward pass with that channel muted: negative, if the
            channel speaks for the target; NaN while it is not measured.
        top_changed: int8 (channel,), 1 where another class comes first, 0 where it stays, `UNKNOWN` else.
        divergence: float64 (channel,), Kullback-Leibler divergence in nats of the muted answer's shares from the plain
            ones; NaN where the answer is no list of classes of which one is right.
        order: int64 (channel,), in which the channels are measured: largest |estimate| first.
        how: how many channels one pass measured, and why not more, as a sentence.
        together: several channels muted at once; None if that was not asked for.
        milliseconds: everything together.
    """

    layer: str
    call: int
    target: int
    score: float
    muting: Muting
    estimate: np.ndarray
    measured: np.ndarray
    top_changed: np.ndarray
    divergence: np.ndarray
    order: np.ndarray
    how: str = ""
    no_estimate: str = ""
    together: Together | None = None
    milliseconds: float = 0.0
    against: int = -1

    @property
    def done(self) -> int:
        """How many channels are measured."""
        return int(np.isfinite(self.measured).sum())

    @property
    def complete(self) -> bool:
        """Whether all are."""
        return self.done == len(self.measured)

    @property
    def agreement(self) -> float:
        """Spearman's correlation of estimate and measurement over the measured channels; NaN if it says nothing."""
        there = np.isfinite(self.measured) & np.isfinite(self.estimate)
        return spearman(self.estimate[there], self.measured[there])

    def strongest(self, count: int) -> np.ndarray:
        """The measured channels of the largest |effect|, int64 (channel,), largest first."""
        size = np.where(np.isfinite(self.measured), np.abs(self.measured), -1)
        return np.argsort(-size, kind="stable")[: min(count, self.done)]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation, -1..1, equal values sharing their mean rank; NaN of constants, or of two values.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    if len(first) < LEAST_FOR_RANKS:
        return math.nan
    ranks = [_ranks(values) for values in (first, second)]
    centred = [each - each.mean() for each in ranks]
    spread = math.sqrt(float(np.square(centred[0]).sum()) * float(np.square(centred[1]).sum()))
    return float(np.dot(*centred)) / spread if spread else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place], dtype=np.float64)
