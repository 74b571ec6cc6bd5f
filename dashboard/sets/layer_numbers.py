"""Numbers of every layer over a set: rows like those of `hooks.methods.METRICS`, of what a sweep has found.

What takes longer than a click is computed beside it, once for what is written down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.errors import HooksError
from hookscope.hooks.methods import Metric, Rows
from hookscope.hooks.results.duplicates import ALIKE, Duplicates, find_duplicates
from hookscope.hooks.results.gaps import LayerGap
from hookscope.hooks.results.summaries import Survey, SurveyedCall
from hookscope.hooks.results.sweeps import SELDOM, Firing, Sweep

MANY = round(1 / SELDOM)  # pictures, with more of which a channel can fire in fewer than one of a hundred
BEYOND = "set-beyond"  # of which a model has to have a stored baseline
PATIENCE_SECONDS = 0.2  # of those of the default model
Place = tuple[str, int]


@dataclass(frozen=True)
class OverSet:
    """What is known of one call of a layer over a set; each is None where it is not known, or not asked for.

    Attributes:
        firing: how many channels fire. spread: see `spreads`. duplicates, gap: see there. beyond: see
            `outlying.shares_beyond`.
    """

    firing: Firing | None = None
    spread: float | None = None
    duplicates: Duplicates | None = None
    gap: LayerGap | None = None
    beyond: float | None = None


def _dead(known: OverSet) -> float:
    each = known.firing
    return each.never / each.channels if each and each.channels else math.nan


def _seldom(known: OverSet) -> float:
    each = known.firing
    return each.seldom / each.channels if each and each.channels else math.nan


def _spread(known: OverSet) -> float:
    return math.nan if known.spread is None else known.spread


def _alike(known: OverSet) -> float:
    return known.duplicates.share if known.duplicates else math.nan


def _gap(known: OverSet) -> float:
    return known.gap.effect if known.gap else math.nan


def _beyond(known: OverSet) -> float:
    return math.nan if known.beyond is None else known.beyond


SET_METRICS = Rows(
    Metric(
        "set-dead",
        "dead over the set",
        "Share of the output's channels that are 0 everywhere in every picture of the chosen set.",
        _dead,
        "%",
        highest=1.0,
        worst=1.0,
    ),
    Metric(
        "set-seldom",
        "rarely firing over the set",
        f"Share of the output's channels that fire in some pictures of the chosen set, but in under {SELDOM:.0%} of "
        "them.",
        _seldom,
        "%",
        highest=1.0,
        worst=1.0,
    ),
    Metric(
        "set-spread",
        "spread over the set",
        "How much the mean of a typical channel differs from picture to picture of the chosen set: its standard "
        "deviation between pictures, the median of the channels, as a share of the layer's root mean square. Where it "
        "is small, the layer says the same of every picture.",
        _spread,
        "%",
    ),
    Metric(
        "set-alike",
        "duplicates over the set",
        "Share of the output's channels of which another one tells the same over the chosen set: their means of each "
        f"picture correlate, |r| > {ALIKE}, so that one follows from the other by a factor and a shift. Channels that "
        "do not vary count for none.",
        _alike,
        "%",
        highest=1.0,
        worst=1.0,
    ),
    Metric(
        "set-gap",
        "gap between the sets",
        "How far the chosen set and the second one are apart: the root mean square over the channels of how far the "
        "distributions of their means of each picture are apart, in deviations of the channel.",
        _gap,
        "deviations",
    ),
    Metric(
        BEYOND,
        "beyond the baseline",
        "Share of the pictures of the chosen set of which the mean, the deviation, the share of zeros or the largest "
        "value of the layer's output is further from the middle of the model's stored baseline than that of any of the "
        "baseline's pictures. Of a set like those it is by chance about 4 in as many as they are, or less.",
        _beyond,
        "%",
        highest=1.0,
        worst=1.0,
    ),
)


def duplicates_in(
    sweeps: Sweeps, pictures: PictureSet, model: str, patience: float = PATIENCE_SECONDS
) -> tuple[Duplicates, ...] | str | None:
    """The duplicates of every layer over what is written down of a set; a sentence, or None while it is computed."""
    about, found = sweeps.written(pictures, model), sweeps.found(pictures, model)
    if found is None:
        return "Look through the set first."
    return sweeps.later.get(("duplicates", about), lambda: find_duplicates(found), patience)


def spreads_in(
    sweeps: Sweeps, pictures: PictureSet, model: str, patience: float = PATIENCE_SECONDS
) -> dict[Place, float] | str | None:
    """The spreads of every layer, in the same way."""
    about, found = sweeps.written(pictures, model), sweeps.found(pictures, model)
    if found is None:
        return "Look through the set first."
    return sweeps.later.get(("spreads", about), lambda: spreads(found), patience)


def spreads(found: Sweep) -> dict[Place, float]:
    """How much the mean of each layer's median channel differs from picture to picture, in shares of its magnitude.

    Raises:
        HooksError: there are not two pictures.
    """
    if not found.sample or min(len(part.pictures) for part in found.sample) < 2:
        raise HooksError("Of a single picture there is no telling how much channels differ between pictures.")
    whole = {(each.layer, each.call): each.statistics for each in found.statistics}
    values: dict[Place, float] = {}
    for part in found.sample:
        place = (part.layer, part.call)
        magnitude = math.hypot(whole[place].mean, whole[place].std) if place in whole else math.nan
        means = np.where(np.isfinite(part.values), part.values, np.nan)
        between = means.std(0, dtype=np.float64)
        known = between[np.isfinite(between)]
        if known.size and magnitude > 0:
            values[place] = float(np.median(known)) / magnitude
    return values


def survey_over(
    metric: Metric,
    found: Sweep | None,
    firing: tuple[Firing, ...] = (),
    spread: dict[Place, float] | None = None,
    duplicates: tuple[Duplicates, ...] = (),
    gaps: tuple[LayerGap, ...] = (),
    beyond: dict[Place, float] | None = None,
) -> Survey:
    """One number of every layer over a set, as a survey of one picture has it.

    Arguments:
        found: says which layers returned what another one had just returned.
    """
    fires = {(each.layer, each.call): each for each in firing}
    alike = {(each.layer, each.call): each for each in duplicates}
    apart = {(each.layer, each.call): each for each in gaps}
    between, outside = spread or {}, beyond or {}
    values = {
        place: metric.rule(
            OverSet(fires.get(place), between.get(place), alike.get(place), apart.get(place), beyond=outside.get(place))
        )
        for place in dict.fromkeys([*fires, *between, *alike, *apart, *outside])
    }
    for place, source in _same(found):
        if source in values:
            values.setdefault(place, values[source])
    calls = tuple(SurveyedCall(layer, call, {metric.name: value}) for (layer, call), value in values.items())
    return Survey(calls, target=-1)


def _same(found: Sweep | None) -> Iterator[tuple[Place, Place]]:
    """Calls that returned what another one had returned, each with the one under which that is known."""
    sources: dict[Place, Place] = {(each[0], each[1]): (each[2], each[3]) for each in (found.same if found else ())}
    for place, source in sources.items():
        while source in sources:
            source = sources[source]
        yield place, source
