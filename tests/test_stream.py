"""Answers on their way to the browser: the events themselves, and who may open how many of them for how long."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import numpy as np
import plotly.graph_objects as go
import pytest
from dash import html
from inline_app import Connection, InlineApp, served, until
from inline_engine import MODEL, InlineEngine
from tempo import limit
from units import unit_of

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.web.stream import BUSY

CONV = unit_of(MODEL, "digest", "activation", "conv")
WIDE = unit_of(MODEL, "digest", "activation", "wide")
NASTY = "</script><b>\n\ndata: forged\r\nevent: done\u2028\x00é😀"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path, InlineEngine())
    yield made
    made.close()


def part(name: str, *units: Unit, shown: Any = None) -> Part:
    def draw(answers: Answers) -> list[Update]:
        return [({"type": "card-wall", "card": 0}, {"children": shown if shown is not None else len(answers)})]

    return Part(name, units, (), draw)


def ask(app: InlineApp, *parts: Part, page: str = "page") -> str:
    """Ask, and give the path of the stream."""
    return "/stream/" + app.service.ask(page, parts, {})


def events(text: bytes) -> list[tuple[str, Any]]:
    """The events of a stream, read as a browser reads them: blank lines end events, "data" lines are joined."""
    found = []
    for block in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        fields = [line.partition(":") for line in block.split("\n") if line and not line.startswith(":")]
        values = {name: value.removeprefix(" ") for name, _, value in fields}
        data = "\n".join(value.removeprefix(" ") for name, _, value in fields if name == "data")
        if values:
            found.append((values.get("event", "message"), json.loads(data)))
    return found


# --- the events


def test_a_stream_is_one_event_per_region_and_done(app: InlineApp) -> None:
    path = ask(app, part("one", CONV), part("two"))
    app.engine.work()
    answer = app.client.get(path)
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Accel-Buffering"] == "no"
    wall = {"type": "card-wall", "card": 0}
    assert events(answer.data) == [
        ("message", {"part": "two", "signature": part("two").signature(), "updates": [[wall, {"children": 0}]]}),
        ("message", {"part": "one", "signature": part("one", CONV).signature(), "updates": [[wall, {"children": 1}]]}),
        ("done", {}),
    ]


def test_components_figures_and_odd_text_arrive_whole(app: InlineApp) -> None:
    figure = go.Figure(go.Heatmap(z=np.array([[1.5, np.nan]], np.float32)), layout={"template": None})
    shown = [html.Span(NASTY, title=NASTY), figure, NASTY]
    ((_, message), (kind, _)) = events(app.client.get(ask(app, part("one", shown=shown))).data)
    span, drawn, text = message["updates"][0][1]["children"]
    assert kind == "done"
    assert span["type"] == "Span" and span["props"] == {"children": NASTY, "title": NASTY} and text == NASTY
    assert set(drawn["data"][0]["z"]) == {"dtype", "bdata", "shape"}  # binary, not a list of numbers


def test_nothing_in_a_message_can_look_like_another_event(app: InlineApp) -> None:
    body = app.client.get(ask(app, part(NASTY, shown=NASTY))).data
    assert [kind for kind, _ in events(body)] == ["message", "done"]
    assert body.count(b"\n\n") == 2 and b"\r" not in body


def test_a_wrong_name_gets_nothing_but_the_end_and_leaves_the_stream_to_its_page(app: InlineApp) -> None:
    path = ask(app, part("one"))
    name = path.rsplit("/", 1)[1]
    for wrong in (name[:-1], name + "a", name.swapcase(), "page", "%2e%2e", "0"):
        assert events(app.client.get(f"/stream/{wrong}").data) == [("cut", {})]
    assert [kind for kind, _ in events(app.client.get(path).data)] == ["message", "done"]
    assert [kind for kind, _ in events(app.client.get(path).data)] == ["cut"]  # and once only


# --- over a real server


class Visitors:
    """Opens connections to a served application; all of them are closed when the test is over."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections: list[Connection] = []

    def visit(self, path: str, method: str = "GET") -> Connection:
        """Ask for a path."""
        self.connections.append(Connection(self.port, path, method))
        return self.connections[-1]

    def stream(self, path: str) -> Connection:
        """Open a stream and wait until its first event is there."""
        connection = self.visit(path)
        connection.until(b"event: ")
        return connection

    def close(self) -> None:
        """Everybody goes."""
        for connection in self.connections:
            connection.close()


@pytest.fixture
def visitors(app: InlineApp) -> Iterator[Visitors]:
    with served(app) as port:
        found = Visitors(port)
        yield found
        found.close()


def test_each_answer_arrives_as_soon_as_it_is_there(app: InlineApp, visitors: Visitors) -> None:
    connection = visitors.stream(ask(app, part("one", CONV), part("two", WIDE)))
    delays = []
    for _ in range(2):
        seen = connection.received.count(b"event: message")
        begun = time.monotonic()
        app.engine.work(1)
        while read(connection).count(b"event: message") == seen:
            assert time.monotonic() - begun < limit(5)
        delays.append(time.monotonic() - begun)
    connection.until(b"event: done")
    assert max(delays) < 0.25, delays  # far below the time after which a stream looks around by itself


