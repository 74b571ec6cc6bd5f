"""Whether pictures reach a model as they did in training: their values, their size, the order of their colours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.doctor import ways
from hookscope.hooks.doctor.by_labels import is_better, other_preparation
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.doctor.sizes import other_size, say_times, told_size
from hookscope.hooks.doctor.stored import (
    Seen,
    Stored,
    first_stored,
    shift_of,
    watch,
)
from hookscope.hooks.doctor.variety import ALIKE, ONE_SCENE, between
from hookscope.hooks.doctor.ways import Way
from hookscope.hooks.results.findings import Bars, Finding

WHY = "Every layer is given other values than in training, and the answers get worse without any error."
LIKELY = 0.35  # a shift at a first BatchNorm that right pictures may have: the largest over 8 of them was 0.29
NOTHING_LIKE_IT = 1.0  # a shift that right pictures do not have
BEYOND_ANY = 10.0  # one that not even parts of one scene have
SEVERE = 4.0  # times nearer: then it is an error
PLAINLY = 0.4  # the shift from which on it is one
SURELY = 0.03  # a shift that a told preparation hardly has by chance; parts of one photograph had it in another: 0.01
NOT_BY_CHANCE = 10.0, 100.0  # times nearer: of what was told; of the same with bright and dark exchanged
OF_OWN = "the weights' own preparation"
OTHERS = 3  # ways whose bars stand beside the given and the proposed one


@dataclass(frozen=True)
class _Tried:
    """One way, and how far its pictures are from what the first BatchNorm stored."""

    way: Way
    shift: float


def preprocessing(patient: Patient) -> Iterator[Finding]:
    """Pictures whose values, or whose size, are others than in training.

    Raises:
        CannotTell: there is no BatchNorm near the input, or no preparation is clearly nearer.
    """
    sized = list(told_size(patient))
    yield from sized
    if (chance := _by_labels(patient)) is not None:
        patient.found["preprocessing: other values"] = True
        patient.found["preprocessing: looked at"] = "The right answers in each preparation."
        yield chance
        return
    first = first_stored(patient)
    _need_different(patient)
    given = shift_of_first(patient, first, patient.batches)
    patient.found["preprocessing: looked at"] = (
        f"{first.name} is given values {given:.2g} from those that it stored (limit "
        f"{patient.limit('preprocessing', 'least'):g}), over {patient.pictures} pictures."
    )
    if not given > patient.limit("preprocessing", "least"):
        if not sized and not first.unsettled:
            yield from other_size(patient)
        return
    if first.unsettled:
        raise CannotTell(
            f"{first.unsettled}: how pictures were prepared cannot be told from that. Look at a later checkpoint."
        )
    yield from _other_values(patient, first, given)


def shift_of_first(patient: Patient, first: Stored, batches: Sequence[Tensor]) -> float:
    """How far what the first BatchNorm is given of these pictures is from what it stored."""
    return shift_of(first, *_moments(_seen_of_first(patient, first, batches)))


def _seen_of_first(patient: Patient, first: Stored, batches: Sequence[Tensor]) -> Seen:
    return watch(patient, {first.name: first}, batches, ends=True)[first.name]


def _moments(seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    return seen.mean, seen.variance


def _need_different(patient: Patient) -> None:
    marks = {
        (float(picture.double().mean()), float(picture.double().std()))
        for batch in patient.batches
        for picture in batch
    }
    least = 8
    if len(marks) < least:
        raise CannotTell(
            f"The rule preprocessing needs at least {least} different pictures, and only {len(marks)} of these "
            f"{patient.pictures} differ."
        )


# --- values


def _by_labels(patient: Patient) -> Finding | None:
    """Where answers are right by chance alone, and another preparation makes significantly more right."""
    channels = patient.batches[0].shape[1]
    way = ways.recognise(patient.batches, ways.told(patient.known.mean, patient.known.std, channels))
    way = ways.by_extremes(patient.batches) if way is None else way
    if way is None:
        return None
    finding = other_preparation(patient, way, others := list(_other_ways(patient, way)))
    if finding is None or not isinstance(finding.evidence, Bars):
        return None
    best, prepared = others[finding.evidence.good - 1]
    finding = replace(finding, advice=_advice(way, best))
    try:
        first = first_stored(patient)
    except CannotTell:
        return finding
    given, shift = (shift_of_first(patient, first, each) for each in (patient.batches, list(prepared())))
    if shift > given:  # then it is something else that makes the answers chance
        return None
    said = f"{first.name} would be given values {_short(shift)} from those that it stored, and is now {_short(given)}."
    return replace(finding, sentence=f"{finding.sentence} {said}", layer=first.name)


def _other_values(patient: Patient, first: Stored, given: float) -> Iterator[Finding]:
    channels = patient.batches[0].shape[1]
    if ways.each_by_itself(patient.batches):
        patient.found["preprocessing: other values"] = True
        yield _by_itself(patient, first, given)
        return
    way = ways.recognise(patient.batches, ways.told(patient.known.mean, patient.known.std, channels))
    if way is None and given > NOTHING_LIKE_IT:
        way = ways.by_extremes(patient.batches)
    if way is None:
        raise CannotTell(
            f"What {first.name} is given is {given:.2g} from what it stored, and the pictures' values are of no usual "
            "range: say with mean and std how they were made of pixels of 0 to 1."
        )
    tried = _try_ways(patient, first, way)
    decisive = patient.limit("preprocessing", "ratio")
    best = _best_of(tried, decisive) if tried else _Tried(way, given)
    ratio = given / max(best.shift, 1e-9)
    if given < NOTHING_LIKE_IT and tried and best.shift >= decisive * given:
        patient.found["preprocessing: looked at"] = (
            f"{patient.found['preprocessing: looked at']} Of {len(tried)} other preparations the nearest is "
            f"{_short(best.shift)} from them."
        )
        return
    if ratio >= decisive and best.shift <= LIKELY:
        finding = _finding_of_values(patient, first, _Tried(way, given), best, tried)
    else:
        finding = _estimated(patient, first, _Tried(way, given), tried)
    patient.found["preprocessing: other values"] = True
    usual = given > BEYOND_ANY and best.shift <= LIKELY
    least = (
        NOT_BY_CHANCE[0] if _is_told(patient, best.way) else NOT_BY_CHANCE[1] if (best.way.std < 0).any() else np.inf
    )
    sure = best.shift <= SURELY and ratio >= least
    if not sure and finding.preparation == best.way.text:
        sure = _labels_say(patient, way, best.way)
    if not sure and between(patient) < (ALIKE if given < NOTHING_LIKE_IT else 0.0 if usual else ONE_SCENE):
        finding = replace(
            finding,
            severity="note",
            why=f"These pictures are much alike (only {between(patient):.1%} of their variance lies between them), so "
            "that may be what they show. If it is not: every layer is given other values than in training.",
        )
    yield finding


def _labels_say(patient: Patient, given: Way, best: Way) -> bool:
    """Whether significantly more pictures are answered rightly in the better way."""
    others = [prepared for way, prepared in _other_ways(patient, given) if way.words == best.words]
    return bool(others) and is_better(patient, others[0])


def _by_itself(patient: Patient, first: Stored, given: float) -> Finding:
    limit = patient.limit("preprocessing", "least")
    return Finding(
        "preprocessing",
        "warning",
        f"Each picture has mean 0 and deviation 1, as if it had been normalised by itself, and {first.name} is given "
        f"values {_short(given)} from those that it stored in training (limit {limit:g}).",
        why="A dark picture and a bright one, or a dull and a sharp one, are made alike, and every layer is given "
        "other values than in training.",
        advice="Take the same mean and deviation for all pictures: those of the training (--mean, --std).",
        layer=first.name,
        about="input",
        value=given,
        limit=limit,
        excess=given / limit if limit else given + 1,
    )


def _try_ways(patient: Patient, first: Stored, given: Way) -> list[_Tried]:
    """The usual ways, and what the weights' own preparation says, each over the same pictures."""
    found = [
        _Tried(way, shift_of_first(patient, first, list(prepared()))) for way, prepared in _other_ways(patient, given)
    ]
    return [each for each in found if np.isfinite(each.shift)]


