"""The first pictures of a set, prepared for a model: read once, and held as far as there is room."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hookscope.dashboard.engine import protocol
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import PreparationError, open_exact, open_pixels
from hookscope.dashboard.worker.sweeping import BATCH_SECONDS, ONE_PICTURE
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.errors import Cancelled, HooksError

HELD_BYTES = 128 << 20  # of prepared pictures; the others are read anew
LOOKED_AT = 2  # times as many pictures as are wanted, at most, where some cannot be read
MOST_AT_ONCE = 8


@dataclass
class Drawn:
    """Pictures of a set.

    Attributes:
        numbers: those that can be read, in their order; none before all were read once.
        held: prepared, as many as fit, by number.
    """

    numbers: list[int] = field(default_factory=list)
    held: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Reading:
    """Reads the first pictures of a task's set.

    Attributes:
        total: how many the set has. wanted: how many are to be read. order: in which they are tried; () for the set's.
        paced: how many go into a pass, so that a click waits no longer than it may.
        refused: why the last one that cannot be read cannot.
    """

    model: LoadedModel
    task: Task
    drawn: Drawn
    total: int
    wanted: int
    order: tuple[int, ...] = ()
    paced: int = 1
    refused: str = "the set is empty."

    def numbered(self, begin: int = 0) -> Iterator[tuple[int, Tensor]]:
        """The number and the prepared picture of each, from the first, or a later one, on.

        Raises:
            Cancelled: nobody waits any more. HooksError: a picture that could be read before cannot any more.
        """
        if self.drawn.numbers:
            for number in self.drawn.numbers[begin:]:
                picture = self._prepared(number)
                if picture is None:
                    raise HooksError("A picture of this set can no longer be read. Choose the set again.")
                yield number, picture
            return
        found: list[int] = []
        for number in self.order or range(min(self.total, LOOKED_AT * self.wanted)):
            if len(found) == self.wanted:
                break
            picture = self._prepared(number)
            if picture is not None:
                found.append(number)
                yield number, picture
        self.drawn.numbers = found

    def first(self) -> Tensor:
        """The first one.

        Raises:
            HooksError: none can be read.
        """
        for _, picture in self.numbered():
            return picture
        raise HooksError(f"None of the first pictures of this set can be read. Of one it is said: {self.refused}")

    def batches(self) -> Iterator[Tensor]:
        """All, several of one size together, as many as take about as long as a click may wait."""
        waiting: list[Tensor] = []
        for _, picture in self.numbered():
            if waiting and (len(waiting) >= self.paced or waiting[0].shape != picture.shape):
                yield from self._paced(waiting)
                waiting = []
            waiting.append(picture)
        if waiting:
            yield from self._paced(waiting)

    def _paced(self, pictures: list[Tensor]) -> Iterator[Tensor]:
        began = time.monotonic()
        yield torch.cat(pictures)
        took = time.monotonic() - began
        if took > BATCH_SECONDS:
            self.paced = max(1, self.paced // 2)
        elif took < BATCH_SECONDS / 2 and len(pictures) == self.paced:
            self.paced = min(2 * self.paced, MOST_AT_ONCE)

    def _prepared(self, number: int) -> Tensor | None:
        """A picture; None if it cannot be read."""
        known = self.drawn.held.get(number)
        if known is not None:
            return known.to(self.model.device)
        try:
            data = self.task.read(f"{self.task.side.input}/{number}")
            prepare = self.model.prepare.otherwise(self.task.side.preparation)
            tensor = prepare(open_pixels(data), open_exact(data)).tensor
        except PreparationError as refused:
            if str(refused) == protocol.JOB_OVER:  # which says nothing of the picture
                raise Cancelled from None
            self.refused = str(refused)
            return None
        if sum(each.nbytes for each in self.drawn.held.values()) + tensor.nbytes <= HELD_BYTES:
            self.drawn.held[number] = tensor
        return tensor.to(self.model.device)


def read_first(
    model: LoadedModel, task: Task, drawn: Drawn, total: int, wanted: int, order: tuple[int, ...] = ()
) -> Reading:
    """What reads the first pictures of a task's set; see `Reading`.

    Raises:
        HooksError: the model is given several pictures at once.
    """
    if model.info.pictures or model.info.preprocessing.frames:
        raise HooksError(ONE_PICTURE)
    return Reading(model, task, drawn, total, wanted, order)
