"""The live page for a model that exists only in this process, as `Shown.open` starts it.

The server and the model's worker are threads of the notebook's own process, and the files lie in a temporary folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dash
import numpy as np
import torch
import waitress
from dash import _get_app
from torch import Tensor, nn

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.sides import AS_WANTED, Preparation
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.channel import WorkerOutdated
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.inputs.axes import decide
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.notebook.given import Told, device_of
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
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import MOST_CHANNELS
from hookscope.dashboard.web.server import create_app
from hookscope.dashboard.web.shares import Shares
from hookscope.dashboard.worker.in_thread import WorkerThread
from hookscope.hooks.passes import traces
from hookscope.hooks.passes.modes import preserve, unwrap
from hookscope.hooks.passes.traces import attributes_kept, lend

HOST = "127.0.0.1"
LOAD_SECONDS = 120.0
LOOP_SECONDS = 1.0
CLOSE_SECONDS = 5.0
CHANGED = "found that the model's weights have changed, and ended"


class LivePage:
    """The page of one model, open until `close`.

    Arguments:
        seen: a view of it. shown_by: mean and std by which its picture was normalised, where that is known.
        port: to listen on; 0 for a free one.

    Attributes:
        inner: the model, unwrapped. port: that it listens on.

    Raises:
        NotShown: a sentence; nothing is left running then.
    """

    def __init__(self, model: nn.Module, seen: Seen, shown_by: tuple[Told, Told], port: int = 0) -> None:
        self.inner = unwrap(model)
        self._device = device_of(model)
        self._told = settings_of(seen, *shown_by)
        self._pictures: dict[bytes, str] = {}  # digest of a file -> its key: the same view has the same address
        self._stack = contextlib.ExitStack()
        try:
            self._start(model, seen.model, port)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop answering, end the worker, remove the files; the model is as it was."""
        self._stack.close()

    def serves(self, told: dict[str, Any], port: int) -> bool:
        """Whether a view that needs this said of its model can be shown here.

        Arguments:
            told: see `settings_of`. port: that it has to listen on; 0 for any.
        """
        well = self._engine.state(self._name).phase != "failed" and self._device == device_of(self.inner)
        return well and told == self._told and port in (0, self.port)

    def address_of(self, tensor: Tensor, seen: Seen, look: Look, shown_by: tuple[Told, Told]) -> str:
        """The whole address of a view: its picture, its layers, and how they are drawn.

        Arguments:
            tensor: the picture, as the model takes it.
        """
        file = as_file(tensor, *shown_by)
        digest = hashlib.sha256(file).digest()
        picture = self._pictures.get(digest, "")
        if not picture or self._inputs.get(picture) is None:
            picture = self._pictures[digest] = self._inputs.receive(io.BytesIO(file), None, "picture.npy").key
        channels, _, width = tensor.shape[1:]
        told = decide((channels, 0, width), channels) is not None  # which of its axes are the channels
        view = View(
            model=self._name,
            a=picture,
            prepare_a=AS_WANTED if told else Preparation(axes="channels-first"),
            layers=tuple(layer.key for layer in seen.layers),
        ).but(**walls(look))
        return f"{address(self._settings, self.port)}&{view.to_query()}"

    def _start(self, model: nn.Module, title: str, port: int) -> None:
        stack = self._stack
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookscope-", ignore_cleanup_errors=True)))
        spec = hand_over(model, self._told)
        stack.callback(take_back, spec)
        lend(self.inner)
        stack.callback(traces.take_back, self.inner)
        self._name = name = re.sub(r"[^A-Za-z0-9_.-]", "", title)[:40] or "model"
        self._settings = settings = Settings(
            cache_dir=folder, models=(f"{name}={spec}",), port=port, token=secrets.token_urlsafe(24), workers=1
        )
        before, watch = Before(model), Watch(model)
        stack.callback(before.put_back)  # after the engine has ended, below

        def start_worker(threads: int, stall_seconds: float) -> WorkerThread:
            return ModelsThread(model, watch, before, threads, stall_seconds)

        self._engine = engine = LocalEngine(options_for(settings), device=str(self._device), start_worker=start_worker)
        stack.callback(engine.close)
        self._inputs = inputs = InputStore(folder / "inputs", settings.inputs_limit_mb * MEGABYTE)
        stack.callback(inputs.close)
        cache = Cache(folder / "answers", settings.cache_limit_mb * MEGABYTE)
        stack.callback(cache.close)
        sets = SetStore(folder / "sets", {}, inputs, limit_bytes=settings.sets_limit_mb * MEGABYTE)
        stack.callback(sets.close)
        sweeps = Sweeps(engine, sets, folder / "sets" / "found", Baselines({}))
        stack.callback(sweeps.close)
        service = Service(engine, cache, inputs, settings.max_streams, sweeps=sweeps)
        stack.callback(service.close)
        app = stack.enter_context(known_to_dash(lambda: create_app(settings, service, Shares(folder / "shares"))))
        engine.open(name)
        wait_until_loaded(engine, name)
        app.server.before_request(Renewed(engine, name, watch))
        self.port = stack.enter_context(served(app.server, settings))
        stack.callback(service.close)  # first of all: pages that wait for answers hold the server's threads


