"""Dash's own two routes, for what no page of ours sends: a status and a sentence in place of a traceback in the log.

GET  _dash-component-suites/PACKAGE/PATH   a file that no component has                          404
POST _dash-update-component                no callback of ours, or with other fields or values   400
"""

from __future__ import annotations

from typing import Any

import dash
import flask
from dash.exceptions import DependencyException

from hookscope.dashboard.panels.callbacks import NotAsked
from hookscope.dashboard.web.guard import refusal

CALLBACK = "_dash-update-component"
SUITES = "_dash-component-suites/"


def install(app: dash.Dash, prefix: str) -> None:
    """Check what comes to these routes, and turn what they raise into sentences.

    Called after `guard.install`, so that a stranger learns nothing here either.
    """
    server = app.server

    def check_callback() -> flask.Response | None:
        if flask.request.path != prefix + CALLBACK or flask.request.method != "POST":
            return None
        try:
            body = flask.request.get_json(silent=True)
        except RecursionError:
            body = None
        return None if is_callback(app, body) else _no_callback()

    def no_file(error: Exception) -> flask.Response:
        if isinstance(error, FileNotFoundError) and not flask.request.path.startswith(prefix + SUITES):
            raise error  # a fault of ours, elsewhere
        return refusal(404, "There is no such file here. Reload the page.")

    server.before_request(check_callback)
    server.register_error_handler(NotAsked, lambda error: _no_callback())
    server.register_error_handler(DependencyException, no_file)
    # the components name maps of their scripts, which their packages leave out
    server.register_error_handler(FileNotFoundError, no_file)


def is_callback(app: dash.Dash, body: Any) -> bool:
    """Whether this is what the page sends to a callback: its outputs and inputs by name, each with some value."""
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        return False
    known = app.callback_map.get(body["output"])
    if known is None or "callback" not in known:  # the others run in the browser
        return False
    changed = body.get("changedPropIds", [])
    outputs = body.get("outputs")
    return (
        _names(body.get("inputs")) == _names(known["inputs"])
        and _names(body.get("state", [])) == _names(known["state"])
        and _names(outputs if isinstance(outputs, list) else [outputs]) == body["output"].strip(".").split("...")
        and isinstance(changed, list)
        and all(isinstance(each, str) for each in changed)
    )


def _names(places: Any) -> list[str] | None:
    """`ID.PROPERTY` of each place; None if these are no places. None of our callbacks has an id that is a pattern."""
    if not isinstance(places, list):
        return None
    found = []
    for place in places:
        if not isinstance(place, dict):
            return None
        name, prop = place.get("id"), place.get("property")
        if not isinstance(name, str) or not isinstance(prop, str):
            return None
        found.append(f"{name}.{prop}")
    return found


def _no_callback() -> flask.Response:
    return refusal(400, "This is nothing that Hookscope's page asks. Reload the page.")
