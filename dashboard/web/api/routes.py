"""What programs ask: `GET api/v1/...`, below the page's own address and behind its guard; docs/api.md describes it.

Names of models, pictures and sets come in, and numbers go out. Nothing is listed that is not offered to everybody, and
nothing is changed: a picture comes by the ordinary upload.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.reading import Readings
from hookscope.dashboard.web.api import checks, layers, models, pictures, predictions, sets
from hookscope.dashboard.web.api.answers import answer, written
from hookscope.dashboard.web.api.asking import MOST_WAITING, Desk
from hookscope.dashboard.web.api.looking import Asked, Office
from hookscope.dashboard.web.api.manual import ROUTES, manual

ANSWERS: dict[str, Callable[[Asked], Any]] = {
    "": lambda asked: manual(asked.office.prefix),
    "models": models.models,
    "model": models.model,
    "layers": models.layers,
    "top": predictions.top,
    "layer": layers.layer,
    "findings": checks.findings,
    "comparison": checks.comparison,
    "map.png": pictures.channel_map_png,
    "map.json": pictures.channel_map,
    "cam.png": pictures.class_map_png,
    "cam.json": pictures.class_map,
    "sets": sets.sets,
    "set": sets.found_of_set,
}
NOT_HERE = "There is no such address. The address api/v1/ says which there are."
ONLY_GET = "Programs only GET here: nothing can be changed."
FAULT = "Something failed here. The server's log has the details; another question may work."


def register(
    server: flask.Flask, prefix: str, service: Service, gallery: Gallery, names: Sequence[str], max_streams: int
) -> None:
    """Put the addresses on a server, all below `prefix`api/v1/.

    Arguments:
        names: of the models that are offered. max_streams: of pages; half as many programs may wait at once.
    """
    root = f"{prefix}api/"
    desk = Desk(service, max(MOST_WAITING, max_streams // 2))
    office = Office(service, gallery, Readings(), desk, names, prefix)

    def respond(path: str) -> flask.Response:
        request = flask.request
        allowed = next(tuple(each.parameters) for each in ROUTES if each.path == path)
        query = request.query_string.decode("ascii", "replace")
        address = f"{request.path}?{query}" if query else request.path
        return answer(lambda: ANSWERS[path](Asked.read(office, request, allowed)), address)

    for route in ROUTES:
        server.add_url_rule(f"{root}v1/{route.path}", f"api {route.path}", partial(respond, route.path))

    @server.get(root, defaults={"rest": ""})
    @server.get(f"{root}<path:rest>")
    def nothing(rest: str) -> flask.Response:
        return written({"error": NOT_HERE}, 404)

    @server.after_request
    def as_json(response: flask.Response) -> flask.Response:
        """What the guard or Flask itself refuses is a sentence; here it stands in JSON as all else does."""
        if not flask.request.path.startswith(root) or response.status_code < 400:
            return response
        if response.mimetype != "application/json":
            said = {404: NOT_HERE, 405: ONLY_GET}.get(response.status_code, FAULT)
            sentence = response.get_data(as_text=True).strip() if response.mimetype == "text/plain" else said
            body = written({"error": sentence}, response.status_code)
            response.set_data(body.get_data())
            response.mimetype = "application/json"
        return response
