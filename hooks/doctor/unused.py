"""Modules that have weights and never run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from hookscope.hooks.doctor.initial import judge_layers
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.findings import Bars, Finding, Severity, join_names
from hookscope.hooks.results.looks import LayerInfo

UNUSED = "unused-modules"
SEPARATE = 8  # findings; more are told as one
FOR_TRAINING = {  # parts of names of modules that are known to run in training only, or for another answer
    "aux": "Auxiliary heads run only in training.",
    "head_dist": "Heads of distillation run only in training.",
    "teacher": "It is a copy for training.",
    "momentum": "It is a copy for training.",
    "ema": "It is a copy for training.",
    "decoder_pred": "It belongs to pretraining.",
    "mask_token": "It belongs to pretraining.",
    "pooler": "This answer is not made of it.",
    "extra_blocks": "It makes levels of a pyramid that this input does not need.",
}


def unused_modules(patient: Patient) -> Iterator[Finding]:
    """Modules with parameters that no pass called, and whose weights nothing read."""
    resting = [layer for layer in patient.layers if _rests(layer)]
    if resting:
        called = _called(patient, [layer.name for layer in resting])
        resting = [layer for layer in resting if layer.name not in called]
    count = sum(1 for layer in patient.layers if layer.parameters and not layer.operation)
    patient.found[f"{UNUSED}: looked at"] = f"{count:,} modules with parameters, over {patient.pictures} pictures."
    outer = _outermost(patient, [layer.name for layer in resting])
    found = [_unused(patient, name) for name in outer] if len(outer) > patient.limit(UNUSED) else []
    warnings = [each for each in found if each.severity == "warning"]
    if len(warnings) > SEPARATE:
        first = warnings[0]
        yield Finding(
            UNUSED,
            "warning",
            f"{len(warnings):,} modules with weights never ran (limit 0): "
            f"{join_names([each.layer for each in warnings])}.",
            first.why,
            first.advice,
            layer=first.layer,
            value=float(len(warnings)),
            limit=0.0,
            excess=1.0 + len(warnings),
            evidence=Bars("parameters", *_largest(patient, [each.layer for each in warnings])),
        )
    else:
        yield from warnings
    yield from (each for each in found if each.severity != "warning")


def _rests(layer: LayerInfo) -> bool:
    reason = layer.reason_not_run
    if layer.operation or layer.calls or not layer.parameters or not layer.name or layer.unseen:
        return False
    used = ("uses its weights", "calls its children one by one", "only holds other layers", "TorchScript")
    return not any(part in reason for part in (*used, "exported program"))


def _called(patient: Patient, names: Sequence[str]) -> set[str]:
    """Which of the modules another picture calls: experts and early exits are chosen by what is in it."""
    found: set[str] = set()
    if patient.pictures < 2:
        return found
    with contextlib.ExitStack() as hooks:
        for name in names:
            note = lambda *_, name=name: found.add(name)  # noqa: E731
            hooks.enter_context(hook(patient.modules[name], "forward_pre", note, layer=name))
        for inner, batch in patient.runs():
            inner(batch)
    return found


def _outermost(patient: Patient, names: Sequence[str]) -> list[str]:
    """The modules around these of which nothing with parameters runs, each once."""
    resting = set(names)
    running = {
        layer.name for layer in patient.layers if layer.parameters and not layer.operation and layer.name not in resting
    }
    containers = {name for name in running if patient.by_name[name].reason_not_run and not patient.by_name[name].calls}

    def at_rest(name: str) -> bool:
        below = [each for each in running - containers if each == name or each.startswith(f"{name}.")]
        own = any(True for _ in patient.modules[name].parameters(recurse=False))
        return not below and (name in resting or (name in containers and not own))

    found: dict[str, None] = {}
    for name in names:
        outer = name
        while (parent := outer.rpartition(".")[0]) and at_rest(parent):
            outer = parent
        found[outer] = None
    return list(found)


def _unused(patient: Patient, name: str) -> Finding:
    info = patient.by_name[name]
    share = info.parameters / max(1, patient.by_name[""].parameters)
    parts = [part for each in (name, info.type) for part in each.lower().split(".")]
    known = next((why for module, why in patient.known.unused if name == module or name.startswith(f"{module}.")), "")
    known = known or next((why for word, why in FOR_TRAINING.items() if any(_names(part, word) for part in parts)), "")
    told = {each.verdict for each in judge_layers(patient.modules[name]) if each.verdict in ("initial", "trained")}
    made = patient.random or told == {"initial"}
    severe: Severity = "note" if known or made else "warning"
    why = "What it has learnt changes no answer: the model may be put together otherwise than it was trained."
    if known or made:
        why = known or "Its weights are as they were made, so nothing that was trained is left out."
    return Finding(
        UNUSED,
        severe,
        f"{name} ({info.type}) never ran and nothing read its {info.parameters:,} parameters, {share:.1%} of the "
        "model's (limit 0 modules).",
        why,
        "Call it in the model's forward, or take it out of the model.",
        layer=name,
        value=float(info.parameters),
        limit=0.0,
        excess=1.0 + share,
        evidence=Bars("parameters", *_largest(patient, [name]), bad=0),
    )


def _names(part: str, word: str) -> bool:
    """Whether a part of a name is, begins or ends with a word; short words only as a part of their own."""
    return word in part.split("_") or (len(word) > 3 and word in part) or (word == "aux" and part.endswith("aux"))


def _largest(patient: Patient, names: Sequence[str], most: int = 8) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The parameters of some modules, and of all others together."""
    shown = list(names[:most])
    counts = [float(patient.by_name[name].parameters) for name in shown]
    rest = float(patient.by_name[""].parameters) - sum(counts)
    return (*shown, "all others"), (*counts, rest)
