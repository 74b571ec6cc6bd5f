"""One thread per worker: starts it, gives it batches, passes its answers on, and notices how it ends."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait

from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.engine import options, protocol
from hookscope.dashboard.engine.base import AllGone, ModelInfo, NotThere, Phase
from hookscope.dashboard.engine.channel import Channel, StartWorker, WorkerEnded, WorkerOutdated
from hookscope.dashboard.engine.queue import Batch, Queue
from hookscope.hooks.results.looks import LiveHook

BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0)  # before restart 1, 2, ...; with the start itself it stays below ten seconds
HEALTHY_SECONDS = 60.0  # alive so long: the next restart is the first again
LOAD_ATTEMPTS = 2  # deaths while loading before the model counts as failed
TICK_SECONDS = 0.5
TOLD_SECONDS = 300.0  # how long "Ready." goes on to say that there was a restart
FULL_SECONDS = 0.05  # between two looks whether there is room for an answer again

Stopped = dict[int, tuple[Unit, ...]]


class Hung(Exception):
    """The worker said nothing for longer than it may; the text is what happened, without a subject."""


class LoadRefused(Exception):
    """The worker says that the model cannot be loaded, and trying again would not help."""

    def __init__(self, sentence: str, details: str) -> None:
        super().__init__(sentence)
        self.details = details


@dataclass(frozen=True)
class Shared:
    """What the supervisors of an engine have in common.

    Attributes:
        condition: its lock guards the queue and every supervisor's public attributes; notified at news.
        stop: passes units that nobody waits for any more to the supervisor that runs them.
        tidy: unloads models that are too many, now and then.
        closing: set once, by the engine's `close`.
        start_worker: see `engine.channel`.
        look_up: what a worker has to know of another model that a question is about: how it is loaded, and its
            fingerprint; (None, "") if there is none of that name.
        job_timeout_seconds, load_timeout_seconds: how long a worker may say nothing while it computes, and while it
            loads the model.
    """

    queue: Queue
    condition: threading.Condition
    stop: Callable[[Stopped], None]
    tidy: Callable[[], None]
    closing: threading.Event
    start_worker: StartWorker
    look_up: Callable[[str], tuple[options.ModelOptions | None, str]]
    job_timeout_seconds: float
    load_timeout_seconds: float


class Supervisor:
    """Keeps one worker of one model alive."""

    def __init__(self, options: options.ModelOptions, device: str, threads: int, shared: Shared, name: str) -> None:
        self.phase: Phase = "loading"
        self.sentence = "Starting the worker."
        self.details = ""
        self.info: ModelInfo | None = None
        self.hooks: tuple[LiveHook, ...] = ()
        self._load = protocol.Load(options, device, threads)
        self._shared = shared
        self._batches: dict[int, Batch] = {}  # what the worker has, by task; a second one while the first takes minutes
        self._withdrawn: list[Stopped] = []
        self._retry = False
        self._retired = False
        self._closed = False
        self._restarted = ""  # why, once it happened, and for how long that is still said
        self._told_until = 0.0
        self._worker: Channel | None = None
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread, which starts the worker."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The worker's process id, while there is one."""
        worker = self._worker
        return worker.pid if worker else None

    def wake(self) -> None:
        """Something changed: look at the queue."""
        try:
            os.write(self._wake_writer, b"w")
        except BlockingIOError:  # as good as woken
            pass

    def withdraw(self, units: Stopped) -> None:
        """Stop these units if they run here. Holds the lock."""
        if not self._batches.keys().isdisjoint(units):
            self._withdrawn.append(units)
            self.wake()

    def retry(self) -> None:
        """Try to load again after the load failed. Holds the lock."""
        if self.phase == "failed":
            self._retry = True
            self._set("loading", "Trying to load the model again.")
            self.wake()

    def retire(self) -> None:
        """End the worker and this thread; nothing is asked of it any more. Holds the lock."""
        self._retired = True
        self.wake()

    def join(self, deadline: float) -> bool:
        """Wait for the end after `closing` was set or it was retired; kills what does not end by itself in time.

        A signal may have come while the thread was being started: one that is not alive yet finds `closing` set, and
        ends before it starts a worker.

        Arguments:
            deadline: by `time.monotonic`; 0 only looks, and kills nothing.

        Returns:
            Whether it has ended.
        """
        if self._thread.is_alive() and deadline:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._thread.is_alive() and self._worker is not None:
                self._worker.kill()
                self._thread.join(0.3)
        if self._thread.is_alive():
            return False
        if not self._closed:
            self._closed = True
            os.close(self._wake_reader)
            os.close(self._wake_writer)
        return True

    # --- the thread

    def _run(self) -> None:
        deaths = load_deaths = 0
        while not self._over():
            begun = time.monotonic()
            final = False
            try:
                self._worker = self._shared.start_worker(self._load.threads, self._shared.job_timeout_seconds)
                self._serve(self._worker)
            except (WorkerEnded, Hung) as end:
                ready = self.phase in ("ready", "computing")
                healthy = time.monotonic() - begun > HEALTHY_SECONDS or isinstance(end, WorkerOutdated)
                deaths = 1 if healthy else deaths + 1
                load_deaths = 0 if ready else load_deaths + 1
                # a load that hung would hang again, and people have waited long enough
                final = load_deaths >= LOAD_ATTEMPTS or (not ready and isinstance(end, Hung))
                self._died(str(end), ready, final)
            except LoadRefused as error:
                final = True
                self._failed(str(error), error.details)
            except OSError as error:
                final = True
                self._failed(f"The worker process cannot be started ({error}). Free memory or files and try again.", "")
            except Exception as error:  # a fault of ours must not leave pages waiting for ever
                final = True
                self._died(f"was given up after a fault in the server ({type(error).__name__}: {error})", True, True)
                traceback.print_exc()
            finally:
                if self._worker is not None:
                    self._worker.close() if self._over() else self._worker.kill()
                    self._worker.release()
                    self._worker = None
            if final:
                self._wait_for_retry()
                deaths = load_deaths = 0
            else:
                self._pause(BACK_OFF_SECONDS[min(deaths, len(BACK_OFF_SECONDS)) - 1])

    def _serve(self, worker: Channel) -> None:
        """Load, then answer batches until the worker ends (an exception) or the engine closes."""
        shared = self._shared
        worker.send(self._load)
        heard = time.monotonic()
        while not self._over():
            with shared.condition:
                self._settle_down()
                withdrawn, self._withdrawn = self._withdrawn, []
                batch = None
                full = shared.queue.full()
                if self.phase in ("ready", "computing") and not full and self._has_a_hand_free():
                    batch = shared.queue.take(self._load.options.name, quick=bool(self._batches))
                    if batch:
                        self._batches[batch.task] = batch
                        self._set("computing", f"Computing {describe(batch)}.")
            if batch:
                heard = time.monotonic()
                worker.send(protocol.Run(batch.task, batch.units, *shared.look_up(batch.units[0].other_model)))
            for stopped in withdrawn:
                for task in self._batches.keys() & stopped:
                    worker.send(protocol.Withdraw(task, stopped[task]))
            limit = self._limit()
            if full:  # the worker waits with its next answer until somebody has read one
                worker.wait_for_news(self._wake_reader, FULL_SECONDS, listen=False)
                heard = time.monotonic()
            elif worker.wait_for_news(self._wake_reader, min(TICK_SECONDS, limit)):
                self._handle(worker, worker.receive())
                heard = time.monotonic()
            elif time.monotonic() - heard > limit and self.phase != "ready":
                raise Hung(f"said nothing for {limit:g} s and was stopped")
            self._drain_wake()
            with shared.condition:
                shared.stop(shared.queue.sweep(time.monotonic()))
                shared.tidy()

    def _over(self) -> bool:
        return self._retired or self._shared.closing.is_set()

    def _settle_down(self) -> None:
        """Say no more of a restart that is long past. Holds the lock."""
        if self._restarted and self.phase == "ready" and time.monotonic() > self._told_until:
            self._restarted = ""
            self._set("ready", "Ready.")

    def _has_a_hand_free(self) -> bool:
        return not self._batches or (
            len(self._batches) == 1 and all(batch.units[0].takes_minutes for batch in self._batches.values())
        )

    def _limit(self) -> float:
        loading = self.phase in ("loading", "restarting")
        return self._shared.load_timeout_seconds if loading else self._shared.job_timeout_seconds

    def _handle(self, worker: Channel, message: protocol.Message) -> None:
        queue, now = self._shared.queue, time.monotonic()
        if isinstance(message, protocol.NeedInput):  # outside the lock: the picture may come from a disk
            worker.send(self._input(message))
            return
        with self._shared.condition:
            match message:
                case protocol.LoadProgress(sentence):
                    self._set(self.phase, f"{self._restarted} {sentence}".strip())
                case protocol.Ready(info):
                    self.info = info
                    self._set("ready", f"Ready. {self._restarted}".strip())
                case protocol.LoadFailed(sentence, details):
                    raise LoadRefused(sentence, details)
                case protocol.Started(task, unit):
                    queue.started(task, unit, now)
                case protocol.Answered(task, unit, data):
                    queue.done(task, unit, data, now)
                case protocol.Failed(task, unit, sentence, details, final):
                    queue.failed(task, unit, sentence, details, now, final)
                case protocol.Partial(task, unit, data):
                    queue.partial(task, unit, data)
                case protocol.Progress(task, done, total):
                    queue.progress(task, done, total)
                    if task in self._batches:
                        what = describe(self._batches[task])
                        self._set("computing", f"Computing {what}: {done:,} of {total:,} pictures.")
                case protocol.HooksLive(hooks):
                    self.hooks = hooks
                case protocol.TaskDone(task):
                    queue.finished(task, now)
                    self._batches.pop(task, None)
                    left = [f"Computing {describe(batch)}." for batch in self._batches.values()]
                    self._set(
                        "computing" if left else "ready", left[0] if left else f"Ready. {self._restarted}".strip()
                    )
                case _:
                    raise WorkerEnded(f"sent a message that is not a worker's ({type(message).__name__})")
            self._shared.condition.notify_all()

    def _input(self, message: protocol.NeedInput) -> protocol.GivenInput:
        with self._shared.condition:
            fetch = self._shared.queue.fetch(message.task)
        try:
            if fetch is None:
                return protocol.GivenInput(message.task, b"", protocol.JOB_OVER)
            return protocol.GivenInput(message.task, fetch(message.input))
        except NotThere as error:
            return protocol.GivenInput(message.task, b"", str(error), ends=isinstance(error, AllGone))
        except Exception as error:  # whatever the store's disk does, the worker must get an answer
            reason = str(error) or type(error).__name__
            return protocol.GivenInput(
                message.task, b"", f"The image cannot be read any more ({reason}). Choose it again."
            )

    def _died(self, how: str, ready: bool, final: bool) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.pass_on_output()
        details = "\n".join(self._worker.lines) if self._worker else ""
        with self._shared.condition:
            self.hooks = ()
            now = time.monotonic()
            if not ready:
                what = f"The worker {how} while loading the model."
            elif self._batches:
                *around, last = self._batches.values()  # the last runs, in the middle of the one before
                what = f"The worker {how} while computing {describe(last)}."
                sentence = f"{what} Choose a smaller layer or image, or try once more."
                waiting_sentence = f"{what} This was to come after it: try once more."
                for batch in around:
                    self._shared.queue.interrupted(batch.task, f"{what} Try once more.", details, now)
                self._shared.queue.crashed(last.task, sentence, waiting_sentence, details, now)
            else:
                what = f"The worker {how}."
            self._batches.clear()
            self._withdrawn.clear()
            self._told_until = time.monotonic() + TOLD_SECONDS
            self._restarted = f"Restarted at {time.strftime('%H:%M')}: {what[0].lower()}{what[1:]}"
            if final:
                self._failed(f"{what} It is not started again by itself. Reload the page to try once more.", details)
            else:
                self._set("restarting", f"{what} It is starting again.")
            self._shared.condition.notify_all()

    def _failed(self, sentence: str, details: str) -> None:
        with self._shared.condition:
            self._set("failed", sentence)
            self.details = details
            print(f"The model {self._load.options.name} is not there: {sentence}", file=sys.stderr, flush=True)
            self._shared.condition.notify_all()

    def _wait_for_retry(self) -> None:
        while not self._retry and not self._over():
            self._pause(60.0)
        self._retry = False

    def _pause(self, seconds: float) -> None:
        """Wait, unless the engine closes or a retry is asked for."""
        deadline = time.monotonic() + seconds
        while not (self._over() or self._retry) and (left := deadline - time.monotonic()) > 0:
            wait([self._wake_reader], left)
            self._drain_wake()

    def _drain_wake(self) -> None:
        try:
            while os.read(self._wake_reader, 4096):
                pass
        except BlockingIOError:
            pass

    def _set(self, phase: Phase, sentence: str) -> None:
        self.phase, self.sentence = phase, sentence


def describe(batch: Batch) -> str:
    """What a batch computes, for a sentence: "Grad-CAM of blocks.6", "3 layers"."""
    unit = batch.units[0]
    if not hasattr(unit.question, "layer"):
        return unit.title
    what = "" if isinstance(unit.question, ActivationOf) else f"{unit.title} of "
    return what + (f"{len(batch.units)} layers" if len(batch.units) > 1 else unit.layer or "the whole model")