def _other_ways(patient: Patient, given: Way) -> Iterator[tuple[Way, Callable[[], Iterable[Tensor]]]]:
    """Ways in which the pictures may have had to be prepared, each with what gives them prepared so."""
    pixels = [given.pixels(batch) for batch in patient.batches]
    told = ways.told(patient.known.mean, patient.known.std, len(given.mean))
    seen, texts = [given], set()
    for way in [*ways.usual(len(given.mean)), *([told] if told is not None else []), *_exchanged(given)]:
        if any(ways.alike(way, other) for other in seen):
            continue
        seen.append(way)
        texts.add(way.text)
        yield way, partial(_prepared, way, pixels)
    own = patient.known.own
    if own and patient.otherwise is not None and own not in texts:
        yield Way(own, OF_OWN, given.mean, given.std), partial(patient.otherwise, own)
    way = ways.inverted(given)
    yield way, partial(_prepared, way, pixels)


def _prepared(way: Way, pixels: Sequence[Tensor]) -> list[Tensor]:
    return [way.prepare(each) for each in pixels]


def _is_told(patient: Patient, way: Way) -> bool:
    """Whether a caller has told this way."""
    told = ways.told(patient.known.mean, patient.known.std, len(way.mean))
    return told is not None and ways.alike(told, way)


