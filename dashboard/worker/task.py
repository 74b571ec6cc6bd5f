"""A batch of units that a worker answers: who still waits, what was sent, and the sentence where something failed."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.asking.texts import say, shorten
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import Prepared
from hookscope.dashboard.worker.fitting import AnswerTooLarge, fit
from hookscope.dashboard.worker.out_of_memory import is_want_of_memory
from hookscope.hooks.errors import HooksError
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.codec import encode
from hookscope.hooks.results.looks import LiveHook

SAID = 20_000  # characters of a sentence, which may name several layers
DETAILS = 20_000  # characters of a traceback; a message in it may be of any length
PARTIAL_SECONDS = 0.1  # between two of what is known so far
PROGRESS_SECONDS = 0.2  # between two messages about how far a long task is


class Task:
    """A batch of units that is being answered.

    Arguments:
        send: to the server. withdrawn: the units that nobody waits for any more, at this moment.
        meanwhile: answers quick questions that have come; called where no hook of this task is on the model.
    """

    def __init__(
        self,
        run: protocol.Run,
        send: Callable[[protocol.FromWorker], None],
        withdrawn: Callable[[], frozenset[Unit]],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        self.units = run.units
        self.side = run.units[0].side
        self.question: Any = run.units[0].question
        self.other: Prepared | None = None  # the picture to whose likeness a target refers
        self.beside_other: Prepared | None = None  # the second picture beside that one
        self.second: Prepared | None = None  # of a model that takes two pictures
        self.plain: Callable[[], AbstractContextManager[None]] = nullcontext  # without the side's edits, for a while
        self.against: Prepared | None = None  # the other side's picture, of a question about two
        self.partner: LoadedModel | None = None  # its model, where that is another one
        self.fetch: Callable[[Side], Prepared]  # any other picture, prepared for the model
        self.read: Callable[[str], bytes]  # what the server has under a name, as it is
        self.done_before: Callable[[], dict[Any, Any]] = (
            dict  # what a question of minutes keeps for the next who asks it
        )
        self.sweeps: Callable[[], Any] = dict  # the sets that are swept, by side
        self.sampled: Callable[[], Any] = dict  # the sets of which some pictures were read, see `worker.reading`
        self._number = run.task
        self._send = send
        self._withdrawn = withdrawn
        self.meanwhile = meanwhile
        self._settled: set[Unit] = set()
        self._hooks: tuple[LiveHook, ...] = ()
        self._asked = 0
        self._held: protocol.Answered | None = None
        self._told = time.monotonic()
        self._shown = 0.0

    def open_units(self) -> list[Unit]:
        """The units that somebody still waits for."""
        withdrawn = self._withdrawn()
        return [unit for unit in self.units if unit not in self._settled and unit not in withdrawn]

    def start(self) -> None:
        """The forward pass begins."""
        for unit in self.open_units():
            self._send(protocol.Started(self._number, unit))

    def cancelled(self) -> bool:
        """Whether nobody waits for any of it; asked before every module, so also the place to see the hooks."""
        self._asked += 1
        if self._asked == 2:  # the first time is before the hook that asks is registered itself
            self.hooks_changed()
        return bool(self._withdrawn()) and not self.open_units()

    def still_wanted(self, layer: str, call: int) -> bool:
        """Whether somebody waits for this call of this layer."""
        return bool(self._about(layer, call))

    def answer(self, layer: str, call: int, result: Any) -> None:
        """Send the result to whoever asked about this call of this layer.

        The last answer is held back until `finish`: when it arrives, the hooks are gone.
        """
        try:
            data = encode(fit(result, protocol.ANSWER_BYTES))
        except AnswerTooLarge as error:
            self.tell(layer, call, error)
            return
        for unit in self._about(layer, call):
            self._settled.add(unit)
            message = protocol.Answered(self._number, unit, data)
            if self.open_units():
                self._send(message)
            else:
                self._held = message

    def partial(self, layer: str, call: int, result: Any) -> None:
        """Send what is known of a call of a layer so far; what follows another too soon is left out."""
        if time.monotonic() - self._shown > PARTIAL_SECONDS:
            self._shown = time.monotonic()
            data = encode(result)
            for unit in self._about(layer, call):
                self._send(protocol.Partial(self._number, unit, data))

    def progress(self, done: int, total: int) -> None:
        """Tell how many pictures the task has run, now and then; called between two passes."""
        if time.monotonic() - self._told > PROGRESS_SECONDS:
            self._told = time.monotonic()
            self._send(protocol.Progress(self._number, done, total))
        self.meanwhile()

    def fail(self, unit: Unit, error: BaseException) -> None:
        """Send why there is no answer."""
        self._settled.add(unit)
        if isinstance(error, HooksError):
            self._send(protocol.Failed(self._number, unit, shorten(str(error), SAID), final=True))
        else:
            self._send(protocol.Failed(self._number, unit, sentence_for(error, unit), details_of(error)))

    def tell(self, layer: str, call: int, found: Any) -> None:
        """Send what was found of this call of this layer, or why nothing was."""
        if isinstance(found, HooksError):
            for unit in self._about(layer, call):
                self.fail(unit, found)
        else:
            self.answer(layer, call, found)

    def fail_rest(self, error: BaseException) -> None:
        """Send to every unit without an answer why there is none."""
        for unit in self.open_units():
            self.fail(unit, error)

    def take_back(self) -> None:
        """Have the answer that is held back be none: what it was computed under did not hold."""
        if self._held is not None:
            self._settled.discard(self._held.unit)
            self._held = None

    def finish(self) -> None:
        """Say that the hooks are gone, and then the last answer."""
        self.hooks_changed()
        if self._held is not None:
            self._send(self._held)

    def _about(self, layer: str, call: int) -> list[Unit]:
        return [unit for unit in self.open_units() if (unit.layer, unit.call) == (layer, call)]

    def hooks_changed(self) -> None:
        """Tell the server which hooks are on the model, if that is news."""
        hooks = live_hooks()
        if hooks != self._hooks:
            self._hooks = hooks
            self._send(protocol.HooksLive(hooks))


def details_of(error: BaseException) -> str:
    """An exception with its traceback; of a very long one the beginning and the end."""
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= DETAILS else f"{text[: DETAILS // 2]}\n...\n{text[-DETAILS // 2 :]}"


def sentence_for(error: BaseException, unit: Unit) -> str:
    """What went wrong in the model's own code, for the person who asked."""
    where = f" of {unit.layer!r}" if unit.layer else ""
    doing = f"computing {unit.title}"
    if is_want_of_memory(error):
        return (
            f"There was not enough memory for {doing}{where}. "
            "Choose fewer layers at once, close other programs, or start with --device cpu."
        )
    return f"The model failed while {doing}{where}: {say(error)}. The terminal shows where in its code."
