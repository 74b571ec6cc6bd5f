"""How far the pictures of a set are from each other, or from another set's: computed beside the requests, and kept.

While a set is looked through this is done anew when a quarter more of it is known, and meanwhile what was found before
is told.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.baseline_scores import BaselineScores
from hookscope.hooks.results.baselines import BaselineNumbers, choose_k
from hookscope.hooks.results.picture_numbers import numbers_of
from hookscope.hooks.results.sweeps import Sweep

GROWN = 1.25  # times as many pictures as before, for which it is worth computing anew


@dataclass(frozen=True, repr=False)
class Outlying:
    """How far a set's pictures are from a baseline.

    Attributes:
        scores: of each picture that was seen. usual: how many pictures the baseline has. k: which neighbour's distance
            counts. shared: how many of the pictures are in the other set, too, and are held against the rest of it.
        layers: how many layers' numbers are known, and of how many there are.
    """

    scores: BaselineScores
    usual: int
    k: int
    shared: int
    layers: tuple[int, int]


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
        return "This set has not been looked through in this model yet."
    sets = ((pictures, found), (against, usual))
    key = ("outliers", *(_stage(sweeps, each, model, len(seen.pictures)) for each, seen in sets))
    itself = against.version == pictures.version

    def compute() -> Outlying:
        return _itself(found) if itself else _against(pictures, found, against, usual)

    answer = sweeps.large.get(key, compute, patience)
    if answer is not None:
        sweeps.large.keep(("outliers now", pictures.version, against.version, model), answer)
        return answer
    before: Outlying | str | None = sweeps.large.kept(("outliers now", pictures.version, against.version, model))
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


def _same_files(pictures: PictureSet, numbers: np.ndarray, against: PictureSet, usual: np.ndarray) -> np.ndarray:
    """Int64 (picture,): which picture of the other set is the same file, -1 for none."""

    def file_of(of: PictureSet, number: int) -> Hashable:
        member = of.members[number]
        return member.path or member.sample

    known = {file_of(against, int(number)): int(number) for number in usual}
    return np.array([known.get(file_of(pictures, int(number)), -1) for number in numbers], np.int64)


def _known(found: Sweep) -> tuple[int, int]:
    return len(found.profiles), max(len(found.profiles), len(found.statistics))
