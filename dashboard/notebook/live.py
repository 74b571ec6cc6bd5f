"""The live page for a model that exists only in this process, as `Shown.open` starts it.

The server and the model's worker are threads of the notebook's own process, and the files lie in a temporary folder.
"""

from __future__ import annotations

import contextlib
import io
import re
import secrets
import tempfile
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import torch
import waitress
from torch import Tensor, nn

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.channel import WorkerOutdated
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.notebook.given import Values, device_of
from hookscope.dashboard.notebook.handed import hand_over, take_back
from hookscope.dashboard.notebook.looked import Seen
from hookscope.dashboard.notebook.walls import CHOICES, Look, NotShown
from hookscope.dashboard.notebook.watched import Watch
from hookscope.dashboard.page.reading import Walls
from hookscope.dashboard.page.view import View
from hookscope.dashboard.run import MEGABYTE, WAITRESS
from hookscope.dashboard.sets.store import SetStore
from hookscope.dashboard.sets.stored import Baselines
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.dashboard.settings.address import address, check_port
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.web.server import create_app
from hookscope.dashboard.web.shares import Shares
from hookscope.dashboard.worker.in_thread import WorkerThread
from hookscope.hooks.passes.modes import preserve, unwrap

LOAD_SECONDS = 120.0
LOOP_SECONDS = 1.0
CLOSE_SECONDS = 5.0
CHANGED = "found that the model's weights have changed, and ended"


class LivePage:
    """The page of one model, open until `close`.

    Arguments:
        tensor: the picture that it opens with, as the model takes it. seen, look: the layers, and how they are drawn.
        shown_by: mean and std by which the picture was normalised, where that is known.
        port: to listen on; 0 for a free one.

    Raises:
        NotShown: a sentence; nothing is left running then.
    """

    def __init__(
        self, model: nn.Module, tensor: Tensor, seen: Seen, look: Look, shown_by: tuple[Values, Values], port: int = 0
    ) -> None:
        if problem := check_port("127.0.0.1", port):
            raise NotShown(problem)
        devices = sorted({str(each.device) for each in (*model.parameters(), *model.buffers())})
        if len(devices) > 1:
            raise NotShown(f"The model lies on several devices ({', '.join(devices)}), and the page needs it on one.")
        self._stack = contextlib.ExitStack()
        try:
            self.url = self._start(model, tensor, seen, look, shown_by, port)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop answering, end the worker, remove the files; the model is as it was."""
        self._stack.close()

    def _start(
        self, model: nn.Module, tensor: Tensor, seen: Seen, look: Look, shown_by: tuple[Values, Values], port: int
    ) -> str:
        stack = self._stack
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookscope-", ignore_cleanup_errors=True)))
        mean, std = shown_by
        spec = hand_over(model, settings_of(seen, mean, std))
        stack.callback(take_back, spec)
        name = re.sub(r"[^A-Za-z0-9_.-]", "", seen.model)[:40] or "model"
        settings = Settings(
            cache_dir=folder, models=(f"{name}={spec}",), port=port, token=secrets.token_urlsafe(24), workers=1
        )
        flags, watch = Flags(model), Watch(model)
        stack.callback(flags.put_back)  # after the engine has ended, below

        def start_worker(threads: int, stall_seconds: float) -> WorkerThread:
            return ModelsThread(watch, flags, threads, stall_seconds)

        engine = LocalEngine(options_for(settings), device=str(device_of(model)), start_worker=start_worker)
        stack.callback(engine.close)
        inputs = InputStore(folder / "inputs", settings.inputs_limit_mb * MEGABYTE)
        stack.callback(inputs.close)
        cache = Cache(folder / "answers", settings.cache_limit_mb * MEGABYTE)
        stack.callback(cache.close)
        sets = SetStore(folder / "sets", {}, inputs, limit_bytes=settings.sets_limit_mb * MEGABYTE)
        stack.callback(sets.close)
        sweeps = Sweeps(engine, sets, folder / "sets" / "found", Baselines({}))
        stack.callback(sweeps.close)
        service = Service(engine, cache, inputs, settings.max_streams, sweeps=sweeps)
        stack.callback(service.close)
        app = create_app(settings, service, Shares(folder / "shares"))
        with preserve(unwrap(model)):
            engine.open(name)
            wait_until_loaded(engine, name)
        app.server.before_request(Renewed(engine, name, watch))
        picture = inputs.receive(io.BytesIO(as_file(tensor, mean, std)), None, "picture.npy").key
        stack.enter_context(served(app.server, settings, where := _Port()))
        stack.callback(service.close)  # first of all: pages that wait for answers hold the server's threads
        view = View(model=name, a=picture, layers=tuple(layer.key for layer in seen.layers)).but(**walls(look))
        return f"{address(settings, where.number)}&{view.to_query()}"


class ModelsThread(WorkerThread):
    """A worker for a model that others in this process may change: then it ends, and the next one reads it anew."""

    def __init__(self, watch: Watch, flags: Flags, threads: int, stall_seconds: float) -> None:
        self._watch = watch
        self._flags = flags
        super().__init__(threads, stall_seconds)

    def send(self, message: protocol.ToWorker) -> None:
        """See `engine.channel.Channel`."""
        if isinstance(message, protocol.Load):
            self._flags.remember()
            self._watch.remember()
        elif isinstance(message, protocol.Run) and self._watch.changed():
            raise WorkerOutdated(CHANGED)
        super().send(message)

    def receive(self) -> protocol.Message:
        """See `engine.channel.Channel`; an answer of weights that were changed meanwhile is nobody's."""
        message = super().receive()
        if isinstance(message, protocol.Answered) and self._watch.written():
            raise WorkerOutdated(CHANGED)
        return message

    def wait_for_news(self, wake: int, timeout_seconds: float, *, listen: bool = True) -> bool:
        """See `engine.channel.Channel`."""
        news = super().wait_for_news(wake, timeout_seconds, listen=listen)
        if self._watch.outdated:
            raise WorkerOutdated(CHANGED)
        return news

    def loaded(self) -> None:
        """See `WorkerThread`."""
        self._flags.put_back()  # every look takes the model into evaluation mode for itself


