"""An engine without processes, for tests of what stands on it: the real queue, and a made-up model of eight layers.

The model's values are random numbers that depend on the unit alone, so the same question always has the same answer.
It answers when a test says so (`work`), or at once (`at_once=True`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from units import what_of

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.ranking import channel_numbers
from hookscope.dashboard.engine.base import Event, ModelInfo, ModelState, Phase, Preprocessing
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.engine.queue import Batch, Queue
from hookscope.hooks.methods import INPUTS, MAPS, METRICS
from hookscope.hooks.results.codec import encode
from hookscope.hooks.results.looks import (
    QUANTILE_LEVELS,
    Activation,
    AttentionMaps,
    Call,
    GradCam,
    Gradients,
    InputAttribution,
    LayerGradient,
    LayerInfo,
    Prediction,
    Statistics,
)
from hookscope.hooks.results.outputs import Found, Output, Reading, Scores
from hookscope.hooks.results.scores import softmax
from hookscope.hooks.results.summaries import Survey, SurveyedCall
from hookscope.hooks.results.targets import Box, Class

MODEL = "toy"
CLASSES = ("cat", "dog", "<b>cup</b>", "cat")
CROP = (8, 8)
NCHW = ("image", "channel", "height", "width")


def layer(name: str, kind: str, *calls: Call, reason: str = "") -> LayerInfo:
    """A layer as a recorded run would describe it."""
    return LayerInfo(name, kind, 10, 100, calls, leaf=True, reason_not_run=reason)


LAYERS = (
    layer("", "Toy", Call((1, 4), ("image", "feature"), 8)),
    layer("conv", "Conv2d", Call((1, 8, 6, 6), NCHW, 0, overwritten_by="relu")),
    layer("relu", "ReLU", Call((1, 8, 6, 6), NCHW, 1), Call((1, 8, 6, 6), NCHW, 4)),
    layer("wide", "Conv2d", Call((1, 40, 3, 3), NCHW, 2)),
    layer(
        "tokens",
        "Block",
        Call((1, 10, 12), ("image", "token", "channel"), 3, grid=(3, 3), prefix_tokens=1, outputs=2, heads=2),
    ),
    layer("vector", "Linear", Call((1, 5), ("image", "feature"), 5)),
    layer("number", "Mean", Call((), (), 6)),
    layer("never", "Dropout", reason="this head is only used while training."),
)
INFO = ModelInfo(
    spec=MODEL,
    title="Toy <net>",
    parameters=1234,
    device="cpu",
    weights="Made up for a test.",
    random=False,
    licence="",
    fingerprint="f" * 16,
    classes=CLASSES,
    preprocessing=Preprocessing(8, CROP, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    layers=LAYERS,
    outputs=(Output("", (1, len(CLASSES)), "vector"),),
    answer=Found(Reading("", "softmax"), "as given"),
)
DETECTOR = replace(INFO, outputs=(Output("0/boxes", (3, 4), "boxes"),), answer=Found(Reading("0/boxes"), ""))


def read_as_softmax(logits: np.ndarray) -> Scores:
    """What a classifier answers with these logits."""
    return Scores("", "softmax", logits, logits, softmax(logits).astype(np.float32))


def activation_of(name: str, values: np.ndarray, call: int = 0, axes: tuple[str, ...] | None = None) -> Activation:
    """An activation with exact statistics; `axes` for another layout than the layer's recorded one."""
    recorded = next(each for each in LAYERS if each.name == name).calls[call]
    named = tuple(axis for axis in recorded.axes if axis != "image") if axes is None else axes
    return Activation(
        layer=name,
        call=call,
        values=np.asarray(values, np.float32),
        axes=named,
        statistics=statistics_of(values, named),
        grid=recorded.grid,
        prefix_tokens=recorded.prefix_tokens,
        milliseconds=7.0,
    )


def attention_of(
    name: str, scores: np.ndarray, grid: tuple[int, int] | None, prefix_tokens: int = 0, rollout: bool = True
) -> AttentionMaps:
    """Attention maps whose rows are the scores divided by their sums: (head, query, key), or with windows before."""
    weights = scores / scores.sum(-1, keepdims=True)
    entropy = -(weights * np.log(weights)).sum(-1).mean(-1)
    return AttentionMaps(
        layer=name,
        call=0,
        index=0,
        weights=weights.astype(np.float32),
        axes=("window", "head", "query", "key")[-weights.ndim :],
        entropy=entropy if weights.ndim == 3 else entropy.mean(0),
        entropy_limit=float(np.log(weights.shape[-1])),
        grid=grid,
        prefix_tokens=prefix_tokens,
        rollout=weights.mean(0).astype(np.float32) if rollout and weights.ndim == 3 else None,
    )


