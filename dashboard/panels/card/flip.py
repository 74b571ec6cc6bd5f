"""The flip side of a card's wall: in place of each channel's map its crop from the chosen set."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page import ids, restoring, standing, wall_source
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.card.over_set import summary_of
from hookscope.dashboard.panels.pictures.beside import Beside, again, beside
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.links import csv_link
from hookscope.dashboard.panels.pictures.looked import Looking
from hookscope.dashboard.panels.pictures.mistakes import step_through
from hookscope.dashboard.panels.pictures.strips import CROPS, choice, field_of, field_unit, shown_of
from hookscope.dashboard.panels.regions import show_text
from hookscope.hooks.errors import LayerNotExecuted
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.sweeps import LayerTop

PER_PAGE = 36
SIDES = (
    (False, "maps", "The channels as maps of the picture above"),
    (True, "what they look for", "Each channel's picture from the set that is chosen in the tab Pictures"),
)


@state
@dataclass(frozen=True)
class Flip:
    """Whether the cards show what their channels look for. from_cell: the first channel, in the wall's order."""

    looks_for: bool = False
    from_cell: int = 0


def part(scene: Scene, position: int, key: str) -> Part:
    """The part that draws one card's flip side, or the way to it; hidden without a set of which something is known."""
    name, region = f"card {position} flip", ids.card("flip", position)
    there = beside(scene) if scene.view.set_a else None
    if not isinstance(there, Beside):
        return Part.still(name, [show_text(region, None, hidden=True)])
    if not scene.view.of(Flip).looks_for:
        return Part.still(name, [show_text(region, _head(there), hidden=False)])
    own = scene.key_in(key, scene.view.side)
    units, ranked = scene.of_layer(ActivationOf, key), wall_source.ranked_units(scene, key)
    restored = restoring.ranking_unit(scene, restoring.unit_of(scene, key))
    field = field_unit(there.looked, own) if own else None
    names = ("rank", "restored", "moment", "looks_for", "from_cell", "crops", "side")
    shows = (scene.only(*names, *wall_source.ranked_fields(scene)), there, position, key, own)
    needed = tuple(each for each in (*units.values(), *ranked.values(), restored, field) if each is not None)
    return Part(name, needed, (*shows, (units, ranked, restored, field)), _draw, error=region)


def _head(there: Beside, which: str = "", layer: str = "") -> html.Div:
    """The way to the other side and back; on that side what is shown of it."""
    buttons = [
        html.Button(
            text,
            title=help_text,
            **{"data-do": "set", "data-value": json.dumps({"looks_for": value, "from_cell": 0})},
            **{"aria-pressed": "true" if value == bool(which) else "false"},
        )
        for value, text, help_text in SIDES
    ]
    side = html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "What the wall shows"})
    more: list[Any] = []
    if which:
        more = [choice(CROPS, "crops", which, "Which of a channel's pictures")]
        more.append(html.Span(f"over the set {there.looked.pictures.name} ({there.over})", className="muted"))
        more.append(csv_link(there.looked, "galleries", "CSV", "Every channel's pictures", layer=layer))
    return html.Div([side, *more], className="flip-head")


Asked = tuple[dict[str, Unit], dict[str, Unit], Unit | None, Unit | None]


def _draw(
    scene: Scene, there: Beside, position: int, key: str, own: str, asked: Asked, answers: Answers
) -> list[Update]:
    children = [_head(there, scene.view.of(Looking).crops, own), *_flipped(scene, there, key, own, asked, answers)]
    return [show_text(ids.card("flip", position), html.Div(children, className="flipped"), hidden=False)]


def _flipped(scene: Scene, there: Beside, key: str, own: str, asked: Asked, answers: Answers) -> list[Any]:
    units, ranked, restored, field_asked = asked
    try:
        top = there.found.top(*parse_key(own)) if own else None
    except LayerNotExecuted:
        top = None
    summary = summary_of(there.found, own)
    if top is None or summary is None:
        return [html.P("This layer has no channels of which pictures could be ranked.", className="sentence")]
    order = _order(scene, units, ranked, restored, answers, len(top.by_max.values))
    if order is None:
        return [html.P("computing …", className="muted")]
    field, said = field_of(answers, field_asked)
    crops, which = Crops(there.looked, there.found, field), scene.view.of(Looking).crops
    start = min(scene.view.of(Flip).from_cell, max(len(order) - 1, 0)) // PER_PAGE * PER_PAGE
    cells = [
        _cell(crops, top, key, int(channel), which if summary.fired[channel] else "")
        for channel in order[start : start + PER_PAGE]
    ]
    more = html.Span("; a click shows more of them", className="live-only")
    waits = again(there.looked.progress.phase == "running")
    return [
        html.P(["One picture of each channel, in the wall's order", more, f". {said}"], className="muted"),
        html.Div(cells, className="flip-cells", **waits),
        step_through(start, len(order), "from_cell", PER_PAGE),
    ]


def _order(
    scene: Scene,
    units: dict[str, Unit],
    ranked: dict[str, Unit],
    restored: Unit | None,
    answers: Answers,
    channels: int,
) -> np.ndarray | None:
    """The channels as the side's wall has them; None while that is not known."""
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    if not there:
        return None if any(unit not in answers for unit in units.values()) else np.arange(channels)
    reading = scene.readings.get(scene.walls, there, standing.standing(answers, ranked, restored))
    if scene.view.side not in reading.maps:
        return np.arange(channels)
    order = reading.order_of(scene.view.side)
    return order if len(order) == channels else np.arange(channels)


def _cell(crops: Crops, top: LayerTop, key: str, channel: int, which: str) -> html.Button:
    """A channel's picture with its number and value; a click enlarges the channel, where there are more.

    Arguments:
        which: "" of a channel that never fired.
    """
    action = {"data-do": "set", "data-value": json.dumps({"detail": key, "channel": channel})}
    number = html.Span(str(channel), className="mono")
    shown = shown_of(top, channel, which) if which else None
    if shown is None or not len(shown.pictures):
        said = "no picture" if which else "never fired"
        text = html.Span([number, html.Span(said, className="muted" if which else "warning")], className="flip-text")
        named = {"title": f"channel {channel}: {said}", "aria-label": f"channel {channel}: {said}"}
        return html.Button([html.Span(className="cut"), text], className="crop-cell under", **action, **named)
    place = len(shown.pictures) // 2 if which == "median" else 0
    value = float(shown.values[place])
    under = [html.Span([number, html.Span(format_number(value), className="muted")], className="flip-text")]
    about = f"channel {channel}, {which}: "
    return crops.button(int(shown.pictures[place]), value, shown.spots[place].tolist(), action, about, under)