def _best_of(tried: Sequence[_Tried], decisive: float) -> _Tried:
    """The nearest; one with bright and dark exchanged only where it is clearly nearer than all others."""
    best = min(tried, key=lambda each: each.shift)
    others = [each for each in tried if (each.way.std > 0).all()]
    plain = min(others, key=lambda each: each.shift, default=best)
    return best if best.shift * decisive <= plain.shift else plain


def _exchanged(given: Way) -> list[Way]:
    """The told mean as the deviation and the deviation as the mean, where they may have been mixed up."""
    if not (given.mean > 0).all() or given.text or not given.told:
        return []
    return [Way("", "what was told, mean and deviation exchanged", given.std, given.mean)]


def _finding_of_values(
    patient: Patient, first: Stored, given: _Tried, best: _Tried, tried: Sequence[_Tried]
) -> Finding:
    ratio = given.shift / max(best.shift, 1e-9)
    severe = ratio >= SEVERE and given.shift >= PLAINLY
    of_own = best.way.text == patient.known.own != ""
    limit = patient.limit("preprocessing", "least")
    return Finding(
        "preprocessing",
        "error" if severe else "warning",
        f"The pictures look like {given.way.words}, and {first.name} is given values {_short(given.shift)} from "
        f"those that it stored in training (limit {limit:g}); as {best.way.words} they would "
        f"be {_short(best.shift)} from them, {say_times(ratio)} nearer"
        f"{', which is how the weights say that pictures are prepared' if of_own else ''}.",
        why=WHY,
        advice=_advice(given.way, best.way),
        layer=first.name,
        about="input",
        value=given.shift,
        limit=patient.limit("preprocessing", "least"),
        excess=max(ratio / patient.limit("preprocessing", "ratio"), 1.0),
        evidence=_bars(given, tried, good=best),
        preparation=best.way.text,
    )


def _advice(given: Way, best: Way) -> str:
    if best.words == OF_OWN:
        return "Leave out the mean and the deviation that were told, so that the weights' own preparation holds."
    if (best.std < 0).any():
        return (
            "Exchange bright and dark before the pictures are normalised (1 - pixel, of 0 to 1), or in Python "
            f"`{ways.line_of_code(given, best)}`; paper and ink, or the masks of a scanner, may have been exchanged."
        )
    return (
        f"Prepare the pictures as {best.words}: open the model with {best.option}, or in Python "
        f"`{ways.line_of_code(given, best)}`."
    )


