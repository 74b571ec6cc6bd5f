"""A Dash application in a process of its own, on a free port, with a temporary cache that goes when it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0
STOP_SECONDS = 20.0


class Application:
    """A running program that printed its address.

    with hookscope("--model", "torchvision:resnet50@random") as application:
        urllib.request.urlopen(application.url)
    """

    def __init__(self, *command: str) -> None:
        """Start `python COMMAND...` and wait for its address."""
        self._folder = tempfile.TemporaryDirectory(prefix="hookscope-bench-")
        # its own variables would change what is measured; and a pipe that nobody reads would fill and block it
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOOKSCOPE_")}
        environment["XDG_CACHE_HOME"] = self._folder.name
        self._output = Path(self._folder.name) / "output.txt"
        began = time.perf_counter()
        with self._output.open("wb") as output:
            self.process = psutil.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            self.url = until(self._address, START_SECONDS, "for the application's address", pause=0.005)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.perf_counter() - began
        self.began = began

    def _address(self) -> str:
        text = self._output.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"http://\S+(?=\s)", text)
        if found is None and self.process.poll() is not None:
            raise RuntimeError(f"The application did not start: {text.strip()}")
        return found[0] if found else ""

    def __enter__(self) -> Application:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    @property
    def server(self) -> psutil.Process:
        """The process that serves the page."""
        return self.process

    @property
    def worker(self) -> psutil.Process:
        """The process that runs the model."""
        return next(
            child for child in self.process.children() if "hookscope.dashboard.worker" in " ".join(child.cmdline())
        )

    def state(self, model: str) -> dict[str, Any]:
        """What Hookscope's header polls: the worker's phase, its model's fingerprint, and the live hooks."""
        address = f"{self.url}state?model={urllib.parse.quote(model)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return dict(json.loads(answer.read()))

    def wait_for_model(self, model: str, seconds: float = 180.0) -> float:
        """Wait until a model is loaded; returns the seconds since the start."""

        def ready() -> bool:
            state = self.state(model)
            if state["phase"] == "failed":
                raise RuntimeError(f"The model was not loaded: {state['sentence']}")
            return bool(state["fingerprint"])

        until(ready, seconds, f"for {model}")
        return time.perf_counter() - self.began

    def upload(self, data: bytes) -> str:
        """Send a picture as Hookscope's page does; returns the key of the input."""
        with urllib.request.urlopen(f"{self.url}upload?name=coffee.png", data=data, timeout=60) as answer:
            return str(json.loads(answer.read())["key"])

    def stop(self) -> float:
        """End it as Ctrl+C does, and whatever is left of it by force; returns how long it took, in seconds."""
        began = time.perf_counter()
        family = [self.process, *_children(self.process)]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        psutil.wait_procs(family, timeout=STOP_SECONDS)
        took = time.perf_counter() - began
        for process in family:
            if process.is_running():
                process.kill()
        self._folder.cleanup()
        return took


def hookscope(*arguments: str) -> Application:
    """The real application: `app.py` with a port of its own."""
    return Application("app.py", "--port", "0", *arguments)


def _children(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def until(ready: Callable[[], Any], seconds: float, what: str, pause: float = 0.02) -> Any:
    """Wait until something is true; returns what it is."""
    deadline = time.monotonic() + seconds
    while True:
        if value := ready():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:.0f} s in vain {what}.")
        time.sleep(pause)
