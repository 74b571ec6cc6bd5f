"""A finding as a card: what, how bad, the evidence, why it matters, what to do, and a jump to it."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.named_layers import split_at
from hookscope.dashboard.asking.sides import Preparation
from hookscope.dashboard.page.finding_links import GRADIENTS, changes_for
from hookscope.dashboard.panels.findings.asked import Asked
from hookscope.dashboard.panels.findings.evidence import draw_evidence
from hookscope.hooks.results.findings import Finding
from hookscope.hooks.rules import RULES

CHANNELS = 8  # of a finding that are offered each


def card(asked: Asked, finding: Finding) -> html.Div:
    """Draw one."""
    rule = RULES.get(finding.rule)
    title = f"{rule.title}: {rule.formula}. Source: {rule.source}." if rule else ""
    words: list[Any] = [
        html.Div(
            [
                html.Span(finding.severity, className=f"severity is-{finding.severity}"),
                html.Span(finding.rule, className="mono", title=title),
            ],
            className="kind",
        ),
        html.P(_marked(asked, finding), className="what"),
        html.P(finding.why, className="muted") if finding.why else None,
        html.P([html.Strong("Do: "), *_advice(asked, finding)], className="do"),
    ]
    parts: list[Any] = [html.Div(words, className="words")]
    if finding.evidence is not None:
        parts.append(draw_evidence(asked.looked.scene, finding.evidence))
    return html.Div(parts, className=f"panel finding is-{finding.severity}")


def _marked(asked: Asked, finding: Finding) -> list[Any]:
    """The sentence, with the layer's name in it as a link."""
    around = split_at(finding.sentence, finding.layer)
    if around is None:
        return [finding.sentence]
    return [around[0], _jump(asked, finding, finding.layer, "layer-link"), around[1]]


def _advice(asked: Asked, finding: Finding) -> list[Any]:
    found: list[Any] = [*in_words(finding.advice), " "] if finding.advice else []
    if finding.preparation:
        text = Preparation.read(finding.preparation).text or finding.preparation
        found.append(_jump(asked, finding, f"show A as given, B prepared: {text}"))
    elif finding.layer:
        found.append(_jump(asked, finding, _where(finding)))
        shown = finding.channels[:CHANNELS]
        if len(finding.channels) > 1 and finding.rule not in GRADIENTS:
            found += [html.Span(" · ", className="live-only"), "channels ", *_each(asked, finding, shown)]
            left = len(finding.channels) - len(shown)
            found += [html.Span(f" and {left:,} more", className="muted")] if left > 0 else []
    elif changes_for(finding)["tab"] == "pictures":
        found.append(_button({"tab": "pictures", "set_a": asked.looked.pictures.key}, "open the set"))
    return found


def in_words(text: str) -> list[Any]:
    """A text with what stands between ` in it as code."""
    return [html.Span(each, className="mono") if place % 2 else each for place, each in enumerate(text.split("`"))]


def _where(finding: Finding) -> str:
    if finding.rule in GRADIENTS:
        return "show the gradients along the depth"
    if not finding.channels:
        return "open the layer"
    return f"open the layer at channel {finding.channels[0]}"


def _each(asked: Asked, finding: Finding, channels: tuple[int, ...]) -> list[Any]:
    key = key_of(finding.layer, finding.call)
    found: list[Any] = []
    for channel in channels:
        more = {"tab": "layers", "layers": [key], "detail": key, "channel": channel}
        found += [", " if found else "", _opening(asked, finding, str(channel), more, "link told")]
    return found


def _jump(asked: Asked, finding: Finding, text: str, kind: str = "link") -> html.Button:
    return _opening(asked, finding, text, changes_for(finding), kind)


def _opening(asked: Asked, finding: Finding, text: str, changes: dict[str, Any], kind: str = "link") -> html.Button:
    """What opens a view of the picture that shows it best; of one that has a picture as it is, of that."""
    if "tab" in changes and changes["tab"] in ("pictures", "findings"):
        return _button(changes, text, kind)
    looked = asked.looked
    value = json.dumps(
        {
            "set": looked.pictures.key,
            "number": max(finding.picture, 0),
            "model": looked.model,
            "view": changes,
            "keep": finding.picture < 0,
        }
    )
    action = {"data-do": "open-finding", "data-value": value}
    return html.Button(text, className=f"{kind} live-only" if kind == "link" else kind, **action)


def _button(changes: dict[str, Any], text: str, kind: str = "link") -> html.Button:
    kind = f"{kind} live-only" if kind == "link" else kind
    return html.Button(text, className=kind, **{"data-do": "set", "data-value": json.dumps(changes)})
