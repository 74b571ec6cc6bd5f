"""Which pictures of two sets a layer tells apart: a logistic regression on the channels' means; numpy only.

How well a classifier tells two samples apart is a distance between their distributions, the proxy A-distance
2 (1 - 2 error) (Ben-David et al., "Analysis of Representations for Domain Adaptation", NeurIPS 2007), and what it is
surest of shows in what they differ (Rabanser et al., "Failing Loudly", NeurIPS 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hookscope.hooks.errors import HooksError, LayerNotExecuted
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep

FOLDS = 5  # each picture is judged by a regression that has seen four fifths of the others
FEWEST = 10  # pictures of each set, two a fold
STRENGTH = 1.0  # of the pictures against the penalty, `C` in scikit-learn
STEPS = 100  # of Newton's method; it takes about ten
CLOSE = 1e-9  # a gradient, as a share of the first one, at which it is done


@dataclass(frozen=True)
class ToldApart:
    """How surely pictures of two sets are told apart at one call of a layer, each by regressions that have not seen it.

    Attributes:
        layer, call: where.
        first, second: int64 (picture,), the numbers of the pictures in their sets, of a sample of each.
        first_scores, second_scores: float64 (picture,), the log odds of being of the second set.
    """

    layer: str
    call: int
    first: np.ndarray
    second: np.ndarray
    first_scores: np.ndarray
    second_scores: np.ndarray

    @property
    def right(self) -> int:
        """How many pictures are told to be of their set."""
        return int((self.first_scores < 0).sum() + (self.second_scores >= 0).sum())

    @property
    def total(self) -> int:
        """How many pictures there are."""
        return len(self.first) + len(self.second)

    @property
    def error(self) -> float:
        """The share that is told wrongly, both sets counting the same; 0.5 is chance."""
        return float(((self.first_scores >= 0).mean() + (self.second_scores < 0).mean()) / 2)

    @property
    def distance(self) -> float:
        """The proxy A-distance: 2 where all are told apart, 0 at chance, and below by bad luck."""
        return 2 * (1 - 2 * self.error)

    def surest(self, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
        """Int64 (picture,) of the first and of the second set: those that are most surely told to be of it."""
        first, second = np.argsort(self.first_scores, kind="stable"), np.argsort(-self.second_scores, kind="stable")
        own = (self.first_scores < 0)[first], (self.second_scores >= 0)[second]
        return self.first[first[own[0]]][:count], self.second[second[own[1]]][:count]


def tell_apart(first: Sweep, second: Sweep, layer: str, call: int = 0) -> ToldApart:
    """Tell the pictures of two sets apart by what a layer's channels give in the mean.

    Arguments:
        first, second: two sweeps of one model, each asked for `gap()`. layer, call: where.

    Raises:
        LayerNotExecuted: a sweep has kept nothing of this call. HooksError: a set has fewer than 10 pictures.
    """
    parts = [_sample(each, layer, call) for each in (first, second)]
    fewest = min(len(part.pictures) for part in parts)
    if fewest < FEWEST:
        raise HooksError(
            f"One of the two sets has {fewest} pictures, and with fewer than {FEWEST} which ones are told apart cannot "
            "be said. Add pictures to it."
        )
    if len({part.values.shape[1] for part in parts}) > 1:
        sizes = " and ".join(str(part.values.shape[1]) for part in parts)
        raise HooksError(f"Layer {layer!r} has {sizes} channels in the two sweeps. Compare sweeps of one model.")
    values = np.concatenate([part.values for part in parts]).astype(np.float64)
    values = np.where(np.isfinite(values), values, 0)
    is_second = np.repeat([False, True], [len(part.pictures) for part in parts])
    fold = np.concatenate([np.arange(len(part.pictures)) % FOLDS for part in parts])  # they come drawn at random
    scores = np.zeros(len(values))
    for number in range(FOLDS):
        held = fold == number
        scores[held] = _judge(values[~held], is_second[~held], values[held])
    return ToldApart(layer, call, parts[0].pictures, parts[1].pictures, scores[~is_second], scores[is_second])


def _sample(found: Sweep, layer: str, call: int) -> LayerFeatures:
    place = found.place_of(layer, call)
    for part in found.sample:
        if (part.layer, part.call) == place:
            return part
    raise LayerNotExecuted(
        f"There are no drawn pictures of layer {layer!r}, call {call}, in this sweep. Ask it for `gap()`."
    )


def _judge(seen: np.ndarray, is_second: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The log odds of held-out pictures, of a regression on others whose channels are scaled to a deviation of 1."""
    mean, deviation = seen.mean(0), seen.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    weights, offset = fit_logistic((seen - mean) / deviation, is_second)
    return np.asarray((held - mean) / deviation @ weights + offset)


def fit_logistic(values: np.ndarray, is_second: np.ndarray, strength: float = STRENGTH) -> tuple[np.ndarray, float]:
    """The weights (channel,) and the offset of a logistic regression with a squared penalty on the weights.

    Both classes count the same, however many they have; the offset bears no penalty. By Newton's method in the space
    that the pictures span, in which the solution lies, so that thousands of channels cost no more than pictures.

    Arguments:
        values: float64 (picture, channel). is_second: bool (picture,). strength: what the pictures weigh against the
            penalty, `C` in scikit-learn, whose result with balanced classes this is.
    """
    _, sizes, basis = np.linalg.svd(values, full_matrices=False)
    basis = basis[sizes > 1e-12 * max(sizes.max(initial=0), 1e-300)]
    inside = np.hstack([values @ basis.T, np.ones((len(values), 1))])
    counts = np.array([(~is_second).sum(), is_second.sum()])
    importance = strength * (len(values) / (2 * counts))[is_second.astype(int)]
    penalty = np.append(np.ones(len(basis)), 0.0)
    found = np.zeros(inside.shape[1])
    first_slope = 0.0
    for step in range(STEPS):
        shares = _share(inside @ found)
        slope = inside.T @ (importance * (shares - is_second)) + penalty * found
        size = float(np.abs(slope).max())
        first_slope = first_slope if step else size
        if size <= CLOSE * first_slope:
            break
        curve = (inside.T * (importance * shares * (1 - shares))) @ inside + np.diag(penalty)
        curve[-1, -1] += 1e-12  # the offset's, where all pictures are told surely
        found = _descend(inside, is_second, importance, penalty, found, np.linalg.solve(curve, slope), slope)
    return basis.T @ found[:-1], float(found[-1])


def _descend(
    inside: np.ndarray,
    is_second: np.ndarray,
    importance: np.ndarray,
    penalty: np.ndarray,
    start: np.ndarray,
    step: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    """A step, or the largest half, quarter ... of it that makes things better."""

    def loss(at: np.ndarray) -> float:
        odds = inside @ at
        told = importance @ np.logaddexp(0, np.where(is_second, -odds, odds))
        return float(told + (penalty * at) @ at / 2)

    before, share = loss(start), 1.0
    while share > 1e-8 and loss(start - share * step) > before - 1e-4 * share * float(slope @ step):
        share /= 2
    return start - share * step


def _share(odds: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0, -odds)))
