"""Holds a model and its pictures against a stored baseline: what is another, from which layer on, and why.

For the same pictures, the first layer whose numbers are beyond their tolerance is told, and the cause: which weights
are others, and how; or that the pictures were prepared otherwise; or that a layer's settings are others. Of other
pictures only distributions can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hookscope.hooks.doctor.baseline.against import Against
from hookscope.hooks.doctor.baseline.class_order import class_order
from hookscope.hooks.doctor.baseline.deviations import Deviations, channels_apart, deviations_of
from hookscope.hooks.doctor.baseline.given_pictures import compare_pictures, proposal
from hookscope.hooks.doctor.baseline.marks import Change, digest_of_text, match_rows, pictures_of, swapped
from hookscope.hooks.doctor.baseline.weight_changes import changes_of, describe_layers, reset_statistics
from hookscope.hooks.doctor.baseline.writing import Seen, kind_of, look_at_all, read_baseline_for, write_baseline
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.results.baseline_scores import SURE
from hookscope.hooks.results.findings import Bars, Curve, Finding, Severity, join_names
from hookscope.hooks.results.reference import Reference

if TYPE_CHECKING:
    from hookscope.hooks.datasets.baseline import Baseline

__all__ = ["baseline", "read_baseline_for", "write_baseline"]

NONE = (
    "No baseline was given: write one with `hookscope check --update-baseline`, and give it with --baseline, or as "
    "`hs.check(..., baseline=path)`."
)
WHY = (
    "The same pictures gave other numbers when the baseline was written, so the model is not the one that was checked."
)
REWRITE = "If this is meant, write the baseline anew with --update-baseline; else "
ELSEWHERE = 100.0  # multiples of the tolerance that another device or version of torch may explain
CHANCE = 1e-3  # of as many unusual pictures, below which they are told


def baseline(patient: Patient) -> Iterator[Finding]:
    """See the rule."""
    given = patient.found.get("baseline")
    if given is None:
        raise CannotTell(NONE)
    known = read_baseline_for(patient, given)
    seen = look_at_all(patient)
    if known.reference is None:
        yield from _distributions(
            patient, known, seen, "It is one of pictures alone, without what `hookscope check` needs"
        )
        return
    against = _compare(patient, known, known.reference, seen)
    findings = [finding for finding in _findings(against) if not _told_already(patient, finding)]
    patient.found["baseline: looked at"] = _looked_at(against, bool(findings))
    if against.given.how == "others":
        yield from findings
        yield from _distributions(patient, known, seen, "The pictures are others than the baseline's")
        return
    yield from findings


def _compare(patient: Patient, known: Baseline, reference: Reference, seen: Seen) -> Against:
    pictures = pictures_of(patient.batches)
    given = compare_pictures(pictures, reference)
    ran = list(dict.fromkeys(layer for layer, _ in known.layers))
    changes = changes_of(patient, reference, ran)
    away = deviations_of(patient, seen, known, given.rows) if given.how == "same" else None
    names = tuple(map(digest_of_text, patient.known.classes))
    order: tuple[int, ...] = ()
    if names != reference.told.classes and sorted(names) == sorted(reference.told.classes):
        numbers = {name: place for place, name in enumerate(dict.fromkeys((*names, *reference.told.classes)))}
        order = match_rows(*(np.array([numbers[name] for name in each]) for each in (names, reference.told.classes)))
    return Against(patient, known, reference, seen, pictures, given, changes, away, order)


def _findings(against: Against) -> Iterator[Finding]:
    """One for each cause."""
    changes = against.changes
    if changes.others:
        yield _other_weights(against)
    if changes.statistics:
        yield _moved_statistics(against)
    if changes.rounded:
        yield _rounded(against)
    yield from class_order(against)
    if against.given.how not in ("same", "others"):
        yield _prepared_otherwise(against)
    settings = list(_settings(against))
    yield from settings
    if against.away is not None and against.away.first is not None and not changes and not settings:
        yield from _unexplained(against, against.away, against.away.first)


def _told_already(patient: Patient, finding: Finding) -> bool:
    """Whether another rule has found the same by its own means."""
    found = patient.found.get("findings")
    if finding.rule == "baseline" or not isinstance(found, list):
        return False
    same = {"preprocessing": ("preprocessing", "colour-order"), "colour-order": ("preprocessing", "colour-order")}
    return finding.rule != "precision" and any(
        each.rule in same.get(finding.rule, (finding.rule,)) and each.severity != "note" for each in found
    )


# --- weights


def _finding(
    against: Against,
    groups: Mapping[str, Sequence[Change]],
    text: str,
    why: str,
    advice: str,
    rule: str = "baseline",
    severity: Severity = "error",
) -> Finding:
    """A finding of weights that are others: with the layer that shows it first, its number and its limit."""
    place, layer = against.place_of(groups), against.has_run(next(iter(groups)))
    number = math.nan
    evidence: Curve | None = None
    limit, excess, picture = math.nan, 1.0, -1
    first = next(iter(groups.values()))
    rows = max((each.rows for each in first if each.how in ("zeroed", "rows")), key=len, default=())
    among = max((each.among for each in first if each.rows == rows), default=0) if rows else 0
    away = against.away
    if away is None:
        said = f"{text} (against the baseline of {against.made}, which is of other pictures or other numbers)."
    elif place is None:
        severity = "note"
        said = f"{text}, and no layer's numbers are beyond their tolerance (baseline of {against.made})."
        evidence = away.curve(int(away.excess.argmax())) if away.excess.size else None
    else:
        shown = away.places[place][0]
        layer = layer or shown
        said = f"{text}: from {shown or 'the model'} on, {away.describe(place)}."
        number, limit = float(away.now[place]), float(away.limit[place])
        excess, picture = max(float(away.excess[place]), 1.0), int(away.picture[place])
        evidence = away.curve(place)
    return Finding(
        rule,
        severity,
        said[:1].upper() + said[1:] if not groups.get(said.split(" ")[0]) else said,
        why,
        advice,
        layer=layer,
        channels=tuple(rows),
        value=number,
        limit=limit,
        excess=excess,
        evidence=evidence,
        about="layer" if layer else "model",
        picture=picture,
        among=among,
    )


def _other_weights(against: Against) -> Finding:
    groups = against.changes.others
    text = describe_layers(against.patient, groups)
    return _finding(against, groups, text, WHY, f"{REWRITE}load the weights that were checked.")


def _moved_statistics(against: Against) -> Finding:
    groups = against.changes.statistics
    names = list(groups)
    counted = all(each.name.endswith("num_batches_tracked") for changes in groups.values() for each in changes)
    what = "running statistics" if not counted else "count of batches"
    how = "are back at 0 and 1" if reset_statistics(against.patient, groups) else "have moved"
    text = (
        f"the BatchNorm {what} of {len(names)} layer{'' if len(names) == 1 else 's'} ({join_names(names, 2)}) {how}, "
        "and the weights are as they were"
    )
    return _finding(
        against,
        groups,
        text,
        "A pass in training mode changes what every BatchNorm stores, without any training.",
        f"{REWRITE}load the weights again, and call model.eval() before the model is shown pictures.",
    )


def _rounded(against: Against) -> Finding:
    groups = against.changes.rounded
    kinds = [each.how for changes in groups.values() for each in changes if each.how != "buffer"]
    kind = max(sorted(set(kinds)), key=kinds.count)
    among = f"{len(groups)} of {against.changes.layers}"
    text = f"the weights of {among} layers are the baseline's rounded to {kind}"
    rounded = _finding(
        against,
        groups,
        text,
        f"Rounding to {kind} keeps {'8' if kind == 'bfloat16' else '11'} of 24 bits of each weight, for good.",
        f"{REWRITE}load the weights in float32, and use torch.autocast where a pass is to be faster.",
        rule="precision",
        severity="warning",
    )
    return replace(rounded, by_weights=True)


# --- pictures


def _prepared_otherwise(against: Against) -> Finding:
    patient, given, told = against.patient, against.given, against.reference.told
    now, way = against.pictures, ""
    again = f"{int((given.rows >= 0).sum())} of {len(given.rows)} pictures are the baseline's of {against.made}"
    apart = np.abs(now.mean - told.mean) / np.maximum(told.std, 1e-9)
    rule, value, limit = "preprocessing", float(apart.max()), 1e-3
    if given.how == "order":
        rule, way, value, limit = "colour-order", "bgr", float(len(swapped(given.order))), 0.0
        where = ", ".join(f"channel {place} is what {was} was" for place, was in swapped(given.order))
        text = f"{again}, with their channels in another order (limit 0): {where}."
        back = [given.order.index(channel) for channel in range(len(given.order))]
        advice = f"Give the channels in the baseline's order: pictures[:, {back}]."
    elif given.how == "size":
        value, limit, way = float(now.size[1]), float(told.size[1]), f"{told.size[1]}x{told.size[2]}"
        text = (
            f"{again}, of {now.size[1]} × {now.size[2]} pixels where the baseline has {told.size[1]} × {told.size[2]}."
        )
        advice = f"Prepare pictures of {told.size[1]} × {told.size[2]} pixels."
    elif given.how == "numbers":
        way, words = proposal(given, patient.known.mean, patient.known.std)
        text = (
            f"{again}, normalised otherwise: the input's mean is {_list(now.mean)} and its deviation "
            f"{_list(now.std)}, where the baseline has {_list(told.mean)} and {_list(told.std)} (limit {limit} of the "
            "deviation)."
        )
        advice = f"Prepare pictures as the baseline's were: {words}."
    else:
        value, limit = given.left**0.5, 0.0
        text = (
            f"{again}, and their values are not: {value:.1%} of their deviation is another (limit 0), so they were "
            "cropped, resized or decoded in another way."
        )
        advice = (
            "Prepare pictures in the way, and with the versions of the libraries, with which the baseline was written."
        )
    return Finding(
        rule,
        "error",
        text,
        "A model answers well only for pictures that are prepared as those were with which it was checked.",
        advice,
        value=value,
        limit=limit,
        excess=max(value / limit, 1.0) if limit else 1.0,
        evidence=_input_bars(now.mean, told.mean),
        about="input",
        preparation=way,
    )


def _input_bars(now: np.ndarray, then: Sequence[float]) -> Bars:
    names = [f"channel {place}, {when}" for place in range(len(now)) for when in ("now", "then")]
    values = [float(value) for pair in zip(now, then, strict=False) for value in pair]
    return Bars("mean of what the model is given", tuple(names[: len(values)]), tuple(values))


def _list(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _distributions(patient: Patient, known: Baseline, seen: Seen, why: str) -> Iterator[Finding]:
    """Of other pictures: how many are unlike the baseline's, and whether so many are by chance."""
    if set(seen.numbers.places) != set(known.layers) or seen.numbers.feature_place != known.numbers.feature_place:
        patient.found["baseline: looked at"] = f"{why}, and its layers are others, so nothing could be compared."
        return
    scores = known.score_numbers(seen.numbers)
    unlike, count = int((scores.layers_p <= SURE).sum()), len(scores.layers_p)
    share = f"{unlike} of {count} are beyond 95 % of the baseline's of {known.made}"
    only = f"{why}, so only distributions could be compared"
    patient.found["baseline: looked at"] = f"{only}: {share}. {scores.note(SURE)}".strip()
    if _chance(unlike, count) >= CHANCE:
        return
    firsts = scores.firsts()
    names = [known.layers[place][0] for place in firsts if place >= 0]
    layer = max(sorted(set(names)), key=names.count) if names else ""
    yield Finding(
        "baseline",
        "warning" if unlike > count / 2 else "note",
        f"{only}: {share} (limit {SURE:.0%} by chance).",
        "Pictures of another kind, or prepared in another way, or another model give such numbers.",
        "Check the model with the baseline's own pictures, or write a baseline of these with --update-baseline.",
        layer=layer,
        value=unlike / count,
        limit=SURE,
        excess=unlike / count / SURE,
        evidence=_probabilities(scores.layers_p),
        about="layer" if layer else "model",
    )


