"""How far the pictures of a set are from each other, from another set's or from a stored baseline's.

It is computed beside the requests, and kept.

While a set is looked through this is done anew when a quarter more of it is known, and meanwhile what was found before
is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import numpy as np

from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.stored import Stored
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.baseline_scores import BaselineScores
from hookscope.hooks.results.baselines import BaselineNumbers, choose_k
from hookscope.hooks.results.picture_numbers import PictureNumbers, Place, numbers_of
from hookscope.hooks.results.sweeps import Sweep

NOT_SEEN = "This set has not been looked through in this model yet."
GROWN = 1.25  # times as many pictures as before, for which it is worth computing anew


@dataclass(frozen=True, repr=False)
class Outlying:
    """How far a set's pictures are from a baseline.

    Attributes:
        scores: of each picture that was seen. usual: how many pictures the baseline has. k: which neighbour's distance
            counts. shared: how many of the pictures are in the other set, too, and are held against the rest of it.
        layers: how many layers' numbers are known, and of how many there are.
        note: what else is to be said of them, a sentence; "" if nothing.
    """

    scores: BaselineScores
    usual: int
    k: int
    shared: int
    layers: tuple[int, int]
    note: str = ""


def outliers_of(
    sweeps: Sweeps, pictures: PictureSet, against: PictureSet, model: str, patience: float
) -> Outlying | str | None:
    """What is known of that by what is written down; None while it is computed, a sentence where it cannot be said.

    Arguments:
        against: the baseline; the set itself, to hold each picture against the others. patience: seconds for which it
            is waited.
    """
    found, usual = sweeps.found(pictures, model), sweeps.found(against, model)
    if found is None or usual is None:
        return NOT_SEEN
    sets = ((pictures, found), (against, usual))
    key = ("outliers", *(_stage(sweeps, each, model, len(seen.pictures)) for each, seen in sets))
    itself = against.version == pictures.version

    def compute() -> Outlying:
        return _itself(found) if itself else _against(pictures, found, against, usual)

    return _kept(sweeps, key, ("outliers now", pictures.version, against.version, model), compute, patience)


def outliers_from(
    sweeps: Sweeps, pictures: PictureSet, stored: Stored, model: str, patience: float
) -> Outlying | str | None:
    """The same against a baseline that is stored of the model."""
    found = sweeps.found(pictures, model)
    if found is None:
        return NOT_SEEN
    key = ("outliers", _stage(sweeps, pictures, model, len(found.pictures)), stored.version)

    def compute() -> Outlying:
        return _from_stored(found, sweeps.baselines.numbers(model, stored))

    return _kept(sweeps, key, ("outliers now", pictures.version, stored.version, model), compute, patience)


def _kept(
    sweeps: Sweeps, key: Hashable, now: Hashable, compute: Callable[[], Outlying], patience: float
) -> Outlying | str | None:
    """What is computed, or what was found before, while that is not there.

    Arguments:
        key: what it is of, exactly. now: the same, however much of it is known.
    """
    answer = sweeps.large.get(key, compute, patience)
    if answer is not None:
        sweeps.large.keep(now, answer)
        return answer
    before: Outlying | str | None = sweeps.large.kept(now)
    return before


def _stage(sweeps: Sweeps, pictures: PictureSet, model: str, seen: int) -> Hashable:
    """What stands for what is known of a set, roughly while it is being looked through."""
    if sweeps.progress(pictures, model).phase == "running":
        return pictures.version, model, int(math.log(max(seen, 1), GROWN))
    return sweeps.written(pictures, model)


def _itself(found: Sweep) -> Outlying:
    numbers = numbers_of(found)
    k = choose_k(len(numbers.pictures), None)
    scores = BaselineNumbers(numbers, k).leave_one_out()
    return Outlying(scores, len(numbers.pictures), k, 0, _known(found))


def _against(pictures: PictureSet, found: Sweep, against: PictureSet, usual: Sweep) -> Outlying:
    given, known = numbers_of(found), numbers_of(usual)
    common = {*given.places} & {*known.places}
    if not common:
        raise HooksError(
            "The two sets have no layer in common whose numbers were kept. Look through one of them again."
        )
    given, known = given.only(common), known.only(common)
    k = choose_k(len(known.pictures), None)
    own = _same_files(pictures, given.pictures, against, known.pictures)
    scores = BaselineNumbers(known, k).score_numbers(given, own)
    return Outlying(scores, len(known.pictures), k, int((own >= 0).sum()), (len(common), _known(found)[1]))


def _from_stored(found: Sweep, baseline: BaselineNumbers) -> Outlying:
    """Against a baseline whose pictures are known by their numbers alone: none of the set's is known to be in it."""
    given, known, note = numbers_of(found), baseline.numbers, ""
    there = len(known.places)
    common = {*given.places} & {*known.places}
    if not common:
        raise HooksError(
            "This set and the stored baseline have no layer in common whose numbers were kept. Fit the baseline at the "
            "layers without children, as it is by default."
        )
    if known.features is not None and _features(given) != _features(known):
        note = "The features that were kept of this set are not those of the baseline, so neighbours are not compared."
        given, known = (replace(each, feature_place=None, features=None) for each in (given, known))
    elif known.features is None:
        given = replace(given, feature_place=None, features=None)
    if len(common) < there:
        known = known.only(common)
    if known is not baseline.numbers:  # else what was computed of it for another set holds
        baseline = replace(baseline, numbers=known)
    scores = baseline.score_numbers(given.only(common))
    return Outlying(scores, len(baseline), baseline.k, 0, (len(common), there), note)


def _features(numbers: PictureNumbers) -> tuple[Place | None, int]:
    return numbers.feature_place, 0 if numbers.features is None else numbers.features.shape[1]


def shares_beyond(scores: BaselineScores) -> dict[Place, float]:
    """Of each layer the share of the pictures that are further from a baseline's middle than any of its own is.

    Of the pictures for which the layer ran, 0..1.
    """
    found: dict[Place, float] = {}
    for index, place in enumerate(scores.layers):
        ran = ~np.isnan(scores.numbers.profiles[index]).any(1)
        if ran.any():
            found[place] = float((scores.beyond[ran, index] > 1).mean())
    return found


def _same_files(pictures: PictureSet, numbers: np.ndarray, against: PictureSet, usual: np.ndarray) -> np.ndarray:
    """Int64 (picture,): which picture of the other set is the same file, -1 for none."""

    def file_of(of: PictureSet, number: int) -> Hashable:
        member = of.members[number]
        return member.path or member.sample

    known = {file_of(against, int(number)): int(number) for number in usual}
    return np.array([known.get(file_of(pictures, int(number)), -1) for number in numbers], np.int64)


def _known(found: Sweep) -> tuple[int, int]:
    return len(found.profiles), max(len(found.profiles), len(found.statistics))
