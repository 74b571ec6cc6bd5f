"""The page: three regions (header, tree, main) and the stores that say what it is about."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.order import layouts
from hookscope.dashboard.panels.panel import Setup


def page(setup: Setup) -> Any:
    """Draw the page with nothing chosen."""
    return dmc.MantineProvider(
        theme={"fontFamily": "inherit", "primaryColor": "blue", "defaultRadius": "md", "cursorType": "pointer"},
        children=[
            dcc.Location(id=ids.LOCATION, refresh=False),
            *(dcc.Store(id=name) for name in (ids.VIEW, ids.MODEL, ids.MORE_CARDS)),
            html.A("Skip to the layers' cards", href="#main", className="skip", **{"data-do": "skip"}),
            *layouts("top", setup),
            html.P(id=ids.BANNER, className="banner", role="alert", hidden=True),
            html.P(id=ids.NOTICE, className="banner", role="alert", hidden=True),
            html.Div(
                [
                    *layouts("side", setup),
                    html.Main(
                        layouts("main", setup),
                        id="main",
                        tabIndex="-1",
                    ),
                ],
                className="page",
            ),
        ],
    )
