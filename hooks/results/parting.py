"""Where two sides part: how far apart their values are at every call of every layer, and what that says in words.

Two photographs differ everywhere, so a distance alone says little: `calibrated` divides it by the median distance of
unrelated photographs at the same place. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hookscope.hooks.results.looks import LayerInfo

THRESHOLD = 0.2  # of the distance of unrelated photographs: below it two sides are the same up to there
STAYS = 3  # layers one after the other that have to be above it
TOLERANCE = 1e-3  # relative L2 of two models of one architecture: 66 dB, float32 against float16
CARRIED = 0.8  # the share of the squared difference that the channels named first carry together
EMPTY = np.zeros(0, np.float32)
Place = tuple[str, int]  # a layer and its call


@dataclass(frozen=True)
class PartedCall:
    """How far A and B are apart at one call of a layer.

    NaN and infinite values are left out, on both sides where one of them is, and counted.

    Attributes:
        layer, call: where.
        distance: relative L2, 2 |a - b| / (|a| + |b|), 0..2. cosine: a distance too, 1 - a.b / (|a| |b|), 0..2, and 0
            where both point the same way; NaN where one side is all zeros. sqnr: 20 log10(|a| / |a - b|) in dB;
            infinite where nothing differs.
        share: float32 (channel,), each channel's share of |a - b|^2; empty without a channel axis, or a difference.
        wasserstein, smirnov: float32 (channel,), see `results.distributions`; empty where they were not asked for.
        same_as: the layer and call whose very output a container returned, () if it is its own.
        reason: why there is no distance, as a sentence, and then it is NaN; "" if there is one.
        left_out: how many values are NaN or infinite on one side. unlike: those of them that the other side has not.
    """

    layer: str
    call: int
    distance: float
    cosine: float
    sqnr: float
    share: np.ndarray = field(default_factory=lambda: EMPTY)
    wasserstein: np.ndarray = field(default_factory=lambda: EMPTY)
    smirnov: np.ndarray = field(default_factory=lambda: EMPTY)
    same_as: tuple[str, ...] = ()
    reason: str = ""
    left_out: int = 0
    unlike: int = 0

    @property
    def place(self) -> Place:
        """Where."""
        return self.layer, self.call

    @property
    def shift(self) -> float:
        """The mean over channels of their Kolmogorov-Smirnov distance, 0..1: whatever the sizes; NaN if unknown."""
        known = self.smirnov[np.isfinite(self.smirnov)]
        return float(known.mean()) if known.size else math.nan


@dataclass(frozen=True)
class Parting:
    """How far A and B are apart at every call of every layer, functions included, in execution order.

    Attributes:
        calls: containers come after what is in them.
        models: 1 if both were run by one model, 2 for two of one architecture.
        passes: how many times each side was run: several where A's outputs take more than may be kept at once.
        milliseconds: everything together.
    """

    calls: tuple[PartedCall, ...]
    models: int = 1
    passes: int = 1
    milliseconds: float = 0.0

    @property
    def steps(self) -> tuple[PartedCall, ...]:
        """The calls along the depth, without containers that return what the last layer in them returned."""
        return tuple(each for each in self.calls if not each.same_as)

    @property
    def by_distribution(self) -> bool:
        """Whether A and B differ in size at most layers, so that only `PartedCall.shift` tells how far they part."""
        unlike = sum(bool(each.reason) and math.isfinite(each.shift) for each in self.steps)
        return unlike * 2 > len(self.steps)

    def at(self, layer: str, call: int = 0) -> PartedCall | None:
        """One call, None if it is not there."""
        return next((each for each in self.calls if each.place == (layer, call)), None)


@dataclass(frozen=True)
class Calibration:
    """How far unrelated photographs are apart in one model.

    Attributes:
        layers, calls: where, in execution order.
        distances: float64 (place,): the median relative L2 over all pairs; NaN where no pair has one.
        pairs: how many pairs of pictures were run, each picture in two of them. total: how many there will be.
    """

    layers: tuple[str, ...]
    calls: tuple[int, ...]
    distances: np.ndarray
    pairs: int
    total: int

    @property
    def by_place(self) -> Mapping[Place, float]:
        """The same by layer and call."""
        return dict(zip(zip(self.layers, self.calls, strict=True), map(float, self.distances), strict=True))


@dataclass(frozen=True)
class FirstParting:
    """Where two sides part first.

    Attributes:
        call: the first call at which they differ, None if they do at none. before: the last one that is the same.
        channels: of `call`, those that carry `share` of the squared difference together, the strongest first.
        share: 0..1.
    """

    call: PartedCall | None
    before: PartedCall | None
    channels: tuple[int, ...] = ()
    share: float = 0.0


def in_common(layers: Sequence[LayerInfo], others: Sequence[LayerInfo]) -> tuple[int, int, int]:
    """How many layers that run two models have in common by name, and how many each of them has."""
    one, other = ({info.name for info in each if info.calls and not info.operation} for each in (layers, others))
    return len(one & other), len(one), len(other)


def of_one_architecture(layers: Sequence[LayerInfo], others: Sequence[LayerInfo]) -> bool:
    """Whether two models have half of their layers in common by name, or more."""
    common, *counts = in_common(layers, others)
    return 2 * common >= max(counts)


def calibrated(parting: Parting, calibration: Calibration | None) -> dict[Place, float]:
    """The distance of each call: 1 is as far apart as any two pictures; without a calibration the raw distance.

    Two models are not calibrated: what they make of one picture should be the same.
    """
    if calibration is None or parting.models == 2:
        return {each.place: each.distance for each in parting.calls}
    usual = calibration.by_place
    found = {}
    for each in parting.calls:
        median = usual.get(each.place, math.nan)
        found[each.place] = each.distance / median if median > 0 else 0.0 if each.distance == 0 else math.nan
    return found


def first_parting(
    parting: Parting,
    calibration: Calibration | None = None,
    threshold: float | None = None,
    carried: float = CARRIED,
) -> FirstParting:
    """The first layer in execution order above the threshold that stays above it for three, or to the end.

    A layer where one side alone has NaN or infinite values is above it, whatever the others' distance.

    Of two models it is the first layer beyond tolerance, for whatever comes after is a consequence of it.

    Arguments:
        threshold: of the calibrated distance 0.2 if none is given; of two models 1e-3, a tolerance.
    """
    values = calibrated(parting, calibration)
    limit, stays = threshold_of(parting, threshold), 1 if parting.models == 2 else STAYS
    known = [each for each in parting.steps if math.isfinite(values[each.place]) or each.unlike]
    above = [values[each.place] > limit or each.unlike > 0 for each in known]
    place = next((place for place in range(len(known)) if all(above[place : place + stays])), None)
    if place is None:
        return FirstParting(None, known[-1] if known else None)
    channels, share = carriers(known[place].share, carried)
    return FirstParting(known[place], known[place - 1] if place else None, channels, share)


def along_the_depth(parting: Parting, calibration: Calibration | None) -> dict[Place, float]:
    """What tells of each call how far apart A and B are there: `calibrated`, or the mean KS where most sizes differ."""
    if parting.by_distribution:
        return {each.place: each.shift for each in parting.calls}
    return calibrated(parting, calibration)


def threshold_of(parting: Parting, threshold: float | None = None) -> float:
    """Above which distance two sides count as different."""
    return threshold if threshold is not None else TOLERANCE if parting.models == 2 else THRESHOLD


def carriers(share: np.ndarray, carried: float = CARRIED) -> tuple[tuple[int, ...], float]:
    """The fewest channels that carry so much of the squared difference together, the strongest first; how much.

    >>> carriers(np.array([0.5, 0.1, 0.4]))
    ((0, 2), 0.9)
    """
    if not share.size:
        return (), 0.0
    order = np.argsort(-share, kind="stable")
    total = np.cumsum(share[order].astype(np.float64))
    count = min(int(np.searchsorted(total, carried - 1e-9)) + 1, len(order))
    return tuple(int(each) for each in order[:count]), round(float(total[count - 1]), 6)


def first_sentence(parting: Parting, found: FirstParting, named: int = 6) -> str:
    """The same in words.

    Arguments:
        named: how many channels are named at most.
    """
    same = "Within tolerance" if parting.models == 2 else "The same"
    if found.call is None:
        return (
            f"{same} everywhere: no layer is above {threshold_of(parting):g}."
            if found.before
            else "Nothing to compare."
        )
    begin = f"{same} up to {title(found.before)}; from" if found.before else "Apart from the first layer on:"
    where = f"{begin} {title(found.call)} {'on ' if found.before else ''}".rstrip()
    if not found.channels:
        return f"{where} they differ."
    first = ", ".join(map(str, found.channels[:named]))
    more = ", ..." if len(found.channels) > named else ""
    many = "one channel carries" if len(found.channels) == 1 else f"{len(found.channels)} channels carry"
    return f"{where} {many} {found.share:.0%} of the difference: {first}{more}."


def title(call: PartedCall) -> str:
    """A call, for a sentence."""
    name = call.layer or "the model's output"
    return f"{name} (call {call.call + 1})" if call.call else name


def ranked(numbers: np.ndarray) -> list[int]:
    """The channels, the largest number first, those without one last."""
    values: Sequence[float] = np.where(np.isfinite(numbers), numbers, -math.inf).tolist()
    return sorted(range(len(values)), key=lambda channel: -values[channel])
