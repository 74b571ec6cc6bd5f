"""The header's "Script": where the program is that prints a view's numbers, and what of the view it leaves out.

POST script  the view  ->  {"path", "name", "beside", "left_out"}
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.exports import script
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.page.scene import SIDES, Gone, Scene, loaded
from hookscope.dashboard.page.view import View
from hookscope.dashboard.web.ask import not_to_be_had

NOTHING = "There is nothing yet that a program could compute again: choose a picture, or a set, first."
NO_LOOK = "There is nothing yet that a program could print: the run has not been looked at."
LOADING = "The model is not loaded yet. Save the script again once the page's header says that it is ready."
PATIENCE_SECONDS = 10.0


def register(server: flask.Flask, prefix: str, service: Service, gallery: Gallery, models: Sequence[str]) -> None:
    """Write programs on a server that offers these models."""

    @server.post(f"{prefix}script")
    def write() -> flask.Response:
        try:
            view = View.from_dict(flask.request.get_json(silent=True))
        except RecursionError:
            return _sentence(400, "This is no view that Hookscope knows. Reload the page.")
        if view.tab != "run":  # a run needs no model
            wait_for_models(view, service, models)
        infos = loaded(view, service)
        if not infos and view.tab != "run":
            state = service.state(view.model)
            return _sentence(409, state.sentence if state.phase == "failed" and view.model in models else LOADING)
        view = view.but(**not_to_be_had(view, infos, moved=False))
        scene = Scene.build(view, infos, service, gallery, Readings(), 800)
        scene = replace(scene, offered=tuple(models))
        try:
            found = script.written(scene)
        except Gone as gone:
            return _sentence(410, str(gone))
        if found is None:
            return _sentence(409, NO_LOOK if view.tab == "run" else NOTHING)
        answer = {
            "path": script.address(scene),
            "name": script.name_of(scene),
            "beside": found.needs,
            "left_out": found.notes,
        }
        return flask.Response(json.dumps(answer), mimetype="application/json")


def wait_for_models(view: View, service: Service, models: Sequence[str]) -> None:
    """Have a view's models loaded, for the server may have been started anew since the page was drawn; a while at most.

    Arguments:
        models: those that the server offers.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    for model in {view.model_of(side) for side in SIDES if side == "a" or getattr(view, side)} & {*models}:
        if service.state(model).info is None:
            service.engine.open(model)
        while (state := service.state(model)).info is None and state.phase != "failed" and time.monotonic() < deadline:
            time.sleep(0.05)


def _sentence(status: int, text: str) -> flask.Response:
    return flask.Response(text + "\n", status, mimetype="text/plain")