def statistics_of(values: np.ndarray, axes: tuple[str, ...]) -> Statistics:
    """Exact numbers of a small array, by numpy."""
    values = np.asarray(values, np.float64)
    flat = values.reshape(-1)
    finite = flat[np.isfinite(flat)]
    some = finite if finite.size else np.array([np.nan])
    histogram, edges = np.zeros(64, np.int64), np.full(65, some.min())
    if finite.size and np.ptp(finite) > 1e-6 * np.abs(finite).max():
        histogram, edges = np.histogram(finite, bins=64)
    by_channel = np.moveaxis(values, axes.index("channel"), 0) if "channel" in axes else None
    return Statistics(
        count=flat.size,
        mean=float(some.mean()),
        std=float(some.std()),
        min=float(some.min()),
        max=float(some.max()),
        zeros=float((flat == 0).mean()) if flat.size else 0.0,
        nan=int(np.isnan(flat).sum()),
        inf=int(np.isinf(flat).sum()),
        quantiles=np.quantile(some, QUANTILE_LEVELS),
        histogram=histogram,
        edges=edges,
        channels={}
        if by_channel is None or not by_channel.size
        else channel_numbers(np.asarray(by_channel, np.float32)),
    )


def answer_to(unit: Unit) -> Any:
    """What the made-up model computes."""
    asked, aim = what_of(unit), getattr(unit.question, "target", None)
    number = aim.index if isinstance(aim, Class | Box) else -1
    side = (unit.side.model, unit.side.input, unit.side.preparation)
    seed = hashlib.sha256(repr((side, asked, unit.layer, unit.call, aim)).encode()).digest()
    rng = np.random.default_rng(list(seed))
    if asked == "prediction":
        logits = rng.normal(size=len(CLASSES)).astype(np.float32)
        pixels = rng.integers(0, 256, (*CROP, 3), np.uint8)
        return Prediction(read_as_softmax(logits), pixels, crop=(0.0, 1.0, 8.0, 9.0), milliseconds=3.0)
    target = number if isinstance(aim, Class) else 1
    if asked in MAPS:
        values = rng.normal(size=(3, 3)).astype(np.float32)
        note = "From the 64 strongest of 99 channels." if asked == "scorecam" else ""
        return GradCam(unit.layer, unit.call, target, 1.5, values, 9.0, asked, note)
    if asked in INPUTS:
        values = rng.normal(size=CROP).astype(np.float32)
        return InputAttribution(asked, target, 1.5, values, 0.5, "Made up.", 9.0)
    if asked == "gradients":
        calls = [("conv", 0), ("relu", 0), ("relu", 1), ("vector", 0)]
        return Gradients(target, 1.5, tuple(gradient_of(*call, rng.normal(size=50)) for call in calls), 9.0)
    if asked == "survey":
        calls = [(each.name, n) for each in LAYERS for n in range(len(each.calls))]
        numbers = tuple(
            SurveyedCall(name, n, dict(zip(METRICS, rng.uniform(0.01, 1, 5).tolist(), strict=False)))
            for name, n in calls
        )
        return Survey(numbers, -1 if aim is None else target)
    call = next(each for each in LAYERS if each.name == unit.layer).calls[unit.call]
    if asked == "attention":
        return attention_of(unit.layer, rng.random((call.heads, 10, 10)), call.grid, call.prefix_tokens)
    return activation_of(unit.layer, rng.normal(size=call.shape[1:]).astype(np.float32), unit.call)


def gradient_of(layer: str, call: int, values: np.ndarray, reason: str = "") -> LayerGradient:
    """The gradient at a layer's call, exact by numpy; no numbers where there is a reason."""
    flat = np.asarray(values, np.float64).ravel()
    finite = flat[np.isfinite(flat)] if not reason else np.zeros(0)
    some = finite if finite.size else np.array([np.nan])
    norm = float(np.sqrt((some**2).sum()))
    return LayerGradient(
        layer,
        call,
        "output",
        "",
        count=flat.size,
        norm=norm,
        rms=norm / np.sqrt(some.size),
        max_abs=float(np.abs(some).max()),
        min=float(some.min()),
        max=float(some.max()),
        zeros=float((some == 0).mean()),
        nan=int(np.isnan(flat).sum()),
        inf=int(np.isinf(flat).sum()),
        quantiles=np.quantile(some, QUANTILE_LEVELS),
        magnitudes=np.quantile(np.abs(some), QUANTILE_LEVELS),
        reason=reason,
    )