def _probabilities(p: np.ndarray) -> Curve:
    return Curve("probability of each picture by chance, sorted", (), np.sort(p).astype(np.float64), limit=SURE)


def _chance(unlike: int, count: int) -> float:
    """The probability of at least so many pictures beyond 95 %."""
    return sum(math.comb(count, each) * SURE**each * (1 - SURE) ** (count - each) for each in range(unlike, count + 1))


# --- code


def _settings(against: Against) -> Iterator[Finding]:
    """Layers that print themselves as something else than they did, or that do not run any more."""
    away, told = against.away, against.reference.told
    ran = set(against.seen.numbers.places)
    others = []
    for index, (place, kind) in enumerate(zip(against.known.layers, told.kinds, strict=True)):
        own = kind_of(against.patient, place)
        if place not in ran:
            others.append((index, f"{_called(place)} does not run any more"))
        elif own != kind:
            others.append((index, f"{_called(place)} is {own} and was {kind}"))
    others += [(-1, f"{_called(place)} runs, and did not") for place in ran - set(against.known.layers)]
    if not others:
        return
    index, text = others[0]
    first = None if away is None else away.first
    if first is None and not any(place not in ran for place in against.known.layers) and index >= 0:
        # another version of torch may print them otherwise
        severity: Severity = "note"
        number = "no layer's numbers are beyond their tolerance" if away is not None else "no numbers can be compared"
    else:
        severity = "error"
        number = away.describe(first) if away is not None and first is not None else "no numbers can be compared"
    more = f" ({len(others)} such layers)" if len(others) > 1 else ""
    beyond = away is not None and first is not None
    yield Finding(
        "baseline",
        severity,
        f"{text[:1].upper() + text[1:] if index < 0 else text}{more}: {number}"
        f"{'' if beyond else f' (baseline of {against.made})'}.",
        WHY,
        f"{REWRITE}take the code and the versions of the libraries that were checked.",
        layer=against.known.layers[index][0] if index >= 0 else "",
        value=float(away.now[first]) if away is not None and first is not None else math.nan,
        limit=float(away.limit[first]) if away is not None and first is not None else math.nan,
        excess=max(float(away.excess[first]), 1.0) if away is not None and first is not None else 1.0,
        evidence=away.curve(first) if away is not None and first is not None else None,
        about="layer" if index >= 0 and against.known.layers[index][0] else "model",
    )


