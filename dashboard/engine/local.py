"""Runs the models in workers on this machine."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.base import Event, ModelInfo, ModelState, Phase
from hookscope.dashboard.engine.channel import StartWorker
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.engine.process import PROCESS_BYTES, WorkerProcess
from hookscope.dashboard.engine.queue import Queue
from hookscope.dashboard.engine.supervisor import Shared, Stopped, Supervisor
from hookscope.dashboard.sources.spec import title_of

CLOSE_SECONDS = 1.2
ORDER: tuple[Phase, ...] = ("computing", "ready", "restarting", "loading", "failed")  # the most telling of several


class LocalEngine:
    """Implements `engine.base.Engine`.

        engine = LocalEngine([ModelOptions("embedded")])
        engine.open("embedded")
        engine.submit("slot 1", [Unit("embedded", digest, "prediction")], fetch=store.pixels)
        events, cursor = engine.events("slot 1", 0, timeout_seconds=10)
        engine.close()

    Arguments:
        models: the models that may be opened, by their names, and no others: a spec can name code to import.
        workers: processes per opened model; each holds a copy of the model.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: per worker; 0 shares the cores out between the workers of a model.
        job_timeout_seconds: a worker that says nothing for so long while it computes is stopped.
        load_timeout_seconds: the same while it loads its model; a download says something all the time.
        models_limit_bytes: what loaded models may take, their weights and the process of each; above it those are
            unloaded of which nothing was asked for longest. One that is asked something is loaded again.
        start_worker: starts a worker, in a process of its own unless another one is named.
        later: gives the options of a model that may be opened and was not there at the start; None of any other name.
    """

    def __init__(
        self,
        models: Sequence[ModelOptions] = (ModelOptions(),),
        *,
        workers: int = 1,
        device: str = "auto",
        threads: int = 0,
        job_timeout_seconds: float = 60.0,
        load_timeout_seconds: float = 300.0,
        models_limit_bytes: float = math.inf,
        start_worker: StartWorker = WorkerProcess,
        later: Callable[[str], ModelOptions | None] = lambda model: None,
    ) -> None:
        self._models = {options.name: options for options in models}
        self._later = later
        self._workers = workers
        self._device = device
        self._threads = threads or max(1, _cores() // workers)
        self._condition = threading.Condition(threading.RLock())
        self._queue = Queue()
        self._supervisors: dict[str, list[Supervisor]] = {}
        self._limit = models_limit_bytes
        self._process_bytes = PROCESS_BYTES if start_worker is WorkerProcess else 0
        self._used: dict[str, float] = {}  # when something was asked of a model
        self._unloaded: dict[str, tuple[ModelInfo, str]] = {}  # what it was, and a sentence
        self._leaving: list[Supervisor] = []
        self._closing = threading.Event()
        self._shared = Shared(
            self._queue,
            self._condition,
            self._stop,
            self._make_room,
            self._closing,
            start_worker,
            self._look_up,
            job_timeout_seconds,
            load_timeout_seconds,
        )

    def open(self, model: str) -> None:
        """Start loading a model, if it is not loaded or loading; after a failure, try again."""
        with self._condition:
            if self._closing.is_set() or not self._knows(model):
                return
            self._used[model] = time.monotonic()
            if model not in self._supervisors:
                self._supervisors[model] = [
                    Supervisor(
                        self._models[model], self._device, self._threads, self._shared, f"{model} worker {index}"
                    )
                    for index in range(self._workers)
                ]
                for supervisor in self._supervisors[model]:
                    supervisor.start()
            for supervisor in self._supervisors[model]:
                supervisor.retry()

    def state(self, model: str) -> ModelState:
        """What the model is doing now."""
        with self._condition:
            if not self._knows(model):
                return ModelState("failed", self._unknown(model))
            supervisors = self._supervisors.get(model)
            known, unloaded = self._unloaded.get(model, (None, ""))
            if not supervisors:
                sentence = unloaded or "Not loaded yet: it is loaded when it is first chosen."
                return ModelState("idle", sentence, known, work=self._queue.work(model))
            telling = min(supervisors, key=lambda each: ORDER.index(each.phase))
            return ModelState(
                phase=telling.phase,
                sentence=telling.sentence,
                info=next((each.info for each in supervisors if each.info), known),
                hooks=tuple(hook for each in supervisors for hook in each.hooks),
                waiting=self._queue.waiting(model),
                work=self._queue.work(model),
            )

    def options(self, model: str) -> ModelOptions | None:
        """What the operator said of a model."""
        return self._models.get(model) if self._knows(model) else None

    def info(self, model: str) -> ModelInfo | None:
        """The loaded model, or what it was before it was unloaded; None before the first load succeeded."""
        supervisors = self._supervisors.get(model, ())
        known, _ = self._unloaded.get(model, (None, ""))
        return next((info for each in supervisors if (info := each.info)), known)

    def submit(self, slot: str, units: Sequence[Unit], fetch: Callable[[str], bytes]) -> None:
        """Ask for units, most urgent first; opens their models where that has not happened.

        Raises:
            ValueError: the slot's name was used before.
        """
        with self._condition:
            now = time.monotonic()
            self._queue.submit(slot, units, fetch, now)
            for model in dict.fromkeys(unit.model for unit in units):
                if self._closing.is_set():
                    self._queue.fail_all("The server is stopping. Start it again and choose the layer again.", now)
                elif not self._knows(model):
                    self._queue.fail_model(model, self._unknown(model), "", now)
                elif model not in self._supervisors:
                    self.open(model)
                self._used[model] = now
            self._fail_unloadable()
            self._stop(self._queue.sweep(now))
            self._wake()
            self._condition.notify_all()

    def events(self, slot: str, since: int, timeout_seconds: float) -> tuple[list[Event], int]:
        """The slot's events from number `since` on, and the next number; waits up to the timeout for one.

        An unknown slot, or one that was read to its end a while ago, has only "end".
        """
        deadline = time.monotonic() + timeout_seconds
        with self._condition:
            while True:
                now = time.monotonic()
                self._fail_unloadable()
                news = self._queue.events(slot, since, now)
                if news or now >= deadline:
                    return news, since + len(news)
                self._condition.wait(deadline - now)

    def cancel(self, slot: str) -> None:
        """Withdraw what the slot still waits for; a unit that nobody waits for any more is stopped or never started."""
        with self._condition:
            self._stop(self._queue.cancel(slot))
            self._condition.notify_all()

    def stop(self, slot: str, units: Sequence[Unit]) -> None:
        """Withdraw only these units, which fail for the slot with a sentence that says so."""
        with self._condition:
            self._stop(self._queue.stop(slot, units, time.monotonic()))
            self._condition.notify_all()

    def wake(self) -> None:
        """Have every supervisor look after its worker at once."""
        with self._condition:
            self._wake()

    def close(self) -> None:
        """Stop every worker within two seconds and leave nothing behind; whoever waits for an event gets "end"."""
        with self._condition:
            self._closing.set()
            self._queue.fail_all("The server is stopping. Start it again and choose the layer again.", time.monotonic())
            supervisors = [each for group in self._supervisors.values() for each in group]
            self._wake()
            supervisors += self._leaving  # which were woken when they were told to go
            self._supervisors = {}
            self._condition.notify_all()
        deadline = time.monotonic() + CLOSE_SECONDS
        for supervisor in supervisors:
            supervisor.join(deadline)

    def pids(self, model: str) -> list[int]:
        """The process ids of the model's workers, for a log or a test."""
        with self._condition:
            return [pid for each in self._supervisors.get(model, []) if (pid := each.pid) is not None]

    def _knows(self, model: str) -> bool:
        """Whether a model may be opened, which may have come since the start."""
        if model not in self._models and (options := self._later(model)) is not None:
            self._models.setdefault(model, options)
        return model in self._models

    # --- inside; all of it holds the lock

    def _stop(self, units: Stopped) -> None:
        if units:
            for group in self._supervisors.values():
                for supervisor in group:
                    supervisor.withdraw(units)

    def _make_room(self) -> None:
        """Unload models of which nothing was asked for longest, and nothing is asked now, until the rest fit."""
        self._leaving = [each for each in self._leaving if not each.join(0.0)]
        sizes: dict[str, int] = {}
        for model, group in self._supervisors.items():
            if info := next((each.info for each in group if each.info), None):
                sizes[model] = (info.bytes + self._process_bytes) * len(group)
        *others, newest = sorted(sizes, key=lambda model: self._used.get(model, 0.0)) or [""]
        for model in others:
            if sum(sizes.values()) <= self._limit:
                return
            if not self._queue.busy(model):
                self._unload(model, newest)
                del sizes[model]

    def _unload(self, model: str, newest: str) -> None:
        group = self._supervisors.pop(model)
        info = next(each.info for each in group if each.info)
        sentence = (
            f"Unloaded at {time.strftime('%H:%M')}, to make room for {title_of(newest)}. What was computed is still "
            "shown; it is loaded again as soon as something else is asked."
        )
        self._unloaded[model] = info, sentence
        for each in group:
            each.retire()
        self._leaving += group

    def _look_up(self, model: str) -> tuple[ModelOptions | None, str]:
        info = self.info(model) if model else None
        return (self._models.get(model), info.fingerprint) if info is not None else (None, "")

    def _wake(self) -> None:
        for group in self._supervisors.values():
            for supervisor in group:
                supervisor.wake()

    def _fail_unloadable(self) -> None:
        for model, group in self._supervisors.items():
            if all(each.phase == "failed" for each in group):
                self._queue.fail_model(model, group[0].sentence, group[0].details, time.monotonic())

    def _unknown(self, model: str) -> str:
        return f"This server was not started with the model {model!r}. It offers {', '.join(self._models)}."


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
