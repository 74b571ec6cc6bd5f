"""Painting on A: B becomes the same picture with something painted on it, and every view shows what that changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.asking.sides import OWN_WAY
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.inputs.painting import MOST_CHARACTERS, MOST_SHAPES, shapes_of, write_shapes
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.panel import Panel, Setup
from hookscope.dashboard.panels.regions import show_text

NAME = "painting"
TOOLS = {"box": "box", "stroke": "brush"}
FILLS = {"grey": "grey", "mean": "the picture's mean", "blur": "blur", "noise": "noise", "colour": "a colour"}
WIDTHS = {"0": "one pixel", "2": "2 % wide", "5": "5 % wide", "10": "10 % wide", "20": "20 % wide"}
_HELP = (
    "Drag over the picture; with the box, dragging one that is there moves it. Keys: Enter puts a box into the middle, "
    "the arrows move the newest shape, with Shift by one pixel, Delete takes it away."
)


@state
@dataclass(frozen=True)
class Painting:
    """Whether the tools for painting on A are shown."""

    painting: bool = False


def layout(setup: Setup) -> html.Section:
    """The picture to paint on and the tools, hidden until somebody wants to paint."""
    head = [
        html.Strong("Paint on A"),
        html.Span(" B becomes the same picture with what you paint.", className="muted"),
        html.Button("put away", className="link", **{"data-do": "paint"}),
    ]
    paper = html.Div(
        [Markup(ids.PAPER, className="paper-picture"), html.Div(id="paper-overlay")],
        id="paper-box",
        tabIndex=0,
        role="application",
        **{"aria-label": f"The picture, to paint on. {_HELP}"},
    )
    tools = [
        _choice("tool", "paint-tool", TOOLS),
        _choice("with", "paint-fill", FILLS),
        _choice("brush", "paint-width", WIDTHS, chosen="5"),
        Markup(ids.PAINTED, className="painted"),
        html.P(_HELP, className="muted"),
        html.P(id="paint-told", className="sentence", role="status", hidden=True),
    ]
    limits = {"data-shapes": str(MOST_SHAPES), "data-characters": str(MOST_CHARACTERS)}
    return html.Section(
        [html.Div(head, className="paint-head"), html.Div([paper, html.Div(tools, className="paint-tools")])],
        id=ids.PAINTING,
        className="panel painting",
        hidden=True,
        **limits | {"aria-label": "Painting on A"},
    )


def _choice(label: str, name: str, choices: Mapping[str, str], chosen: str = "") -> html.Label:
    options = [html.Option(text, value=value, selected=value == chosen) for value, text in choices.items()]
    return html.Label([html.Span(label, className="muted"), html.Select(options, id=name)])


def parts(scene: Scene) -> list[Part]:
    """One part; it asks the model nothing."""
    opened = scene.view.of(Painting).painting and "a" in scene.inputs
    if not opened:
        return [Part.still(NAME, [(ids.PAINTING, {"hidden": True})])]
    side = "b" if is_copy(scene) else "a"
    given = scene.inputs["a"]
    picture = html.Img(src=scene.whole(side), alt="", **{"data-size": f"{given.width}x{given.height}"})
    shown = (show_text(ids.PAPER, [picture]), show_text(ids.PAINTED, _list(scene, side)))
    return [Part.still(NAME, [(ids.PAINTING, {"hidden": False}), *shown])]


def is_copy(scene: Scene) -> bool:
    """Whether B is A's picture in A's model, so that what is painted is on it already."""
    if not {"a", "b"} <= scene.inputs.keys() or scene.view.model_of("a") != scene.view.model_of("b"):
        return False
    return scene.inputs["a"].key == scene.inputs["b"].key


def _list(scene: Scene, side: str) -> list[Any]:
    """What is painted, the newest first, each with what takes it away."""
    preparation = scene.side(side).preparation
    shapes = shapes_of(preparation.painted)
    found = []
    for place in reversed(range(len(shapes))):
        shape = shapes[place]
        left = write_shapes(shapes[:place] + shapes[place + 1 :]) or OWN_WAY
        after = replace(preparation, painted=left)
        changes = {f"prepare_{side}": after.write()}
        if side == "b" and after == scene.side("a").preparation:  # B would be A
            changes = {"b": "", "prepare_b": ""}
        kind = "brush" if shape.width else "box"
        fill = FILLS.get(shape.fill, f"#{shape.fill}")
        take = {"data-do": "set", "data-value": json.dumps(changes), "aria-label": f"Take {kind} {place + 1} away"}
        found.append(
            html.Span([f"{kind}, {fill} ", html.Button("×", className="link", **take)], className="badge note")
        )
    return found


PANEL = Panel(NAME, "main", urgency=2, layout=layout, parts=parts, live=parts)
