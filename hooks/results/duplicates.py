"""Which channels of a layer tell the same over a set of pictures, so that one of them could go; numpy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep

ALIKE = 0.999  # of |correlation|
FEWEST = 8  # pictures: with fewer, channels correlate by chance
CARRIED = (
    4.0  # pictures that have to carry a channel's spread: two that fire in the same picture alone are no duplicates
)
VARIES = 1e-5  # of a channel's largest mean: what varies less is rounding
BLOCK = 1024  # channels that are held against all others at once


@dataclass(frozen=True)
class Duplicates:
    """The channels of one call of a layer of which another one tells the same.

    Attributes:
        layer, call: where. pictures: over how many. channels: how many there are.
        compared: those that vary over the pictures, and not in one or two of them alone.
        groups: channels whose means over each picture correlate, |r| > `ALIKE`, so that one follows from the other by
            a factor and a shift; each group rising, the largest group first.
    """

    layer: str
    call: int
    pictures: int
    channels: int
    compared: int
    groups: tuple[tuple[int, ...], ...]

    @property
    def share(self) -> float:
        """The share of the channels that are in a group, 0..1; NaN without channels."""
        return sum(map(len, self.groups)) / self.channels if self.channels else float("nan")


def find_duplicates(found: Sweep) -> tuple[Duplicates, ...]:
    """The duplicates of each layer of which a sweep has kept a sample, in execution order.

    Raises:
        HooksError: it has kept none, or of fewer than 8 pictures.
    """
    if not found.sample:
        raise HooksError("This sweep has kept no layer's features, so duplicates cannot be told. Ask it for `gap()`.")
    fewest = min(len(part.pictures) for part in found.sample)
    if fewest < FEWEST:
        raise HooksError(
            f"The set has {fewest} pictures so far, and with fewer than {FEWEST} channels are alike by chance. Look "
            "through more."
        )
    return tuple(duplicates_of(part) for part in found.sample)


def duplicates_of(features: LayerFeatures) -> Duplicates:
    """The duplicates of one call of a layer.

    >>> base = np.arange(8.0)[:, None]
    >>> values = np.concatenate([base, base**2, 3 - 2 * base, 0 * base], 1)
    >>> duplicates_of(LayerFeatures("conv", 0, 8, np.arange(8), values)).groups
    ((0, 2),)
    """
    values = features.values.astype(np.float64)
    count, channels = values.shape
    finite = np.isfinite(values).all(0)
    values = np.where(finite, values, 0)
    away = values - values.mean(0)
    squares = away**2
    total = squares.sum(0)
    varies = finite & (np.sqrt(total / max(count, 1)) > VARIES * np.abs(values).max(0, initial=0))
    carried = np.divide(total**2, (squares**2).sum(0), out=np.zeros_like(total), where=varies)
    kept = np.flatnonzero(varies & (carried >= CARRIED))
    unit = (away[:, kept] / np.sqrt(total[kept])).astype(np.float32)
    return Duplicates(features.layer, features.call, count, channels, len(kept), _groups(kept, _pairs(unit)))


def _pairs(unit: np.ndarray) -> Iterator[tuple[int, int]]:
    """Columns of unit length that are alike, each pair once."""
    for start in range(0, unit.shape[1], BLOCK):
        block = np.abs(unit[:, start : start + BLOCK].T @ unit[:, start:])
        for one, other in np.argwhere(block > ALIKE):
            if one < other:
                yield start + int(one), start + int(other)


def _groups(kept: np.ndarray, pairs: Iterator[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """What hangs together by pairs."""
    group = list(range(len(kept)))

    def first(place: int) -> int:
        while group[place] != place:
            group[place] = group[group[place]]
            place = group[place]
        return place

    for one, other in pairs:
        one, other = first(one), first(other)
        group[max(one, other)] = min(one, other)
    found: dict[int, list[int]] = {}
    for place, channel in enumerate(kept):
        found.setdefault(first(place), []).append(int(channel))
    groups = (tuple(each) for each in found.values() if len(each) > 1)
    return tuple(sorted(groups, key=lambda each: (-len(each), each)))
