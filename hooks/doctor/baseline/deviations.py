"""How far the numbers of layers are from a baseline's, for the same pictures, in what they may differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hookscope.hooks.doctor.baseline.writing import Seen
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.results.findings import Curve
from hookscope.hooks.results.picture_numbers import Place
from hookscope.hooks.results.profiles import NAMES, STATISTICS

if TYPE_CHECKING:
    from hookscope.hooks.datasets.baseline import Baseline

NOTHING = 1e-7  # of what layers usually give: less than that is rounding
FEW = 2  # values that may become zero, or no zero, by rounding
LARGEST = 1e12  # excess that is drawn
ZEROS = STATISTICS.index("zeros")


@dataclass(frozen=True)
class Deviations:
    """Of each layer's call, in execution order, the number that is furthest from the baseline's in its tolerance.

    Attributes:
        places: the calls of layers. made: the baseline's day.
        excess: float64 (layer,), the difference by the tolerance. statistic, picture: int64 (layer,), of which number.
        now, then, limit: float64 (layer,), that number, the baseline's, and the tolerance.
        pictures: how many were compared.
    """

    places: tuple[Place, ...]
    made: str
    excess: np.ndarray
    statistic: np.ndarray
    picture: np.ndarray
    now: np.ndarray
    then: np.ndarray
    limit: np.ndarray
    pictures: int

    @property
    def first(self) -> int | None:
        """The first layer beyond its tolerance; None if none is."""
        beyond = np.flatnonzero(self.excess > 1)
        return int(beyond[0]) if beyond.size else None

    def of(self, layer: str) -> int | None:
        """The call of a layer, or of one inside it, that is furthest beyond its tolerance; None if none is."""
        own = [
            index
            for index, place in enumerate(self.places)
            if (place[0] == layer or place[0].startswith(f"{layer}.")) and self.excess[index] > 1
        ]
        return max(own, key=lambda index: self.excess[index]) if own else None

    def describe(self, index: int) -> str:
        """One number in words."""
        name = NAMES[self.statistic[index]]
        now, then = (
            f"{value:.6g}" if np.isfinite(value) else "not finite" for value in (self.now[index], self.then[index])
        )
        if np.isnan(self.now[index]):
            now = "missing"
        limit = f"{self.limit[index]:.2g}"
        return f"{name} {now} and not {then} for picture {self.picture[index]} (limit {limit}; baseline of {self.made})"

    def curve(self, index: int) -> Curve:
        """The differences along the depth."""
        drawn = np.clip(np.nan_to_num(self.excess, posinf=LARGEST), 1e-6, LARGEST)
        return Curve(
            "largest difference from the baseline, as a multiple of its tolerance",
            tuple(layer for layer, _ in self.places),
            drawn,
            marked=(index,),
            limit=1.0,
            logarithmic=True,
        )


def tolerances(patient: Patient, baseline: Baseline) -> np.ndarray:
    """Float64 (layer, statistic): in how far a picture's number may differ.

    The larger of 1e-4 of the statistic's magnitude over the set, and 4 times its spread over repeats. The mean's
    magnitude is that of the layer's values, as a mean near zero comes of large ones; and two values of a layer may
    become zero by rounding.
    """
    assert baseline.reference is not None
    share, spreads = patient.limit("baseline", "tolerance"), patient.limit("baseline", "spreads")
    found = np.zeros((len(baseline.layers), len(STATISTICS)))
    for index, values in enumerate(baseline.numbers.profiles):
        known = values[np.isfinite(values).all(1)].astype(np.float64)
        if len(known):
            found[index] = np.abs(known).max(0)
            found[index, STATISTICS.index("mean")] = np.hypot(*known[:, :2].T).max()
    usual = float(np.median(found[:, STATISTICS.index("mean")])) if len(found) else 0.0
    found = np.maximum(found, NOTHING / share * usual if share > 0 else 0.0) * share
    counts = np.array([_values(patient, place) for place in baseline.layers])
    found[:, ZEROS] = np.maximum(share, FEW / np.maximum(counts, 1))
    return np.maximum(found, spreads * baseline.reference.spread.astype(np.float64))


def _values(patient: Patient, place: Place) -> int:
    """How many values a layer's call gives for a picture, as far as it is known."""
    layer = patient.by_name.get(place[0])
    if layer is None or place[1] >= len(layer.calls):
        return 1 << 40
    return int(np.prod(layer.calls[place[1]].shape))


def deviations_of(patient: Patient, seen: Seen, baseline: Baseline, rows: np.ndarray) -> Deviations:
    """How far each layer is from the baseline's.

    Arguments:
        rows: int64 (picture,), which of the baseline's pictures each is; -1 for none, and it is left out.
    """
    limits = tolerances(patient, baseline)
    own = dict(zip(seen.numbers.places, seen.numbers.profiles, strict=True))
    mine = np.flatnonzero(rows >= 0)
    table = np.zeros((len(baseline.layers), 6))
    for index, (place, then) in enumerate(zip(baseline.layers, baseline.numbers.profiles, strict=True)):
        before = then[rows[mine]].astype(np.float64)
        now = own[place][mine].astype(np.float64) if place in own else np.full_like(before, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            away = np.abs(now - before)
            away[(now == before) | (np.isnan(now) & np.isnan(before))] = 0
            excess = np.where(away == 0, 0.0, away / limits[index])
        excess[np.isnan(excess)] = np.inf  # not finite now, or then
        picture, statistic = np.unravel_index(int(excess.argmax()), excess.shape)
        numbers = now[picture, statistic], before[picture, statistic], limits[index, statistic]
        table[index] = excess[picture, statistic], statistic, mine[picture], *numbers
    statistics, pictures = table[:, 1].astype(np.int64), table[:, 2].astype(np.int64)
    made = baseline.made or "an unknown day"
    return Deviations(
        baseline.layers, made, table[:, 0], statistics, pictures, table[:, 3], table[:, 4], table[:, 5], len(mine)
    )


def channels_apart(patient: Patient, seen: Seen, baseline: Baseline, index: int) -> tuple[int, ...]:
    """The channels of a layer whose mean over the set is beyond its tolerance; () if that is more than half of them.

    Told where all pictures are the baseline's only.
    """
    assert baseline.reference is not None
    place = baseline.layers[index]
    if place not in seen.numbers.places:
        return ()
    then, now = baseline.reference.means(index), seen.means[seen.numbers.places.index(place)]
    if then.shape != now.shape or not then.size:
        return ()
    with np.errstate(invalid="ignore"):
        apart = np.flatnonzero(~(np.abs(now - then) <= tolerances(patient, baseline)[index, 0]))
    return tuple(int(channel) for channel in apart) if len(apart) <= len(now) / 2 else ()
