"""Which findings probably follow from another one: they are notes that name it, so that one fault is one failure.

Pictures that are prepared otherwise than in training, a layer that was left as it was made, and a BatchNorm that
normalises by wrong numbers change all that is measured behind them. What the weights alone show stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.results.findings import Finding

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
LAYERS = ("partly-initialised", "batchnorm-shift")  # rules that name a layer behind which all is off


def mark_consequences(
    patient: Patient, findings: Sequence[Finding], chosen: Mapping[str, str] | None = None
) -> list[Finding]:
    """The same findings; those that follow from another one as notes.

    Arguments:
        chosen: the severities that somebody wants of rules; what these find stays as severe.
    """
    wanted = chosen or {}
    loud = [each for each in findings if each.severity != "note"]
    layered = len(loud) > 1 and any(each.rule in (*LAYERS, *CHANNELS) for each in loud)
    places = _places(patient) if layered else {}
    roots: dict[int, Finding] = {}
    for each in sorted(loud, key=lambda finding: places.get(finding.layer, -1)):
        others = [other for other in loud if other is not each]
        if each.rule not in wanted and (cause := _cause(each, others, places)) is not None:
            roots[id(each)] = roots.get(id(cause), cause)  # of a consequence what it follows from
    return [_note(each, roots[id(each)]) if id(each) in roots else each for each in findings]


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


def _note(finding: Finding, cause: Finding) -> Finding:
    where = f" at {cause.layer}" if cause.layer and cause.about == "layer" else ""
    said = f"Probably a consequence of {cause.rule}{where}: mend that first and check again."
    return replace(
        finding,
        severity="note",
        sentence=f"{finding.sentence} {said}",
        why=f"What {cause.rule} found changes all that is measured behind it.",
        advice=f"{said} If it is still there then: {finding.advice[:1].lower()}{finding.advice[1:]}",
    )
