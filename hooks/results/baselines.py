"""How far a picture is from those of a baseline, and at which layer it first is; numpy only.

    against = baseline_of(sweep)                 # what was found of the baseline's pictures
    scores = against.score_sweep(other)          # of each picture of another sweep
    scores = against.leave_one_out()             # or of its own, each held against all the others

Three scores, each with its probability by chance: (1 + how many of the baseline's pictures score as high, each held
against the others) / (1 + how many there are). That holds for any score, if the picture comes from where the baseline's
do (conformal p-values; Vovk, Gammerman and Shafer, "Algorithmic Learning in a Random World", 2005); it says "unlike the
baseline", and not "wrong".
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError, titled
from hookscope.hooks.results.baseline_scores import BaselineScores, Own
from hookscope.hooks.results.neighbours import kth_distances, unit
from hookscope.hooks.results.picture_numbers import PictureNumbers, Place, numbers_of
from hookscope.hooks.results.reference import Reference
from hookscope.hooks.results.sweeps import Sweep
from hookscope.hooks.results.usual import FEWEST, Usual

MOST_NEIGHBOURS = 50  # as Sun et al. take them of 50,000 pictures


def neighbours_of(pictures: int) -> int:
    """Which neighbour's distance counts in a baseline of so many pictures: half the root of their number, 1 to 50.

    >>> [neighbours_of(count) for count in (8, 100, 1000, 50_000)]
    [1, 5, 16, 50]
    """
    return int(np.clip(round(np.sqrt(pictures) / 2), 1, min(MOST_NEIGHBOURS, max(pictures - 1, 1))))


@dataclass(frozen=True)
class BaselineNumbers:
    """What is known of a baseline's pictures, against which others are held.

    Attributes:
        numbers: of its pictures. k: which neighbour's distance counts.
        model: the fingerprint of the model; "" where it is not known. made: the day, as 2026-11-20.
        versions: of what computed it, by name.
        reference: what the model and the pictures were, against which a check-up holds them; None where it was not
            kept, as `fit` does not.
    """

    numbers: PictureNumbers = field(repr=False)
    k: int
    model: str = ""
    made: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    reference: Reference | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """How many pictures it is made of."""
        return len(self.numbers.pictures)

    @property
    def layers(self) -> tuple[Place, ...]:
        """The calls of layers that it knows, in execution order."""
        return self.numbers.places

    def score_sweep(self, sweep: Sweep, own: Sequence[int] | np.ndarray | None = None) -> BaselineScores:
        """How far each picture of a sweep is from the baseline.

        Arguments:
            sweep: asked for the same as the baseline's.
            own: int64 (picture,), which of the baseline's pictures each is, by number, -1 for none: these are held
                against the others. By default none is.

        Raises:
            HooksError: the sweep has other layers or channels, or `own` names a picture that the baseline has not.
        """
        return self.score_numbers(numbers_of(sweep), own)

    def score_numbers(self, numbers: PictureNumbers, own: Sequence[int] | np.ndarray | None = None) -> BaselineScores:
        """The same of what is known of pictures."""
        numbers = self._fitting(numbers)
        rows = np.full(len(numbers.pictures), -1) if own is None else self._rows(np.asarray(own), len(numbers.pictures))
        return self._score(numbers, rows)

    def leave_one_out(self, unusual: float = 0.05) -> BaselineScores:
        """How far each of its own pictures is from all the others.

        Arguments:
            unusual: the share of these, the furthest at a layer, that do not set what is usual there: nobody has said
                of them that they are as they should be. `score` takes all of a baseline for usual.
        """
        own = self._own if not unusual else self._hold_out(Usual(each, unusual) for each in self.numbers.profiles)
        return BaselineScores(
            self.numbers, own, self.numbers, np.arange(len(self)), own.distance, own.beyond, own.which, own.above
        )

    def _score(self, numbers: PictureNumbers, rows: np.ndarray) -> BaselineScores:
        known = self._own
        distance = known.distance[rows] if known.distance is not None else None
        beyond, which, above = known.beyond[rows], known.which[rows], known.above[rows]
        new = np.flatnonzero(rows < 0)
        if new.size:
            if distance is not None:
                assert self.numbers.features is not None and numbers.features is not None  # as `_fitting` has seen
                units = unit(self.numbers.features)
                distance[new] = kth_distances(units, unit(numbers.features[new]), self.k)
            for index, (values, usual) in enumerate(zip(numbers.profiles, self._usual, strict=True)):
                beyond[new, index], which[new, index], above[new, index] = usual.beyond(values[new])
        return BaselineScores(self.numbers, known, numbers, rows, distance, beyond, which, above)

    def _fitting(self, other: PictureNumbers) -> PictureNumbers:
        """The numbers of other pictures with the layers in the baseline's order."""
        own = self.numbers
        if lacking := [place for place in own.places if place not in other.places] or [
            place for place in other.places if place not in own.places
        ]:
            layer = titled(lacking[0][0])
            raise HooksError(
                f"{layer}, call {lacking[0][1]}, is known of one and not of the other ({len(lacking)} such layers). "
                "Hold a sweep against a baseline of the same layers of the same model."
            )
        sizes = [None if each.features is None else each.features.shape[1] for each in (own, other)]
        if own.feature_place != other.feature_place or sizes[0] != sizes[1]:
            raise HooksError(
                f"The baseline's features are those of {_of(own.feature_place, sizes[0])}, and the sweep's those of "
                f"{_of(other.feature_place, sizes[1])}. Ask the sweep for the baseline's."
            )
        found = dict(zip(other.places, other.profiles, strict=True))
        return replace(other, places=own.places, profiles=tuple(found[place] for place in own.places))

    def _rows(self, own: np.ndarray, pictures: int) -> np.ndarray:
        """Which row each of the numbers is, -1 for none."""
        known = {int(number): row for row, number in enumerate(self.numbers.pictures)} | {-1: -1}
        missing = [int(number) for number in own if int(number) not in known]
        if missing or len(own) != pictures:
            what = f"picture {missing[0]} is not in the baseline" if missing else f"there are {pictures} pictures"
            raise HooksError(
                f"`own` says of each picture which of the baseline's it is, or -1, and {what}. Give one number for "
                "each."
            )
        return np.array([known[int(number)] for number in own], np.int64)

    @functools.cached_property
    def _usual(self) -> tuple[Usual, ...]:
        return tuple(Usual(values) for values in self.numbers.profiles)

    @functools.cached_property
    def _own(self) -> Own:
        """Each of its pictures held against the others, all of which are usual; computed once."""
        return self._hold_out(self._usual)

    def _hold_out(self, usual: Iterable[Usual]) -> Own:
        shape = len(self), len(self.layers)
        beyond, which, above = np.zeros(shape, np.float32), np.zeros(shape, np.int8), np.zeros(shape, bool)
        for index, each in enumerate(usual):
            beyond[:, index], which[:, index], above[:, index] = each.leave_each_out()
        return Own(self._own_distance, beyond, which, above)

    @functools.cached_property
    def _own_distance(self) -> np.ndarray | None:
        if self.numbers.features is None:
            return None
        units = unit(self.numbers.features)
        return kth_distances(units, units, self.k, itself=True)


