"""Whether pictures reach a model as they did in training: their values, their size, the order of their colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hookscope.hooks.doctor import ways
from hookscope.hooks.doctor.patient import AT_ONCE, CannotTell, Patient
from hookscope.hooks.doctor.stored import (
    Seen,
    Stored,
    find_stored,
    first_stored,
    shift_of,
    shifts,
    shifts_as_given,
    spread_over_layers,
    watch,
)
from hookscope.hooks.doctor.variety import ALIKE, ONE_SCENE, between
from hookscope.hooks.doctor.ways import Way
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.findings import Bars, Finding

WHY = "Every layer is given other values than in training, and the answers get worse without any error."
LIKELY = 0.35  # a shift at a first BatchNorm that right pictures may have: the largest over 8 of them was 0.29
NOTHING_LIKE_IT = 1.0  # a shift that right pictures do not have
BEYOND_ANY = 10.0  # one that not even parts of one scene have
SEVERE = 4.0  # times nearer: then it is an error
PLAINLY = 0.4  # the shift from which on it is one
SURELY = 0.03  # a shift that a told preparation hardly has by chance; parts of one photograph had it in another: 0.01
NOT_BY_CHANCE = 10.0, 100.0  # times nearer: of what was told; of the same with bright and dark exchanged
SIZES_OFF = 0.03  # the shift over all layers below which no other size is tried
FOR_ITSELF = 1.2  # times nearer that another size has to be where each BatchNorm is judged for itself
OF_OWN = "the weights' own preparation"
LARGEST = 320 * 320  # pixels of a size that is tried


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
    sized = list(_told_size(patient))
    yield from sized
    first = first_stored(patient)
    _need_different(patient)
    given = shift_of_first(patient, first, patient.batches)
    patient.found["preprocessing: looked at"] = (
        f"{first.name} is given values {given:.2g} from those that it stored (limit "
        f"{patient.limit('preprocessing', 'least'):g}), over {patient.pictures} pictures."
    )
    if not given > patient.limit("preprocessing", "least"):
        if not sized:
            yield from _other_size(patient)
        return
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
    if not sure and between(patient) < (ALIKE if given < NOTHING_LIKE_IT else 0.0 if usual else ONE_SCENE):
        finding = replace(
            finding,
            severity="note",
            why=f"These pictures are much alike (only {between(patient):.1%} of their variance lies between them), so "
            "that may be what they show. If it is not: every layer is given other values than in training.",
        )
    yield finding


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
    found = []
    pixels = [given.pixels(batch) for batch in patient.batches]
    told = ways.told(patient.known.mean, patient.known.std, len(given.mean))
    seen = [given]
    for way in [*ways.usual(len(given.mean)), *([told] if told is not None else []), *_exchanged(given)]:
        if any(ways.alike(way, other) for other in seen):
            continue
        seen.append(way)
        found.append(_Tried(way, shift_of_first(patient, first, [way.prepare(each) for each in pixels])))
    own = patient.known.own
    if own and patient.otherwise is not None and own not in {each.way.text for each in found}:
        prepared = list(patient.otherwise(own))
        of_own = Way(own, OF_OWN, given.mean, given.std)
        found.append(_Tried(of_own, shift_of_first(patient, first, prepared)))
    way = ways.inverted(given)
    found.append(_Tried(way, shift_of_first(patient, first, [way.prepare(each) for each in pixels])))
    return [each for each in found if np.isfinite(each.shift)]


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
        f"be {_short(best.shift)} from them, {_times(ratio)} nearer"
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


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def _bars(given: _Tried, tried: Sequence[_Tried], good: _Tried) -> Bars:
    every = [given, *tried]
    words = [each.way.words.removeprefix("pixels of ") for each in every]
    names = [f"{said} (given)" if each is given else said for each, said in zip(every, words, strict=True)]
    return Bars(
        "distance from what the first BatchNorm stored",
        tuple(names),
        tuple(each.shift for each in every),
        bad=0,
        good=every.index(good),
        logarithmic=True,
    )


# --- size


def _told_size(patient: Patient) -> Iterator[Finding]:
    """Pictures of another size than that which the weights' own preparation has."""
    wanted = patient.known.size
    given = tuple(patient.batches[0].shape[-2:])
    if not all(wanted):
        return
    ratio = max(max(one / other, other / one) for one, other in zip(given, wanted, strict=True))
    limit = patient.limit("preprocessing", "size")
    if ratio < limit:
        return
    patient.found["preprocessing: other size"] = True
    yield Finding(
        "preprocessing",
        "warning",
        f"The pictures are {given[1]} × {given[0]} pixels, and the weights were trained at {wanted[1]} × {wanted[0]}: "
        f"a factor of {ratio:.2g} (limit {limit:g}).",
        why="What a layer looks for has another size in pixels than it had in training.",
        advice=f"Prepare the pictures at {wanted[0]}x{wanted[1]}: leave out --input-size, or resize them before.",
        about="input",
        value=ratio,
        limit=limit,
        excess=ratio / limit,
        evidence=Bars("longer side in pixels", ("as given", "in training"), (max(given), max(wanted)), bad=0, good=1),
        preparation=f"{wanted[0]}x{wanted[1]}",
    )


