"""The page: three regions (header, tree, main) and the stores that say what it is about."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels import attributions, detail, gradients, header, inputs, toolbar, tree
from hookscope.dashboard.panels.card import cards


def page(models: tuple[str, ...], store: InputStore, prefix: str, *, tensorboard: bool = False) -> Any:
    """Draw the page with nothing chosen.

    Arguments:
        models: specs that the operator offers. store: has the samples. prefix: the path that the page is served under.
        tensorboard: whether what is shown may be written for TensorBoard.
    """
    return dmc.MantineProvider(
        theme={"fontFamily": "inherit", "primaryColor": "blue", "defaultRadius": "md", "cursorType": "pointer"},
        children=[
            dcc.Location(id=ids.LOCATION, refresh=False),
            *(dcc.Store(id=name) for name in (ids.VIEW, ids.MODEL, ids.MORE_CARDS)),
            html.A("Skip to the layers' cards", href="#main", className="skip", **{"data-do": "skip"}),
            header.layout(models, tensorboard=tensorboard),
            html.P(id=ids.BANNER, className="banner", role="alert", hidden=True),
            html.P(id=ids.NOTICE, className="banner", role="alert", hidden=True),
            html.Div(
                [
                    tree.layout(),
                    html.Main(
                        [
                            inputs.layout(store, prefix),
                            attributions.layout(),
                            toolbar.layout(),
                            gradients.layout(),
                            *cards.layout(),
                            detail.layout(),
                        ],
                        id="main",
                        tabIndex="-1",
                    ),
                ],
                className="page",
            ),
        ],
    )