def _of(place: Place | None, channels: Any) -> str:
    return "no layer" if place is None else f"layer {place[0]!r} (call {place[1]}, {channels} channels)"


def baseline_of(sweep: Sweep, k: int | None = None, model: str = "", **more: Any) -> BaselineNumbers:
    """What a sweep has found of each picture, as a baseline.

    Arguments:
        sweep: asked for `profiles()`, and best for `answers()` and `features(LAYER)`, too.
        k: which neighbour's distance counts; by default as `neighbours_of` says.
        model, more: see `BaselineNumbers`.

    Raises:
        HooksError: the sweep has kept no numbers of each picture, or there are too few pictures.
    """
    return BaselineNumbers(numbers_of(sweep), choose_k(len(sweep.pictures), k), model, **more)


def check_model(known: str, other: str) -> None:
    """See that pictures are shown to the model on which a baseline was fitted.

    Arguments:
        known: the fingerprint of that; "" where it is not known, and nothing can be seen. other: of the model here.

    Raises:
        HooksError: it is another one.
    """
    if known and known != other:
        raise HooksError(
            f"This baseline was fitted on another model, or on other weights ({known[:12]} and not {other[:12]}). Fit "
            "one on this model."
        )


def choose_k(pictures: int, k: int | None) -> int:
    """Which neighbour's distance counts, where somebody asks for one or does not.

    Raises:
        HooksError: there is no such neighbour, or there are too few pictures.
    """
    if pictures < FEWEST:
        raise HooksError(
            f"A baseline of {pictures} pictures says nothing: with fewer than {FEWEST} every other picture is unlike "
            "them. Take more pictures."
        )
    if k is not None and not 1 <= k < pictures:
        raise HooksError(f"A baseline of {pictures} pictures has no neighbour number {k}: give 1 to {pictures - 1}.")
    return neighbours_of(pictures) if k is None else k
