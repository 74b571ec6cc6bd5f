"""Answers on their way to the browser as Server-Sent Events; assets/stream.js applies them.

Each event is one part: `{"part": name, "signature": text or null, "updates": [[id, properties], ...]}`. The signature
is null until the part has all of its answers. `done` ends a stream that has shown every part whole, `cut` one that ends
before, so that the page asks again; `busy` refuses one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import flask
from plotly.io.json import to_json_plotly

from hookscope.dashboard.answers.service import Service, Shown

BUSY = "Hookscope is busy: as many people as it can serve at once are waiting for answers. Trying again in a moment …"


def register(server: flask.Flask, service: Service, path: str) -> None:
    """Serve streams under `path`/NAME."""

    @server.get(f"{path}<name>")
    def stream(name: str) -> flask.Response:
        gone = flask.request.environ.get("waitress.client_disconnected", lambda: False)
        if not service.claim_stream():
            return _response(iter([_event("busy", json.dumps(BUSY))]))
        response = _response(_events(service, name, gone))
        response.call_on_close(_once(service.release_stream))
        return response


def _response(events: Iterator[bytes]) -> flask.Response:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return flask.Response(events, mimetype="text/event-stream", headers=headers)


def _once(act: Callable[[], None]) -> Callable[[], None]:
    left = [act]
    return lambda: left.pop()() if left else None


def _events(service: Service, name: str, gone: Callable[[], bool]) -> Iterator[bytes]:
    for item in service.updates(name, gone):
        if item is None:
            yield b": still here\n\n"
            continue
        if item == "done":
            yield _event("done", "{}")
            return
        yield _event("message", to_json_plotly(message(item)))
    yield _event("cut", "{}")


def message(shown: Shown) -> dict[str, Any]:
    """One part as assets/stream.js takes it."""
    part, updates, signature = shown
    return {"part": part.name, "signature": signature, "updates": updates}


def _event(kind: str, data: str) -> bytes:
    return f"event: {kind}\ndata: {data}\n\n".encode()
