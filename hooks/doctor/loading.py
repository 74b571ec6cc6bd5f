"""Weights that did not arrive: layers still as they were made beside trained ones, and keys that a load left out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from hookscope.hooks.doctor.initial import FEW, MOST_SUMMED, Judged, join_words, judge_layers
from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.results.findings import Curve, Finding, Trail, join_names

PARTLY, LOADED = "partly-initialised", "weights-not-loaded"
SEPARATE = 8  # findings; more are told as one
UNSURE = 1 / 3  # share of the layers between initial and trained, from which on nothing can be told
SURE = 3.7  # doubt, up to which a layer is named
LEAST_TRAINED = 0.1  # quantile of the effects of trained layers that a layer is held against
SHOWN = 8.0  # doubt that such a layer of its size would have
SHOWN_TOO = 5.0  # the same, where the BatchNorm behind it says so, too
WELL, ALL_BUT = 10, 0.95  # layers that are trained, at least, and their share, of a network that is well trained
SEVERAL = 4  # trained layers; of fewer, or of a layer whose biases were trained, twice that is wanted
MOSTLY = 0.5  # share: of normalisations that are trained, so that one at 1 and 0 is none of a kind; of frozen weights
FOR_TRAINING = ("aux", "ema", "teacher", "momentum", "decoder_aux")  # parts of names of what runs in training only
COUNTERS = ("num_batches_tracked", "position_ids", "relative_position_index", "attn_mask", "total_ops", "total_params")
WHY = "It hands on noise, which every layer behind it was never trained for."
NOTHING = "What it hands on is 0 for every picture."
ADVICE = (
    "Load the weights once more with load_state_dict(..., strict=True) and compare the names of the keys, or look for "
    "code that makes the layer anew after the load."
)


@dataclass(frozen=True)
class _Group:
    """Layers that were left together.

    Attributes:
        name: the module that holds all of them, or the first of them. parts: the layers.
    """

    name: str
    parts: tuple[Judged, ...]


def partly_initialised(patient: Patient) -> Iterator[Finding]:
    """Layers whose weights are as an initialisation makes them, while others are trained."""
    judged = list(judge_layers(patient.inner))
    told = [each for each in judged if each.telling and each.verdict in ("initial", "trained")]
    trained = [each for each in told if each.verdict == "trained" or each.moved]
    weights = [each for each in judged if each.telling and not each.norm and each.size >= FEW]
    between = [each for each in weights if each.verdict == "unknown"]
    patient.found[f"{PARTLY}: looked at"] = (
        f"{len(told)} of {len(judged)} layers with weights can be told: {len(trained)} look trained."
    )
    if not trained:
        if not told:
            raise CannotTell("The model's layers are too small to tell trained weights from those that were just made.")
        if patient.known.random is False:
            yield _all_of(told)
        return
    if len(between) > UNSURE * len(weights):
        raise CannotTell(
            f"{len(between)} of {len(weights)} layers with weights are between how weights are made and how trained "
            "ones are: they have been trained too little to tell which have not been."
        )
    named = [each for each in name_layers(judged) if not _belongs(each.name, patient.known.random_part)]
    named = [each for each in named if not _rests(patient, each)] if named else []
    unsure = [each for each in named if each.unsure]
    named = [each for each in named if not each.unsure]
    frozen = [each for each in named if each.frozen]
    if sum(each.size for each in frozen) <= MOSTLY * sum(each.size for each in judged):
        named = [each for each in named if not each.frozen]
    else:
        frozen = []  # nobody freezes so much of it at random on purpose
    if len(named) <= patient.limit(PARTLY):
        named = []
    groups = _together(list(_grouped(named, judged)))
    if len(groups) > SEPARATE:
        yield _many(groups, judged)
    else:
        yield from (_one(group, judged) for group in groups)
    for group in _grouped(unsure, judged):
        finding = _one(group, judged)
        yield replace(
            finding,
            severity="note",
            sentence=finding.sentence.replace(" is as it ", " may be as it ").replace(
                " are as they ", " may be as they "
            ),
            why="So few weights may look like that although they are trained, and a bias of 0 may have been set.",
            advice="Look whether its weights came with the others, and how many answers are right.",
        )
    for group in _grouped(frozen, judged):
        yield replace(
            _one(group, judged),
            severity="note",
            why="Its weights are frozen, so that may be on purpose.",
            advice="Load its weights if it was to have any.",
        )


def name_layers(judged: Sequence[Judged]) -> list[Judged]:
    """The layers that are surely as they were made.

    A network that was trained a little has weights that cannot be told from those that were just made. So a layer is
    named where its largest weight is exactly where its initialisation ends; or where layers of its size that have been
    trained as much as the others would show it; or where what stands beside it says so too.
    """
    norms = [each for each in judged if each.norm]
    usual = sum(each.verdict == "trained" for each in norms) > MOSTLY * len(norms)
    others = [each for each in judged if not each.norm and each.telling and each.verdict in ("trained", "unknown")]
    shown, few = _shown(judged)
    no_bias = sum(each.zero for each in others) <= MOSTLY * len(others)
    mature = _is_mature(judged)
    found = []
    for place, each in enumerate(judged):
        if not each.telling:
            continue
        if each.norm:
            if each.unseen or (usual and each.verdict in ("initial", "fixed") and each.why):
                found.append(each)
        elif each.nothing:
            found.append(each)
        elif each.verdict == "initial" and each.doubt < SURE:
            beside = each.largest >= FEW and any(
                other.norm and other.unseen and other.name.rpartition(".")[0] == each.name.rpartition(".")[0]
                for other in judged[max(0, place - 1) : place + 2]
            )
            wanted = math.inf if few and each.moved else SHOWN * (2 if few or each.moved else 1)
            strong = shown * math.sqrt(min(each.largest, MOST_SUMMED)) > wanted and each.largest >= FEW
            exact = each.exact and mature
            told = not each.moved and (exact or beside)
            # biases of 0 are drawn so, but also set so, and trained without
            by_bias = not each.moved and each.zero and no_bias
            if by_bias and not told and not strong and shown * math.sqrt(min(each.largest, MOST_SUMMED)) <= SHOWN_TOO:
                found.append(replace(each, unsure=True))
            elif by_bias or strong or told or _stem(each, others) or (exact and each.largest >= FEW and not few):
                found.append(each)
    return found


def _shown(judged: Sequence[Judged]) -> tuple[float, bool]:
    """The effect that nearly all trained layers have, by the root of how many values they have; and whether that is
    told by few of them only.
    """
    others = [each for each in judged if not each.norm and each.telling and each.verdict in ("trained", "unknown")]
    effects = [each.effect for each in others if each.largest >= FEW and not math.isnan(each.effect)]
    return (float(np.quantile(effects, LEAST_TRAINED)) if effects else 0.0), len(effects) < SEVERAL


def _is_mature(judged: Sequence[Judged]) -> bool:
    """Whether a training shows in most of the layers in which it could: after a few steps many are nearly as made, and
    their largest weight lies where it did.
    """
    large = [each for each in judged if each.telling and not each.norm and each.largest >= FEW]
    doubtful = [each for each in large if each.verdict == "unknown" or (each.verdict == "initial" and not each.exact)]
    return sum(each.verdict == "trained" for each in large) > min(len(doubtful), SEVERAL - 1)


def made_anew_before(patient: Patient, name: str, sources: Sequence[str]) -> Finding | None:
    """What is to be said of the layer before a BatchNorm that stores the statistics of other weights than its own.

    Of weights that are like independent draws, in a network whose layers of that size are none, that is evidence.

    Arguments:
        name: of the BatchNorm. sources: the layers that feed it.
    """
    told = cast(list[Finding], patient.found.get("findings", []))
    judged = list(judge_layers(patient.inner))
    layer = next((each for each in judged if [each.name] == list(sources)), None)
    if layer is None or layer.verdict != "initial" or layer.doubt >= SURE or layer.largest < FEW or layer.of_pictures:
        return None
    if any(each.rule == PARTLY and _belongs(layer.name, each.layer) for each in told):
        return None
    if any(_belongs(key, layer.name) for key in patient.known.missing):  # weights-not-loaded tells of it
        return None
    if _shown(judged)[0] * math.sqrt(min(layer.largest, MOST_SUMMED)) <= SHOWN_TOO:
        return None
    finding = _one(_Group(layer.name, (layer,)), judged)
    said = f"{finding.sentence[:-1]}, and {name} behind it stores the statistics of other weights."
    return replace(finding, sentence=said)


def _stem(each: Judged, others: Sequence[Judged]) -> bool:
    """Whether it is the first convolution of a well trained network: pictures are smooth, and so it would be."""
    trained = sum(other.verdict == "trained" for other in others)
    return each.of_pictures and not each.moved and trained >= max(WELL, ALL_BUT * len(others))


def _belongs(name: str, part: str) -> bool:
    return bool(part) and (name == part or name.startswith(f"{part}."))


def _rests(patient: Patient, layer: Judged) -> bool:
    """Whether a layer does not run, and nothing reads its weights: unused-modules tells of it."""
    info = patient.by_name.get(layer.name)
    return info is not None and not info.calls and "uses its weights" not in info.reason_not_run and not info.unseen


def _grouped(named: Sequence[Judged], judged: Sequence[Judged]) -> Iterator[_Group]:
    """Modules of which nothing is trained as one, and neighbours in one module, like a convolution and its norm."""
    trained = [each.name for each in judged if each.verdict == "trained"]
    found: dict[str, list[Judged]] = {}
    for each in named:
        outer = each.name
        while (parent := outer.rpartition(".")[0]) and not any(_belongs(name, parent) for name in trained):
            outer = parent
        inside = [other for other in named if _belongs(other.name, outer)]
        found.setdefault(outer if len(inside) > 1 else each.name, []).append(each)
    order = {each.name: place for place, each in enumerate(judged)}
    groups: list[_Group] = []
    for name, parts in found.items():
        group = _Group(name, tuple(parts))
        if groups:
            last = groups[-1]
            beside = order[parts[0].name] == order[last.parts[-1].name] + 1
            if beside and name.rpartition(".")[0] == last.name.rpartition(".")[0]:
                groups[-1] = _Group(last.name, (*last.parts, *parts))
                continue
        groups.append(group)
    yield from groups


def _together(groups: Sequence[_Group]) -> list[_Group]:
    """The same, with those that are normalisations without statistics as one group: that is one fault."""
    unseen = [group for group in groups if all(each.norm and each.unseen for each in group.parts)]
    if len(unseen) < 2:
        return list(groups)
    whole = _Group(unseen[0].name, tuple(each for group in unseen for each in group.parts))
    return [whole if group is unseen[0] else group for group in groups if group is unseen[0] or group not in unseen]


def _one(group: _Group, judged: Sequence[Judged]) -> Finding:
    trained = sum(each.verdict == "trained" for each in judged)
    names = [each.name or "the model itself" for each in group.parts]
    inside = len(names) > 1 and all(_belongs(name, group.name) for name in names)
    first = max(group.parts, key=lambda each: (not each.norm, each.size))
    what = group.name if inside else join_words(names) if len(names) < 4 else join_names(names)
    several = len(names) > 1 and not inside
    shown = f"in {first.name} {first.why.removeprefix('its ')}" if len(names) > 1 else first.why
    # a layer that adds nothing yet does no harm, unless the answer is made of it
    harmless = all(each.nothing and each is not judged[-1] for each in group.parts)
    return Finding(
        PARTLY,
        "warning" if harmless else "error",
        f"{what} {'are' if several else 'is'} as {'they were' if several else 'it was'} made (no layer should be), "
        f"beside {trained:,} trained layer{'' if trained == 1 else 's'}: {shown}.",
        NOTHING
        if all(each.nothing for each in group.parts)
        else WHY
        if not several
        else WHY.replace("It hands", "They hand").replace("behind it", "behind them"),
        ADVICE,
        layer=group.name,
        value=float(len(group.parts)),
        limit=0.0,
        excess=1.0 + len(group.parts),
        evidence=_evidence(group.parts, judged),
    )


def _many(groups: Sequence[_Group], judged: Sequence[Judged]) -> Finding:
    parts = tuple(each for group in groups for each in group.parts)
    trained = sum(each.verdict == "trained" for each in judged)
    return Finding(
        PARTLY,
        "error",
        f"{len(parts):,} layers are as they were made (no layer should be), beside {trained:,} trained ones: "
        f"{join_names([group.name for group in groups])}.",
        WHY.replace("It hands", "They hand").replace("behind it", "behind them"),
        ADVICE,
        layer=groups[0].name,
        value=float(len(parts)),
        limit=0.0,
        excess=1.0 + len(parts),
        evidence=_evidence(parts, judged),
    )


def _all_of(told: Sequence[Judged]) -> Finding:
    return Finding(
        PARTLY,
        "error",
        f"None of the {len(told):,} layers that can be told looks trained (limit 1), although weights are said to have "
        "been loaded.",
        "Its answers are chance.",
        ADVICE,
        value=0.0,
        limit=1.0,
        excess=float(len(told)),
        evidence=_evidence(tuple(told), told),
        about="model",
    )


def _evidence(parts: Sequence[Judged], judged: Sequence[Judged]) -> Curve | Trail | None:
    """How uneven each layer's weights are, in the order of the layers; of normalisations alone what they hold."""
    if all(each.nothing for each in parts):
        return None
    marked = {each.name for each in parts}
    weights = [each for each in judged if not each.norm and not math.isnan(each.uneven)]
    if any(each.name in marked for each in weights):
        return Curve(
            "how many times as much the rows or columns of each layer's weights differ as independent draws do",
            tuple(each.name for each in weights),
            np.array([each.uneven for each in weights], np.float64),
            marked=tuple(place for place, each in enumerate(weights) if each.name in marked),
            limit=1.0,
            logarithmic=True,
        )
    shown = [each for each in judged if each.norm]
    first = next((place for place, each in enumerate(shown) if each.name in marked), 0)
    near = shown[max(0, first - 3) : first + 4]
    return Trail(
        "what the normalisations around it hold",
        tuple((each.name, each.why or "trained values") for each in near),
        marked=tuple(place for place, each in enumerate(near) if each.name in marked),
    )


