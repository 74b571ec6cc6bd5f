"""The real server process: what it says when it starts, how fast it stops, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import requests
from PIL import Image
from served import ROOT, Application, until
from tempo import limit

from hookscope.dashboard.run import _says_more_than_closed

LAYERS = [f"blocks.{block}.{place}" for block in range(1, 6) for place in range(2)] + ["blocks.6", "conv_head", "bn2"]


class Server(Application):
    """The application in a folder of its own, with its own folder for temporary files."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.port = 0
        super().__init__(folder / "cache", *arguments)
        self.port = int(re.findall(r":(\d+)/", self.url)[0])
        self.pid = self.process.pid
        self.known = [psutil.Process(self.pid)]

    def processes(self) -> list[psutil.Process]:
        """The server and everything that it has started so far."""
        self.known += [each for each in self.known[0].children(recursive=True) if each not in self.known]
        return self.known

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; returns after how many seconds the server was gone."""
        self.processes()
        begun = time.monotonic()
        self.process.send_signal(number)
        _, self.errors = self.process.communicate(timeout=20)
        return time.monotonic() - begun

    def left(self) -> list[str]:
        """What is still there of a server that has ended."""
        found = [f"process {each.pid}" for each in self.known if alive(each)]
        found += files_left(self.folder)
        with socket.socket() as probe:
            if self.port and probe.connect_ex(("127.0.0.1", self.port)) == 0:
                found.append(f"port {self.port}")
        return found


def files_left(folder: Path) -> list[str]:
    """Uploads in progress and temporary files."""
    found = [path for part in ("cache/inputs/incoming", "tmp") for path in (folder / part).glob("*")]
    # torch makes this folder for its user as soon as it is imported, uses it again, and puts nothing into it
    return [str(path) for path in found if not (path.name.startswith("torchinductor_") and not any(path.iterdir()))]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the server's files; its temporary files are in there too, and so can be counted."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """A server whose model is ready."""
    started = Server(folder)
    until(lambda: state(started)["fingerprint"], what="for the model")
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.communicate(timeout=20)


def state(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{server.url}state?model=embedded", timeout=10).json()
    return found


def ask(server: Server, page: str = "page", **view: Any) -> str:
    """Ask as the page does when its view has changed; returns the address of the stream."""
    asked = {"view": {"model": "embedded"} | view, "page": page, "drawn": {}, "mounted": 1, "width": 900, "number": 1}
    answer = requests.post(f"{server.url}ask", json=asked, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(server.url.rstrip("/") + answer.json()["stream"])


class Watcher(threading.Thread):
    """Somebody who reads a stream until it ends."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.events: list[str] = []
        self.address = address
        self.start()

    def run(self) -> None:
        try:
            # by what arrives: a byte at a time, half a megabyte takes longer than the test waits for its end
            for line in requests.get(self.address, stream=True, timeout=30).iter_lines(chunk_size=None):
                if line.startswith(b"event: "):
                    self.events.append(line.decode().removeprefix("event: "))
        except requests.RequestException:  # the server went before it had said "done"
            pass


def imports_torch(process: psutil.Process) -> bool:
    return any("libtorch" in Path(each.path).name for each in process.memory_maps())


def test_a_signal_ends_it_in_two_seconds_with_a_stream_open_and_a_job_running(server: Server) -> None:
    allowed = limit(2)  # as busy as the machine is before it, or after it
    stream = ask(server, a="sample-coffee", b="sample-chelsea", layers=LAYERS)
    watcher = Watcher(stream)
    until(lambda: state(server)["phase"] == "computing" and watcher.events)
    me, *others = server.processes()
    assert others and not imports_torch(me) and any(imports_torch(each) for each in others)
    seconds = server.end(signal.SIGTERM)
    print(f"gone after {seconds:.2f} s")
    assert "done" not in watcher.events[:-1]
    assert server.process.returncode == 0 and server.left() == []
    assert "Traceback" not in server.errors
    watcher.join(5)
    assert not watcher.is_alive()
    assert seconds < max(allowed, limit(2))


