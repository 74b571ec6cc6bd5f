"""How a panel's regions are mounted and updated: figures in graphs, plain elements in markup."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from hookscope.dashboard.answers.parts import ComponentId, Failure, Update
from hookscope.dashboard.components.markup import plain
from hookscope.dashboard.drawing.plain_figures import GRAPH_CONFIG, Draft
from hookscope.dashboard.engine.base import ModelInfo

RANDOM_WEIGHTS = "random weights"
MIN_HEIGHT_PX = 10  # Plotly draws nothing lower


def graph(component_id: ComponentId, height_px: int, class_name: str = "") -> dcc.Graph:
    """A mounted graph that takes its place and shows nothing yet."""
    style = {"height": f"{height_px}px"}
    return dcc.Graph(
        id=component_id, figure=empty_figure(height_px), config=GRAPH_CONFIG, className=class_name, style=style
    )


def drawn(component_id: ComponentId, figure: go.Figure) -> Update:
    """The update that shows a figure in a mounted graph, which takes the figure's height."""
    return component_id, {"figure": figure, "style": {"height": f"{figure.layout.height}px"}}


def blank(component_id: ComponentId, height_px: int) -> Update:
    """The update that leaves a mounted graph's room empty.

    What it showed is hidden and not replaced by an empty figure: Plotly takes 20 to 40 ms for one of those too, which
    the answer that is waited for would have to wait for.
    """
    return component_id, {"style": {"height": f"{height_px}px", "visibility": "hidden", "overflow": "hidden"}}


def said(component_id: ComponentId, children: Any, **properties: Any) -> Update:
    """The update that shows plain elements or text in a mounted `Markup`."""
    return component_id, {"tree": plain(children), **properties}


def failed(failure: Failure, part: str) -> html.Div:
    """Why there is no answer, where it would have been.

    Arguments:
        part: "Try again" asks the parts again whose names begin so; a refusal that is final offers no such thing.
    """
    if failure.final:
        return html.Div(failure.sentence, className="sentence")
    again = html.Button("Try again", className="link", **{"data-do": "retry", "data-value": part})
    return html.Div([html.Span(failure.sentence), " ", again], className="sentence error", role="alert")


def random_weights(info: ModelInfo, *, narrow: bool = False) -> list[html.Span]:
    """The badge that stays on everything a model with random weights computed; nothing for a trained one.

    Arguments:
        narrow: it may be cut to "random" on a narrow page.
    """
    text: Any = RANDOM_WEIGHTS
    if narrow:
        first, rest = RANDOM_WEIGHTS.split(" ")
        text = [first, html.Span(f" {rest}", className="roomy")]
    return [html.Span(text, title=info.weights, className="badge warn")] if info.random else []


def empty_figure(height_px: int) -> go.Figure:
    """A figure of a height that shows nothing."""
    draft = Draft(height_px, "empty")
    draft.update_layout(xaxis={"visible": False, "fixedrange": True}, yaxis={"visible": False, "fixedrange": True})
    return draft.figure()