# --- keys


def weights_not_loaded(patient: Patient) -> Iterator[Finding]:
    """What is known of keys that a load left out, and of weights that are random as a whole."""
    known = patient.known
    if patient.random:
        said = "All weights are random" if known.random else "No weight of the model looks trained"
        yield Finding(
            LOADED,
            "note",
            f"{said}: what its layers and its answers show is chance, and the rules for trained weights are left out.",
            "Nothing of it comes from pictures.",
            "Load a checkpoint (--weights FILE) to have everything checked.",
            about="model",
        )
        return
    missing = [key for key in known.missing if not key.endswith(COUNTERS)]
    unexpected = [key for key in known.unexpected if not key.endswith(COUNTERS)]
    if known.random_part and not any(_belongs(key, known.random_part) for key in missing):
        yield Finding(
            LOADED,
            "warning",
            f"{known.random_part} keeps random weights, because the file's have another shape: 1 layer (limit 0).",
            "Its answers are chance, whatever the layers before it see.",
            "Build the model with as many classes as the file has, or train this layer.",
            layer=known.random_part,
            value=1.0,
            limit=0.0,
        )
    if len(missing) > patient.limit(LOADED):
        layers = _by_layer(missing)
        layer = _holding(patient, missing, list(layers))
        yield Finding(
            LOADED,
            "warning",
            f"{len(missing):,} of the model's weights {_are(missing)} not in the file, or {_are(missing)} of another "
            f"shape there, and {_are(missing)} as {'they were' if len(missing) > 1 else 'it was'} made (limit 0): "
            f"{join_names(missing)}.",
            "These layers hand on noise.",
            _renamed(missing, unexpected)
            or "Check that the file belongs to this model, that it has as many classes, and that no part of its names "
            "differs (a prefix, a head).",
            layer=layer,
            value=float(len(missing)),
            limit=0.0,
            excess=1.0 + len(missing),
            evidence=_trail("weights that the file lacks", layers),
            about="layer" if layer else "model",
        )
    if len(unexpected) > patient.limit(LOADED):
        expected = all(any(word in key.lower() for word in FOR_TRAINING) for key in unexpected)
        yield Finding(
            LOADED,
            "note" if expected else "warning",
            f"{len(unexpected):,} weights of the file {'have' if len(unexpected) > 1 else 'has'} no place in the model "
            f"(limit 0): {join_names(unexpected)}.".replace("1 weights", "1 weight"),
            "They belong to a branch for training."
            if expected
            else "The file was written by another model, or the model lacks a part that it was trained with.",
            _renamed(missing, unexpected) or "Check that the file belongs to this model, and the model's arguments.",
            value=float(len(unexpected)),
            limit=0.0,
            excess=1.0 + len(unexpected),
            evidence=_trail("weights of the file without a place", _by_layer(unexpected)),
            about="model",
        )
    if known.random is None and not (missing or unexpected or known.random_part):
        raise CannotTell("Nobody said how the weights were loaded; partly-initialised looks at the weights themselves.")
    patient.found[f"{LOADED}: looked at"] = "What the load said of keys that are missing or unexpected."


