"""Loads the model and its pictures, goes through the rules, and says what came of it."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from hookscope.dashboard.checking.arguments import Wanted
from hookscope.dashboard.checking.known import known_of
from hookscope.dashboard.checking.links import link_of
from hookscope.dashboard.checking.pictures import draw
from hookscope.dashboard.checking.preparing import Looked, look
from hookscope.dashboard.checking.refusals import Unchecked
from hookscope.dashboard.checking.reports import Report
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.hooks.doctor import check
from hookscope.hooks.doctor.baseline.writing import read_baseline_for, write_baseline
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.results.findings import FAILED, Checked, CheckUp, Finding, join_names
from hookscope.hooks.rules import RULES

BASELINE = "baseline"


def examined(wanted: Wanted, progress: Callable[[str], None]) -> Report:
    """What a check-up finds.

    Arguments:
        progress: told what is being done, as short texts.

    Raises:
        HooksError: why the model cannot be checked.
    """
    began = time.monotonic()
    rules, limits = check.read_rules(wanted.rules), check.read_limits(wanted.limits)  # before anything takes time
    drawn = draw(wanted.images, wanted.most)
    model = _loaded(wanted, progress)
    with tempfile.TemporaryDirectory(prefix="hookscope-check-") as folder:
        looked = look(model, drawn, wanted.most, Path(folder), progress)
        patient = Patient(
            model.module,
            looked.batches(),
            looked.labels(model.info.classes) if model.info.form() == "vector" else looked.unlabelled(),
            known_of(model),
            otherwise=looked.otherwise,
            limits=limits,
            described=model.info.layers,
        )
        baseline = None
        if wanted.baseline is not None and not wanted.update and rules.get(BASELINE) != "off":
            baseline = read_baseline_for(patient, wanted.baseline)
        patient.found[BASELINE] = baseline
        patient.found["folders"] = sorted({each.group for each in looked.chosen if each.group})
        findings: list[Finding] = []
        checked: list[Checked] = []

        def begin(rule: str) -> None:
            progress(f"Rule {len(checked) + 1} of {len(RULES)}: {rule} …")

        for each in check.examine(patient, rules, begin):
            if isinstance(each, Finding):
                findings.append(each)
            else:
                checked.append(_with_reason(each, wanted))
        if wanted.update and wanted.baseline is not None:
            progress("Writing the baseline …")
            write_baseline(patient, wanted.baseline)
            checked = [_written(each, wanted) for each in checked]
    found = check.report(patient, findings, checked, time.monotonic() - began)
    return Report(
        found,
        tuple(_links(found, wanted, looked)),
        wanted.fail_on,
        pictures=looked.drawn.name,
        built_in=looked.drawn.built_in,
        left_out=looked.refused,
        notes=tuple(_notes(model, looked, patient)),
        made="" if baseline is None else baseline.made,
        error=_not_checked(found, baseline is not None),
    )


def _loaded(wanted: Wanted, progress: Callable[[str], None]) -> LoadedModel:
    """The model, ready for one picture at a time.

    Raises:
        HooksError: it cannot be loaded, or is given several pictures at once.
    """
    if wanted.threads:
        torch.set_num_threads(wanted.threads)
    if wanted.configuration is not None and (folder := str(wanted.configuration.parent)) not in sys.path:
        sys.path.append(folder)  # where the factory may lie that is named there
    model = load(wanted.model, wanted.device, progress)
    if model.info.pictures or model.info.preprocessing.frames:
        raise Unchecked(
            "A check-up shows a model one picture at a time, and this one is given several at once. Check it by "
            "hs.check, with batches as it takes them."
        )
    return model


def _with_reason(checked: Checked, wanted: Wanted) -> Checked:
    """With why a rule was switched off, where somebody says."""
    reason = wanted.reasons.get(checked.rule, "")
    return replace(checked, why=f"It was switched off: {reason.rstrip('.')}.") if reason else checked


def _written(checked: Checked, wanted: Wanted) -> Checked:
    """What is to be said of the baseline that was just written."""
    if checked.rule != BASELINE or checked.status != "skipped":
        return checked
    return replace(checked, why=f"It was written anew, to {wanted.baseline}.")


def _links(found: CheckUp, wanted: Wanted, looked: Looked) -> list[str]:
    pictures = [each.key for each in looked.chosen]
    return [link_of(each, wanted.model.name, looked.drawn.key, pictures) for each in found.findings]


def _notes(model: LoadedModel, looked: Looked, patient: Patient) -> list[str]:
    """What is to be said of the model, and of what its pictures are said to show."""
    notes = [model.info.weights, *model.info.notes]
    groups = sorted({each.group for each in looked.chosen if each.group})
    if groups and (patient.labels < 0).all() and model.info.form() == "vector":
        notes.append(
            f"The pictures are said to show {join_names(groups)}, and no class of the model is called so: they count "
            "as pictures without labels. Name the classes with --labels."
        )
    return [note for note in notes if note]


def _not_checked(found: CheckUp, held: bool) -> str:
    """Why this check-up may not count as passed, although nothing was found; "" if it may."""
    if found.failed:
        first, *others = found.failed
        more = f" So did {join_names([each.rule for each in others])}." if others else ""
        why = first.why.removeprefix(FAILED).rstrip(".")
        return (
            f"The rule {first.rule} came to no end. {why}.{more} Mend what it says, or leave it out with --rule "
            f"{first.rule}=off."
        )
    if held and (missed := [each for each in found.checked if each.rule == BASELINE and each.status == "skipped"]):
        return f"The baseline could not be held against this model. {missed[0].why}"
    if all(each.status == "skipped" for each in found.checked):
        return "No rule could be checked, so nothing is known."
    return ""
