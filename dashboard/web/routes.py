"""What the browser asks besides Dash's own callbacks: uploads, pictures, files, the worker's state, share links."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from urllib.parse import quote

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.inputs.store import Input, InputMissing, InputRefused
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.scene import Gone
from hookscope.dashboard.page.view import View
from hookscope.dashboard.web.shares import Shares

FOREVER = "private, max-age=31536000, immutable"


def register(
    server: flask.Flask, prefix: str, service: Service, gallery: Gallery, shares: Shares, models: Sequence[str]
) -> None:
    """Put the routes on a server, all below `prefix`."""
    inputs = service.inputs

    @server.get("/healthz")
    def healthz() -> flask.Response:
        return flask.Response("ok\n", mimetype="text/plain")

    @server.post(f"{prefix}upload")
    def upload() -> flask.Response:
        name = flask.request.args.get("name", "")
        request = flask.request
        return _received(lambda: inputs.receive(request.stream, request.content_length, name))

    @server.post(f"{prefix}sample/<name>")
    def take_sample(name: str) -> flask.Response:
        return _received(lambda: inputs.sample(name))

    @server.get(f"{prefix}sample/<name>")
    def show_sample(name: str) -> flask.Response:
        try:
            data = inputs.preview(inputs.sample(name).key)
        except (InputRefused, InputMissing):
            return _sentence(404, "There is no such sample. Reload the page to see which there are.")
        return flask.Response(data, mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    @server.get(f"{prefix}picture/<key>")
    def picture(key: str) -> flask.Response:
        if flask.request.if_none_match.contains(key):
            return _kept_for_ever(flask.Response(status=304), key)
        try:
            item = gallery.get(key)
        except (Gone, InputMissing) as gone:
            return _sentence(410, str(gone))
        if item is None:
            return _sentence(404, "This picture is no longer kept. Reload the page.")
        response = _kept_for_ever(flask.Response(item.data, mimetype=item.media_type), key)
        if item.file_name:
            response.headers.set("Content-Disposition", "attachment", **_saved_as(item.file_name))
        return response

    @server.get(f"{prefix}state")
    def state() -> flask.Response:
        model = flask.request.args.get("model", "")
        if model not in models:
            return _sentence(404, "This server does not offer that model. Choose one in the page's header.")
        now = service.state(model)
        if now.phase == "idle" and now.info is None:  # one that was unloaded is loaded when something is asked of it
            service.engine.open(model)
        answer = {
            "model": model,
            "phase": now.phase,
            "sentence": now.sentence,
            "waiting": now.waiting,
            "fingerprint": now.info.fingerprint if now.info else None,
            "hooks": [dataclasses.asdict(hook) for hook in now.hooks],
            "work": dataclasses.asdict(now.work),
        }
        return flask.Response(json.dumps(answer), mimetype="application/json")

    @server.post(f"{prefix}open")
    def open_model() -> flask.Response:
        model = flask.request.args.get("model", "")
        if model not in models:
            return _sentence(404, "This server does not offer that model. Choose one in the page's header.")
        service.engine.open(model)  # which tries again after a failure
        return flask.Response(status=204)

    @server.post(f"{prefix}share")
    def share() -> flask.Response:
        try:
            key = shares.add(View.from_dict(flask.request.get_json(silent=True)))
        except RecursionError:  # JSON that is nested thousands of levels deep
            return _sentence(400, "This is no view that could be shared. Reload the page and share again.")
        except OSError:
            return _sentence(507, "The server's disk could not keep this link; tell whoever runs the server.")
        return flask.Response(json.dumps({"path": f"{prefix}?share={key}"}), mimetype="application/json")

    @server.post(f"{prefix}leave/<page>")
    def leave(page: str) -> flask.Response:
        service.leave(page)
        return flask.Response(status=204)

    @server.post(f"{prefix}cancel/<page>")
    def cancel(page: str) -> flask.Response:
        service.stop(page, flask.request.args.get("part", ""))
        return flask.Response(status=204)


def _received(act: Callable[[], Input]) -> flask.Response:
    try:
        given: Input = act()
    except InputRefused as refused:
        return _sentence(refused.status, str(refused))
    answer = {"key": given.key, "name": given.name, "width": given.width, "height": given.height}
    return flask.Response(json.dumps(answer), mimetype="application/json")


def _kept_for_ever(response: flask.Response, key: str) -> flask.Response:
    response.headers["Cache-Control"] = FOREVER
    response.set_etag(key)
    return response


def _saved_as(name: str) -> dict[str, str]:
    """A file's name for a header, which is Latin-1 on its way: others are spelled out as RFC 8187 says."""
    plain = name.encode("ascii", "ignore").decode()
    return {"filename": name} if plain == name else {"filename": plain, "filename*": f"UTF-8''{quote(name, safe='')}"}


def _sentence(status: int, text: str) -> flask.Response:
    return flask.Response(text + "\n", status, mimetype="text/plain")
