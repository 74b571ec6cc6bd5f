"""Channels that follow from each other by a factor: told from values that were drawn, or from weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

FEWEST = 32  # values of a channel: with fewer, channels are alike by chance
CARRIED = 8.0  # values that have to carry a channel's spread: two that peak at one place alone are no duplicates
VARIES = 1e-5  # of a channel's magnitude: what varies less is rounding
SAME_WEIGHTS = 0.999999  # |cosine| of two rows of weights: copies, or one a multiple of the other
NEARLY = 0.9999  # |cosine| of two rows of few weights, of which nearly the same comes
DIRECTIONS = 32  # random ones: channels that are not alike along these are not alike at all
SEED = 0

Pair = tuple[int, int]


def alike_values(values: np.ndarray, cosine: float) -> list[Pair] | None:
    """The pairs of channels whose centred values have a |cosine| above a limit; None where there are too few values.

    Arguments:
        values: float32 (channel, value).

    >>> one = np.sin(np.arange(64.0))
    >>> alike_values(np.stack([one, 3 - 2 * one, one**2]).astype(np.float32), 0.9999)
    [(0, 1)]
    """
    if values.shape[1] < FEWEST:
        return None
    given = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    given = torch.where(given.isfinite(), given, torch.zeros(()))
    away = given - given.mean(1, keepdim=True)
    away -= away.mean(1, keepdim=True)  # what rounding has left of it
    squares = away * away
    total = squares.sum(1)
    length = total.sqrt()
    varies = length / values.shape[1] ** 0.5 > VARIES * given.abs().amax(1)
    carried = total * total / (squares * squares).sum(1).clamp_min(1e-38)
    kept = torch.nonzero(varies & (carried >= CARRIED))[:, 0]
    return _pairs(away[kept] / length[kept, None], kept, cosine)


def alike_rows(rows: Tensor) -> list[Pair]:
    """The pairs of rows of weights of which one is a multiple of the other.

    Arguments:
        rows: float32 (channel, weight); rows of one weight, and of nothing but 0, are no pairs.
    """
    length = rows.norm(dim=1)
    kept = torch.nonzero(length > 0)[:, 0]
    if rows.shape[1] < 4:
        return []
    return _pairs(rows[kept] / length[kept, None], kept, SAME_WEIGHTS)


def in_one_direction(rows: Tensor, pair: Sequence[int]) -> bool:
    """Whether one of two rows of weights, float32 (channel, weight), is nearly a multiple of the other."""
    one, other = rows[list(pair)].double()
    return bool((one @ other).abs() > NEARLY * one.norm() * other.norm())


def _pairs(unit: Tensor, kept: Tensor, cosine: float) -> list[Pair]:
    """Rows of unit length that are alike, by their numbers in `kept`: candidates first, along a few directions."""
    if len(unit) < 2:
        return []
    width = unit.shape[1]
    if width > 2 * DIRECTIONS:
        own = torch.Generator().manual_seed(SEED)
        short = unit @ (torch.randn(width, DIRECTIONS, generator=own) / DIRECTIONS**0.5)
    else:
        short = unit
    short = short / short.norm(dim=1, keepdim=True).clamp_min(1e-12)
    # a pair whose cosine is c lies at an angle of about acos(c); along random directions at most some times as much
    loose = 1 - 16 * (1 - cosine)
    near = (short @ short.T).abs_().triu_(1) > loose
    found: list[Pair] = []
    for some in near.nonzero().split(1 << 14):
        exact = (unit[some[:, 0]].double() * unit[some[:, 1]].double()).sum(1).abs()
        found += map(tuple, kept[some[exact > cosine]].tolist())
    return found


def group_pairs(pairs: Iterable[Pair]) -> list[tuple[int, ...]]:
    """What hangs together by pairs, each group rising, the largest first.

    >>> group_pairs([(0, 2), (2, 5), (1, 4)])
    [(0, 2, 5), (1, 4)]
    """
    first: dict[int, int] = {}

    def root(channel: int) -> int:
        while first.setdefault(channel, channel) != channel:
            channel = first[channel]
        return channel

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        first[high] = low
    groups: dict[int, list[int]] = {}
    for channel in sorted(first):
        groups.setdefault(root(channel), []).append(channel)
    return sorted(map(tuple, groups.values()), key=lambda group: (-len(group), group))