def _called(place: tuple[str, int]) -> str:
    return (place[0] or "the model") + (f" (call {place[1]})" if place[1] else "")


def _unexplained(against: Against, away: Deviations, first: int) -> Iterator[Finding]:
    """Numbers beyond their tolerance with the same weights, pictures and settings."""
    told, versions = against.reference.told, dict(against.known.versions)
    elsewhere = []
    if told.device != against.patient.device.type:
        elsewhere.append(f"it ran on {told.device} and runs on {against.patient.device.type}")
    if versions.get("torch", "") != str(torch.__version__):
        elsewhere.append(f"torch was {versions.get('torch', 'unknown')} and is {torch.__version__}")
    mild = bool(elsewhere) and float(away.excess.max()) < ELSEWHERE
    beyond = int((away.excess > 1).sum())
    because = "; ".join(["the weights and the pictures are the baseline's", *elsewhere])
    yield Finding(
        "baseline",
        "warning" if mild else "error",
        f"{away.places[first][0] or 'The model'} is the first of {beyond} of {len(away.places)} layers beyond its "
        f"tolerance: {away.describe(first)}; {because}.",
        WHY if not mild else "Another device, or version of torch, adds up in another order or with fewer bits.",
        f"{REWRITE}look for what was changed in the code of this layer, or of what stands before it."
        if not mild
        else "Write a baseline on this machine with --update-baseline, after a look at whether the answers are right.",
        layer=away.places[first][0],
        call=away.places[first][1],
        channels=channels_apart(against.patient, against.seen, against.known, first) if against.whole else (),
        value=float(away.now[first]),
        limit=float(away.limit[first]),
        excess=float(away.excess[first]),
        evidence=away.curve(first),
        about="layer" if away.places[first][0] else "model",
        picture=int(away.picture[first]),
    )


# --- what was looked at


def _looked_at(against: Against, found: bool) -> str:
    versions = dict(against.known.versions)
    torch_then, torch_now = versions.get("torch", "unknown"), str(torch.__version__)
    other = f" torch was {torch_then} then." if torch_then != torch_now else ""
    said = f"{len(against.known.layers)} layers against the baseline of {against.made}"
    away = against.away
    if away is None:
        how = "prepared otherwise" if against.given.how != "others" else "others"
        return f"{said}; the pictures are {how}, so single numbers could not be compared.{other}"
    which = f" over {away.pictures} pictures"
    if away.pictures < len(against.given.rows):
        which += f" ({len(against.given.rows) - away.pictures} are not among the baseline's)"
    if not away.excess.size:
        return f"{said}{which}.{other}"
    worst = int(away.excess.argmax())
    much = f"{away.excess[worst]:.2g} times its tolerance at {away.places[worst][0] or 'the model'}"
    beyond = "" if found or away.first is None else " What is beyond is explained by the other findings."
    return f"{said}{which}: at most {much}.{beyond}{other}"