def test_ctrl_c_ends_it_in_two_seconds_with_streams_open_and_the_model_loading(folder: Path) -> None:
    server = Server(folder)
    watchers = [Watcher(ask(server, page=f"page {n}", a="sample-coffee", layers=["conv_head"])) for n in range(5)]
    until(lambda: all(watcher.events for watcher in watchers))
    seconds = server.end(signal.SIGINT)
    print(f"gone after {seconds:.2f} s")
    assert server.process.returncode == 0 and server.left() == []
    assert "Traceback" not in server.errors and seconds < limit(2)


def test_a_signal_ends_it_in_two_seconds_while_a_picture_is_being_read(folder: Path) -> None:
    allowed = limit(2)  # as busy as the machine is before it, or after it
    server = Server(folder)
    large = io.BytesIO()
    tile = np.random.default_rng(7).integers(0, 256, (500, 500, 3), np.uint8)
    Image.fromarray(np.tile(tile, (14, 14, 1))).save(large, "JPEG", quality=40)  # takes the decoder some seconds
    sent = threading.Thread(target=post, args=(f"{server.url}upload?name=large.jpg", large.getvalue()), daemon=True)
    before = len(server.processes())
    sent.start()
    until(lambda: len(server.processes()) > before, 10, "for the decoder")
    seconds = server.end()
    print(f"gone after {seconds:.2f} s")
    assert server.process.returncode == 0 and server.left() == []
    assert "Traceback" not in server.errors
    sent.join(5)
    assert seconds < max(allowed, limit(2))


def post(address: str, body: bytes) -> None:
    try:
        requests.post(address, data=body, timeout=30)
    except requests.RequestException:  # the server went
        pass


