"""Findings in the tree: a bar on every layer that has one, the longer the worse; closed branches warn of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.findings.asked import Asked, ask
from hookscope.dashboard.panels.over_set import NO_BARS
from hookscope.dashboard.panels.regions import refuse, show_text
from hookscope.hooks.results.findings import SEVERITIES, CheckUp, CheckUpNow, Finding

FINDINGS = "findings"
HELP = "what the tab Findings has found of each layer: a whole bar is an error, two thirds a warning, one third a note."
LENGTHS = {"error": 1.0, "warning": 0.66, "note": 0.33}


def part(scene: Scene, name: str) -> Part:
    """The part that draws them; `name` is the part's own."""
    asked = ask(scene)
    if isinstance(asked, str):
        return Part.still(name, [NO_BARS, show_text(ids.METRIC_TEXT, asked)])
    return Part(name, (asked.unit,), (asked, name), _draw, error=ids.METRIC_TEXT)


def _draw(asked: Asked, name: str, answers: Answers) -> list[Update]:
    found = result_of(answers, asked.unit, CheckUp) or result_of(answers, asked.unit, CheckUpNow)
    if wrong := failures(answers, (asked.unit,)):
        return [NO_BARS, show_text(ids.METRIC_TEXT, refuse(wrong[0], name))]
    if found is None:
        return [NO_BARS, show_text(ids.METRIC_TEXT, "findings: checking …")]
    nodes = tree_nodes(asked.looked.info.layers)
    by_layer: dict[str, list[Finding]] = {}
    for finding in found.findings:
        if finding.layer:
            by_layer.setdefault(finding.layer, []).append(finding)
    return [(ids.TREE, _bars(nodes, by_layer)), show_text(ids.METRIC_TEXT, _text(found, by_layer))]


def _bars(nodes: Sequence[Any], by_layer: dict[str, list[Finding]]) -> dict[str, Any]:
    names = [node["name"] for node in nodes]
    there = sorted(
        (place for place, name in enumerate(names) if name in by_layer),
        key=lambda place: by_layer[names[place]][0].order,
    )
    alarms = [place for place in there if by_layer[names[place]][0].severity != "note"]
    return {
        "metric": [LENGTHS[by_layer[name][0].severity] if name in by_layer else None for name in names],
        "metric_texts": [" · ".join(_said(each) for each in by_layer.get(name, [])) for name in names],
        "worst": there,
        "alarms": len(alarms),
        "alarm_text": "findings",
    }


def _said(finding: Finding) -> str:
    return f"{finding.severity}: {finding.sentence}"


def _text(found: CheckUp | CheckUpNow, by_layer: dict[str, list[Finding]]) -> html.Span:
    so_far = "" if isinstance(found, CheckUp) else " so far"
    if not by_layer:
        return html.Span(f"no layer has a finding{so_far}", title=HELP)
    counts = [sum(each[0].severity == severity for each in by_layer.values()) for severity in SEVERITIES]
    said = ", ".join(
        f"{count} {severity}{'s' if count > 1 else ''}"
        for severity, count in zip(SEVERITIES, counts, strict=True)
        if count
    )
    return html.Span(f"layers with findings{so_far}: {said}", title=HELP)
