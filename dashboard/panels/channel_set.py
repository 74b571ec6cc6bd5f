"""Beside the enlarged channel: what it looks for in the chosen set, and its numbers over all pictures of that."""

from __future__ import annotations

from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.numbers import format_count, format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MEAN
from hookscope.dashboard.panels.card.over_set import summary_of
from hookscope.dashboard.panels.pictures.beside import Beside, again, beside
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.looked import Looking
from hookscope.dashboard.panels.pictures.strips import CROPS, cells, choice, field_of, field_unit
from hookscope.dashboard.panels.regions import show_text
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.summaries import LayerSummary

NAME = "detail set"
NUMBERS = ("mean", "std", "min", "max")


def part(scene: Scene) -> Part:
    """The part of the region; hidden without a set of which something is known, and for the mean of all channels."""
    there = beside(scene) if scene.view.set_a and scene.view.channel != MEAN else None
    own = scene.key_in(scene.view.detail, scene.view.side) if isinstance(there, Beside) else ""
    if not isinstance(there, Beside) or not own:
        return Part.still(NAME, [show_text(ids.detail("set"), None, hidden=True)])
    unit = field_unit(there.looked, own)
    shows = (scene.only("channel", "crops"), there, own, unit)
    return Part(NAME, (unit,), shows, _draw, error=ids.detail("set"))


def _draw(scene: Scene, there: Beside, own: str, unit: Unit, answers: Answers) -> list[Update]:
    return [show_text(ids.detail("set"), _gallery(scene, there, own, unit, answers), hidden=False)]


def _gallery(scene: Scene, there: Beside, own: str, unit: Unit, answers: Answers) -> list[Any]:
    looked, channel = there.looked, scene.view.channel
    name = html.Strong(f"over the set {looked.pictures.name}")
    head = html.Div(
        [name, html.Span(f" ({there.over})", className="muted", **again(looked.progress.phase == "running"))]
    )
    try:
        top = there.found.top(*parse_key(own))
    except LayerNotExecuted:
        top = None
    summary = summary_of(there.found, own)
    if top is None or summary is None:
        return [head, html.Div("This layer has no channels of which pictures could be ranked.", className="muted")]
    if channel >= len(top.by_max.values):
        return [head, html.Div(f"There is no channel {channel} in it.", className="muted")]
    about = html.Div([head, _numbers(summary, channel)], className="channel-over")
    if not summary.fired[channel]:  # of equal zeros the first pictures come first, which would say nothing
        return [about]
    field, said = field_of(answers, unit)
    which = scene.view.of(Looking).crops
    crops = cells(Crops(looked, there.found, field), top, channel, which)
    return [
        about,
        choice(CROPS, "crops", which, "Which of the channel's pictures"),
        html.Div(crops, className="crops", title=said),
        html.Div(said, className="muted said"),
    ]


def _numbers(summary: LayerSummary, channel: int) -> html.Div:
    fired, inputs = int(summary.fired[channel]), summary.inputs
    words = f"fired in {format_count(fired)} of {format_count(inputs)}" if fired else "never fired"
    numbers = summary.statistics.channels
    pairs = [(name, format_number(float(numbers[name][channel]))) for name in NUMBERS if name in numbers]
    cells_ = [html.Span([html.Span(f"{name} ", className="muted"), value], className="mono") for name, value in pairs]
    return html.Div([html.Span(words, className="" if fired else "warning"), *cells_], className="set-numbers")
