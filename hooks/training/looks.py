"""One step that was looked at, from what was read of it to the line that is written."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.passes import nested
from hookscope.hooks.results.feeds import COLUMNS, PLACES, Alarm, Given, Look
from hookscope.hooks.training.alarms import Alarms, Evidence
from hookscope.hooks.training.producers import Made, find_producer
from hookscope.hooks.training.reading import Reading
from hookscope.hooks.training.watching import Watching
from hookscope.hooks.training.weights import NO_SCALER, Moment, Scale

MEAN = 1  # as torch numbers the ways in which a loss is made one number
_BATCH_ADVICE = (
    "Look at how this batch was made: a division by a deviation of 0, a missing value, a file that is damaged."
)
_WEIGHTS_ADVICE = "Go back to a checkpoint before this step; look at the learning rate, and clip gradients."


@dataclass
class Step:
    """A step while it is looked at.

    Attributes:
        watching: its forward passes. moment: its gradients and weights, once they were read.
        scale: the scaler as it was when the last pass began. behind: the same when `moment` was read.
        waiting: the optimisers whose update has not come. read: those of which it was told that their gradients are
            ready. early: whether `moment` is from before the forward pass, which an optimiser runs itself.
        skipped: whether the scaler left the update out. halves: whether it computes in float16. cost: in seconds.
        announced: whether it was said before each update that it comes.
        made: what makes values that are not finite, if it was looked for. repeated: whether it was.
        nan_given, inf_given: how many NaN and infinite values are in what the model was given, if it was looked at.
    """

    watching: Watching
    waiting: set[int]
    scale: Scale = NO_SCALER
    behind: Scale = NO_SCALER
    moment: Moment | None = None
    read: set[int] = field(default_factory=set)
    early: bool = False
    skipped: bool = False
    number: int = 0
    loss: Any = None
    halves: bool = False
    cost: float = 0.0
    announced: bool = False
    made: Made | None = None
    repeated: bool = False
    nan_given: int = 0
    inf_given: int = 0

    def repeat_if_broken(self, model: nn.Module, owner: str, loss: float | None) -> None:
        """If the loss is not finite, see now what makes it so: the update makes the weights like it.

        Arguments:
            loss: None where it has to be read from a device, or there is none.
        """
        if loss is None and isinstance(self.loss, Tensor):
            loss = float(self.loss.detach())
        if loss is not None and not math.isfinite(loss) and self.moment is not None and not self.moment.updated:
            self.repeat(model, owner)

    def repeat(self, model: nn.Module, owner: str) -> None:
        """Run the batch once more, to see what makes a value that is not finite."""
        watching = self.watching
        if watching.given is None:
            return
        given = [each for _, each in nested.tensors(watching.given) if each.layout == torch.strided]
        self.nan_given, self.inf_given = (
            sum(int(is_so(each).sum()) for each in given) for is_so in (torch.isnan, torch.isinf)
        )
        with contextlib.suppress(Exception):  # the batch may have been written over; what was seen has to do
            self.made = find_producer(model, watching.given, watching.autocast, watching.inputs, owner)
            self.repeated = True

    @property
    def updated(self) -> bool:
        """Whether any update was seen."""
        return self.moment is not None and self.moment.updated

    def see_skip(self, now: Scale) -> None:
        """Whether the scaler left the update out since the moment was read: its scale fell."""
        self.skipped = self.skipped or (now.fell_since(self.behind) and not (self.moment and self.moment.updated))


@dataclass
class Looked:
    """What came of a step.

    Attributes:
        bins: by "a/LAYER", "g/LAYER" and "w/LAYER" uint32 (bin,).
    """

    step: Step
    layers: tuple[str, ...]
    numbers: np.ndarray
    bins: dict[str, np.ndarray]
    loss: float
    given: Given
    alarms: tuple[Alarm, ...]
    over: tuple[tuple[str, str], ...]
    skipped: bool

    def look(self, number: int, time: float, notes: tuple[str, ...]) -> Look:
        """As it is read later."""
        moment, watching = self.step.moment, self.step.watching
        own = {name: np.array(watching.own_of(name, self.layers), np.float64) for name in watching.own}
        assert moment is not None
        return Look(
            self.step.number,
            number,
            time,
            self.layers,
            self.numbers,
            loss=self.loss,
            given=self.given,
            scalars={name: rows[-1][1] for name, rows in self.given.numbers.items() if rows[-1][0] == self.step.number},
            rates=moment.rates,
            scale=moment.scale,
            skipped=self.skipped,
            own=own,
            alarms=self.alarms,
            over=self.over,
            notes=notes,
        )

    @staticmethod
    def costing(look: Look, seconds: float) -> Look:
        """The same, with what it took."""
        return dataclasses.replace(look, cost=seconds)


def numbers_of(step: Step, model: nn.Module, alarms: Alarms, given: Given, scaled: bool, owner: str) -> Looked:
    """Read everything that was queued, and go through the rules.

    Arguments:
        given: what the steps since the last look were given. scaled: whether there is a scaler.
        owner: what `live_hooks` shows.
    """
    moment, outputs = step.moment, step.watching.found()
    assert moment is not None
    moment.settle()
    own = {each.layer: each for each in moment.layers}
    titles = {place: place[0] + (f":{place[1] + 1}" if place[1] else "") for place in outputs}
    layers = tuple(dict.fromkeys((*titles.values(), *own)))
    rows, bins = np.full((len(layers), len(COLUMNS)), np.nan), dict[str, np.ndarray]()
    where = {layer: index for index, layer in enumerate(layers)}

    def put(layer: str, group: str, values: Mapping[str, float], reading: Reading | None = None) -> None:
        for name, value in values.items():
            rows[where[layer], PLACES[group, name]] = value
        if reading is not None:
            bins[f"{group}/{layer}"] = np.minimum(reading.bins, np.iinfo(np.uint32).max).astype(np.uint32)

    for place, reading in outputs.items():
        put(titles[place], "a", _of_activations(reading), reading)
    for each in moment.layers:
        if each.gradient is not None:
            put(each.layer, "g", _of_gradients(each.gradient), each.gradient)
        if each.weight is not None:
            put(each.layer, "w", _of_weights(each.weight), each.weight)
        if each.layer in moment.ratios:
            put(each.layer, "u", {"ratio": moment.ratios[each.layer]})
    last = given.losses[-1:]
    loss = last[0][1] if last and last[0][0] == step.number else math.nan
    evidence = _evidence(step, moment, outputs, titles, loss, scaled)
    evidence.not_finite = _not_finite(step, model, moment, outputs, titles, loss, owner)
    broken = next((number for number, value in given.losses if not math.isfinite(value)), step.number)
    if broken < step.number:
        evidence.not_finite = tuple(_since(each, broken) for each in evidence.not_finite)
    began, over = alarms.examine(evidence)
    step.watching.forget_given()
    return Looked(step, layers, rows, bins, loss, given, began, over, step.skipped)


def _of_activations(found: Reading) -> dict[str, float]:
    dead = math.nan if found.fired is None else float((found.fired == 0).sum())
    own = {"rms": found.rms, "dead": dead, "channels": found.channels or math.nan, "inputs": found.inputs}
    return {**_from(found, "mean", "std", "zeros", "nan", "inf"), **own}


def _of_gradients(found: Reading) -> dict[str, float]:
    return {"norm": found.norm, "rms": found.rms, **_from(found, "zeros", "nan", "inf")}


def _of_weights(found: Reading) -> dict[str, float]:
    return {"norm": found.norm, "rms": found.rms, **_from(found, "nan", "inf", "count")}


def _from(found: Reading, *names: str) -> dict[str, float]:
    return {name: float(getattr(found.statistics, name)) for name in names}


def _evidence(
    step: Step,
    moment: Moment,
    outputs: Mapping[tuple[str, int], Reading],
    titles: Mapping[tuple[str, int], str],
    loss: float,
    scaled: bool,
) -> Evidence:
    with_gradients = [each for each in moment.layers if each.gradient is not None and each.wants]
    order = {layer: place for place, (layer, _) in reversed(list(enumerate(outputs)))}
    with_gradients.sort(key=lambda each: order.get(each.layer, len(order)))  # as they ran; stable
    gradients, matrices, frozen = {}, {*moment.matrices}, moment.frozen
    for each in with_gradients:
        assert each.gradient is not None
        numbers = each.gradient.statistics
        gradients[each.layer] = (each.gradient.norm, each.gradient.rms, numbers.zeros, numbers.nan + numbers.inf)
    return Evidence(
        step.number,
        loss,
        first=step.number == 0,
        classes=step.watching.classes if _is_mean_cross_entropy(step.loss) else 0,
        matrices=tuple(layer for layer in gradients if layer in matrices),
        gradients=gradients,
        underflow={each.layer: each.underflow for each in with_gradients} if step.halves else {},
        fired={
            titles[place]: (found.fired, found.inputs) for place, found in outputs.items() if found.fired is not None
        },
        ratios={layer: ratio for layer, ratio in moment.ratios.items() if layer not in frozen},
        unchanged=moment.unchanged if moment.updated else None,
        at_rate_0=moment.updated and bool(moment.rates) and not any(moment.rates),
        scaled=scaled,
    )


def _not_finite(
    step: Step,
    model: nn.Module,
    moment: Moment,
    outputs: Mapping[tuple[str, int], Reading],
    titles: Mapping[tuple[str, int], str],
    loss: float,
    owner: str,
) -> tuple[tuple[str, str, str], ...]:
    """(layer, text, advice) of what made a value that is not finite; what came of it is not told."""
    weights = [each for each in moment.layers if each.weight is not None and _broken(each.weight)]
    if weights:
        others = len(weights) - 1
        more = f" So are those of {others:,} other layer{'s' if others > 1 else ''}." if others else ""
        text = f"The weights of {weights[0].layer or 'the model'} are not finite: {_held(weights[0].weight)}.{more}"
        return ((weights[0].layer, text, _WEIGHTS_ADVICE),)
    bad = [place for place, found in outputs.items() if _broken(found)]
    if not bad and (step.loss is None or math.isfinite(loss)):
        return ()
    if not step.repeated and not moment.updated:
        step.repeat(model, owner)
    if step.nan_given:
        text = f"What the model was given is not finite: {step.nan_given:,} NaN in the batch."
        return (("", text, _BATCH_ADVICE),)
    if step.made is not None:
        if step.inf_given:
            text = f"{_told(step.made)} What the model was given holds {step.inf_given:,} infinite values."
            return ((step.made.layer, text, _BATCH_ADVICE),)
        return ((step.made.layer, _told(step.made), ""),)
    broken = [place for place in bad if outputs[place].statistics.nan]
    if broken:
        first = broken[0]
        again = "gave none when it was run once more" if step.repeated else "could not be run once more"
        text = (
            f"{titles[first]} is the first layer whose values are not finite: {_held(outputs[first])}. The same batch "
            f"{again}."
        )
        return ((titles[first], text, ""),)
    if not bad:
        return (("", f"The loss is {loss}, and what the model answered is finite: the loss itself makes it.", ""),)
    return ()  # infinite on purpose, as a mask is


def _since(told: tuple[str, str, str], broken: int) -> tuple[str, str, str]:
    """The same, where the loss was not finite at a step before this one, at which nobody looked."""
    layer, text, advice = told
    text += f" The loss was not finite at step {broken:,} already, which was not looked at."
    return layer, text, f"{advice} Go on from the last checkpoint before it with every=1 to see the line.".strip()


def _told(made: Made) -> str:
    how = f"{made.nan:,} NaN and {made.inf:,} infinite values"
    why = f" because {made.weight} is not finite" if made.weight else ", and no NaN went in"
    where = f" ({made.place}: {made.line})" if made.line else f" ({made.place})" if made.place else ""
    return f"{made.layer or 'The model'} makes {how}{why}{where}."


def _held(found: Reading | None) -> str:
    assert found is not None
    return f"{found.statistics.nan:,} NaN, {found.statistics.inf:,} infinite"


def _broken(found: Reading) -> bool:
    return bool(found.statistics.nan or found.statistics.inf)


def _is_mean_cross_entropy(loss: Any) -> bool:
    """Whether a loss is a cross-entropy over the step's pictures and nothing else, as its graph says."""
    made = getattr(loss, "grad_fn", None)
    return type(made).__name__.startswith("NllLoss") and getattr(made, "_saved_reduction", MEAN) == MEAN
