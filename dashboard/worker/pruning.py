"""How many channels of a layer could go, over the first pictures of a set.

What was read of a set, and which channels matter over it, stays here for the next layer of the same set; a curve that
was stopped goes on where it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

from torch import Tensor

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import PrunableOf, PruningOf
from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.worker.reading import Drawn, Reading, read_first
from hookscope.dashboard.worker.sweeping import blank
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.datasets.importance import importance
from hookscope.hooks.datasets.pruning import SHARES, curve_as_measured
from hookscope.hooks.datasets.removal import Place, prunable
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.results.importance import LayerImportance
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.prunable import Pruned

SETS = 1  # whose pictures are held
FIRST = (0.01, 0.02)  # shares of the channels before the library's: of some layers next to none can go


@dataclass
class Sampled(Drawn):
    """Pictures of a set, and what is known of a model's layers over them.

    Attributes:
        importances: of the layers that were asked for, and of all once a second one was.
        layers: the model's layers, as they are for such a picture.
    """

    importances: dict[Place, LayerImportance] = field(default_factory=dict)
    layers: tuple[LayerInfo, ...] = ()


def prunable_layers(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the layers of which channels could be removed, and what that saves.

    Raises:
        HooksError: the model is given several pictures at once, or no picture can be read.
    """
    asked: PrunableOf = task.question
    reading = read_first(model, task, Sampled(), asked.total, 8)
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
    reading = read_first(model, task, sampled, asked.total, asked.pictures)
    layer, call = parse_key(asked.place)
    layer, _ = Finder(model.module, model.info.layers).find(layer)
    task.start()
    with looking(progress=lambda done, total: task.progress(done, max(asked.pictures, total))):
        matters = _importance(model, reading, sampled, (layer, call))
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


def _recorded(model: LoadedModel, reading: Reading) -> tuple[Tensor, tuple[LayerInfo, ...]]:
    """A picture, and the layers as they are for it."""
    try:
        return blank(model), model.info.layers
    except HooksError:  # it takes pictures of any size: the set's own say which
        picture = reading.first()
        return picture, tuple(describe(model.module, picture))


def _importance(model: LoadedModel, reading: Reading, sampled: Sampled, place: Place) -> LayerImportance:
    """How much each channel of a layer matters; once a second layer is asked for, all are asked in one go."""
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
