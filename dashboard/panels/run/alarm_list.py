"""Every alarm of a run in the words of the check-up: the first of all, then what is on, the worst first."""

from __future__ import annotations

import json
import re
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.named_layers import split_at
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked, layer_of
from hookscope.dashboard.panels.run.moment import open_layer
from hookscope.hooks.results.feeds import Alarm
from hookscope.hooks.results.findings import SEVERITIES
from hookscope.hooks.rules import RULES

MOST = 40
LAYERS = 12  # of an alarm that are named
LISTED = re.compile(r" others?: (.*)\.$")  # those that a sentence names itself


def draw_alarms(asked: Asked, answers: Answers) -> list[Update]:
    """Cards, and what has none."""
    found: list[Any] = []
    quiet = []
    for run, letter in zip(asked.runs, "AB", strict=False):
        whose = f"{letter}: {run.name}" if asked.other else ""
        if run.alarms:
            found += _of(run, whose)
        elif run.looks:
            quiet.append(whose)
    if quiet:
        text = " · ".join(filter(None, [*quiet, "No alarm until now."]))
        found.append(html.Div(html.P(text, className="muted"), className="panel"))
    return [show_text(ids.RUN_ALARMS, found)]


def _of(run: Followed, whose: str) -> list[Any]:
    # what rang first is often the cause of the rest, and may be over long since
    first = min(run.alarms, key=lambda alarm: (alarm.step, _rank(alarm)))
    on = sorted((each for each in run.alarms if each.until < 0), key=lambda alarm: (_rank(alarm), alarm.step))
    over = [each for each in sorted(run.alarms, key=lambda alarm: -alarm.step) if each.until >= 0]
    count = "1 alarm" if len(run.alarms) == 1 else f"{len(run.alarms):,} alarms"
    head = html.Div(
        [
            html.H2(count),
            html.Span(f"{len(on):,} still on" if on else "all over", className="muted"),
            html.Span(whose, className="muted"),
        ],
        className="run-title",
    )
    shown = [first, *(alarm for alarm in on if alarm is not first)]
    folded = [alarm for alarm in over if alarm is not first]
    several = len(run.alarms) > 1
    cards = [_card(run, alarm, "the first of all" if several and alarm is first else "") for alarm in shown[:MOST]]
    more = [html.P(f"and {len(shown) - MOST:,} more", className="muted")] if len(shown) > MOST else []
    return [head, *cards, *more, *([_folded(run, folded)] if folded else [])]


def _rank(alarm: Alarm) -> int:
    return SEVERITIES.index(alarm.severity) if alarm.severity in SEVERITIES else len(SEVERITIES)


def _folded(run: Followed, alarms: list[Alarm]) -> html.Details:
    """Those that are over, a line each."""
    rows = [
        html.Tr([html.Td(_when(run, alarm)), html.Td(alarm.rule, className="mono"), html.Td(_words(alarm))])
        for alarm in alarms[:MOST]
    ]
    more = html.P(f"and {len(alarms) - MOST:,} earlier ones", className="muted") if len(alarms) > MOST else None
    text = "1 more that is over" if len(alarms) == 1 else f"{len(alarms):,} more that are over"
    table = html.Table(html.Tbody(rows), className="checked")
    return html.Details([html.Summary(text), table, more], className="panel findings-checked")


def _words(alarm: Alarm) -> list[Any]:
    return [alarm.sentence, *([" ", html.Strong("Do: "), alarm.advice] if alarm.advice else [])]


def _when(run: Followed, alarm: Alarm) -> html.Button:
    when = f"from step {alarm.step:,}" + (f" until {alarm.until:,}" if alarm.until >= 0 else "")
    return html.Button(when, className="layer-link", **{"data-do": "set", "data-value": _there(run, alarm)})


def _there(run: Followed, alarm: Alarm) -> str:
    layer = layer_of(run, alarm)
    return json.dumps({"run_step": str(alarm.step), **({"run_layer": layer} if layer else {})})


def _card(run: Followed, alarm: Alarm, place: str) -> html.Div:
    rule = RULES.get(alarm.rule)
    listed = LISTED.search(alarm.sentence)
    said = set(listed[1].split(", ")) if listed else set()
    others = [layer for layer in alarm.layers if layer != alarm.layer and layer not in said]
    named = ", ".join(others[:LAYERS]) + (f" and {len(others) - LAYERS:,} more" if len(others) > LAYERS else "")
    layer = layer_of(run, alarm)
    words: list[Any] = [
        html.Div(
            [
                html.Span(alarm.severity, className=f"severity is-{alarm.severity}"),
                html.Span(alarm.rule, className="mono", title=rule.title if rule else ""),
                _when(run, alarm),
                html.Span(place, className="muted") if place else None,
            ],
            className="kind",
        ),
        html.P(_marked(run, alarm), className="what"),
        html.P(f"The same: {named}", className="muted mono") if named else None,
        html.P(alarm.why, className="muted") if alarm.why else None,
        html.P([html.Strong("Do: "), alarm.advice, " ", open_layer(layer) if layer else None], className="do")
        if alarm.advice or layer
        else None,
    ]
    return html.Div(html.Div(words, className="words"), className=f"panel finding is-{alarm.severity}")


def _marked(run: Followed, alarm: Alarm) -> list[Any]:
    """The sentence, with the layer's name in it as a click to its lines."""
    around = split_at(alarm.sentence, alarm.layer)
    if around is None:
        return [alarm.sentence]
    jump = html.Button(alarm.layer, className="layer-link", **{"data-do": "set", "data-value": _there(run, alarm)})
    return [around[0], jump, around[1]]