def _estimated(patient: Patient, first: Stored, given: _Tried, tried: Sequence[_Tried]) -> Finding:
    """Where no usual way is near: a mean and a deviation that would be, where there are any.

    Raises:
        CannotTell: there are none.
    """
    tried = [each for each in tried if (each.way.std > 0).all()]
    nearest = min(tried, key=lambda each: each.shift, default=given)
    own = fit_way(patient, first, given.way)
    needed = min(LIKELY, given.shift / patient.limit("preprocessing", "ratio"))
    if given.shift < NOTHING_LIKE_IT or own is None or own.shift > needed:
        raise CannotTell(
            f"What {first.name} is given is {given.shift:.2g} from what it stored, and no other preparation is clearly "
            f"nearer (the nearest, {nearest.way.words}, {nearest.shift:.2g}): show more, and more different, pictures; "
            "or see batchnorm-shift."
        )
    return Finding(
        "preprocessing",
        "warning",
        f"The pictures look like {given.way.words}, and {first.name} is given values {_short(given.shift)} from those "
        f"that it stored in training (limit {patient.limit('preprocessing', 'least'):g}); no usual preparation fits "
        f"(the nearest is {nearest.way.words}: {_short(nearest.shift)}), but a mean of about "
        f"{own.way.mean.mean():.2f} and a deviation of about {own.way.std.mean():.2f} would, which is an estimate.",
        why=WHY,
        advice=f"Look up how the training prepared its pictures; by the estimate it is about {own.way.option}.",
        layer=first.name,
        about="input",
        value=given.shift,
        limit=patient.limit("preprocessing", "least"),
        excess=max(given.shift / patient.limit("preprocessing", "least"), 1.0),
        evidence=_bars(given, [*tried, own], good=own),
    )


def fit_way(patient: Patient, first: Stored, given: Way) -> _Tried | None:
    """The one mean and deviation for all channels that would bring the pictures nearest; None if none makes sense.

    Whatever lies between is taken as linear: what becomes of the pictures, of zeros and of ones tells what becomes of
    every scaled and shifted picture. Whether that holds is tried in the end.
    """
    batch = patient.batches[0][:1]
    some = _seen_of_first(patient, first, patient.batches)
    nothing = _seen_of_first(patient, first, [torch.zeros_like(batch)])
    ones = _seen_of_first(patient, first, [torch.ones_like(batch)])
    scale = np.geomspace(1 / 300, 300, 160)[:, None]
    base, slope = some.mean - nothing.mean, ones.mean - nothing.mean
    best: tuple[float, float, float] = (float("inf"), 1.0, 0.0)
    for factor in scale[:, 0]:
        variance = some.variance * factor**2 + first.eps
        theirs = first.variance + first.eps
        middle = float(np.median((first.mean - nothing.mean - factor * base) / np.where(slope == 0, np.inf, slope)))
        reach = np.median(np.sqrt(theirs) / np.maximum(np.abs(slope), 1e-9))
        added = middle + np.linspace(-3, 3, 61)[:, None] * reach
        mean = nothing.mean + factor * base + added * slope
        each = 0.25 * (
            variance / theirs + theirs / variance - 2 + (mean - first.mean) ** 2 * (1 / variance + 1 / theirs)
        )
        shift = np.median(each, 1)
        at = int(shift.argmin())
        if shift[at] < best[0]:
            best = float(shift[at]), float(factor), float(added[at, 0])
    _, factor, plus = best
    std = given.std / factor
    mean = given.mean - plus * std
    if not (0.1 <= std.mean() <= 1.2 and -0.1 <= mean.mean() <= 1.1):
        return None
    way = Way("", "by the estimate", np.full_like(mean, mean.mean()), np.full_like(std, std.mean()))
    prepared = [way.prepare(given.pixels(each)) for each in patient.batches]
    return _Tried(way, shift_of_first(patient, first, prepared))


def _short(shift: float) -> str:
    return f"{shift:,.0f}" if shift >= 100 else f"{shift:.2g}"


def _bars(given: _Tried, tried: Sequence[_Tried], good: _Tried) -> Bars:
    others = sorted((each for each in tried if each is not good), key=lambda each: each.shift)
    every = [given, good, *others[:OTHERS]]
    words = [each.way.words.removeprefix("pixels of ") for each in every]
    names = [f"{said} (given)" if each is given else said for each, said in zip(every, words, strict=True)]
    return Bars(
        "distance from what the first BatchNorm stored",
        tuple(names),
        tuple(each.shift for each in every),
        bad=0,
        good=1,
        logarithmic=True,
    )
