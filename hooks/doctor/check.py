"""Goes through the rules, the cheap ones first, and says what became of each.

found = hs.check(model, pictures)          # float (picture, channel, height, width), as the model is given them
print(found)
hs.assert_healthy(model, pictures)         # in a test
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from hookscope.hooks.doctor.consequences import mark_consequences
from hookscope.hooks.doctor.patient import CannotTell, Patient, read_patient
from hookscope.hooks.errors import Cancelled, HooksError
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.results.findings import (
    FAILED,
    KNOW_NOTHING,
    SEVERITIES,
    Checked,
    CheckUp,
    Finding,
    Known,
    Severity,
    sort_findings,
)
from hookscope.hooks.rules import RULES, Rule

MOST = 32  # pictures that are looked at
OWNER = "doctor"  # of the rules' hooks
RANDOM = "The weights are random, and this says something of trained ones only."
ONCE = "preprocessing", "colour-order", "label-order"  # which a baseline may tell, too
OFF = "It was switched off."


class Unhealthy(AssertionError):
    """A check-up found what it was told to fail on; the text lists it."""


def check(
    model: nn.Module,
    images: Tensor | Iterable[object],
    *,
    labels: Sequence[int] | np.ndarray | None = None,
    classes: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    baseline: Any = None,
    rules: Mapping[str, str] | None = None,
    limits: Mapping[str, float] | None = None,
    known: Known | None = None,
    most: int = MOST,
    progress: Callable[[str], None] | None = None,
) -> CheckUp:
    """Look for what is usually wrong with a model, or with what it is given.

    Arguments:
        model: is looked at as it is: a module in training mode is a finding. It is left as it was.
        images: float (picture, channel, height, width), as the model is given them, different pictures, at least 8; or
            batches, as `sweep` takes them, with labels or without.
        labels: one whole number per picture, -1 for none. classes: the names of the classes, in the model's order.
        mean, std: of each channel, by which pixels of 0..1 became `images`; without them it is told from the values.
        baseline: an `hs.Baseline`, or the path of one.
        rules: by name of a rule "off", or the severity that its findings are to have.
        limits: by name of a rule another limit, as docs/doctor.md lists them; "preprocessing.ratio" for one that is
            not the rule's first.
        known: what is known of how the model was loaded. most: pictures that are looked at; 0 for all.
        progress: told the name of each rule before it is gone through.

    Raises:
        HooksError: a rule, a limit or a severity that there is not; no picture; a baseline of another model.
    """
    began = time.monotonic()
    patient = read_patient(
        model,
        images,
        labels=labels,
        most=most,
        known=told(known or KNOW_NOTHING, unwrap(model), classes, mean, std),
        limits=read_limits(limits or {}),
    )
    patient.found["baseline"] = baseline
    findings: list[Finding] = []
    checked: list[Checked] = []
    for finding in examine(patient, rules or {}, progress):
        (findings if isinstance(finding, Finding) else checked).append(finding)  # type: ignore[arg-type]
    return report(patient, findings, checked, time.monotonic() - began)


def assert_healthy(
    model: nn.Module, images: Tensor | Iterable[object], *, fail_on: Severity = "warning", **more: Any
) -> CheckUp:
    """Fail a test where a check-up finds something, or a rule comes to no end; else give what it found.

    Arguments:
        fail_on: the mildest severity that fails. more: as `check` has it.

    Raises:
        Unhealthy: it found something, all of which the text lists, or a rule failed. HooksError: as `check` says.
    """
    line = read_severity(fail_on)
    found = check(model, images, **more)
    if found.exceeds(line) or found.failed:
        raise Unhealthy("\n".join([str(found), *(f"not checked: {each.rule}: {each.why}" for each in found.failed)]))
    return found


def examine(
    patient: Patient, rules: Mapping[str, str] | None = None, progress: Callable[[str], None] | None = None
) -> Iterator[Finding | Checked]:
    """What each rule finds, as it is found; behind it what became of the rule.

    Raises:
        Cancelled: `looking`'s `cancelled` said so. HooksError: there is no such rule or severity.
    """
    chosen = read_rules(rules or {})
    for told_before in ("findings", "found elsewhere"):
        patient.found.pop(told_before, None)
    patient.found["severities"] = {name: wanted for name, wanted in chosen.items() if wanted != "off"}
    for rule in in_order():
        wanted = chosen.get(rule.name, "")
        if wanted == "off":
            yield Checked(rule.name, "skipped", OFF)
            continue
        if progress is not None:
            progress(rule.name)
        yield from _gone_through(patient, rule, chosen)


def in_order() -> list[Rule]:
    """The rules in the order in which they are gone through: the cheap ones first."""
    return sorted(RULES.values(), key=lambda rule: rule.cost)


def _gone_through(patient: Patient, rule: Rule, chosen: Mapping[str, str]) -> Iterator[Finding | Checked]:
    found: list[Finding] = []
    by_all = cast(list[Finding], patient.found.setdefault("findings", []))
    elsewhere = cast(set[str], patient.found.setdefault("found elsewhere", set()))
    patient.found.pop(f"{rule.name}: looked at", None)
    try:
        if rule.trained and patient.random:
            raise CannotTell(RANDOM)
        if rule.pictures > 1:
            patient.need(rule.pictures, f"The rule {rule.name}")
        steps = iter(rule.examine(patient))
        while True:
            with looking(owner=OWNER, purpose="diagnostic"):  # not while the caller has the finding
                finding = next(steps, None)
            if finding is None:
                break
            if finding.rule == rule.name and finding.rule in elsewhere and finding.severity != "note":
                continue  # told already, and more exactly
            if finding.rule != rule.name and finding.rule in ONCE:
                elsewhere.add(finding.rule)
            found.append(finding)
            severity = chosen.get(finding.rule, "")  # which may be another rule's
            if severity != "off":
                by_all.append(finding)
                yield _as_severe(finding, severity) if severity else mark_consequences(patient, by_all)[-1]
    except CannotTell as untold:
        yield Checked(rule.name, "found" if found else "skipped", str(untold))
        return
    except (Cancelled, HooksError):
        raise
    except Exception as error:  # of the model's own code: the other rules go on
        yield Checked(rule.name, "skipped", f"{FAILED}{type(error).__name__}: {error}")
        return
    why = str(patient.found.get(f"{rule.name}: looked at", f"Over {patient.pictures} pictures."))
    yield Checked(rule.name, "found" if found else "ok", why)


def report(patient: Patient, findings: Iterable[Finding], checked: Iterable[Checked], seconds: float) -> CheckUp:
    """What was found, the worst first, and what was checked in the rules' order."""
    severities = cast(Mapping[str, str], patient.found.get("severities", {}))
    found = sort_findings(mark_consequences(patient, list(findings), severities))  # some before what they follow from
    named = {each.rule for each in found}  # one rule may find what is called another's
    by_name = {each.rule: replace(each, status="found") if each.rule in named else each for each in checked}
    return CheckUp(
        model=patient.known.title,
        pictures=patient.pictures,
        findings=found,
        checked=tuple(by_name[name] for name in RULES if name in by_name),
        seconds=seconds,
    )


