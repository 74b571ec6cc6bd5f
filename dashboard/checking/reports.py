"""What a check-up found, as text, Markdown, JSON and JUnit's XML."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

from hookscope.dashboard.asking.texts import one_line
from hookscope.hooks.results.findings import SEVERITIES, Checked, CheckUp, Finding, Severity
from hookscope.hooks.rules import RULES

LINE = 2000  # characters; of a sentence that a model's own code wrote
LISTED = 12  # pictures that could not be read
BUILT_IN = "Over the built-in photographs, because no folder was named."
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MARKS = {"ok": "ok", "found": "found", "skipped": "not checked"}


@dataclass(frozen=True)
class Report:
    """A check-up, and what is said around it.

    Attributes:
        found: what it found. links: one for each finding. fail_on: the mildest severity that fails.
        pictures: the set's name. built_in: whether nobody named a folder.
        left_out: (a file's name, why it was not looked at). notes: what else is to be said, as sentences.
        made: when the baseline was, against which it was held; "" for none.
        error: why it could not be checked, or not all of it; "" if it could.
    """

    found: CheckUp
    links: tuple[str, ...] = ()
    fail_on: Severity = "warning"
    pictures: str = ""
    built_in: bool = False
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    made: str = ""
    error: str = ""

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.found.exceeds(self.fail_on) else 2 if self.error else 0


def unchecked(model: str, sentence: str) -> Report:
    """The report of a check-up that could not be made."""
    return Report(CheckUp(model, 0), error=sentence)


def as_text(report: Report) -> str:
    """The findings, the worst first; what was checked, what could not be and why; and in the last line the worst."""
    found = report.found
    looked = f"{_counted(found.pictures, 'picture')} of {report.pictures}"
    if report.built_in:
        looked = f"{_counted(found.pictures, 'built-in photograph')}, because no folder was named"
    lines = [f"{found.model}, {looked}"]
    lines += [*report.notes, *found.notes]
    for finding, link in zip(found.findings, report.links or [""] * len(found.findings), strict=True):
        lines += ["", f"{finding.severity}: {_headed(finding)}: {_line(finding.sentence)}"]
        lines += [f"    {_line(text)}" for text in (finding.why, finding.advice) if text]
        lines += [f"    on the page: ?{link}"] if link else []
    looked_at = [f"  {each.rule} ({each.status}): {_line(each.why)}" for each in found.checked if not _skipped(each)]
    lines += ["", "Checked:", *looked_at] if looked_at else []
    not_looked_at = [f"  {each.rule}: {_line(each.why)}" for each in found.checked if _skipped(each)]
    lines += ["", "Not checked:", *not_looked_at] if not_looked_at else []
    if report.left_out:
        lines += ["", f"{_counted(len(report.left_out), 'file')} left out:"]
        lines += [f"  {name}: {_line(why)}" for name, why in report.left_out[:LISTED]]
        lines += [f"  and {len(report.left_out) - LISTED:,} more"] if len(report.left_out) > LISTED else []
    return "\n".join([*lines, "", last_line(report)])


def last_line(report: Report) -> str:
    """The worst finding with its number, its limit and its baseline's date; or that nothing was found."""
    found = report.found
    if (worst := found.worst) is not None:
        numbers = [f"{name} {number:.6g}" for name, number in _numbers(worst)]
        numbers += [f"baseline of {report.made}"] if worst.rule == "baseline" and report.made else []
        behind = f" ({', '.join(numbers)})" if numbers else ""
        return f"{worst.severity}: {_headed(worst)}: {_line(worst.sentence)}{behind}"
    if report.error:
        return f"could not be checked: {_line(report.error)}"
    looked = len(found.checked) - sum(map(_skipped, found.checked))
    skipped = len(found.checked) - looked
    without = f"; {_counted(skipped, 'rule')} not checked, see above" if skipped else ""
    return f"nothing found by {_counted(looked, 'rule')} over {_counted(found.pictures, 'picture')}{without}"


def as_markdown(report: Report) -> str:
    """For a summary that a person reads beside others."""
    found = report.found
    lines = [f"### {_marked(f'Check-up of {found.model}')}", "", f"**{_marked(last_line(report))}**", ""]
    lines += [_marked(report.error), ""] if report.error and found.worst is not None else []
    if found.findings:
        lines += ["| | rule | where | what | what to do |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {each.severity} | {each.rule} | {_marked(_where(each))} | {_marked(each.sentence)} "
            f"| {_marked(each.advice)} |"
            for each in found.findings
        ]
        lines.append("")
    if found.checked:
        lines += ["<details><summary>What was checked</summary>", "", "| rule | | |", "| --- | --- | --- |"]
        lines += [f"| {each.rule} | {MARKS[each.status]} | {_marked(each.why)} |" for each in _whys(report)]
        lines += ["", "</details>", ""]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """As docs/doctor.md describes it; with `error` where it could not be checked."""
    found = replace(report.found, checked=_whys(report))
    told: dict[str, Any] = found.as_json(report.links or None)
    if report.error:
        told["error"] = report.error
    return json.dumps(told, indent=1, allow_nan=False) + "\n"


def as_junit(report: Report) -> str:
    """A test case for each rule: failures are findings that fail the check-up, errors what could not be checked."""
    found = report.found
    suite = ElementTree.Element("testsuite", name="hookscope check")
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    line = SEVERITIES.index(report.fail_on)
    for checked in _whys(report):
        case = ElementTree.SubElement(suite, "testcase", classname=_xml(f"hookscope.{found.model}"), name=checked.rule)
        counts["tests"] += 1
        of_rule = found.of(checked.rule)
        failing = [each for each in of_rule if SEVERITIES.index(each.severity) <= line]
        if failing:
            counts["failures"] += 1
            told = {"message": _xml(failing[0].sentence), "type": failing[0].severity}
            ElementTree.SubElement(case, "failure", told).text = _xml("\n\n".join(map(_whole, failing)))
        elif checked.failed:
            counts["errors"] += 1
            ElementTree.SubElement(case, "error", message=_xml(checked.why), type="could not be checked")
        elif _skipped(checked):
            counts["skipped"] += 1
            ElementTree.SubElement(case, "skipped", message=_xml(checked.why))
        milder = [each for each in of_rule if each not in failing]
        if milder:
            ElementTree.SubElement(case, "system-out").text = _xml("\n\n".join(map(_whole, milder)))
    if report.error:
        case = ElementTree.SubElement(suite, "testcase", classname=_xml(f"hookscope.{found.model}"), name="check-up")
        counts["tests"] += 1
        counts["errors"] += 1
        ElementTree.SubElement(case, "error", message=_xml(report.error), type="could not be checked")
    seconds = found.seconds if math.isfinite(found.seconds) else 0.0
    numbers = {name: str(count) for name, count in counts.items()} | {"time": f"{seconds:.3f}"}
    for name, value in numbers.items():
        suite.set(name, value)
    suites = ElementTree.Element("testsuites", numbers)
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def rules_table() -> str:
    """Every rule, as docs/doctor.md holds it."""
    lines = [
        "| rule | finds | severity | what is computed | limits | source | needs | cannot see |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for rule in RULES.values():
        limits = ", ".join(f"{name} {_plain(value)}" for name, value in rule.limits.items()) or "none"
        least = f"at least {rule.pictures} pictures" if rule.pictures > 1 else ""
        needs = "; ".join(filter(None, [rule.needs, least, "no random weights" if rule.trained else ""]))
        cells = (rule.title, rule.severity, rule.formula, limits, rule.source, needs, rule.blind)
        lines.append(f"| `{rule.name}` | " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _whys(report: Report) -> tuple[Checked, ...]:
    """What became of each rule; of what the built-in photographs say it is said that they do."""
    if not report.built_in:
        return report.found.checked
    return tuple(
        each if _skipped(each) else replace(each, why=f"{each.why} {BUILT_IN}") for each in report.found.checked
    )


def _skipped(checked: Checked) -> bool:
    return checked.status == "skipped"


def _numbers(finding: Finding) -> list[tuple[str, float]]:
    return [
        (name, value) for name, value in (("value", finding.value), ("limit", finding.limit)) if not math.isnan(value)
    ]


def _where(finding: Finding) -> str:
    call = f", call {finding.call + 1}" if finding.call else ""
    return (
        f"{finding.layer}{call}"
        if finding.layer
        else f"the {finding.about}"
        if finding.about != "layer"
        else "the model"
    )


def _headed(finding: Finding) -> str:
    return f"{finding.rule} at {_where(finding)}"


def _whole(finding: Finding) -> str:
    numbers = ", ".join(f"{name} {number:.6g}" for name, number in _numbers(finding))
    lines = [f"{finding.severity}: {_where(finding)}: {finding.sentence}", numbers, finding.why, finding.advice]
    return "\n".join(filter(None, lines))


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _line(text: str) -> str:
    return one_line(text, LINE)


def _xml(text: str) -> str:
    """A text without the characters that XML cannot hold."""
    return NO_XML.sub("�", text)


def _marked(text: str) -> str:
    """A text as Markdown shows it as it is, in a cell, too."""
    return re.sub(r"([\\`*_{}\[\]<>|#~@])", r"\\\1", _line(text))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e15 else f"{value:g}"
