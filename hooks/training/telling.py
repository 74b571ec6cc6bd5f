"""Whom a feed tells what: the console, once each; the feed itself; and who listens."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

from hookscope.hooks.results.feeds import Alarm, Look

_log = logging.getLogger("hookscope")

AFTER_THE_UPDATE = (
    "feed.step() was called after optimizer.step(), so that gradients are as they were used: clipped, if they were. "
    "Call it between loss.backward() and optimizer.step()."
)
OWN_PASSES = (
    "The optimiser runs the model itself, by the closure that its step is given: gradients are those of the last "
    "evaluation, and so are activations where the closure sets gradients to zero."
)
NO_GRADIENTS = (
    "There were no gradients when feed.step() was called, or only zeros. Call it after loss.backward(), and before "
    "optimizer.zero_grad()."
)
NO_UPDATE = (
    "No update of the optimiser that was given to hs.follow came after feed.step(), so the feed has none. Give it the "
    "optimiser that is used, and call feed.step() once for each update."
)
NO_NUMBER = (
    "The loss that feed.step() was given is no number but {kind}, and is left out. Give it the number, or the tensor "
    "that holds it: feed.step(loss=loss)."
)
NOT_A_NUMBER = (
    "What feed.step() was given as {name!r} is no number but {kind}, and is left out. Give it a number, or a tensor "
    "that holds one."
)
TOO_MANY_NAMES = (
    "More than {most} names were given to feed.step(), and numbers of further names are left out. Give each number the "
    "same name in every step."
)
OTHER_OPTIMIZERS = "The training's optimiser was replaced by another one, which is followed from here on."
NO_LOSS = (
    "The training step gave no loss in a step that was to be looked at, and no gradient came of it, so the step behind "
    "it is looked at instead."
)
DROPPED = "its feed being dropped, which nobody had closed"  # reads on behind "The run was ended by"
FEWER_LOOKS = "The feed's lines take more than half of limit_mb, so half as many steps are looked at from now on."


class Teller:
    """Tells everything once.

    Attributes:
        listeners: are called with each look that was written; and others when the feed is over.
    """

    def __init__(self) -> None:
        self.listeners: list[tuple[Callable[[Look], None], Callable[[], None]]] = []
        self._said: set[str] = set()
        self._notes: list[str] = []

    def say(self, *sentences: str) -> None:
        """Something about the looking itself, on the console and in the next line of the feed."""
        for sentence in sentences:
            if sentence in self._said:
                continue
            self._said.add(sentence)
            self._notes.append(sentence)
            try:
                warnings.warn(sentence, stacklevel=4)
            except UserWarning:  # where warnings are errors: even so the training goes on
                _log.warning("%s", sentence)

    def take_notes(self) -> tuple[str, ...]:
        """What was said since the last line."""
        notes, self._notes = tuple(self._notes), []
        return notes

    def tell(self, look: Look) -> None:
        """A look was written: its alarms for the console, all of it for who listens."""
        for alarm in look.alarms:
            _log.warning("%s", on_the_console(alarm, look.step))
        self._call(lambda log, end: log(look))

    def end(self) -> None:
        """The feed is over."""
        self._call(lambda log, end: end())

    def _call(self, work: Callable[[Callable[[Look], None], Callable[[], None]], None]) -> None:
        for listener in list(self.listeners):
            try:
                work(*listener)
            except Exception as error:
                self.listeners.remove(listener)
                self.say(
                    f"What listened to the feed failed ({type(error).__name__}: {error!s:.200}), and is called no "
                    "more. The training goes on."
                )


def on_the_console(alarm: Alarm, step: int) -> str:
    """An alarm in one line."""
    return f"Step {step:,}: {alarm.sentence} {alarm.advice}"
