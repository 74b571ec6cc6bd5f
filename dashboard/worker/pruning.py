"""How many channels of a layer could go, over the first pictures of a set.

What was read of a set, and which channels matter over it, stays here for the next layer of the same set; a curve that
was stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import PrunableOf, PruningOf
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.sources.preprocessing import PreparationError, open_exact, open_pixels
from hookscope.dashboard.worker.sweeping import BATCH_SECONDS, ONE_PICTURE, blank
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.datasets.importance import importance
from hookscope.hooks.datasets.pruning import SHARES, curve_as_measured
from hookscope.hooks.datasets.removal import Place, prunable
from hookscope.hooks.errors import Cancelled, HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.importance import LayerImportance
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.prunable import Pruned

SETS = 1  # whose pictures are held
HELD_BYTES = 128 << 20  # of prepared pictures; the others are read anew for each layer
LOOKED_AT = 2  # times as many pictures as are wanted, at most, where some cannot be read
MOST_AT_ONCE = 8
FIRST = (0.01, 0.02)  # shares of the channels before the library's: of some layers next to none can go


@dataclass
class Sampled:
    """Pictures of a set.

    Attributes:
        numbers: those that can be read, in their order; none before all were read once.
        held: prepared, as many as fit, by number.
        importances: of the layers that were asked for, and of all once a second one was.
        layers: the model's layers, as they are for such a picture.
    """

    numbers: list[int] = field(default_factory=list)
    held: dict[int, Tensor] = field(default_factory=dict)
    importances: dict[Place, LayerImportance] = field(default_factory=dict)
    layers: tuple[LayerInfo, ...] = ()


@dataclass
class _Reading:
    """Reads the first pictures of a task's set.

    Attributes:
        total: how many the set has. wanted: how many are to be read.
        paced: how many go into a pass, so that a click waits no longer than it may.
        refused: why the last one that cannot be read cannot.
    """

    model: LoadedModel
    task: Task
    sampled: Sampled
    total: int
    wanted: int
    paced: int = 1
    refused: str = "the set is empty."

    def numbered(self, begin: int = 0) -> Iterator[tuple[int, Tensor]]:
        """The number and the prepared picture of each, from the first, or a later one, on.

        Raises:
            Cancelled: nobody waits any more. HooksError: a picture that could be read before cannot any more.
        """
        if self.sampled.numbers:
            for number in self.sampled.numbers[begin:]:
                picture = self._prepared(number)
                if picture is None:
                    raise HooksError("A picture of this set can no longer be read. Choose the set again.")
                yield number, picture
            return
        found: list[int] = []
        for number in range(min(self.total, LOOKED_AT * self.wanted)):
            if len(found) == self.wanted:
                break
            picture = self._prepared(number)
            if picture is not None:
                found.append(number)
                yield number, picture
        self.sampled.numbers = found

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
        known = self.sampled.held.get(number)
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
        if sum(each.nbytes for each in self.sampled.held.values()) + tensor.nbytes <= HELD_BYTES:
            self.sampled.held[number] = tensor
        return tensor.to(self.model.device)


def prunable_layers(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the layers of which channels could be removed, and what that saves.

    Raises:
        HooksError: the model is given several pictures at once, or no picture can be read.
    """
    asked: PrunableOf = task.question
    reading = _reading(model, task, Sampled(), asked.total, 8)
    picture, layers = _recorded(model, reading)
    task.start()
    task.tell("", 0, prunable(model.module, picture, layers))


def measure_pruning(model: LoadedModel, task: Task, prepared: Prepared) -> Generator[Pruned]:
    """Answer with what the model does without the least important channels of a layer, after each picture.

    Raises:
        HooksError: the channels of this layer cannot be muted, or the model's answer has no first class; or no picture
            can be read, or the model is given several at once.
    """
    asked: PruningOf = task.question
    about = task.side, asked.total, asked.pictures
    sampled = task.sampled().get(about) or Sampled()
    reading = _reading(model, task, sampled, asked.total, asked.pictures)
    layer, call = parse_key(asked.place)
    layer, _ = Finder(model.module, model.info.layers).find(layer)
    task.start()
    with looking(progress=lambda done, total: task.progress(done, max(asked.pictures, total))):
        matters = _importance(model, reading, (layer, call))
    task.sampled()[about] = sampled
    kept = task.done_before()
    before: Pruned | None = kept.get("found") if kept.get("numbers") == sampled.numbers else None
    kept["numbers"] = sampled.numbers
    done = 0 if before is None else before.curve.pictures
    if before is not None:
        yield before
    if done == len(sampled.numbers):
        return
    labelled = (
        (picture, [asked.labels[number] if number < len(asked.labels) else -1])
        for number, picture in reading.numbered(done)
    )
    order, shares = matters.order(asked.by), _shares(matters)
    with looking(progress=lambda more, total: task.progress(done + more, len(sampled.numbers))):
        for curve in curve_as_measured(
            model.module,
            labelled,
            layer,
            order,
            call=call,
            shares=shares,
            random_orders=asked.orders,
            described=sampled.layers,
        ):
            so_far = curve if before is None else before.curve + curve
            kept["found"] = Pruned(matters, so_far, len(sampled.numbers))
            yield kept["found"]


def _shares(matters: LayerImportance) -> tuple[float, ...]:
    """Of how many channels the curve is measured: among others of all those that no picture's answer depends on."""
    useless = float((matters.magnitudes == 0).mean())
    return (*FIRST, *SHARES, useless) if 0 < useless < 1 else (*FIRST, *SHARES)


def _reading(model: LoadedModel, task: Task, sampled: Sampled, total: int, wanted: int) -> _Reading:
    """
    Raises:
        HooksError: the model is given several pictures at once.
    """
    if model.info.pictures or model.info.preprocessing.frames:
        raise HooksError(ONE_PICTURE)
    return _Reading(model, task, sampled, total, wanted)


def _recorded(model: LoadedModel, reading: _Reading) -> tuple[Tensor, tuple[LayerInfo, ...]]:
    """A picture, and the layers as they are for it."""
    try:
        return blank(model), model.info.layers
    except HooksError:  # it takes pictures of any size: the set's own say which
        picture = reading.first()
        return picture, tuple(describe(model.module, picture))


def _importance(model: LoadedModel, reading: _Reading, place: Place) -> LayerImportance:
    """How much each channel of a layer matters; once a second layer is asked for, all are asked in one go."""
    sampled = reading.sampled
    if place in sampled.importances:
        return sampled.importances[place]
    if not sampled.layers:
        _, sampled.layers = _recorded(model, reading)
    _try(model, reading.first(), place, sampled.layers)
    found = importance(model.module, reading.batches(), described=sampled.layers) if sampled.importances else ()
    if place not in {(each.layer, each.call) for each in found}:
        found += importance(model.module, reading.batches(), [place[0]], described=sampled.layers)
    sampled.importances |= {(each.layer, each.call): each for each in found}
    return sampled.importances[place]


def _try(model: LoadedModel, picture: Tensor, place: Place, layers: tuple[LayerInfo, ...]) -> None:
    """Measure a point of one picture, so that what cannot be measured at all is said at once.

    Raises:
        HooksError: why not.
    """
    layer, call = place
    with looking(progress=None):
        trial = curve_as_measured(
            model.module, [picture], layer, call=call, shares=(0.5,), random_orders=0, described=layers
        )
        deque(trial, maxlen=0)