def read(connection: Connection) -> bytes:
    """What has arrived by now."""
    connection.socket.settimeout(0.01)
    try:
        connection.received += connection.socket.recv(65536)
    except TimeoutError:
        pass
    connection.socket.settimeout(10)
    return connection.received


def test_asking_for_the_head_reads_nothing_and_takes_no_place(app: InlineApp, visitors: Visitors) -> None:
    path = ask(app, part("one"))
    for _ in range(50):
        visitors.visit(path, "HEAD").until(b"\r\n\r\n")
    until(lambda: app.service._open._value == 40)
    assert b"event: message" in visitors.visit(path).until(b"event: done")


def test_a_fault_in_a_stream_gives_its_place_back(
    app: InlineApp, visitors: Visitors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str, gone: Any) -> Iterator[None]:
        yield None
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(app.service, "updates", broken)
    for _ in range(50):
        visitors.visit("/stream/x").until(b"still here")
    until(lambda: app.service._open._value == 40)
    assert "a fault of ours" in caplog.text


def test_a_newer_question_ends_the_older_stream_at_once(app: InlineApp, visitors: Visitors) -> None:
    old = visitors.stream(ask(app, part("one", CONV)))
    begun = time.monotonic()
    path = ask(app, part("one", WIDE))
    old.until(b"event: cut")
    assert time.monotonic() - begun < limit(0.2)
    new = visitors.stream(path)
    app.engine.work()
    new.until(b"event: done")
    assert app.engine.computed == [WIDE]


def test_a_closed_tab_is_noticed_quickly_and_its_work_withdrawn(app: InlineApp, visitors: Visitors) -> None:
    """Waitress has to look ahead on the connection for that; without, it notices at the next ping, seconds later."""
    delays = []
    for n in range(5):
        connection = visitors.stream(ask(app, part("one", unit_of(MODEL, f"{n}", "activation", "conv")), page=f"{n}"))
        assert app.engine.waiting_slots() == 1
        connection.close()
        delays.append(until(lambda: app.engine.waiting_slots() == 0))
    print(f"a closed tab was noticed after {', '.join(f'{delay:.3f}' for delay in delays)} s")
    assert max(delays) < 0.6, delays
    assert app.engine.work() == []


def test_forty_streams_are_open_at_most_and_the_next_is_told_so_at_once(app: InlineApp, visitors: Visitors) -> None:
    units = [unit_of(MODEL, f"{n}", "activation", "conv") for n in range(41)]
    paths = [ask(app, part("one", unit), page=f"page {n}") for n, unit in enumerate(units)]
    connections = [visitors.stream(path) for path in paths[:40]]
    begun = time.monotonic()
    refused = visitors.visit(paths[40])
    refused.until(b"event: busy\ndata: " + json.dumps(BUSY).encode())
    assert time.monotonic() - begun < limit(0.5)
    # everything else is still served, and a place that becomes free is given to the one who was refused
    plain = visitors.visit("/healthz")
    plain.until(b"ok\n")
    connections[7].close()
    until(lambda: app.engine.waiting_slots() == 40)
    again = visitors.stream(paths[40])
    app.engine.work()
    again.until(b"event: done")
    for number, connection in enumerate(connections):
        if number != 7:
            connection.until(b"event: done")
    visitors.close()
    until(lambda: app.service._open._value == 40)


def test_the_operator_may_allow_fewer_streams(tmp_path: Path) -> None:
    app = InlineApp(tmp_path / "two", InlineEngine(), max_streams=1)
    with served(app) as port:
        visitors = Visitors(port)
        first = visitors.stream(ask(app, part("one", CONV), page="first"))
        second = visitors.visit(ask(app, part("one", WIDE), page="second"))
        second.until(b"event: busy")
        app.engine.work()
        first.until(b"event: done")
        visitors.close()
    app.close()


def test_a_reader_that_reads_nothing_does_not_hold_up_the_others(app: InlineApp, visitors: Visitors) -> None:
    heavy = "x" * 3_000_000
    silent = visitors.visit(ask(app, part("one", CONV, shown=heavy), page="silent"))
    time.sleep(0.2)
    other = visitors.stream(ask(app, part("one", WIDE), page="other"))
    begun = time.monotonic()
    app.engine.work()
    other.until(b"event: done")
    assert time.monotonic() - begun < limit(0.5)
    silent.close()
    until(lambda: app.service._open._value == 40, 10)


def test_stopping_ends_open_streams(app: InlineApp, visitors: Visitors) -> None:
    connections = [visitors.stream(ask(app, part("one", CONV), page=f"{n}")) for n in range(10)]
    begun = time.monotonic()
    app.service.close()
    for connection in connections:
        connection.until(b"event: cut")
    assert time.monotonic() - begun < limit(0.6)


def test_every_browser_connection_is_a_thread_that_comes_back(app: InlineApp, visitors: Visitors) -> None:
    before = set(threading.enumerate())
    for n in range(30):
        connection = visitors.stream(ask(app, part("one", CONV), page=f"{n}"))
        connection.close()
    until(lambda: app.service._open._value == 40)
    assert not set(threading.enumerate()) - before


def test_a_stream_is_served_with_the_headers_of_every_answer(app: InlineApp) -> None:
    answer: flask.Response = app.client.get(ask(app, part("one")))  # type: ignore[assignment]
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    foreign = app.client.get(ask(app, part("one")), headers={"Origin": "http://evil.example"})
    assert foreign.status_code == 403
