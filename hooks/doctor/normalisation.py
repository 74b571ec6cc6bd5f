"""Whether BatchNorms store the statistics of what they are given, each judged for itself.

A BatchNorm that stores wrong ones gives all later ones values that theirs do not fit. So a second pass has every one
normalise by the batch: what a layer is given then owes nothing to what those before it have stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from hookscope.hooks.doctor.loading import made_anew_before
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.doctor.probe import feeding
from hookscope.hooks.doctor.stored import (
    Stored,
    distances_as_given,
    divergences,
    find_stored,
    shift_of,
    shifts_as_given,
    watch,
)
from hookscope.hooks.doctor.variety import of_one_class, unlike_the_trainings
from hookscope.hooks.results.findings import Bars, Curve, Finding, join_names

LONE = 0.5  # the shift from which on the first BatchNorm is off, or the only one
OTHER_SIZE = 4.0  # times the limit, where the pictures have another size, which the last layers notice
ONE_CLASS = 4.0  # times the limit, where the pictures show one class
FAR = 10.0  # the distance from which on a channel is off by itself
QUIET = 0.01  # of the layer's median variance: channels below it hardly ever fire, and are off on any few pictures
MOST = 8  # layers that have a finding each
RESET = 0.1  # the shift from which on a mean of 0 and a variance of 1 are wrong


def batchnorm_shift(patient: Patient) -> Iterator[Finding]:
    """BatchNorms whose stored statistics are not those of what they are given.

    Raises:
        CannotTell: there are none that store any, or none has ever seen a picture.
    """
    stored = find_stored(patient)
    if not stored:
        raise CannotTell("The model has no BatchNorm that stores statistics.")
    given = shifts_as_given(patient)
    if not given:
        raise CannotTell("No BatchNorm that stores statistics is called in a pass, or what it is given is not finite.")
    if all(stored[name].initial for name in given):
        raise CannotTell("No BatchNorm has ever seen a picture: each has a mean of 0 and a variance of 1.")
    limit = patient.limit("batchnorm-shift", "shift")
    largest = max(given.values())
    looked = f"{len(given)} BatchNorms over {patient.pictures} pictures; the largest shift is {largest:.2g}"
    patient.found["batchnorm-shift: looked at"] = f"{looked} (limit {limit:g})."
    share = patient.limit("batchnorm-shift", "share")
    far = {
        name: len(far_channels(stored[name], each)) / len(each) for name, each in distances_as_given(patient).items()
    }
    reset = {name for name, shift in given.items() if stored[name].initial and shift > RESET}
    if max(given.values()) > limit or max(far.values()) > share or reset:
        found = False
        for finding in _judged_alone(patient, stored, given, reset):
            found = True
            early = finding.rule == "batchnorm-shift" and stored[finding.layer or next(iter(given))].unsettled
            yield _early(finding, early) if early else finding
        if not found and largest > limit:
            patient.found["batchnorm-shift: looked at"] = (
                f"{looked}, beyond the limit of {limit:g}; but each judged by itself, with those before it set right, "
                "none is off."
            )


def _judged_alone(
    patient: Patient, stored: Mapping[str, Stored], given: Mapping[str, float], reset: set[str]
) -> Iterator[Finding]:
    limit = patient.limit("batchnorm-shift", "shift")
    seen = watch(patient, {name: stored[name] for name in given}, by_batch=True)
    each = {name: divergences(stored[name], one.mean, one.variance) for name, one in seen.items()}
    alone = {name: shift_of(stored[name], one.mean, one.variance) for name, one in seen.items()}
    alone = {name: shift for name, shift in alone.items() if np.isfinite(shift)}
    if not alone:
        return
    middle = float(np.median(list(alone.values())))
    if of_one_class(patient):  # of which the last layers' statistics are, too
        limit *= ONE_CLASS
    if patient.found.get("preprocessing: other size"):  # of which the last layers' statistics follow
        limit *= OTHER_SIZE
    off = {name: shift for name, shift in alone.items() if shift > limit}
    if len(alone) > 3 and len(off) > len(alone) / 2:
        yield _all_shifted(patient, alone, middle)
        return
    parts = {name: far_channels(stored[name], each[name]) for name in alone}
    share = patient.limit("batchnorm-shift", "share")
    explained = _explained(patient, alone)
    wrong = [
        name
        for name, shift in alone.items()
        if name not in explained
        and (
            _stands_out(patient, name, alone, limit)
            or name in reset
            or (len(parts[name]) > max(share * len(each[name]), 1))
        )
    ]
    if len(wrong) > MOST:
        yield _of_many(patient, alone, wrong)
        return
    for name in wrong:
        finding = _of_one(patient, stored[name], alone, given, parts[name], len(each[name]))
        sources = [layer for place, fed in feeding(patient).items() if place[0] == name for layer, _ in fed.sources]
        if (made := made_anew_before(patient, name, sources)) is not None:
            yield made
        first = name == next(iter(alone)) and not stored[name].initial
        yield _milder(finding) if first and unlike_the_trainings(patient, stored[name]) else finding


def _early(finding: Finding, unsettled: str) -> Finding:
    return replace(
        finding,
        severity="note",
        why=f"{unsettled}: in evaluation mode an early checkpoint normalises by statistics that are not there yet.",
        advice="Look at a later checkpoint before you change anything.",
    )


def _milder(finding: Finding) -> Finding:
    return replace(
        finding,
        severity="note",
        why="The stored means are those of the weights before it, and these pictures are of a narrow kind: of one hue, "
        "of one scene, dark or bright. Then it is theirs. If they are as in training, it normalises wrongly.",
        advice="Show pictures of all kinds that the training had.",
    )


def _stands_out(patient: Patient, name: str, alone: Mapping[str, float], limit: float) -> bool:
    others = [shift for other, shift in alone.items() if other != name]
    if not others:
        return alone[name] > max(limit, LONE)
    if name == next(iter(alone)):  # what it is given is as different as the pictures are
        limit = max(limit, LONE)
    return alone[name] > max(limit, patient.limit("batchnorm-shift", "times") * float(np.median(others)))


def _explained(patient: Patient, alone: Mapping[str, float]) -> set[str]:
    """The first layer, where it is the pictures' preparation that is wrong."""
    return {next(iter(alone))} if patient.found.get("preprocessing: other values") else set()


