"""The worker's own thread: load the model, then answer one batch of units after the other."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache

from hookscope.dashboard.asking.sides import Preparation, Side
from hookscope.dashboard.asking.texts import say, shorten, text_of
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.engine.protocol import EXIT_DEVICE_LOST
from hookscope.dashboard.sources.checkpoints import without_advice
from hookscope.dashboard.sources.load import LoadedModel, Prepared, load
from hookscope.dashboard.sources.preprocessing import PreparationError, open_exact, open_pixels
from hookscope.dashboard.worker.editing import editing
from hookscope.dashboard.worker.handlers import handler_of
from hookscope.dashboard.worker.keeping import Kept
from hookscope.dashboard.worker.mailbox import Mailbox
from hookscope.dashboard.worker.out_of_memory import is_want_of_memory
from hookscope.dashboard.worker.pruning import SETS
from hookscope.dashboard.worker.sweeping import KEPT
from hookscope.dashboard.worker.task import SAID, Task, details_of
from hookscope.hooks.errors import Cancelled, HooksError
from hookscope.hooks.numbers import compiled
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.outputs import AS_FOUND
from hookscope.hooks.results.targets import Like

OWNER = "page"  # as the header shows live hooks
NO_PICTURE = Prepared(np.zeros((1, 1, 3), np.uint8), (0, 0, 0, 0), (0.0,), (1.0,))  # of a question about a set
UNFINISHED = 4  # questions of minutes whose steps are kept, some numbers each: who leaves and comes back goes on there
CLICKS_SECONDS = 1.0  # for which quick questions may come one after the other before a long one goes on
NEXT_SECONDS = 0.03  # within which the next of them is there
INPUT_BYTES = 64 * 2**20  # prepared inputs kept, so that a picture's next layer needs no decoding


Unfinished = LRUCache  # (Side, question) -> what it has found
Sweeps = LRUCache  # Side -> worker.sweeping.SetSweep
Samples = LRUCache  # Side and how many pictures -> worker.pruning.Sampled
Inputs = LRUCache  # Side -> Prepared: the inputs used last, prepared for the model


def _bytes_of(prepared: Prepared) -> int:
    return prepared.pixels.nbytes + (0 if prepared.exact is None else prepared.exact.nbytes)


def work(mailbox: Mailbox, loaded: Callable[[LoadedModel], None] = lambda model: None) -> None:
    """Load what the first message names, and answer until the mailbox ends it.

    Arguments:
        loaded: called with the model once it is there.
    """
    order = mailbox.order()
    if not isinstance(order, protocol.Load):
        raise RuntimeError("the first message has to be Load")
    compiling = threading.Thread(target=compiled.kernels, name="compiling", daemon=True)
    compiling.start()  # beside the model's files, so that the first statistics do not wait for it
    model = _load(mailbox, order)
    compiling.join()
    loaded(model)
    mailbox.send(protocol.Ready(model.info))
    inputs: Inputs = LRUCache(INPUT_BYTES, getsizeof=_bytes_of)
    kept = Kept()
    unfinished: Unfinished = LRUCache(UNFINISHED)
    sweeps: Sweeps = LRUCache(KEPT)
    samples: Samples = LRUCache(SETS)
    partners = Partners(order.device, lambda sentence: mailbox.send(protocol.LoadProgress(sentence)))
    while True:
        order = mailbox.order()
        if isinstance(order, protocol.Run):
            _answer(mailbox, model, inputs, partners, (kept, unfinished, sweeps, samples), order)


class Partners:
    """The model of the other side of a question about two; the one used last stays loaded.

    Arguments:
        device: where it goes. progress: told what is being done, so that nobody takes the worker for dead.
    """

    def __init__(self, device: str, progress: Callable[[str], None]) -> None:
        self._device, self._progress = device, progress
        self._last: LoadedModel | None = None

    def get(self, options: ModelOptions, fingerprint: str) -> LoadedModel:
        """The model that the options name.

        Raises:
            HooksError: it cannot be loaded, or is no longer what the page has seen.
        """
        if self._last is None or self._last.info.fingerprint != fingerprint:
            self._last = None  # its memory first
            self._last = load(options, self._device, self._progress)
        if self._last.info.fingerprint != fingerprint:
            raise HooksError(
                f"{options.name} is not the same when it is loaded once more: its file has changed, or its weights are "
                "random each time. Restart Hookscope, or have it give the same weights."
            )
        return self._last


def _load(mailbox: Mailbox, order: protocol.Load) -> LoadedModel:
    if order.threads:
        torch.set_num_threads(order.threads)
    try:
        return load(order.options, order.device, lambda sentence: mailbox.send(protocol.LoadProgress(sentence)))
    except BaseException as error:  # the model's code may raise what it likes
        sentence = text_of(error)
        if not isinstance(error, HooksError):
            sentence = f"{order.options.spec} cannot be loaded: {say(error)}. The traceback is in the terminal."
        own = getattr(error, "details", "")
        # A factory may read files by itself, and torch then advises to run whatever code is in them.
        details = without_advice(own or details_of(error))
        if own or not isinstance(error, HooksError):  # where a model's author looks: the server passes it on
            print(details, file=sys.stderr, flush=True)
        mailbox.send(protocol.LoadFailed(shorten(sentence, SAID), details))
        mailbox.end(1)


def _answer(
    mailbox: Mailbox,
    model: LoadedModel,
    inputs: Inputs,
    partners: Partners,
    memory: tuple[Kept, Unfinished, Sweeps, Samples],
    run: protocol.Run,
) -> None:
    def meanwhile() -> None:
        # where one has come another one follows: the server sends it when it has heard that this one is done
        until = time.monotonic() + CLICKS_SECONDS
        order = mailbox.next_order()
        while order is not None:
            with task.plain():
                _answer(mailbox, model, inputs, partners, memory, order)
            order = mailbox.next_order(NEXT_SECONDS if time.monotonic() < until else 0.0)

    kept, unfinished, sweeps, samples = memory
    task = Task(run, mailbox.send, lambda: mailbox.withdrawn(run.task), meanwhile)
    task.done_before = lambda: unfinished.setdefault((task.side, task.question), {})
    task.sweeps = lambda: sweeps
    task.sampled = lambda: samples
    device_lost = False
    try:
        task.read = partial(_bytes, mailbox, run)
        of_set = run.units[0].row.of_set
        prepared = NO_PICTURE if of_set else _input(mailbox, model, inputs, run, task.side)
        task.fetch = partial(_input, mailbox, model, inputs, run)
        if (against := run.units[0].against) is not None:
            if run.other is not None:
                task.partner = partners.get(run.other, run.fingerprint)
            task.against = _input(mailbox, task.partner or model, inputs, run, against)
        target = getattr(task.question, "target", None)
        if isinstance(target, Like):
            other = replace(task.side, input=target.input, preparation=Preparation.read(target.preparation))
            task.other = _input(mailbox, model, inputs, run, other)
            if target.second:
                task.beside_other = _input(mailbox, model, inputs, run, replace(other, second=target.second).of_second)
        if task.side.second:
            try:
                task.second = _input(mailbox, model, inputs, run, task.side.of_second)
            except PreparationError as error:
                raise PreparationError(f"The second picture: {error}") from error
        with (
            contextlib.suppress(Cancelled),
            model.about(task.side.captions) as asked,
            looking(owner=OWNER, purpose="analysis", cancelled=task.cancelled, progress=task.progress),
            looking(reading=asked.info.found(task.side.reading).reading),
            model.pair.beside(None if task.second is None else task.second.tensor),
            editing(asked, task),
            kept.beginning_at_edits(asked, task, prepared),
        ):
            steps = handler_of(run.units[0])(asked, task, prepared)
            if steps is not None:
                _walk(task, steps)
    except BaseException as error:  # the model's code may raise what it likes; nobody can press Ctrl-C here
        if not isinstance(error, HooksError):
            # The page has the sentence; whoever wrote the model needs the line, and finds it once the page says so.
            print(details_of(error), file=sys.stderr, flush=True)
        task.hooks_changed()  # they are gone by now, and the page may ask as soon as it has the error
        task.fail_rest(error)
        device_lost = _loses_the_device(error)
    finally:
        task.finish()
    mailbox.forget(run.task)
    mailbox.send(protocol.TaskDone(run.task))
    if device_lost:  # after such an error every call to the GPU fails until the process is a new one
        mailbox.end(EXIT_DEVICE_LOST)


def _loses_the_device(error: BaseException) -> bool:
    """Whether the GPU stays out of reach; where only its memory was full, it answers whoever asks for less."""
    of_the_device = isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in text_of(error)
    return of_the_device and not is_want_of_memory(error)


def _walk(task: Task, steps: Generator[Any]) -> None:
    """Send what a long question knows after each of its steps, the last as its answer; answer quick ones in between.

    Where it is about layers, it knows of one after the other: its answer is there once it goes on to the next.
    """
    known: tuple[str, int, Any] | None = None
    about_layers = hasattr(task.question, "layer")
    with contextlib.closing(steps) as walk:
        for found in walk:
            place = (found.layer, found.call) if about_layers else ("", 0)
            if known is not None and known[:2] != place:
                task.answer(*known)
            known = *place, found
            task.partial(*known)
            task.meanwhile()
            if task.cancelled():
                return
    if known is not None:
        task.answer(*known)


def _input(mailbox: Mailbox, model: LoadedModel, inputs: Inputs, run: protocol.Run, asked: Side) -> Prepared:
    side = replace(asked, reading=AS_FOUND, second="", captions="", edits=())
    prepared: Prepared | None = inputs.get(side)
    if prepared is None:
        data = _bytes(mailbox, run, side.input)
        prepared = model.prepare.otherwise(side.preparation)(open_pixels(data), open_exact(data))
        with contextlib.suppress(ValueError):  # it is larger than all that may be kept
            inputs[side] = prepared
    return prepared


def _bytes(mailbox: Mailbox, run: protocol.Run, name: str) -> bytes:
    """What the server has under a name: a picture's digest, or what is asked of a set.

    Raises:
        PreparationError: it says why it has nothing. HooksError: it has nothing else for this task, either.
    """
    mailbox.send(protocol.NeedInput(run.task, name))
    answer = mailbox.input(run.task)
    if answer.ends:
        raise HooksError(answer.sentence)
    if answer.sentence:
        raise PreparationError(answer.sentence)
    return answer.data
