"""The pictures of a set in a plane, by a layer, of what is written down of it: computed once, beside the requests."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.sets.alike import features_of
from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.results.embedding import Embedding, Method, embed
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep, drawn_at

MOST: dict[Method, int] = {"pca": 3_000, "tsne": 1_000}  # points: t-SNE takes 3 s for so many, and 10 s for 2,000
NO_CHANNELS = "This layer has no channels by whose means pictures could be laid out. Choose another layer."


@dataclass(frozen=True, repr=False)
class Plane:
    """Pictures of a set as points.

    Attributes:
        layer, call: whose features they are laid out by.
        pictures: int64 (point,), their numbers in the set. embedding: with as many points.
        seen: how many pictures there are to choose from. left_out: of those that were taken, how many have features
            that are not finite. key: everything that this depends on.
    """

    layer: str
    call: int
    pictures: np.ndarray
    embedding: Embedding
    seen: int
    left_out: int
    key: Hashable

    def __repr__(self) -> str:
        """Short, and another one for other points."""
        return f"Plane{self.key!r}"

    @property
    def drawn(self) -> bool:
        """Whether there are more pictures than these."""
        return len(self.pictures) + self.left_out < self.seen


def chosen_features(found: Sweep, key: str) -> LayerFeatures | None:
    """What is known of the pictures at a layer: of all of them if that was kept, else of those that were drawn.

    Arguments:
        key: the layer's; "" for that by which pictures are said to be alike, or the last one that is known.
    """
    if not key:
        return features_of(found) or next(iter(found.sample[-1:]), None)
    place = found.place_of(*parse_key(key))
    known = (*found.features, *found.sample)
    return next((each for each in known if found.place_of(each.layer, each.call) == place), None)


def plane_of(
    sweeps: Sweeps, pictures: PictureSet, model: str, key: str, method: Method, patience: float
) -> Plane | str | None:
    """A layer's plane; None while it is computed, a sentence where there is none.

    Arguments:
        key: as `chosen_features` has it. patience: seconds for which it is waited.
    """
    about, found = sweeps.written(pictures, model), sweeps.found(pictures, model)
    if about is None or found is None:
        return "This set has not been looked through in this model yet."
    features = chosen_features(found, key)
    if features is None:
        return NO_CHANNELS
    stands_for = ("plane", about, features.layer, features.call, method)
    return sweeps.later.get(stands_for, lambda: lay_out(features, len(found.pictures), method, stands_for), patience)


def lay_out(features: LayerFeatures, seen: int, method: Method, key: Hashable) -> Plane:
    """Lay the pictures of a layer out, or as many as can be seen at once, drawn from them.

    Raises:
        HooksError: there are too few.
    """
    rows = np.argsort(drawn_at(features.pictures), kind="stable")[: MOST[method]]
    rows = rows[np.argsort(features.pictures[rows], kind="stable")]
    found = embed(features.values[rows], method)
    there = np.isfinite(found.points).all(1)
    kept = Embedding(found.method, found.points[there], found.shares, found.seed, found.perplexity)
    left_out = int((~there).sum())
    return Plane(features.layer, features.call, features.pictures[rows][there], kept, seen, left_out, key)