@pytest.mark.parametrize("times", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_starts_and_stops_leave_nothing(folder: Path, times: int) -> None:
    """Each is stopped as soon as it has said where it is, while its worker is still loading."""
    for attempt in range(times):
        server = Server(folder)
        seconds = server.end(signal.SIGINT if attempt % 2 else signal.SIGTERM)
        assert server.process.returncode == 0, f"at attempt {attempt}: {server.errors}"
        assert seconds < limit(2) and server.left() == []
        assert "Traceback" not in server.errors
    files = [path.name for path in (folder / "cache").rglob("*") if path.is_file()]
    assert len(files) <= 3  # the database of the cache


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("seconds", [0.2, 0.4, 0.7, 1.0])
def test_a_signal_while_it_starts_leaves_nothing_either(folder: Path, seconds: float, number: signal.Signals) -> None:
    command = [sys.executable, "app.py", "--port", "0", "--cache-dir", str(folder / "cache")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(seconds)
            known = [psutil.Process(process.pid)]
            known += known[0].children(recursive=True)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()  # whatever went wrong, its pipes are no later test's
    until(lambda: not any(alive(each) for each in known), 5)
    assert "Traceback" not in errors
    assert files_left(folder) == []


AMONG_FILES = """
import os, signal, sys
from pathlib import Path
from hookscope.dashboard.inputs import store
from hookscope.dashboard.run import run
from hookscope.dashboard.settings.table import Settings

real = store.Decoder

def interrupted(*given):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):  # the signal's handler is called here
        pass
    return real(*given)

store.Decoder = interrupted  # which is made when the folder for uploads is there, and before anybody is told
run(Settings(cache_dir=Path(sys.argv[1]), port=0))
"""


@pytest.mark.parametrize(("number", "told"), [(errno.EBADF, False), (errno.EPIPE, True), (None, True)])
def test_a_socket_that_is_closed_at_the_end_is_no_fault(number: int | None, told: bool) -> None:
    error = ValueError("another") if number is None else OSError(number, "")
    assert _says_more_than_closed(logging.LogRecord("", 40, "", 1, "", (), (type(error), error, None))) is told


def test_a_signal_while_folders_are_made_leaves_none(folder: Path) -> None:
    command = [sys.executable, "-c", AMONG_FILES, str(folder / "cache")]
    ran = subprocess.run(command, cwd=ROOT / "src", capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr, ran.stderr
    assert (folder / "cache/inputs/incoming").is_dir() and files_left(folder) == []


DROPPED = """
import os, signal, sys, time, weakref
from hookscope.dashboard.stopping import stopped_by_signals

class Thing:
    pass

def dropped(_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # the signal's handler is called here, and Python drops what it raises
        pass

thing = Thing()
watched = weakref.ref(thing, dropped)
with stopped_by_signals() as stop:
    stop.append(lambda: print("stopped", flush=True))
    del thing
    print("went on", flush=True)
    time.sleep(30)
"""


def test_a_signal_ends_it_even_where_python_drops_the_exception() -> None:
    begun = time.monotonic()
    command = [sys.executable, "-c", DROPPED]
    ran = subprocess.run(command, cwd=ROOT / "src", capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0 and ran.stdout.split("\n")[:2] == ["stopped", "went on"], ran.stderr
    assert time.monotonic() - begun < limit(5)


def test_a_second_signal_does_not_interrupt_the_stop(folder: Path) -> None:
    server = Server(folder)
    server.processes()
    for _ in range(20):
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, errors = server.process.communicate(timeout=20)
    assert server.process.returncode == 0 and "Traceback" not in errors
    assert server.left() == []


# --- what is said in place of a start


def refused(folder: Path, *arguments: str) -> str:
    """Start with arguments that cannot work; gives the sentence."""
    command = [sys.executable, "app.py", "--cache-dir", str(folder / "cache"), *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2, ran.stderr
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr and len(ran.stderr.strip().splitlines()) == 1
    return ran.stderr.strip()


def test_a_taken_port_is_a_sentence_and_exit_code_2(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert re.fullmatch(rf"Port {port} is taken: start with --port \d+\.", refused(folder, "--port", str(port)))
    assert not (folder / "cache").exists()  # nothing was made for a server that never was


def test_a_cache_folder_that_cannot_be_is_a_sentence_and_exit_code_2(folder: Path) -> None:
    (folder / "file").write_text("in the way")
    sentence = refused(folder, "--port", "0", "--cache-dir", str(folder / "file" / "cache"))
    assert str(folder / "file" / "cache") in sentence and "--cache-dir" in sentence


def test_settings_that_contradict_each_other_are_a_sentence_and_exit_code_2(folder: Path) -> None:
    assert "write whose it is" in refused(folder, "--model", "a:b", "--model", "c:d", "--mean", "0.5")


# --- switches in the environment


def test_no_console_can_be_switched_on_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DASH_DEBUG", "DASH_UI", "DASH_HOT_RELOAD", "DASH_PROPS_CHECK", "DASH_SERVE_DEV_BUNDLES", "DASH_MCP"):
        monkeypatch.setenv(name, "true")
    for name in ("FLASK_DEBUG", "FLASK_ENV", "WERKZEUG_DEBUG_PIN", "DASH_SILENCE_ROUTES_LOGGING", "DASH_MCP_ENABLED"):
        monkeypatch.setenv(name, "1")
    server = Server(folder)
    listening = [each.laddr.ip for each in server.known[0].net_connections("inet") if each.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]
    assert not [each for each in server.processes()[1:] if "app.py" in each.cmdline()]  # no reloader
    try:
        index = requests.get(server.url, timeout=10).text
        config = re.search(r'id="_dash-config"[^>]*>(.*?)</script>', index, re.DOTALL)
        assert config and not json.loads(config[1]).get("ui") and "hot_reload" not in json.loads(config[1])
        assert "dash_renderer.dev" not in index
        for path in ("?__debugger__=yes&cmd=resource&f=debugger.js", "console", "_dash-dev-tools", "_mcp", "mcp"):
            text = requests.get(server.url + path, timeout=10).text.lower()
            assert "evalex" not in text and "werkzeug debugger" not in text and "jsonrpc" not in text
        for method in ("post", "get"):
            assert "jsonrpc" not in getattr(requests, method)(server.url + "_mcp", json={}, timeout=10).text
        broken = requests.post(f"{server.url}_dash-update-component", json={"output": "nonsense"}, timeout=10)
        assert broken.status_code == 400
        assert not re.search(r"Traceback|EVALEX|/dashboard/|\.py", broken.text)
    finally:
        server.end()


def test_the_address_that_is_printed_opens_the_page(folder: Path) -> None:
    server = Server(folder, "--url-prefix", "/look", "--host", "localhost")
    try:
        assert re.fullmatch(r"http://localhost:\d+/look/", server.url)
        assert "Hookscope" in requests.get(server.url, timeout=10).text
        assert requests.get(server.url.replace("/look/", "/healthz"), timeout=10).text == "ok\n"
    finally:
        seconds = server.end()
    assert seconds < limit(2) and server.process.returncode == 0 and server.left() == []
