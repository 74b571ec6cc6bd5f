"""A handful of numbers of each picture at each layer, by which one that is unlike the others is found; numpy only."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

STATISTICS = ("mean", "std", "zeros", "max")
NAMES = ("mean", "standard deviation", "share of zeros", "largest value")  # the same, in words


@dataclass(frozen=True)
class LayerProfile:
    """What one call of a layer gave for each picture, all of its channels and positions together.

    Attributes:
        layer, call: where.
        pictures: int64 (picture,), their numbers, rising.
        values: float32 (picture, statistic): mean, standard deviation (divided by n), share of zeros (0..1) and the
            largest value, as `STATISTICS` lists them; +inf, all of them, where some value was not finite.
    """

    layer: str
    call: int
    pictures: np.ndarray
    values: np.ndarray

    def merged(self, other: LayerProfile) -> LayerProfile:
        """Of both sets together."""
        pictures = np.concatenate([self.pictures, other.pictures])
        order = np.argsort(pictures, kind="stable")
        values = np.concatenate([self.values, other.values])[order]
        return dataclasses.replace(self, pictures=pictures[order], values=values)
