"""A card's frame: where its wall, its numbers, its map and its files will be."""

from __future__ import annotations

from dash import html

from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.charts import HISTOGRAM_PX
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.card.cam import Maps
from hookscope.dashboard.panels.card.order import REGIONS
from hookscope.dashboard.panels.regions import graph
from hookscope.hooks.methods import MAPS

WALL_HELP = "Channels as maps. Click one to enlarge it; or press Enter, and walk with the arrow keys."


def card(position: int) -> html.Section:
    """One card, hidden until a layer is shown in it."""
    return html.Section(
        id=ids.card("card", position),
        className="panel card",
        hidden=True,
        children=[
            html.Div(
                className="card-head",
                children=[
                    Markup(ids.card("head", position), className="head"),
                    html.Details(
                        [html.Summary("Save"), Markup(ids.card("files", position), className="menu")],
                        className="save",
                    ),
                    html.Button(
                        "✕",
                        className="icon",
                        title="Close this card",
                        **{"data-do": "close-card", "data-value": str(position), "aria-label": "Close this card"},
                    ),
                ],
            ),
            Markup(ids.card("attention-room", position), className="attention-room", hidden=True),
            Markup(ids.card("attention", position), className="attention", hidden=True),
            html.Div(
                className="card-body",
                children=[
                    html.Div(
                        [
                            Markup(ids.card("flip", position), className="flip", hidden=True),
                            Markup(ids.card("labels", position)),
                            html.Div(
                                graph(ids.card("wall", position), 120),
                                className="wall",
                                tabIndex="0",
                                **{"data-wall": str(position), "aria-label": WALL_HELP},
                            ),
                            Markup(ids.card("bars", position), className="colour-bars"),
                        ],
                        className="wall-column",
                    ),
                    html.Div(
                        [
                            Markup(
                                ids.card("cam-title", position),
                                MAPS[Maps().maps].title,
                                className="small-title cam-head",
                            ),
                            graph(ids.card("cam", position), 120, "cam"),
                            Markup(ids.card("cam-text", position), className="cam-text"),
                            graph(ids.card("histogram", position), HISTOGRAM_PX, "histogram"),
                            Markup(ids.card("statistics", position), className="statistics"),
                        ],
                        className="numbers-column",
                    ),
                ],
            ),
            *(region.layout(position) for region in REGIONS.values()),
        ],
    )