def told(known: Known, model: nn.Module, classes: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> Known:
    """What is known, with what a caller says."""
    return replace(
        known,
        title=known.title or type(model).__name__,
        classes=tuple(classes) or known.classes,
        mean=tuple(map(float, mean)) or known.mean,
        std=tuple(map(float, std)) or known.std,
    )


def read_rules(given: Mapping[str, str]) -> dict[str, str]:
    """By name of a rule "off", or a severity.

    Raises:
        HooksError: there is no such rule, or it is none of these.
    """
    for name, wanted in given.items():
        known_rule(name)
        if wanted not in ("off", *SEVERITIES):
            raise HooksError(f"A rule is off, error, warning or note, and {name} was given {wanted!r}.")
    return dict(given)


def read_limits(given: Mapping[str, float]) -> dict[str, float]:
    """Limits by the name of a rule, or of one of its limits.

    Raises:
        HooksError: there is no such rule or limit, or it is no number.
    """
    for name, value in given.items():
        rule, _, which = name.partition(".")
        limits = known_rule(rule).limits
        if which and which not in limits:
            raise HooksError(f"The rule {rule} has no limit {which!r}; it has {', '.join(limits)}.")
        if not np.isfinite(value):
            raise HooksError(f"A limit is a number, and {name} was given {value}.")
    return dict(given)


def known_rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        HooksError: there is none; the text names all.
    """
    if name not in RULES:
        raise HooksError(f"There is no rule {name!r}. There are: {', '.join(RULES)}.")
    return RULES[name]


def read_severity(name: str) -> Severity:
    """A severity.

    Raises:
        HooksError: it is none.
    """
    for severity in SEVERITIES:
        if severity == name:
            return severity
    raise HooksError(f"A severity is error, warning or note, and not {name!r}.")


def _as_severe(finding: Finding, severity: str) -> Finding:
    return replace(finding, severity=read_severity(severity))
