"""The tree: every layer of the model by name and type; what is selected in it is what the cards show."""

from __future__ import annotations

import dash
from dash import ClientsideFunction, Input, Output, State, html

from dashboard import ids
from dashboard.components.layer_tree import LayerTree


def layout() -> html.Nav:
    """Draw the tree, empty until a model is loaded."""
    return html.Nav(LayerTree(id=ids.TREE), className="tree-side", **{"aria-label": "Layers of the model"})


def register(app: dash.Dash) -> None:
    """Selection goes both ways between the tree and the view, in the browser; the nodes come with the model."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "treeEvent"), Input(ids.TREE, "event"), prevent_initial_call=True
    )
    app.clientside_callback(
        ClientsideFunction("hookscope", "treeSelected"),
        Output(ids.TREE, "selected"),
        Input(ids.VIEW, "data"),
        State(ids.TREE, "selected"),
        prevent_initial_call=True,
    )
