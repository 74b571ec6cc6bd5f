"""The worker's own thread: load the model, then answer one batch of units after the other."""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Generator
from typing import Any

import torch

from hookscope.dashboard.asking.texts import say, shorten, text_of
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.protocol import EXIT_DEVICE_LOST
from hookscope.dashboard.sources.checkpoints import without_advice
from hookscope.dashboard.sources.load import LoadedModel, Prepared, load
from hookscope.dashboard.sources.preprocessing import PreparationError, open_png
from hookscope.dashboard.worker.handlers import handler_of
from hookscope.dashboard.worker.mailbox import Mailbox
from hookscope.dashboard.worker.task import SAID, Task, details_of
from hookscope.hooks.errors import HooksError

INPUT_BYTES = 16 * 2**20  # prepared inputs kept, so that a picture's next layer needs no decoding: about a hundred


class Inputs:
    """The inputs used last, prepared for the model."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Prepared] = OrderedDict()

    def get(self, digest: str) -> Prepared | None:
        """The input, if it is still here."""
        if digest in self._kept:
            self._kept.move_to_end(digest)
        return self._kept.get(digest)

    def put(self, digest: str, prepared: Prepared) -> None:
        """Keep an input; the least recently used leave when there are too many bytes of them."""
        self._kept[digest] = prepared
        while sum(each.pixels.nbytes for each in self._kept.values()) > INPUT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)


def work(mailbox: Mailbox, loaded: Callable[[], None] = lambda: None) -> None:
    """Load what the first message names, and answer until the mailbox ends it.

    Arguments:
        loaded: called once the model is there.
    """
    order = mailbox.order()
    if not isinstance(order, protocol.Load):
        raise RuntimeError("the first message has to be Load")
    model = _load(mailbox, order)
    loaded()
    mailbox.send(protocol.Ready(model.info))
    inputs = Inputs()
    while True:
        order = mailbox.order()
        if isinstance(order, protocol.Run):
            _answer(mailbox, model, inputs, order)


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


def _answer(mailbox: Mailbox, model: LoadedModel, inputs: Inputs, run: protocol.Run) -> None:
    task = Task(run, mailbox.send, lambda: mailbox.withdrawn(run.task))
    device_lost = False
    try:
        prepared = _input(mailbox, model, inputs, run)
        steps = handler_of(run.units[0].question)(model, task, prepared)
        if steps is not None:
            _walk(mailbox, model, inputs, task, steps)
    except BaseException as error:  # the model's code may raise what it likes; nobody can press Ctrl-C here
        if not isinstance(error, HooksError):
            # The page has the sentence; whoever wrote the model needs the line, and finds it once the page says so.
            print(details_of(error), file=sys.stderr, flush=True)
        task.hooks_changed()  # they are gone by now, and the page may ask as soon as it has the error
        task.fail_rest(error)
        device_lost = isinstance(error, getattr(torch, "AcceleratorError", ())) or "CUDA error" in text_of(error)
    finally:
        task.finish()
    mailbox.forget(run.task)
    mailbox.send(protocol.TaskDone(run.task))
    if device_lost:  # after such an error every call to the GPU fails until the process is a new one
        mailbox.end(EXIT_DEVICE_LOST)


def _walk(mailbox: Mailbox, model: LoadedModel, inputs: Inputs, task: Task, steps: Generator[Any]) -> None:
    """Send what a long question knows after each of its steps, the last as its answer; answer quick ones in between."""
    known = None
    with contextlib.closing(steps) as walk:
        for known in walk:
            task.partial(known)
            while (order := mailbox.next_order()) is not None:
                _answer(mailbox, model, inputs, order)
            if task.cancelled():
                return
    if known is not None:
        task.answer("", 0, known)


def _input(mailbox: Mailbox, model: LoadedModel, inputs: Inputs, run: protocol.Run) -> Prepared:
    digest = run.units[0].input
    prepared = inputs.get(digest)
    if prepared is None:
        mailbox.send(protocol.NeedInput(run.task, digest))
        answer = mailbox.input(run.task)
        if answer.sentence:
            raise PreparationError(answer.sentence)
        prepared = model.prepare(open_png(answer.data))
        inputs.put(digest, prepared)
    return prepared
