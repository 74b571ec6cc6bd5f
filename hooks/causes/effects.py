"""Which channels of a layer the answer hangs on: each muted in turn, and what the explained number does.

    found = effects(model, picture, "layer4", target=285)
    found.measured                     # float64 (channel,): negative, where the channel speaks for the class
    found.strongest(10), found.agreement

What lies before the layer is computed for one picture; the layer's output is then handed on as many copies, each with
another channel muted, and what follows runs once for them all. Where what follows does not take that (it joins the
copies with an earlier value, or counts on one picture) the copies begin at the input, or are given one by one. Which of
these holds is tried and checked at every layer: an unmuted copy has to give the plain answer, and muted ones what they
give alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from hookscope.hooks.causes.batches import copies_from_the_input, copies_from_the_layer
from hookscope.hooks.causes.explained import Compared, Explained, Read, explained, first_class
from hookscope.hooks.causes.muting import Muter
from hookscope.hooks.causes.shares import channel_axis, differentiated, share_of
from hookscope.hooks.causes.trials import Groups, Trials, one_picture, refuse_if_changed
from hookscope.hooks.errors import HooksError, NoGradient
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.looks.map_taps import MapTap
from hookscope.hooks.looks.outputs import Answered, needs_watching
from hookscope.hooks.looks.targets import Target
from hookscope.hooks.passes import arguments
from hookscope.hooks.passes.looking import Steps
from hookscope.hooks.results.effects import UNKNOWN, Effects, Muting, Together
from hookscope.hooks.results.looks import Call, LayerInfo

AGREES = 1e-3  # of an effect: by which it may differ in a batch, because sums run in another order
FIRST_COPIES = 32  # of the first pass, where somebody waits for it
LEAST_COPIES = 8  # of a pass, however long it takes
ROUNDING = 2e-5  # of the answer's size, the same for effects that are next to nothing


def effects(
    model: nn.Module,
    inputs: Any,
    layer: str,
    target: Target = None,
    *,
    call: int = 0,
    muting: Muting = "zero",
    layers: Sequence[LayerInfo] | None = None,
    together: int = 0,
) -> Effects:
    """What muting each channel of a layer changes, measured, beside Taylor's estimate of it.

    A muted channel is 0 at all of its positions ("zero", which is natural after a ReLU), or its own mean over them in
    this picture ("mean", for values that are signed; Li and Janson, "Optimal ablation for interpretability", 2024).
    What is muted is the value that the layer hands on; where a layer after it writes in place, before that writes.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        layer: its dotted name. call: which of its calls, for a module that runs several times.
        target: what is explained, see `looks.targets`; None for the model's own first class. A box of a detector is
            the one of its class that overlaps it most in the changed answer, by at least half; its score counts as 0
            where there is none.
        layers: what `layers.describe.describe` said of this model, which is asked if they are not given.
        together: so many of the strongest channels are muted at once at the end, which is not the sum of each.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> found = effects(net, torch.ones(1, 3, 8, 8), "0", target=2)
    >>> np.flatnonzero(found.measured), bool(abs(found.measured[2] + found.score) < 1e-6)
    (array([2]), True)

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound, LayerNotExecuted: there is no such layer or call.
        TargetNotFound: there is no such class in the output.
        HooksError: the layer has no channels, or its output cannot be changed; the text says why.
    """
    if layers is None:
        layers = describe(model, *arguments.arguments(inputs))
    *_, last = effects_as_measured(model, inputs, (layer, call), target, layers, muting=muting, together=together)
    return last


def effects_as_measured(
    model: nn.Module,
    inputs: Any,
    wanted: tuple[str, int],
    target: Target,
    layers: Sequence[LayerInfo],
    *,
    muting: Muting = "zero",
    together: int = 0,
    pass_seconds: float = math.inf,
) -> Iterator[Effects]:
    """The same as it becomes known: first the estimate alone, then after each pass, the strongest by it first.

    Between two of them the model is handed back, and no hook of it is on it.

    Arguments:
        wanted: (layer name, 0-based call).
        pass_seconds: how long a pass should take at most, for who waits between two: begins with few channels.
    """
    began = time.perf_counter()
    asked, call = wanted
    finder = Finder(model, layers)
    name, module = finder.find(asked)
    if problem := finder.not_executed(name, call):
        raise problem
    info = next((each for each in layers if each.name == name), None)
    if info is None or info.operation:
        raise HooksError(
            f"The effects of {asked!r} are estimated and not measured, because it is a function and no module, and its "
            "value cannot be set. Choose the layer before or after it, or the module in which it happens."
        )
    seen = info.calls[call]
    axis = channel_axis(asked, seen, seen.shape)
    trials = Trials(model, arguments.arguments(inputs), torch.get_rng_state())
    plain = trials.plain()
    known = explained(plain, target)
    trials = replace(trials, watched=needs_watching(model, plain))
    tap = MapTap(asked, name, call, module, seen)
    estimate, no_estimate = np.full(seen.shape[axis], np.nan), ""
    try:
        score, (gradient,) = differentiated(model, inputs, target, [tap])
        estimate = share_of(tap, gradient, score, muting)
    except NoGradient as problem:
        no_estimate = str(problem)
    muter = Muter(name, module, call, axis, None, muting)
    unchanged = known.read(trials.one(muter, ()), 1)
    refuse_if_changed(asked, known.value, float(unchanged.numbers[0]), ROUNDING * known.size)
    order = np.argsort(-np.abs(np.nan_to_num(estimate)), kind="stable")
    found = _nothing_yet(asked, call, known, muting, estimate, no_estimate, order)
    steps = Steps(len(order) + bool(together))
    yield found
    measuring = _Measuring(trials, muter, known, unchanged, _ways(trials, known, layers, seen), pass_seconds)
    for chosen, compared, how in measuring.all(order):
        found = _with(found, chosen, compared, how, began)
        steps.count(len(chosen))
        yield found
    if together and len(order) > 1:
        strongest, muter.image = found.strongest(together), None
        read = known.read(trials.one(muter, strongest.tolist()), 1)
        joint = Together(strongest, float(known.compare(unchanged, read)[0][0]), first_class(read))
        yield replace(found, together=joint, milliseconds=(time.perf_counter() - began) * 1000)


def _nothing_yet(
    asked: str, call: int, known: Explained, muting: Muting, estimate: np.ndarray, no_estimate: str, order: np.ndarray
) -> Effects:
    return Effects(
        asked,
        call,
        known.index,
        known.value,
        muting,
        estimate,
        measured=np.full(len(order), np.nan),
        top_changed=np.full(len(order), UNKNOWN, np.int8),
        divergence=np.full(len(order), np.nan),
        order=order,
        no_estimate=no_estimate,
        against=known.against,
    )


def _with(before: Effects, chosen: np.ndarray, compared: Compared, how: str, began: float) -> Effects:
    """What was known before, and some channels more."""
    arrays = [each.copy() for each in (before.measured, before.top_changed, before.divergence)]
    for array, values in zip(arrays, compared, strict=True):
        array[chosen] = values
    measured, top_changed, divergence = arrays
    return replace(
        before,
        measured=measured,
        top_changed=top_changed,
        divergence=divergence,
        how=how,
        milliseconds=(time.perf_counter() - began) * 1000,
    )


@dataclass(frozen=True)
class _Way:
    """How several channels are measured in one pass.

    Attributes:
        run: the pass. image: the axis of the copies in the layer's output. copies: how many there may be.
        how: for people.
    """

    run: Callable[[Muter, Groups], Answered]
    image: int
    copies: int
    how: str


def _ways(trials: Trials, known: Explained, layers: Sequence[LayerInfo], seen: Call) -> list[_Way]:
    """The ways to try, best first; none where channels can be muted one at a time only."""
    if known.alone or seen.axes.count("image") != 1 or seen.shape[seen.axes.index("image")] != 1:
        return []
    image = seen.axes.index("image")
    how = "Up to {} channels per pass: what lies before the layer is computed once for all of them."
    ways = [_Way(trials.from_the_layer, image, copies_from_the_layer(layers, seen), how)]
    if one_picture(trials.inputs):
        how = "Up to {} channels per pass, from the input on: what follows the layer joins it with an earlier value."
        ways.append(_Way(trials.from_the_input, image, copies_from_the_input(layers), how))
    return ways


ALONE = "One channel per pass: what this model answers to a picture cannot be had of several at once."


@dataclass
class _Measuring:
    """Measures channel after channel by the best way that gives what they give alone."""

    trials: Trials
    muter: Muter
    known: Explained
    unchanged: Read
    ways: list[_Way]
    pass_seconds: float
    checked: bool = False

    def all(self, order: np.ndarray) -> Iterator[tuple[np.ndarray, Compared, str]]:
        """Some channels after the other in an order: which, what came of muting each, and how that was done."""
        start, most = 0, len(order) if math.isinf(self.pass_seconds) else FIRST_COPIES
        while start < len(order):
            began = time.perf_counter()
            chosen = order[start : start + (min(self.ways[0].copies, most) if self.ways else 1)]
            compared = (
                self._together(chosen) if self.ways else self.known.compare(self.unchanged, self._alone(chosen[0]))
            )
            if compared is None:  # by this way it cannot be done
                self.ways, self.checked = self.ways[1:], False
                continue
            took = time.perf_counter() - began
            if took > self.pass_seconds:
                most = max(len(chosen) // 2, LEAST_COPIES)
            elif took < self.pass_seconds / 4:
                most *= 4
            yield chosen, compared, self.ways[0].how.format(self.ways[0].copies) if self.ways else ALONE
            start += len(chosen)

    def _alone(self, channel: np.integer[Any]) -> Read:
        self.muter.image = None
        return self.known.read(self.trials.one(self.muter, [int(channel)]), 1)

    def _together(self, channels: np.ndarray) -> Compared | None:
        """What came of muting each, None if it is not what they give alone."""
        way = self.ways[0]
        self.muter.image = way.image
        groups: list[list[int]] = [[], *([int(each)] for each in channels)]
        try:
            read = self.known.read(way.run(self.muter, groups), len(groups))
        except Exception:  # whatever the model's code says of a batch that it did not expect
            return None
        plain, changed = read.first(), read.rest()
        if not self._is_near(plain.numbers[0], self.unchanged.numbers[0], 0.0):
            return None
        if not self.checked:
            effect = changed.numbers - plain.numbers[0]
            for place in dict.fromkeys([0, int(np.abs(effect).argmax())]):
                alone = self._alone(channels[place]).numbers[0] - self.unchanged.numbers[0]
                if not self._is_near(effect[place], alone, abs(alone)):
                    return None
            self.checked = True
        return self.known.compare(plain, changed)  # of one pass: what does nothing is then exactly 0

    def _is_near(self, one: float, other: float, effect: float) -> bool:
        return bool(abs(one - other) <= AGREES * effect + ROUNDING * self.known.size)
