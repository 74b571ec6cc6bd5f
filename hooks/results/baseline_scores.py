"""How pictures stand among those of a baseline: how probable that is, and at which layer it shows; numpy only."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from hookscope.hooks.results.picture_numbers import PictureNumbers, Place
from hookscope.hooks.results.profiles import NAMES, STATISTICS

SURE = 0.05  # a probability below which a picture is called an outlier
SCORES = ("neighbours", "energy", "layers")


@dataclass(frozen=True)
class Own:
    """The baseline's own pictures, each held against the others; see `BaselineScores`."""

    distance: np.ndarray | None
    beyond: np.ndarray
    which: np.ndarray
    above: np.ndarray

    @functools.cached_property
    def furthest(self) -> np.ndarray:
        """Float32 (picture,): `beyond` at the layer where it is largest."""
        return furthest(self.beyond)


def furthest(beyond: np.ndarray) -> np.ndarray:
    """Float32 (picture,), of (picture, layer)."""
    return np.asarray(beyond.max(1)) if beyond.size else np.zeros(len(beyond), np.float32)


@dataclass(frozen=True)
class Standing:
    """One score of each picture, and how it stands among those of the baseline's pictures.

    Attributes:
        values: float (picture,), higher where it is less like the baseline.
        below: float64 (picture,): the share of the baseline's pictures that score less.
        p: float64 (picture,): the probability of such a score by chance, (1 + how many of the baseline's score as high)
            / (1 + how many there are). NaN, as `below`, of a picture that has no score.
        usual: float (picture,): the scores of the baseline's pictures, each held against the others.
    """

    values: np.ndarray
    below: np.ndarray
    p: np.ndarray
    usual: np.ndarray


