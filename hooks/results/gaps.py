"""How far two sets of pictures are apart at a layer, and whether that is more than chance; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep

FEWEST = 8  # pictures of each set: with fewer there is no telling
SURE = 0.01  # a probability below which a gap is no chance
IN_A_ROW = 3  # layers that have to be apart for a gap to begin there
LARGE = 0.2  # of a channel's deviation: what Cohen calls a small effect, and less than that is none worth naming
FIRST = 0.1  # of the depth: what begins before is colour, brightness or blur, no content
STEM = (
    3  # layers that are the first in any case: a convolution's mean does not see blur, what comes after its ReLU does
)


@dataclass(frozen=True)
class LayerGap:
    """Two sets at one call of a layer, by the channels' means of each picture.

    Attributes:
        layer, call: where.
        mmd: squared maximum mean discrepancy, unbiased, so that it may be below 0, with the kernel of KID,
            (x.y / channels + 1)^3 (Gretton et al., JMLR 2012; Binkowski et al., "Demystifying MMD GANs", ICLR 2018).
        p: the probability of such a one by chance, by permutations of the pictures.
        effect: the root mean square of `channels`.
        channels: float64 (channel,): how far the two distributions of each channel's mean are apart, the Fréchet
            distance of two normal ones, in the channel's deviation over both sets; 0 of a channel that does not vary.
        pictures: how many of each set.
    """

    layer: str
    call: int
    mmd: float
    p: float
    effect: float
    channels: np.ndarray
    pictures: tuple[int, int]

    @property
    def apart(self) -> bool:
        """Whether the gap is no chance, and large enough to be named."""
        return self.p < SURE and self.effect > LARGE

    def most_apart(self, count: int = 9) -> np.ndarray:
        """Int64 (channel,): the channels that are furthest apart, the furthest first."""
        return np.argsort(-self.channels, kind="stable")[:count]


def beginning(gaps: Sequence[LayerGap]) -> LayerGap | None:
    """The first layer, in execution order, from which on several in a row are apart; None if there is none."""
    run = 0
    for index, gap in enumerate(gaps):
        run = run + 1 if gap.apart else 0
        if run == min(IN_A_ROW, len(gaps)):
            return gaps[index - run + 1]
    return None


def describe_gap(gaps: Sequence[LayerGap]) -> str:
    """In one sentence where two sets part."""
    start = beginning(gaps)
    if start is None:
        return "No layer tells these two sets apart by more than chance."
    place = next(index for index, gap in enumerate(gaps) if gap is start)
    last = gaps[-1]
    rest = "to the answer" if last.apart else "and is gone at the end"
    if place < max(FIRST * len(gaps), STEM):
        where = "the first layer" if place == 0 else f"{start.layer}, one of the first layers"
        return (
            f"The gap is there from {where} on {rest}: colour, brightness or sharpness differ, or the sets show other "
            "things."
        )
    return f"The gap begins at {start.layer} {rest}: what lies before it sees the same, so the content differs."


def discrepancy(first: np.ndarray, second: np.ndarray, permutations: int = 500, seed: int = 0) -> tuple[float, float]:
    """Squared maximum mean discrepancy of two samples, and its probability by chance.

    Arguments:
        first, second: (picture, channel). permutations: how often the pictures are dealt out anew.

    Returns:
        the unbiased estimate, and (1 + how many permutations are as far apart) / (1 + permutations).

    >>> discrepancy(np.zeros((4, 2)), np.ones((4, 2)))[0]
    7.0
    """
    one, other = len(first), len(second)
    both = np.concatenate([first, second]).astype(np.float64)
    kernel = (both @ both.T / both.shape[1] + 1) ** 3
    np.fill_diagonal(kernel, 0)
    found = float(_discrepancies(kernel, np.repeat([1.0, 0.0], [one, other])[None], one, other)[0])
    draw = np.random.default_rng(seed)
    dealt = np.zeros((permutations, one + other))
    dealt[np.arange(permutations)[:, None], draw.random(dealt.shape).argsort(1)[:, :one]] = 1
    chance = _discrepancies(kernel, dealt, one, other)
    rounding = 1e-9 * np.abs(kernel).max()
    return found, float((1 + (chance >= found - rounding).sum()) / (1 + permutations))


def _discrepancies(kernel: np.ndarray, firsts: np.ndarray, one: int, other: int) -> np.ndarray:
    """Of several ways to deal out the pictures, (way, picture) of 1 for those of the first set."""
    within_first = ((firsts @ kernel) * firsts).sum(1)
    across = firsts @ kernel.sum(1) - within_first
    within_second = kernel.sum() - 2 * across - within_first
    return np.asarray(
        within_first / (one * (one - 1)) + within_second / (other * (other - 1)) - 2 * across / (one * other)
    )


def gaps_between(first: Sweep, second: Sweep, permutations: int = 500) -> tuple[LayerGap, ...]:
    """How far two sets are apart at each layer that both sweeps have kept a sample of, in execution order.

    Raises:
        HooksError: they have no layer in common, or fewer than 8 pictures each.
    """
    others = {(part.layer, part.call): part for part in second.sample}
    pairs = [(part, others[part.layer, part.call]) for part in first.sample if (part.layer, part.call) in others]
    if not pairs:
        raise HooksError(
            "The two sweeps have no layer in common whose features they kept. Ask both for `gap()`, with the same "
            "layers of the same model."
        )
    fewest = min(min(len(one.pictures), len(other.pictures)) for one, other in pairs)
    if fewest < FEWEST:
        raise HooksError(
            f"One of the two sets has {fewest} pictures, and with fewer than {FEWEST} nothing can be said of a gap. "
            "Add pictures to it."
        )
    return tuple(_gap(one, other, permutations) for one, other in pairs)


def _gap(first: LayerFeatures, second: LayerFeatures, permutations: int) -> LayerGap:
    one, other = first.values.astype(np.float64), second.values.astype(np.float64)
    if one.shape[1] != other.shape[1]:
        raise HooksError(
            f"Layer {first.layer!r} has {one.shape[1]} channels in the first sweep and {other.shape[1]} in the second. "
            "Compare sweeps of one model."
        )
    one, other = (np.where(np.isfinite(each), each, 0) for each in (one, other))  # -inf stands for a map of NaN alone
    channels = _frechet(one, other)
    mmd, p = discrepancy(one, other, permutations)
    effect = float(np.sqrt(np.mean(channels**2))) if channels.size else 0.0
    return LayerGap(first.layer, first.call, mmd, p, effect, channels, (len(one), len(other)))


def _frechet(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each channel, in its deviation over both sets."""
    apart = np.hypot(one.mean(0) - other.mean(0), one.std(0) - other.std(0))
    weights = np.array([len(one), len(other)]) / (len(one) + len(other))
    between = weights[0] * weights[1] * (one.mean(0) - other.mean(0)) ** 2
    spread = np.sqrt(weights[0] * one.var(0) + weights[1] * other.var(0) + between)
    return np.divide(apart, spread, out=np.zeros_like(apart), where=spread > 0)
