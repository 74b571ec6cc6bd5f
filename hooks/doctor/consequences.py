"""Which findings probably follow from another one: they are notes that name it, so that one fault is one failure.

Pictures that are prepared otherwise than in training, a layer that was left as it was made, a BatchNorm that
normalises by wrong numbers, and weights that a training threw far off, change all that is measured behind them. What
the weights alone show stays as it is; but that layers are as they were made may be because no gradient came to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hookscope.hooks.doctor.backwards import UNREACHED
from hookscope.hooks.doctor.initial import judge_layers
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.looks.gradients import layers_with_weights
from hookscope.hooks.results.findings import Curve, Finding, Trail

OF_PICTURES = {
    "batchnorm-shift",
    "dead-channels",
    "constant-channels",
    "saturated",
    "duplicate-channels",
    "padding-artefact",
    "asymmetric-scale",
    "precision",
    "vanishing-gradients",
    "exploding-gradients",
}
OF_SIZE = {"batchnorm-shift", "padding-artefact"}
OF_LAYERS = OF_PICTURES - {"vanishing-gradients", "exploding-gradients"}
OF_CHANNELS = {"batchnorm-shift", "duplicate-channels", "padding-artefact"}  # maps without content, or of one channel's
CHANNELS = (  # rules that name what makes such
    "dead-channels",
    "constant-channels",
    "saturated",
    "asymmetric-scale",
    "padding-artefact",
)
UNLEARNT, VANISHING = "partly-initialised", "vanishing-gradients"
ORDER = "label-order"
OF_CLASSES = ("preprocessing", "colour-order")  # after which answers are wrong in an order that looks like another one
CHANCE = (  # rules that say why answers may be chance
    *OF_CLASSES,
    "class-count",
    "partly-initialised",
    "weights-not-loaded",
    "batchnorm-shift",
    "training-mode",
    "non-finite",
    "dead-channels",
    "constant-channels",
    "saturated",
)
LAYERS = (UNLEARNT, "batchnorm-shift")  # rules that name a layer behind which all is off


def mark_consequences(
    patient: Patient, findings: Sequence[Finding], chosen: Mapping[str, str] | None = None
) -> list[Finding]:
    """The same findings; those that follow from another one as notes.

    Arguments:
        chosen: the severities that somebody wants of rules; what these find stays as severe.
    """
    wanted = chosen or {}
    loud = [each for each in findings if each.severity != "note"]
    layered = len(loud) > 1 and any(each.rule in (*LAYERS, *CHANNELS) or _is_thrown_off(each) for each in loud)
    places = _places(patient) if layered else {}
    roots: dict[int, Finding] = {}
    vanishing = next((each for each in loud if each.rule == VANISHING and _cause(each, loud, places) is None), None)
    if vanishing is not None:
        unlearnt = [each for each in loud if each.rule == UNLEARNT and each.rule not in wanted]
        roots.update((id(each), vanishing) for each in unlearnt if _is_unreached(patient, each))
    for each in sorted(loud, key=lambda finding: (finding.rule == ORDER, places.get(finding.layer, -1))):
        others = [other for other in loud if other is not each]
        if each.rule not in wanted and id(each) not in roots and (cause := _cause(each, others, places)) is not None:
            roots[id(each)] = roots.get(id(cause), cause)  # of a consequence what it follows from
    marked = [_note(each, roots[id(each)]) if id(each) in roots else each for each in findings]
    for each in loud:
        if id(each) in roots:  # notes of an earlier look may name it
            marked = [_named_anew(note, each, roots[id(each)]) for note in marked]
    return marked


def _places(patient: Patient) -> dict[str, int]:
    """By layer, and by each module around it, when it first ran; {} where the model fails."""
    found: dict[str, int] = {}
    try:
        seen = patient.seen.statistics
    except Exception:  # of the model's own code: other rules tell
        return found
    for place, each in enumerate(seen):
        name = each.layer
        while name:
            found.setdefault(name, place)
            name = name.rpartition("/" if "/" in name else ".")[0]
    return found


def _cause(finding: Finding, causes: Sequence[Finding], places: Mapping[str, int]) -> Finding | None:
    """Which of these a finding follows from; None if none of them explains it."""
    if finding.rule == ORDER:
        rules = (*OF_CLASSES, *LAYERS) if finding.severity == "error" else CHANCE
        return next((other for rule in rules for other in causes if other.rule == rule and not _is_size(other)), None)
    if finding.rule in OF_PICTURES and finding.rule != "precision":
        for other in causes:
            if _is_thrown_off(other) and places.get(other.layer, len(places)) <= places.get(finding.layer, -1):
                return other
    if finding.by_weights or finding.rule not in OF_PICTURES:
        return None
    for other in causes:
        if other.rule == "preprocessing" and finding.rule in (OF_SIZE if _is_size(other) else OF_PICTURES):
            return other
    for other in causes:
        of_it = OF_LAYERS if other.rule in LAYERS else OF_CHANNELS if other.rule in CHANNELS else set()
        before = places.get(other.layer, len(places)) < places.get(finding.layer, -1)
        if finding.rule in of_it and other.rule != finding.rule and before:
            return other
    return None


def _is_size(finding: Finding) -> bool:
    """Whether it is about the pictures' size, and not about their values."""
    width, by, height = finding.preparation.partition("x")
    return bool(by) and width.isdigit() and height.isdigit()