@dataclass(frozen=True)
class BaselineScores:
    """How far each picture is from a baseline.

    Attributes:
        usual: what is known of the baseline's pictures. own: how far each of them is from the others.
        numbers: what is known of these pictures, a row for each.
        rows: int64 (picture,): which of the baseline's pictures each is, by row, -1 for none; those that are one were
            held against all the others.
        distance: float64 (picture,): of the unit-norm features from the k-th nearest of the baseline's, 0..2 (Sun et
            al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022); +inf of features that are not
            finite, NaN of a picture that has none; None if there are no features.
        beyond: float32 (picture, layer): how far the picture is from the middle of the baseline's, in the statistic
            that is furthest, as a multiple of how far the furthest of the baseline's usual pictures is; see `usual`.
        which: int8 (picture, layer): that statistic, as `STATISTICS` lists them. above: bool, whether it is higher.
    """

    usual: PictureNumbers = field(repr=False)
    own: Own = field(repr=False)
    numbers: PictureNumbers = field(repr=False)
    rows: np.ndarray
    distance: np.ndarray | None
    beyond: np.ndarray
    which: np.ndarray
    above: np.ndarray

    @property
    def pictures(self) -> np.ndarray:
        """Int64 (picture,), their numbers."""
        return self.numbers.pictures

    @property
    def layers(self) -> tuple[Place, ...]:
        """The calls of layers, in execution order."""
        return self.numbers.places

    @property
    def inside(self) -> np.ndarray:
        """Bool (picture,): those that are in the baseline."""
        return self.rows >= 0

    @property
    def energy(self) -> np.ndarray | None:
        """Float32 (picture,): -log of the sum of the exponentials of the logits; None where there is none."""
        return self.numbers.energy

    @functools.cached_property
    def furthest(self) -> np.ndarray:
        """Float32 (picture,): `beyond` at the layer where it is largest."""
        return furthest(self.beyond)

    # --- how probable

    def of(self, score: str) -> Standing | None:
        """One of the scores; None if there is none of any picture, here or in the baseline.

        Arguments:
            score: "neighbours", by `distance`; "energy"; or "layers", by `furthest`, whose probability needs no
                correction for the number of layers: the baseline's is as much of a choice among as many.
        """
        pairs = {
            "neighbours": (self.distance, self.own.distance),
            "energy": (self.energy, self.usual.energy),
            "layers": (self.furthest, self.own.furthest),
        }
        values, own = pairs[score]
        if values is None or own is None:
            return None
        ordered = np.sort(own[~np.isnan(own)])
        less = np.searchsorted(ordered, values, side="left")
        count = len(ordered) - self.inside  # one that is in the baseline is held against the others
        none = np.isnan(values) | (count < 1)
        below = np.where(none, np.nan, less / np.maximum(count, 1))
        return Standing(values, below, np.where(none, np.nan, (1 + count - less) / (1 + count)), own)

    @property
    def distance_p(self) -> np.ndarray | None:
        """Float64 (picture,): the probability of such a distance by chance; NaN where there is none."""
        return None if (found := self.of("neighbours")) is None else found.p

    @property
    def energy_p(self) -> np.ndarray | None:
        """The same of such an energy, or a higher one."""
        return None if (found := self.of("energy")) is None else found.p

    @functools.cached_property
    def layers_p(self) -> np.ndarray:
        """The same of being so far away at any layer, in any statistic."""
        found = self.of("layers")
        assert found is not None  # there is always one
        return found.p

    def quantiles(self, row: int) -> np.ndarray:
        """Float64 (layer, statistic): the share of the baseline's pictures that have less, of equal ones the half.

        Arguments:
            row: of the picture here; it is left out of the baseline if it is in it.
        """
        found = np.full((len(self.layers), len(STATISTICS)), np.nan)
        for index in range(len(found)):
            less, same, count = self._count(row, index)
            if count:
                found[index] = (less + same / 2) / count
        return found

    def two_sided_p(self, row: int) -> np.ndarray:
        """Float64 (layer, statistic): how probable it is by chance to be so high or so low, of each alone.

        At least 2 / (n + 1); with many layers some are small by chance, for which `layers_p` accounts.
        """
        found = np.full((len(self.layers), len(STATISTICS)), np.nan)
        for index in range(len(found)):
            less, same, count = self._count(row, index)
            fewer = np.minimum(less, count - less - same) + same
            found[index] = np.minimum(1, 2 * (1 + fewer) / (1 + count))
        return found

    def _count(self, row: int, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """How many of the baseline's have less than a picture at a layer, and how many the same; and of how many."""
        values, inside = self.usual.profiles[index], int(self.rows[row])
        own = values[inside] if inside >= 0 else self.numbers.profiles[index][row]
        there = ~np.isnan(values).any(1)
        if inside >= 0:
            there[inside] = False
        return (values[there] < own).sum(0), (values[there] == own).sum(0), int(there.sum())

    # --- at which layer

    def first(self, row: int, sure: float = SURE) -> int | None:
        """The first layer that makes a picture an outlier, an index of `layers`; None where `layers_p` is above `sure`.

        See `firsts`.
        """
        found = int(self.firsts(sure)[row])
        return None if found < 0 else found

    def firsts(self, sure: float = SURE) -> np.ndarray:
        """Int64 (picture,): the first layer, in execution order, that makes each an outlier; -1 of one that is none.

        That is the first where it is further away than all but a share of the baseline's pictures are at any layer: so
        none is named of a picture that is no outlier, but of that share of them.
        """
        over = self.beyond > self._marks(sure)[:, None]
        return np.where(over.any(1), over.argmax(1), -1) if over.size else np.full(len(over), -1)

    def mark(self, sure: float = SURE) -> float:
        """How far another picture has to be at a layer to be called an outlier; +inf if there are too few for that."""
        ordered = np.sort(self.own.furthest)[::-1]
        as_far = _allowed(sure, len(ordered))
        return float(ordered[as_far]) if 0 <= as_far < len(ordered) else float("inf")

    def _marks(self, sure: float) -> np.ndarray:
        """Float (picture,): the same of each; that of one in the baseline is the others'."""
        found = np.full(len(self.rows), self.mark(sure))
        ordered = np.append(np.sort(self.own.furthest)[::-1], -np.inf)
        as_far = _allowed(sure, len(ordered) - 2)
        inside = self.inside
        if inside.any():
            own = self.own.furthest[self.rows[inside]]
            among = own >= ordered[as_far]  # without itself, the next one has its place
            found[inside] = np.where(among, ordered[as_far + 1], ordered[as_far]) if as_far >= 0 else np.inf
        return found

    def worst(self, row: int) -> int | None:
        """The layer at which a picture is furthest away; None if there is none."""
        return int(self.beyond[row].argmax()) if self.beyond.shape[1] else None

    def parts(self, row: int) -> tuple[Place, str, float] | None:
        """Where a picture parts most from the baseline: the layer and its call, the statistic, and `beyond` there.

        None if no layer is known.
        """
        index = self.worst(row)
        if index is None:
            return None
        return self.layers[index], STATISTICS[int(self.which[row, index])], float(self.beyond[row, index])

    @property
    def smallest(self) -> float:
        """The smallest probability that a picture can have here: 1 / (n + 1)."""
        return 1 / (len(self.usual.pictures) + (not self.inside.any()))

    def note(self, sure: float = SURE) -> str:
        """What is to be said where the baseline is too small for a picture to be called an outlier; else ""."""
        if self.smallest <= sure:
            return ""
        return (
            f"Of {len(self.usual.pictures)} pictures no smaller probability than {self.smallest:.2f} can be told, so "
            f"none is called an outlier: that takes {int(np.ceil(1 / sure)) - (not self.inside.any())} pictures."
        )

    def describe(self, row: int, index: int) -> str:
        """In words how a picture is unlike the baseline at a layer: "share of zeros higher than in all 120"."""
        statistic = int(self.which[row, index])
        if not np.isfinite(self.numbers.profiles[index][row]).all():
            return "holds values that are not finite"
        less, same, count = self._count(row, index)
        over = int(less[statistic] if self.above[row, index] else count - less[statistic] - same[statistic])
        among = f"all {count:,}" if over == count else f"{over:,} of {count:,}"
        return f"{NAMES[statistic]} {'higher' if self.above[row, index] else 'lower'} than in {among}"


def _allowed(sure: float, count: int) -> int:
    """How many of so many may be as far as a picture that is called an outlier; -1 if none can be."""
    return int(np.floor(sure * (count + 1) + 1e-9)) - 1
