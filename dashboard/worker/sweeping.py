"""A sweep over a set of pictures, a part of it at a time: what was found is kept here from part to part.

The server has what was found after each part, and gives it to a worker that has not found it itself: after a death, a
restart, or where another worker did the part before.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from hookscope.dashboard.asking.questions import SweepOf
from hookscope.dashboard.asking.texts import say
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import PreparationError, open_exact, open_pixels
from hookscope.dashboard.worker.out_of_memory import is_want_of_memory
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.datasets.collecting import Collector
from hookscope.hooks.datasets.collectors import (
    AnswersCollector,
    FeaturesCollector,
    PlacesCollector,
    SampleCollector,
    StatisticsCollector,
)
from hookscope.hooks.datasets.galleries import TopCollector
from hookscope.hooks.datasets.levels import LevelsCollector
from hookscope.hooks.datasets.profiles import ProfileCollector
from hookscope.hooks.datasets.sweeping import Sweeping
from hookscope.hooks.datasets.vectors import VectorsCollector
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.axes import hookable
from hookscope.hooks.layers.names import select
from hookscope.hooks.layers.penultimate import penultimate
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results import pyramid
from hookscope.hooks.results.codec import CodecError, decode
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.raw_boxes import LEAST_SCORE
from hookscope.hooks.results.set_answers import Frames
from hookscope.hooks.results.sweeps import Firing, Sweep, SweepNow, count_firing

BATCH_SECONDS = 0.15  # of a pass: a click waits for it
MOST_AT_ONCE = 32
TOLD_SECONDS = 0.3  # between two looks at how many channels fire
RANKED, DRAWN = 9, 32  # pictures that are kept of each channel: the strongest, and drawn ones
COMPARED = 128  # pictures whose means are kept, to compare sets by
PLACED = 2  # of each so many of these a place is kept, from which information is told
PROFILE_BYTES = 16  # of a picture and a layer
STATE_BYTES = 100_000_000  # of what is kept of all channels; of a model with more channels fewer pictures are drawn
ALL_FAIL = 8  # pictures, after which a model that has answered none is not shown more
KEPT = 2  # sets that are swept in turns without being read anew
ONE_PICTURE = "A set is looked at one picture at a time, and this model is given several at once."


@dataclass
class SetSweep:
    """What is known of a set in a model.

    Attributes:
        run: what this worker found. before: what had been found, None if nothing. unread, frames: as `Sweep` has them.
        seen: pictures that were looked at or refused. at_once: pictures of a batch.
    """

    run: Sweeping
    statistics: StatisticsCollector
    answers: AnswersCollector
    before: Sweep | None = None
    unread: dict[int, str] = field(default_factory=dict)
    frames: dict[int, tuple[float, ...]] = field(default_factory=dict)
    seen: int = 0
    at_once: int = 1
    careful: bool = False
    firing: tuple[Firing, ...] = ()
    told: float = 0.0

    def found(self) -> Sweep:
        """Everything."""
        numbers = np.array(sorted(self.frames), np.int64)
        boxes = np.array([self.frames[number] for number in sorted(self.frames)], np.float32).reshape(-1, 4)
        unread = tuple(sorted(self.unread.items()))
        found = replace(self.run.found(), unread=unread, frames=Frames(numbers, boxes))
        return found if self.before is None else self.before + found

    def now(self) -> SweepNow:
        """What is told of it often."""
        if time.monotonic() - self.told > TOLD_SECONDS:
            self.firing = self._count()
            self.told = time.monotonic()
        found = self.answers.found()
        answers, notes = found["answers"], found["notes"]
        if self.before is not None and self.before.answers is not None:
            answers = self.before.answers if answers is None else self.before.answers.merged(answers)
        return SweepNow(self.seen, answers, self.firing, tuple(sorted(self.unread.items())), notes)

    def _count(self) -> tuple[Firing, ...]:
        earlier = {} if self.before is None else {(each.layer, each.call): each for each in self.before.statistics}
        counted = []
        for place, (fired, inputs, activation) in self.statistics.fired().items():
            known = earlier.pop(place, None)
            if known is not None:
                fired, inputs = fired + known.fired, inputs + known.inputs
            counted.append(count_firing(*place, fired, inputs, activation))
        return tuple(counted)

    def pace(self, seconds: float, pictures: int) -> None:
        """Have the next batch take about as long as a click may wait."""
        if self.careful:
            return
        if seconds < BATCH_SECONDS / 2 and pictures == self.at_once:
            self.at_once = min(2 * self.at_once, MOST_AT_ONCE)
        elif seconds > BATCH_SECONDS:
            self.at_once = max(1, self.at_once // 2)


class _Failed(Exception):
    """A batch failed, and what was found since the part began is half done; the attributes say what to do about it."""

    def __init__(self, numbers: Sequence[int], error: Exception) -> None:
        super().__init__(str(error))
        self.numbers, self.error = numbers, error


def sweep_set(model: LoadedModel, task: Task) -> Generator[Sweep | SweepNow]:
    """Yield what is known after each batch, and what was found when the part's time is over or the set is at its end.

    Raises:
        HooksError: the model is given several pictures at once.
    """
    if model.info.pictures or model.info.preprocessing.frames:
        raise HooksError(ONE_PICTURE)
    asked: SweepOf = task.question
    sweeps = task.sweeps()
    known = sweeps.pop(task.side, None)  # and back when the part is whole: what stops it leaves it half done
    if known is None or known.seen != asked.seen:
        known = _begin(model, task)
    task.start()
    until = time.monotonic() + asked.seconds
    while known.seen < asked.total:
        numbers = range(known.seen, min(known.seen + known.at_once, asked.total))
        try:
            for batch, tensor in _batches(model, task, known, numbers):
                _add(known, batch, tensor)
        except _Failed as failed:
            known = _again(model, task, known, failed)
            continue
        known.seen = numbers.stop
        task.progress(known.seen, asked.total)
        if time.monotonic() > until:
            break
        yield known.now()
    found = known.found()
    sweeps[task.side] = known
    yield found


def _begin(model: LoadedModel, task: Task) -> SetSweep:
    """With what the server has of it."""
    before: Sweep | None = None
    if data := task.read(f"{task.side.input}/found"):
        try:
            before = decode(data, Sweep)
        except CodecError as error:
            raise HooksError(
                f"What was found of this set before cannot be read ({error}). Delete it, and sweep the set again."
            ) from error
    names = list(hookable(select(model.module, "*")))
    drawn, compared = _affordable(model.info.layers)
    numbers, answers = StatisticsCollector(names, 0.0, 256), AnswersCollector()
    collectors: list[Collector] = [
        numbers,
        TopCollector(names, RANKED, drawn),
        SampleCollector(names, compared),
        PlacesCollector(names, compared // PLACED),
        answers,
        ProfileCollector(names[:: _apart(len(names), task.question.total)]),
    ]
    if (last := penultimate(model.info.layers)) is not None:
        collectors.append(FeaturesCollector(last[0]))
    if model.info.form() == "boxes" and (levels := pyramid.levels(model.info.layers)):
        collectors.append(LevelsCollector(levels, LEAST_SCORE))
    if model.info.answer.reading.reads == "embedding":
        collectors.append(VectorsCollector())
    run = Sweeping(model.module, collectors, described=model.info.layers)
    known = SetSweep(run, numbers, answers, before)
    if before is not None:
        known.unread = dict(before.unread)
        known.seen = len(before.pictures) + len(before.unread)
    return known


def _apart(layers: int, pictures: int) -> int:
    """Every how-manieth layer has numbers of each picture kept."""
    return max(1, -(-layers * pictures * PROFILE_BYTES // STATE_BYTES))


def _affordable(layers: Sequence[LayerInfo]) -> tuple[int, int]:
    """How many pictures are drawn for galleries, and how many to compare sets by."""
    channels = sum(
        size
        for layer in layers
        if layer.leaf and not layer.operation
        for call in layer.calls
        for size, axis in zip(call.shape, call.axes, strict=True)
        if axis in ("channel", "feature")
    )
    left = STATE_BYTES / max(channels, 1) - 2 * RANKED * 16
    share = min(1.0, max(left, 0) / (DRAWN * 8 + COMPARED * 4 + COMPARED // PLACED * 4))
    return max(8, int(DRAWN * share)), max(16, int(COMPARED * share))


def blank(model: LoadedModel) -> Tensor:
    """A picture of the model's size that shows nothing, float (1, channel, height, width).

    Raises:
        HooksError: the model takes pictures of any size, or several at once.
    """
    way = model.info.preprocessing
    size = way.crop if all(way.crop) else way.resize
    if not isinstance(size, tuple) or model.info.pictures or way.frames:
        raise HooksError("This model takes pictures of any size, so where its units look is not the same for all.")
    return torch.zeros(1, way.channels, *size, device=model.device)


def _batches(
    model: LoadedModel, task: Task, known: SetSweep, numbers: Sequence[int]
) -> Iterator[tuple[list[int], Tensor]]:
    """The pictures of these numbers prepared for the model, those of one size together; the others are noted."""
    prepare = model.prepare.otherwise(task.side.preparation)
    numbered: list[int] = []
    tensors: list[Tensor] = []
    for number in numbers:
        if number in known.unread:
            continue
        try:
            data = task.read(f"{task.side.input}/{number}")
            picture = open_pixels(data)
            prepared = prepare(picture, open_exact(data))
            tensor = prepared.tensor
        except PreparationError as refused:
            known.unread[number] = str(refused)
            continue
        if tensors and tensor.shape != tensors[0].shape:
            yield numbered, torch.cat(tensors)
            numbered, tensors = [], []
        left, top, right, bottom = prepared.crop
        width, height = picture.size
        known.frames[number] = left / width, top / height, right / width, bottom / height
        numbered.append(number)
        tensors.append(tensor)
    if tensors:
        yield numbered, torch.cat(tensors)


def _add(known: SetSweep, numbers: list[int], pictures: Tensor) -> None:
    began = time.monotonic()
    try:
        with looking(cancelled=None, progress=None):  # a batch is whole or not at all; it is stopped between two
            known.run.add(pictures, np.array(numbers))
    except Exception as error:  # the model's code may raise what it likes
        raise _Failed(numbers, error) from error
    known.pace(time.monotonic() - began, len(numbers))


def _again(model: LoadedModel, task: Task, known: SetSweep, failed: _Failed) -> SetSweep:
    """Begin the part anew, one picture at a time, without the one at which it failed.

    Raises:
        Exception: the model has answered none of several pictures, or there is not enough memory for one.
    """
    alone = len(failed.numbers) == 1
    unread = known.unread
    if alone:
        unread[failed.numbers[0]] = f"The model failed at this picture: {say(failed.error)}."
    again = _begin(model, task)
    answered_none = again.before is None or not len(again.before.pictures)
    if alone and (is_want_of_memory(failed.error) or (answered_none and len(unread) >= ALL_FAIL)):
        raise failed.error
    again.unread = unread
    again.careful = True
    return again