def far_channels(stored: Stored, each: np.ndarray) -> tuple[int, ...]:
    """The channels that are far from what is stored of them, but for those that hardly ever vary."""
    loud = stored.variance > QUIET * np.median(stored.variance)
    return tuple(int(channel) for channel in np.flatnonzero(loud & (each > FAR)))


def _of_one(
    patient: Patient,
    stored: Stored,
    alone: Mapping[str, float],
    given: Mapping[str, float],
    far: tuple[int, ...],
    channels: int,
) -> Finding:
    limit, shift = patient.limit("batchnorm-shift", "shift"), alone[stored.name]
    names = list(alone)
    middle = float(np.median(list(alone.values())))
    if stored.initial:
        what = (
            f"{stored.name} has a mean of 0 and a variance of 1, as if it had seen nothing, and is {shift:.2g} from "
            f"what it is given (limit {RESET:g} of such a one)"
        )
        limit = RESET
    elif shift > limit:
        what = f"What {stored.name} has stored is {shift:.2g} from what it is given (limit {limit:g})"
    else:
        share = patient.limit("batchnorm-shift", "share")
        what = (
            f"In {len(far)} of {channels} channels what {stored.name} has stored is more than {FAR:g} from what it is "
            f"given (limit {share:.0%})"
        )
        shift, limit = len(far) / channels, share
    later = sum(
        given[name] > patient.limit("batchnorm-shift", "shift") for name in names[names.index(stored.name) + 1 :]
    )
    also = f" {_counted(later)} given wrong values because of it." if later else ""
    return Finding(
        "batchnorm-shift",
        "warning",
        f"{what}; the median of all {len(alone)} BatchNorms is {middle:.2g}.{also}",
        why="It normalises by the wrong mean and deviation, so that everything behind it is off.",
        advice="Load the weights' own running_mean and running_var, or let it see training pictures in training mode; "
        "look, too, whether the weights just before it are those that it was trained with.",
        layer=stored.name,
        channels=far if len(far) < channels else (),
        among=channels,
        value=shift,
        limit=limit,
        excess=max(shift / limit, 1.0),
        evidence=_along(alone, [names.index(stored.name)], patient.limit("batchnorm-shift", "shift")),
    )


def _counted(later: int) -> str:
    return "1 later one is" if later == 1 else f"{later} later ones are"


def _of_many(patient: Patient, alone: Mapping[str, float], wrong: list[str]) -> Finding:
    limit = patient.limit("batchnorm-shift", "shift")
    names = list(alone)
    worst = max(wrong, key=lambda name: alone[name])
    return Finding(
        "batchnorm-shift",
        "warning",
        f"What {len(wrong)} of {len(alone)} BatchNorms have stored is more than {limit:g} from what they are given: "
        f"{join_names(wrong)}; most, {worst} ({alone[worst]:.2g}).",
        why="They normalise by the wrong mean and deviation, so that everything behind them is off.",
        advice="Load the weights' own running_mean and running_var, or let them see training pictures again.",
        layer=wrong[0],
        value=alone[worst],
        limit=limit,
        excess=max(alone[worst] / limit, 1.0),
        evidence=_along(alone, [names.index(name) for name in wrong], limit),
    )


def _all_shifted(patient: Patient, alone: Mapping[str, float], middle: float) -> Finding:
    limit = patient.limit("batchnorm-shift", "shift")
    count = sum(shift > limit for shift in alone.values())
    return Finding(
        "batchnorm-shift",
        "note",
        f"{count} of {len(alone)} BatchNorms are given values more than {limit:g} from those that they stored (the "
        f"median is {middle:.2g}), also where each is judged for itself: that is the pictures, and no single layer.",
        why="The pictures are of another kind, size or preparation than those of the training.",
        advice="Show pictures like those of the training, and see preprocessing.",
        about="input",
        value=middle,
        limit=limit,
        excess=max(middle / limit, 1.0),
        evidence=_along(alone, [], limit),
    )


def _along(alone: Mapping[str, float], marked: list[int], limit: float) -> Bars | Curve:
    title = "distance of what is stored from what is given, each BatchNorm by itself"
    values = np.array(list(alone.values()))
    if len(alone) <= 2:
        return Bars(title, tuple(alone), tuple(map(float, values)), bad=marked[0] if marked else -1, limit=limit)
    return Curve(title, tuple(alone), values, marked=tuple(marked), limit=limit, logarithmic=True)
