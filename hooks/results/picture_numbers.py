"""What is known of each picture of a set, a row for each: what baselines are made of; numpy only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.sweeps import Sweep

Place = tuple[str, int]  # a layer and its call


@dataclass(frozen=True)
class PictureNumbers:
    """What is known of each picture of a set, a row for each.

    Attributes:
        pictures: int64 (picture,), rising.
        places: the calls of layers, in execution order.
        profiles: of each place float32 (picture, statistic), as `LayerProfile` has them; NaN where it did not run.
        feature_place: whose channels' means are the features, None if there are none.
        features: float32 (picture, channel), or None; NaN of a picture that has none.
        energy: float32 (picture,), as `Answers` has it; NaN where there is none, None if there is none of any.
    """

    pictures: np.ndarray
    places: tuple[Place, ...]
    profiles: tuple[np.ndarray, ...]
    feature_place: Place | None = None
    features: np.ndarray | None = None
    energy: np.ndarray | None = None

    def only(self, places: Collection[Place]) -> PictureNumbers:
        """The same of some of the layers."""
        kept = [index for index, place in enumerate(self.places) if place in places]
        return replace(
            self,
            places=tuple(self.places[index] for index in kept),
            profiles=tuple(self.profiles[index] for index in kept),
        )


def numbers_of(sweep: Sweep) -> PictureNumbers:
    """What a sweep has found of each picture; arrays are shared with it where they can be.

    Raises:
        HooksError: it was not asked for `profiles()`.
    """
    if not sweep.profiles:
        raise HooksError(
            "This sweep has kept no numbers of each picture at each layer. Ask it for `profiles()`, and for "
            "`answers()` and `features(LAYER)` to have energies and neighbours, too."
        )
    pictures, answers = sweep.pictures, sweep.answers
    last = sweep.features[-1] if sweep.features else None
    energy = None if answers is None else _aligned(pictures, answers.pictures, answers.energy)
    return PictureNumbers(
        pictures,
        tuple((each.layer, each.call) for each in sweep.profiles),
        tuple(_aligned(pictures, each.pictures, each.values) for each in sweep.profiles),
        None if last is None else (last.layer, last.call),
        None if last is None else _aligned(pictures, last.pictures, last.values),
        None if energy is None or np.isnan(energy).all() else energy,
    )


def _aligned(pictures: np.ndarray, own: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (own picture, ...) as rows for `pictures`, NaN where there are none."""
    if len(own) == len(pictures) and (own == pictures).all():
        return values
    found = np.full((len(pictures), *values.shape[1:]), np.nan, np.float32)
    found[np.searchsorted(pictures, own)] = values
    return found
