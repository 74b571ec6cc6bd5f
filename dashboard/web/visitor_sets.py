"""What the browser asks about visitors' own sets: bring one, file by file or as a zip; delete it; choose a part of one.

    POST sets                   {"name", "bytes"} -> {"key", "file_bytes", "piece_bytes", "left_out"}; then of this key
    POST set/KEY/add            ?number=&name=, the file as the body -> {"refused": "" or why}
    POST set/KEY/piece          ?at=, a piece of a zip as the body -> {"at": where the next one begins}
    POST set/KEY/unpack         ?name=; GET set/KEY/making -> {"phase", "sentence", "pictures", "refused"}
    POST set/KEY/close          {"too_large", "unread": names} -> {"key", "name"}
    POST set/KEY/cancel         instead
    POST set/KEY/delete         of a set that is whole
    POST set/KEY/subset         {"numbers", "name", "version"} -> {"key"}; of any set

A file's name is a label, and a key nobody can guess: no route takes a path, and none tells of others' sets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import flask

from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.inputs.store import InputMissing, InputRefused
from hookscope.dashboard.sets.arriving import PIECE_BYTES
from hookscope.dashboard.sets.members import BESIDE, MOST, SetMissing

NO_REQUEST = "This is no request that Hookscope knows. Reload the page."


def register(server: flask.Flask, prefix: str, service: Service) -> None:
    """Put the routes on a server, all below `prefix`; none without sets."""
    sweeps = service.sweeps
    if sweeps is None:
        return
    store, arriving = sweeps.store, sweeps.store.arriving

    @server.post(f"{prefix}sets")
    def begin_set() -> flask.Response:
        def act() -> dict[str, Any]:
            asked = _json()
            key = arriving.begin(_text(asked, "name"), _number(asked.get("bytes", 0), 2**53))
            most = min(PIECE_BYTES, arriving.file_bytes)
            return {"key": key, "file_bytes": arriving.file_bytes, "piece_bytes": most, "left_out": BESIDE}

        return _answered(act)

    @server.post(f"{prefix}set/<key>/add")
    def add_file(key: str) -> flask.Response:
        def act() -> dict[str, Any]:
            request = flask.request
            number, name = _number(request.args.get("number", "")), request.args.get("name", "")
            return {"refused": arriving.add(key, number, name, request.stream, request.content_length)}

        return _answered(act)

    @server.post(f"{prefix}set/<key>/piece")
    def add_piece(key: str) -> flask.Response:
        def act() -> dict[str, Any]:
            request = flask.request
            at = _number(request.args.get("at", ""), 2**53)
            return {"at": arriving.piece(key, at, request.stream, request.content_length)}

        return _answered(act)

    @server.post(f"{prefix}set/<key>/unpack")
    def unpack_zip(key: str) -> flask.Response:
        return _answered(lambda: arriving.unpack(key, flask.request.args.get("name", "")))

    @server.get(f"{prefix}set/<key>/making")
    def making(key: str) -> flask.Response:
        return _answered(lambda: dataclasses.asdict(arriving.state(key)))

    @server.post(f"{prefix}set/<key>/close")
    def finish_set(key: str) -> flask.Response:
        def act() -> dict[str, Any]:
            asked = _json()
            name = arriving.finish(key, _texts(asked, "too_large"), _texts(asked, "unread"))
            store.get(key)
            return {"key": key, "name": name}

        return _answered(act)

    @server.post(f"{prefix}set/<key>/cancel")
    def cancel_set(key: str) -> flask.Response:
        return _answered(lambda: arriving.cancel(key))

    @server.post(f"{prefix}set/<key>/delete")
    def delete_set(key: str) -> flask.Response:
        def act() -> None:
            with contextlib.suppress(SetMissing):
                pictures = store.get(key)
                if not pictures.offered:
                    sweeps.forget(pictures)
            store.delete(key)

        return _answered(act)

    @server.post(f"{prefix}set/<key>/subset")
    def choose_part(key: str) -> flask.Response:
        def act() -> dict[str, Any]:
            asked, pictures = _json(), store.get(key)
            numbers = asked.get("numbers")
            if not isinstance(numbers, list) or len(numbers) > MOST:
                raise InputRefused(NO_REQUEST, 400)
            if asked.get("version", pictures.version) != pictures.version:
                raise SetMissing("This set has changed, or is no longer known here. Choose it again.")
            return {"key": store.subset(pictures, [_number(each) for each in numbers], _text(asked, "name"))}

        return _answered(act)


def _answered(act: Callable[[], dict[str, Any] | None]) -> flask.Response:
    """What came of it as JSON, or the sentence that says why it cannot be."""
    try:
        found = act()
    except (SetMissing, InputMissing) as missing:
        return flask.Response(f"{missing}\n", 404, mimetype="text/plain")
    except InputRefused as refused:
        return flask.Response(f"{refused}\n", refused.status, mimetype="text/plain")
    if found is None:
        return flask.Response(status=204)
    return flask.Response(json.dumps(found), mimetype="application/json")


def _json() -> dict[str, Any]:
    """The request's body.

    Raises:
        InputRefused: it is no JSON object.
    """
    try:
        found = flask.request.get_json(silent=True)
    except RecursionError:
        found = None
    if not isinstance(found, dict):
        raise InputRefused(NO_REQUEST, 400)
    return found


def _text(values: dict[str, Any], name: str) -> str:
    found = values.get(name, "")
    return found if isinstance(found, str) else ""


def _texts(values: dict[str, Any], name: str) -> list[str]:
    found = values.get(name, [])
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _number(value: object, most: int = 10**9) -> int:
    """A whole number from 0 on.

    Raises:
        InputRefused: it is none.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > most:
        raise InputRefused(NO_REQUEST, 400)
    return int(text)