def _other_size(patient: Patient) -> Iterator[Finding]:
    """Pictures of which another size is much nearer to what all BatchNorms stored.

    A photograph of half the size is hardly told from a whole one; only a large difference is found.
    """
    if all(patient.known.size) or len(find_stored(patient)) < 4:
        return
    given = spread_over_layers(shifts_as_given(patient))
    if given <= SIZES_OFF:
        return
    height, width = patient.batches[0].shape[-2:]
    tried = [((height, width), given)]
    for factor in (0.25, 0.5, 2.0, 4.0):
        size = max(round(height * factor), 1), max(round(width * factor), 1)
        if size[0] * size[1] > LARGEST and factor > 1:
            break
        if (shift := _shift_at(patient, size)) is not None:
            tried.append((size, shift))
    (best, shift), ratio = min(tried, key=lambda each: each[1]), patient.limit("preprocessing", "ratio")
    if given < ratio * shift or not _nearer_for_itself(patient, (height, width), best):
        patient.found["preprocessing: looked at"] = (
            f"{patient.found['preprocessing: looked at']} Whether another size than {width} × {height} would be right "
            "cannot be told."
        )
        return
    patient.found["preprocessing: other size"] = True
    yield Finding(
        "preprocessing",
        "warning",
        f"Over all BatchNorms the pictures at {width} × {height} pixels are {given:.2g} from what was stored in "
        f"training, and at {best[1]} × {best[0]} {shift:.2g}, {_times(given / shift)} nearer (limit {ratio:g} times).",
        why="What a layer looks for has another size in pixels than it had in training.",
        advice=f"Look up the size of the training's pictures, and try --input-size {best[0]}x{best[1]}.",
        about="input",
        value=given / shift,
        limit=ratio,
        excess=given / shift / ratio,
        evidence=Bars(
            "distance from what all BatchNorms stored",
            tuple(f"{size[1]} × {size[0]}" for size, _ in tried),
            tuple(each for _, each in tried),
            bad=0,
            good=[size for size, _ in tried].index(best),
            logarithmic=True,
        ),
        preparation=f"{best[0]}x{best[1]}",
    )


def _nearer_for_itself(patient: Patient, given: tuple[int, int], best: tuple[int, int]) -> bool:
    """Whether another size is nearer where each BatchNorm is judged for itself, too: one wrong one moves all later."""
    one, other = (_shift_at(patient, size, by_batch=True) for size in (given, best))
    return one is not None and other is not None and one >= FOR_ITSELF * other


def _shift_at(patient: Patient, size: tuple[int, int], *, by_batch: bool = False) -> float | None:
    """The shift over all layers with pictures of another size; None if the model does not take it."""
    batches: list[Tensor] = []
    try:
        if patient.otherwise is not None:
            batches = list(patient.otherwise(f"{size[0]}x{size[1]}"))
        else:
            for batch in patient.batches:
                part = batch[: max(2 * AT_ONCE - sum(map(len, batches)), 0)].float()
                if len(part):
                    resized = functional.interpolate(part, size=size, mode="bilinear", antialias=True)
                    batches.append(resized.to(batch.dtype))
        found = shifts(find_stored(patient), watch(patient, find_stored(patient), batches, by_batch=by_batch))
    except (HooksError, RuntimeError, ValueError, AssertionError, IndexError, TypeError):
        return None
    found = {name: shift for name, shift in found.items() if np.isfinite(shift)}
    return spread_over_layers(found) if found else None
