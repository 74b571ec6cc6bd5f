"""The web application around an inline engine, and a waitress to serve it in the test's own process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dash
import waitress
from inline_engine import MODEL, InlineEngine
from tempo import limit

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.run import WAITRESS
from hookscope.dashboard.sets.store import SetStore
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.web.server import create_app
from hookscope.dashboard.web.shares import Shares


class InlineApp:
    """Everything that a server consists of, in a folder of its own; with sets of pictures where some are offered."""

    def __init__(
        self,
        folder: Path,
        engine: InlineEngine | None = None,
        offered: dict[str, Path] | None = None,
        feeds: dict[str, Path] | None = None,
        **settings: Any,
    ) -> None:
        self.engine = engine or InlineEngine(at_once=True)
        self.settings = Settings(cache_dir=folder, models=(MODEL,), **settings)
        self.cache = Cache(folder / "answers", 2**26)
        self.inputs = InputStore(
            folder / "inputs",
            2**26,
            max_upload_bytes=self.settings.max_upload_mb * 1_000_000,
            decode_timeout_seconds=10,
        )
        self.sweeps: Sweeps | None = None
        if offered is not None:
            room = self.settings.sets_limit_mb * 1_000_000
            sets = SetStore(folder / "sets", offered, self.inputs, limit_bytes=room)
            self.sweeps = Sweeps(self.engine, sets, folder / "sets" / "found")
        self.service = Service(
            *(self.engine, self.cache, self.inputs, self.settings.max_streams),
            sweeps=self.sweeps,
            feeds=None if feeds is None else Feeds(feeds),
        )
        self.shares = Shares(folder / "shares")
        self.dash: dash.Dash = create_app(self.settings, self.service, self.shares)
        self.client = self.dash.server.test_client()

    def close(self) -> None:
        """Stop what the application started."""
        self.service.close()
        if self.sweeps is not None:
            self.sweeps.close()
            self.sweeps.store.close()
        self.engine.close()
        self.inputs.close()
        self.cache.close()


@contextlib.contextmanager
def served(app: InlineApp) -> Iterator[int]:
    """Serve on a free port of this computer, as `hookscope.dashboard.run` does; gives the port."""
    server = waitress.create_server(app.dash.server, host="127.0.0.1", port=0, **WAITRESS)
    stop = threading.Event()

    def run() -> None:  # server.run() ends by a signal only, which the test's own process is not to get
        while not stop.is_set():
            server.asyncore.loop(timeout=1.0, map=server._map, count=1)

    thread = threading.Thread(target=run, name="waitress", daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        app.service.close()
        stop.set()
        server.trigger.pull_trigger()
        thread.join(5)
        server.task_dispatcher.shutdown(timeout=5)
        for channel in list(server._map.values()):
            if hasattr(channel, "outbufs"):
                channel.handle_close()  # unlike close_all it closes the file that a large answer to a browser is put in
        server.asyncore.close_all(server._map)


class Connection:
    """A bare HTTP/1.1 connection, to see when each byte comes and to break off as a closed tab does."""

    def __init__(self, port: int, path: str, method: str = "GET", body: bytes = b"", headers: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{headers}\r\n"
        self.socket.sendall(head.encode() + body)
        self.received = b""

    def until(self, part: bytes) -> bytes:
        """Read until a text is there; returns everything so far."""
        while part not in self.received:
            chunk = self.socket.recv(65536)
            assert chunk, f"the server closed the connection after {self.received[-500:]!r}"
            self.received += chunk
        return self.received

    def close(self) -> None:
        """Go away."""
        self.socket.close()


def until(ready: Callable[[], Any], seconds: float = 5.0) -> float:
    """Wait until something is true; returns how long it took."""
    begun = time.monotonic()
    while not ready():
        took = time.monotonic() - begun
        assert took < seconds or took < limit(seconds), "it did not happen"
        time.sleep(0.002)
    return time.monotonic() - begun