class InlineEngine:
    """The queue of the real engine, worked off in the test's own process.

    Arguments:
        at_once: answer every unit while it is submitted.
        answer: unit -> result; an exception's text becomes the sentence of a failure.

    Attributes:
        submitted: the units of each submission, in order. computed: every unit that was answered or failed.
        cancelled: slots in the order in which they were cancelled. stopped: units that were running then.
        fetched: digests whose PNG was read.
    """

    def __init__(self, *, at_once: bool = False, answer: Callable[[Unit], Any] = answer_to) -> None:
        self.submitted: list[list[Unit]] = []
        self.computed: list[Unit] = []
        self.cancelled: list[str] = []
        self.stopped: list[Unit] = []
        self.opened: list[str] = []
        self.closed = False
        self.phase: Phase = "ready"
        self.infos: dict[str, ModelInfo] = {MODEL: INFO}
        self._answer = answer
        self.at_once = at_once
        self._queue = Queue()
        self._condition = threading.Condition(threading.RLock())
        self._batch: Batch | None = None
        self._left: list[Unit] = []

    def open(self, model: str) -> None:
        """Note that the model was to be loaded."""
        self.opened.append(model)

    def state(self, model: str) -> ModelState:
        """Always the phase that the test has set."""
        with self._condition:
            waiting = self._queue.waiting(model)
        return ModelState(self.phase, "Ready.", self.infos.get(model), waiting=waiting)

    def info(self, model: str) -> ModelInfo | None:
        """As the state's."""
        return self.infos.get(model)

    def options(self, model: str) -> ModelOptions | None:
        """Nothing but its name."""
        return ModelOptions(model) if model in self.infos else None

    def submit(self, slot: str, units: Sequence[Unit], fetch: Callable[[str], bytes]) -> None:
        """Queue the units."""
        with self._condition:
            self.submitted.append(list(units))
            self._queue.submit(slot, units, fetch, time.monotonic())
            self._condition.notify_all()
        if self.at_once:
            self.work()

    def events(self, slot: str, since: int, timeout_seconds: float) -> tuple[list[Event], int]:
        """As the real engine."""
        deadline = time.monotonic() + timeout_seconds
        with self._condition:
            while True:
                now = time.monotonic()
                news = self._queue.events(slot, since, now)
                if news or now >= deadline:
                    return news, since + len(news)
                self._condition.wait(deadline - now)

    def cancel(self, slot: str) -> None:
        """As the real engine; what runs is stopped between two units."""
        with self._condition:
            self.cancelled.append(slot)
            for units in self._queue.cancel(slot).values():
                self.stopped += units
                self._left = [unit for unit in self._left if unit not in units]
            self._condition.notify_all()

    def stop(self, slot: str, units: Sequence[Unit]) -> None:
        """As the real engine."""
        with self._condition:
            for stopped in self._queue.stop(slot, units, time.monotonic()).values():
                self.stopped += stopped
                self._left = [unit for unit in self._left if unit not in stopped]
            self._condition.notify_all()

    def close(self) -> None:
        """As the real engine."""
        with self._condition:
            self.closed = True
            self._queue.fail_all("The server is stopping. Start it again and choose the layer again.", time.monotonic())
            self._condition.notify_all()

    # --- the worker

    def start(self) -> Unit | None:
        """Take the next unit, as a worker does before its forward; None if nothing waits."""
        with self._condition:
            while not self._left:
                if self._batch is not None:
                    self._queue.finished(self._batch.task, time.monotonic())
                self._batch = next((b for model in self.infos if (b := self._queue.take(model))), None)
                if self._batch is None:
                    return None
                self._left = list(self._batch.units)
            assert self._batch is not None
            self._queue.started(self._batch.task, self._left[0], time.monotonic())
            self._condition.notify_all()
            return self._left[0]

    def work(self, units: int = 1_000_000) -> list[Unit]:
        """Answer up to so many units; returns those."""
        done: list[Unit] = []
        with self._condition:
            while len(done) < units and (unit := self.start()) is not None:
                self._left.pop(0)
                assert self._batch is not None
                task, now = self._batch.task, time.monotonic()
                try:
                    result = self._answer(unit)
                    data = result if isinstance(result, bytes) else encode(result)
                    self._queue.done(task, unit, data, now)
                except Exception as error:
                    self._queue.failed(task, unit, str(error), "Traceback", now)
                done.append(unit)
                self.computed.append(unit)
                self._condition.notify_all()
        return done

    def tell(self, done: int, total: int) -> None:
        """Say how far the batch is."""
        with self._condition:
            assert self._batch is not None
            self._queue.progress(self._batch.task, done, total)
            self._condition.notify_all()

    def waiting_slots(self) -> int:
        """How many slots the queue still holds that have not ended."""
        with self._condition:
            return sum(record.ended_at is None for record in self._queue._slots.values())
