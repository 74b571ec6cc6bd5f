"""The tab "Depth": whatever runs along the network, one chart at a time, over the same axis of layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import dash
from dash import ClientsideFunction, Input, State, html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.gradient_figures import HEIGHT_PX
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels import apart, back, gradients
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import graph, keep_room, show_text

NAME = "depth"
Chart = Literal["gradients", "apart", "back"]
CHARTS: tuple[tuple[Chart, str, str], ...] = (
    ("gradients", "gradients", gradients.HELP),
    ("apart", "A against B", apart.HELP),
    ("back", "what comes back", back.HELP),
)


@state
@dataclass(frozen=True)
class Depth:
    """Which chart the tab shows."""

    depth: Chart = "gradients"


def layout() -> html.Section:
    """Draw the panel, empty."""
    return html.Section(
        [
            Markup(ids.DEPTH_CHARTS),
            Markup(ids.GRADIENTS_TEXT),
            graph(ids.GRADIENTS, HEIGHT_PX, "gradients"),
            Markup(ids.DEPTH_CHANNELS, className="depth-channels"),
        ],
        className="panel gradient-side",
        **{"aria-label": "Along the depth"},
    )


def parts(scene: Scene) -> list[Part]:
    """The choice of charts, and what the chosen one is drawn from."""
    chosen = scene.view.of(Depth).depth
    charts = Part.still("depth charts", [show_text(ids.DEPTH_CHARTS, _charts(chosen))])
    if chosen == "apart":
        return [charts, *apart.parts(scene)]
    if chosen == "back":
        return [charts, *back.parts(scene)]
    return [charts, gradients.part(scene), Part.still("depth channels", [show_text(ids.DEPTH_CHANNELS, None)])]


def _charts(chosen: Chart) -> html.Div:
    buttons = [
        html.Button(
            text,
            title=help_text,
            **{"data-do": "set", "data-value": json.dumps({"depth": name})},
            **{"aria-pressed": "true" if name == chosen else "false"},
        )
        for name, text, help_text in CHARTS
    ]
    return html.Div(
        html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "Chart"}), className="depth-head"
    )


def while_loading(sentence: str) -> Part:
    """The same while the model is not there; `sentence` says how far it is."""
    text = html.P(sentence, className="sentence")
    updates = [show_text(ids.GRADIENTS_TEXT, text), keep_room(ids.GRADIENTS, HEIGHT_PX)]
    return Part.still(gradients.NAME, [*updates, show_text(ids.DEPTH_CHANNELS, None)])


def register(app: dash.Dash) -> None:
    """A click on a layer's place shows it; the browser's own business."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "gradientClick"),
        Input(ids.GRADIENTS, "clickData"),
        State(ids.GRADIENTS, "figure"),
        prevent_initial_call=True,
    )


def _saved(scene: Scene) -> Any:
    return layout()


PANEL = Panel(
    NAME,
    "main",
    urgency=3,
    layout=lambda setup: layout(),
    parts=parts,
    waiting=lambda wait: [while_loading(wait.sentence)],
    saved=_saved,
    register=register,
    tabs=("depth",),
)
