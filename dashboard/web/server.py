"""The web application: the page, its callbacks and its routes, around a service that is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import dash
import dash_ag_grid  # noqa: F401  its scripts must be known before the first page is served
from dash import ClientsideFunction, Input, Output, no_update

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.exports import tensorboard
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels import header, toolbar, tree
from hookscope.dashboard.panels.callbacks import NotAsked
from hookscope.dashboard.panels.order import PANELS
from hookscope.dashboard.panels.panel import Setup
from hookscope.dashboard.places import ASSETS
from hookscope.dashboard.settings.checkpoints import Offered
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.web import ask, dash_routes, feeds, guard, layout, routes, scripts, sets, stream, visitor_sets
from hookscope.dashboard.web.api import routes as api
from hookscope.dashboard.web.dash_environment import hidden
from hookscope.dashboard.web.shares import Shares


def create_app(settings: Settings, service: Service, shares: Shares, offered: Offered | None = None) -> dash.Dash:
    """Build the application; nothing is started and nothing listens yet.

    Arguments:
        offered: the models that can be chosen; those of the settings by default.
    """
    prefix = settings.url_prefix
    offered = offered or Offered(settings)
    models, names = offered.models, offered.names
    with hidden():
        app = _dash(prefix)
    gallery = Gallery(f"{prefix}picture/")
    may_write = settings.tensorboard_dir is not None
    setup = Setup(settings.models, service.inputs, prefix, tensorboard=may_write, baselines=bool(settings.baseline))
    app.layout = lambda: layout.page(replace(setup, models=tuple(models)))
    for panel in PANELS.values():
        panel.register(app)
    _register_view(app, names, service, shares)
    ask.register(app.server, prefix, service, gallery, models)
    sets.register(app.server, prefix, service, names)
    visitor_sets.register(app.server, prefix, service)
    feeds.register(app.server, prefix, service)
    routes.register(app.server, prefix, service, gallery, shares, names)
    scripts.register(app.server, prefix, service, gallery, models)
    if settings.tensorboard_dir is not None:
        tensorboard.register(app.server, prefix, service, settings.tensorboard_dir)
    stream.register(app.server, service, f"{prefix}stream/")
    api.register(app.server, prefix, service, gallery, names, settings.max_streams)
    guard.install(app.server, settings, script_hashes=app.csp_hashes)
    dash_routes.install(app, prefix)
    return app


def _dash(prefix: str) -> dash.Dash:
    """Dash itself, told all that it would else look for in the environment or guess."""
    app = dash.Dash(
        __name__,
        title="Hookscope",
        update_title=None,  # the title stays as it is while a callback runs
        assets_folder=str(ASSETS),
        assets_ignore=r".*samples.*",
        assets_external_path="",
        include_assets_files=True,
        routes_pathname_prefix=prefix,
        requests_pathname_prefix=prefix,
        serve_locally=True,
        compress=False,
        use_pages=False,
        enable_mcp=False,
        mcp_path="_mcp",
        suppress_callback_exceptions=False,
    )
    app.enable_dev_tools(
        debug=False,
        dev_tools_ui=False,
        dev_tools_props_check=False,
        dev_tools_serve_dev_bundles=False,
        dev_tools_hot_reload=False,
        dev_tools_silence_routes_logging=False,
        dev_tools_prune_errors=False,
        dev_tools_disable_version_check=False,
        dev_tools_validate_callbacks=False,
    )
    return app


def _register_view(app: dash.Dash, names: Sequence[str], service: Service, shares: Shares) -> None:
    """The view comes out of the address, and what belongs to its model comes when that is ready."""

    @app.callback(
        output=dict(
            view=Output(ids.VIEW, "data"),
            notice=dict(text=Output(ids.NOTICE, "children"), hidden=Output(ids.NOTICE, "hidden")),
            model=Output(ids.MODEL_SELECT, "value"),
            controls={name: Output(name, toolbar.property_of(name)) for name in ids.CONTROLS},
        ),
        inputs=dict(query=Input(ids.LOCATION, "search")),
    )
    def arrive(query: str | None) -> dict[str, Any]:
        if not isinstance(query, str | None):
            raise NotAsked
        view, notice = _view_of(query or "", names, shares)
        shown = dict(text=notice, hidden=not notice)
        return dict(view=view.to_dict(), notice=shown, model=view.model_of(view.side), controls=toolbar.values(view))

    app.clientside_callback(
        ClientsideFunction("hookscope", "adopt"),
        Input(ids.VIEW, "data"),
        Input(ids.MODEL, "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        output=dict(
            nodes=Output(ids.TREE, "nodes"),
            facts=Output(ids.MODEL_FACTS, "children"),
        ),
        inputs=dict(ready=Input(ids.MODEL, "data")),
        prevent_initial_call=True,
    )
    def show_model(ready: dict[str, str]) -> dict[str, Any]:
        if not isinstance(ready, dict) or not isinstance(ready.get("spec"), str):
            raise NotAsked
        info = service.state(ready["spec"]).info
        if info is None:
            return dict(nodes=no_update, facts=no_update)
        return dict(nodes=tree.nodes_of(info), facts=header.facts(info))


def _view_of(query: str, names: Sequence[str], shares: Shares) -> tuple[View, str]:
    """The view that an address names, a share link's or the one written out in it, and what of it is not to be had."""
    key = parse_qs(query.removeprefix("?")).get("share", [""])[0]
    shared = shares.get(key) if key else None
    view = shared or View.from_query(query)
    if key and shared is None:
        return replace(view, model=names[0], model_b=""), "This link is not known here, or no more: ask for a new one."
    unknown = [name for name in (view.model, view.model_b) if name and name not in names]
    if view.model not in names:
        view = replace(view, model=names[0])
    if view.model_b not in names or view.model_b == view.model:
        view = replace(view, model_b="")
    offer = f"It offers {', '.join(names)}."
    return view, f"This server does not offer the model '{unknown[0]}'. {offer}" if unknown else ""