def _is_thrown_off(finding: Finding) -> bool:
    """Whether it is about weights that are far larger than any that a training is after."""
    return finding.rule == "precision" and finding.by_weights and finding.severity != "note"


def _is_unreached(patient: Patient, finding: Finding) -> bool:
    """Whether no gradient comes to any of the layers that are as they were made, nor has made anything of those before
    them: a gradient lessens on its way back, so what is trained there says that one came.
    """
    unreached = patient.found.get(UNREACHED)
    if not isinstance(unreached, tuple):
        return False
    named, evidence = {finding.layer}, finding.evidence
    if isinstance(evidence, Curve) and evidence.names:
        named |= {evidence.names[place] for place in evidence.marked}
    elif isinstance(evidence, Trail):
        named |= {evidence.lines[place][0] for place in evidence.marked}
    of_them = [[place for place, layer in enumerate(unreached) if _is_in(layer, name)] for name in named]
    reached = set(layers_with_weights(patient.inner)) - set(unreached)
    if not all(of_them) or any(_is_in(layer, name) for name in named for layer in reached):
        return False
    last = max(max(places) for places in of_them)
    trained = {each.name for each in judge_layers(patient.inner) if each.verdict == "trained" and not each.norm}
    return not trained & set(unreached[:last])


def _is_in(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(f"{name}.")


def _said(cause: Finding) -> str:
    where = f" at {cause.layer}" if cause.layer and cause.about == "layer" else ""
    return f"Probably a consequence of {cause.rule}{where}: mend that first and check again."


def _named_anew(note: Finding, former: Finding, cause: Finding) -> Finding:
    """A note that names a finding as its cause, of which it is known by now what that follows from."""
    old, new = _said(former), _said(cause)
    if note.severity != "note" or old not in note.sentence:
        return note
    why = note.why.replace(f"What {former.rule} found", f"What {cause.rule} found")
    return replace(note, sentence=note.sentence.replace(old, new), why=why, advice=note.advice.replace(old, new))


def _note(finding: Finding, cause: Finding) -> Finding:
    where = f" at {cause.layer}" if cause.layer and cause.about == "layer" else ""
    if finding.rule == UNLEARNT and cause.rule == VANISHING:
        said = f"Probably a consequence of {cause.rule}{where}: no gradient comes to it, so it did not learn."
        return replace(
            finding,
            severity="note",
            sentence=f"{finding.sentence} {said}",
            why="What gets next to no gradient stays as it was made. It may also be a layer that was not loaded.",
            advice=f"Mend {cause.rule} first and train again. If these weights were trained elsewhere, "
            f"{finding.advice[:1].lower()}{finding.advice[1:]}",
        )
    said = _said(cause)
    changed = "answered" if finding.rule == ORDER else "measured behind it"
    return replace(
        finding,
        severity="note",
        sentence=f"{finding.sentence} {said}",
        why=f"What {cause.rule} found changes all that is {changed}.",
        advice=f"{said} If it is still there then: {finding.advice[:1].lower()}{finding.advice[1:]}",
    )