class ModelsThread(WorkerThread):
    """A worker for a model that others in this process may change: then it ends, and the next one reads it anew."""

    def __init__(self, model: nn.Module, watch: Watch, before: Before, threads: int, stall_seconds: float) -> None:
        self._model, self._watch, self._before = model, watch, before
        super().__init__(threads, stall_seconds)

    def send(self, message: protocol.ToWorker) -> None:
        """See `engine.channel.Channel`."""
        if isinstance(message, protocol.Load):
            message = replace(message, device=str(device_of(self._model)))  # it may have been moved since
            self._before.remember()
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

    def loaded(self, model: LoadedModel) -> None:
        """See `WorkerThread`."""
        if model.entering is not None:
            model.entering.lend()
        self._before.put_back()  # every look takes the model into evaluation mode for itself


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


class Before:
    """What a model was before the page read it, put back as soon as that is done: its modes, buffers and attributes."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()

    def remember(self) -> None:
        """It is going to be read."""
        self.put_back()
        with self._lock:
            self._stack.enter_context(preserve(self._model))
            self._stack.enter_context(attributes_kept(self._model))

    def put_back(self) -> None:
        """It was read, or is no longer going to be."""
        with self._lock:
            self._stack.close()


def settings_of(seen: Seen, mean: Told, std: Told) -> dict[str, Any]:
    """What the page has to know of the model: pictures are given in the size of the one that is there."""
    found: dict[str, Any] = {
        "title": seen.model,
        "weights": "As they are in this process.",
        "input_size": tuple(seen.shape[2:]),
        "resize": min(seen.shape[2:]),  # which leaves the picture that it was given as it is
        "channels": seen.shape[1],
        "mean": mean or (0.0,),
        "std": std or (1.0,),
    }
    return found | ({"classes": seen.classes} if seen.classes else {})


def check(model: nn.Module, seen: Seen, port: int, freed: Collection[int] = ()) -> None:
    """Refuse what cannot be opened, before anything is closed for it.

    Arguments:
        freed: ports that will be free by then.

    Raises:
        NotShown: a sentence.
    """
    if port and port not in freed and check_port(HOST, port):
        raise NotShown(
            f"Port {port} is taken, or reserved for the administrator. Give another one, or 0 for a free one."
        )
    devices = sorted({str(each.device) for each in (*model.parameters(), *model.buffers())})
    if len(devices) > 1:
        raise NotShown(f"The model lies on several devices ({', '.join(devices)}), and the page needs it on one.")
    if seen.shape[1] > MOST_CHANNELS:
        raise NotShown(
            f"The page shows pictures of up to {MOST_CHANNELS} channels, and this model takes {seen.shape[1]}. hs.show "
            "itself shows it, without a page."
        )


def as_file(tensor: Tensor, mean: Told, std: Told) -> bytes:
    """The picture as a .npy file of float32 (channel, height, width), before it was normalised where that is known."""
    values = tensor[0].detach().cpu().double()
    if mean is not None and std is not None:
        scale, shift = (
            torch.tensor(each, dtype=torch.float64).reshape(-1, 1, 1)[: len(values)] for each in (std, mean)
        )
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


_apps: list[Any] = []  # the person's own, or None, and those of the pages that are open


@contextlib.contextmanager
def known_to_dash(make: Callable[[], dash.Dash]) -> Iterator[dash.Dash]:
    """Make an application, which Dash keeps as the process's one; and have it forget that when it is closed."""
    if not _apps:
        _apps.append(_get_app.APP)
    app = make()
    _apps.append(app)
    try:
        yield app
    finally:
        _apps.remove(app)
        if _get_app.APP is app:
            _get_app.APP = _apps[-1]
        if len(_apps) == 1:
            _apps.clear()


@contextlib.contextmanager
def served(application: Any, settings: Settings) -> Iterator[int]:
    """Answer requests from a thread, on this computer only; gives the port."""
    server = waitress.create_server(application, host=settings.host, port=settings.port, **WAITRESS)
    stop = threading.Event()

    def run() -> None:  # server.run() is for a process of its own: it ends by a signal only
        while not stop.is_set():
            server.asyncore.loop(timeout=LOOP_SECONDS, map=server._map, count=1)

    thread = threading.Thread(target=run, name="hookscope page", daemon=True)
    thread.start()
    try:
        yield int(server.effective_port)
    finally:
        stop.set()
        server.trigger.pull_trigger()
        thread.join(CLOSE_SECONDS)
        server.task_dispatcher.shutdown(timeout=CLOSE_SECONDS)
        for channel in list(server._map.values()):
            if hasattr(channel, "outbufs"):
                channel.handle_close()  # which closes the file that a large answer may wait in
        server.asyncore.close_all(server._map)