class Renewed:
    """Has the model read anew before a request is answered, where it was changed since it was read.

    What is kept is kept for the weights that the page has read: without this the page would go on to show it.
    """

    def __init__(self, engine: LocalEngine, name: str, watch: Watch) -> None:
        self._engine, self._name, self._watch = engine, name, watch
        self._lock = threading.Lock()

    def __call__(self) -> None:
        """Called before every request; waits until the model is there."""
        with self._lock:
            if self._engine.state(self._name).phase not in ("ready", "computing") or not self._is_changed():
                return
            self._watch.outdated = True
            self._engine.wake()
            deadline = time.monotonic() + LOAD_SECONDS
            while time.monotonic() < deadline:
                if not self._watch.outdated and self._engine.state(self._name).phase not in ("loading", "restarting"):
                    return
                time.sleep(0.01)

    def _is_changed(self) -> bool:
        # while the model is looked at its buffers may have other values for a moment
        busy = self._engine.state(self._name).phase == "computing"
        return self._watch.written() if busy else self._watch.changed()


class Flags:
    """The training flag of every module, put back as soon as the page has read the model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = unwrap(model)
        self.remember()

    def remember(self) -> None:
        self._flags = [(module, module.training) for module in self._model.modules()]

    def put_back(self) -> None:
        for module, training in self._flags:
            module.training = training
        self._flags = []


def settings_of(seen: Seen, mean: Values, std: Values) -> dict[str, Any]:
    """What the page has to know of the model: pictures are given in the size of the one that is there."""
    found: dict[str, Any] = {
        "title": seen.model,
        "weights": "As they are in this process.",
        "input_size": tuple(seen.shape[2:]),
        "resize": min(seen.shape[2:]),  # which leaves the picture that it was given as it is
        "mean": 0.0 if mean is None or std is None else mean,
        "std": 1.0 if mean is None or std is None else std,
    }
    return found | ({"classes": seen.classes} if seen.classes else {})


def as_file(tensor: Tensor, mean: Values, std: Values) -> bytes:
    """The picture as a .npy file of float32 (channel, height, width), before it was normalised where that is known."""
    values = tensor[0].detach().cpu().double()
    if mean is not None and std is not None:
        scale, shift = (torch.as_tensor(each, dtype=torch.float64).reshape(-1, 1, 1) for each in (std, mean))
        values = values * scale + shift
    file = io.BytesIO()
    np.save(file, values.float().numpy(), allow_pickle=False)
    return file.getvalue()


def walls(look: Look) -> dict[str, str]:
    """How walls are drawn, as far as the page's address can say it."""
    count = look.count if look.count in CHOICES["count"] else Walls().count
    return {"rank": look.rank, "scale": look.scale, "colours": look.colours, "count": count}


def wait_until_loaded(engine: LocalEngine, name: str) -> None:
    """Wait for the model's worker.

    Raises:
        NotShown: why the page cannot read the model.
    """
    deadline = time.monotonic() + LOAD_SECONDS
    while engine.info(name) is None:
        state = engine.state(name)
        if state.phase == "failed" or time.monotonic() > deadline:
            raise NotShown(f"The page cannot read this model. {state.sentence}")
        time.sleep(0.02)


class _Port:
    number = 0


@contextlib.contextmanager
def served(application: Any, settings: Settings, where: _Port) -> Any:
    """Answer requests from a thread, on this computer only; `where` is told the port."""
    server = waitress.create_server(application, host=settings.host, port=settings.port, **WAITRESS)
    where.number = server.effective_port
    stop = threading.Event()

    def run() -> None:  # server.run() is for a process of its own: it ends by a signal only
        while not stop.is_set():
            server.asyncore.loop(timeout=LOOP_SECONDS, map=server._map, count=1)

    thread = threading.Thread(target=run, name="hookscope page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        server.trigger.pull_trigger()
        thread.join(CLOSE_SECONDS)
        server.task_dispatcher.shutdown(timeout=CLOSE_SECONDS)
        for channel in list(server._map.values()):
            if hasattr(channel, "outbufs"):
                channel.handle_close()  # which closes the file that a large answer may wait in
        server.asyncore.close_all(server._map)


def open_browser(url: str) -> None:
    """Open the address in this computer's browser, beside whatever runs here; where there is none nothing happens."""
    threading.Thread(target=webbrowser.open, args=(url,), name="browser", daemon=True).start()