def _holding(patient: Patient, missing: Sequence[str], layers: Sequence[str]) -> str:
    """The module that lacks all of its weights, and holds all layers that lack any; else the first of these."""
    outer = layers[0]
    while outer and not all(_belongs(layer, outer) for layer in layers):
        outer = outer.rpartition(".")[0]
    keys = {key for key, _ in patient.inner.named_parameters() if _belongs(key, outer)}
    if outer and outer in patient.modules and keys <= set(missing):
        return outer
    return next((layer for layer in layers if layer and layer in patient.modules), "")


def _renamed(missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """What to do where the file has most of what is missing under names that begin otherwise; "" where it has not."""
    for key in missing[:1]:
        for other in unexpected:
            model, file = key.split("."), other.split(".")
            while model and file and model[-1] == file[-1]:
                model.pop(), file.pop()
            ours, theirs = ("".join(f"{part}." for part in parts) for parts in (model, file))
            names = {theirs + each.removeprefix(ours) for each in missing if each.startswith(ours)}
            if (ours or theirs) and 2 * len(names & set(unexpected)) > len(missing):
                says = f"{ours!r}" if ours else "nothing"
                instead = f"{theirs!r}" if theirs else "nothing"
                return f"The file's names begin with {instead} where the model's have {says}: rename its keys."
    return ""


def _are(keys: Sequence[str]) -> str:
    return "are" if len(keys) > 1 else "is"


def _by_layer(keys: Sequence[str]) -> dict[str, list[str]]:
    """The last parts of the keys, by the layer that they belong to."""
    found: dict[str, list[str]] = {}
    for key in keys:
        layer, _, name = key.rpartition(".")
        found.setdefault(layer, []).append(name)
    return found


def _trail(title: str, layers: dict[str, list[str]], most: int = 24) -> Trail:
    lines = [(layer or "the model itself", ", ".join(names)) for layer, names in layers.items()]
    return Trail(title, tuple(lines[:most]))
