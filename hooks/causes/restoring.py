"""What of A's answer comes back where A's values are put into B's run: activation patching.

for known in restore(model, working, failing):
    print(known.done, known.total)

M is the logit of A's class minus that of B's, m = (M - M_B) / (M_A - M_B): 0 nothing, 1 all of A's answer (Vig and
others, "Investigating gender bias in language models using causal mediation analysis", 2020; Zhang and Nanda, "Towards
best practices of activation patching in language models", ICLR 2024, arXiv:2309.16042). First comes an estimate for all
layers from one gradient, sum((a - b) dM/db), then the exact values, the strongest first. `restore(model, b, a)` puts
B's values into A: what is necessary, where the other is what suffices.

Exact values cost the part of the pass after the layer: what modules of torch, torchvision and timm computed before it
is handed out again. Other modules run each time, since they may leave behind what another one reads.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.causes.contrast import Contrast
from hookscope.hooks.causes.kept_run import Run, gradients_of, seen
from hookscope.hooks.causes.parting import check_architecture
from hookscope.hooks.causes.patching import PLAIN, Around, Change, keeps_nothing, patched, patched_function, replaying
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import named_layers
from hookscope.hooks.looks.outputs import Answered, answer, needs_watching
from hookscope.hooks.looks.targets import Target
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.looking import Steps
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import split_name
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import plane_of, why_no_maps
from hookscope.hooks.results.parting import Place
from hookscope.hooks.results.restoring import Restored, RestoredLayer, RestoredParts, spearman

STRONGEST = 10  # channels of a layer that are restored together
MOST_CHANNELS = 64  # that are measured one by one
SQUARES = 7  # a layer's positions are restored in so many rows and columns at most
By = Literal["channels", "positions"]


def restore(
    model: nn.Module,
    a: Any,
    b: Any,
    patterns: Sequence[str] = (),
    *,
    target: Target = None,
    target_b: Target = None,
    layers: Sequence[LayerInfo] = (),
    around: Around = PLAIN,
    model_a: nn.Module | None = None,
    strongest: int = STRONGEST,
) -> Iterator[Restored]:
    """What comes back along the depth when each layer in turn gets A's values in B's run.

    Arguments:
        a, b: each the model's argument, or a tuple of positional arguments; they are copied.
        patterns: names of modules and of functions ("layer1.0/add"); every one of `layers` that returns a tensor of its
            own if none are given.
        target, target_b: what of A's and of B's answer is compared; each side's own first class if not given.
        layers: what `layers.describe.describe` said of the model, which takes a pass that is saved then.
        around: what is entered for each run of A and of B, such as `edit` with the edits of one of them.
        model_a: A's own model, where that is another one than B's, `model`; its layers are those of the same names.
        strongest: how many channels of each layer, those that differ most, are also restored alone; 0 for none.

    Yields:
        What is known: first the estimates, then one exact value more at a time, those with the largest estimate first.

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        TargetNotFound: an answer has no such class; or A and B have one answer.
        HooksError: A's answer and B's differ in nothing.
    """
    pair = _Pair.of(model, a, b, target, target_b, layers, around, model_a)
    chosen = {pair.finder.find(name)[0] for name in patterns}
    places = [place for place in pair.b.outputs if not chosen or place[0] in chosen]
    places = [place for place in places if chosen or (place[0] and place not in pair.b.same)]
    found = {place: pair.estimated(place, strongest) for place in sorted(places, key=pair.order)}
    steps = Steps(len(found))
    yield pair.known(found, 0)
    by_size = sorted(found, key=lambda place: -np.nan_to_num(abs(found[place].estimate), nan=math.inf))
    for number, place in enumerate(by_size, 1):
        found[place] = pair.restored(found[place])
        steps.count(1)
        yield pair.known(found, number)


def restore_parts(
    model: nn.Module,
    a: Any,
    b: Any,
    layer: str,
    call: int = 0,
    *,
    by: By = "channels",
    target: Target = None,
    target_b: Target = None,
    layers: Sequence[LayerInfo] = (),
    most: int = MOST_CHANNELS,
    around: Around = PLAIN,
    model_a: nn.Module | None = None,
    steps: int = 0,
) -> Iterator[RestoredParts]:
    """What comes back when each channel, or each square of positions, of one layer gets A's values in B's run.

    Arguments:
        by: "channels", of which those with the largest estimates are measured, `most` of them; or "positions", in
            `SQUARES` rows and columns at most, which are all measured.
        target, target_b, layers, around, model_a: see `restore`.
        steps: over how many values of the layer from b to a the estimate's gradient is averaged; 0 for the one gradient
            at b. Summed over a layer, 8 steps come close to what the whole layer brings back, which one gradient does
            not. What a part brings back alone they do not tell better: on the default model, four pairs of photographs,
            nine layers and 40 channels of each, Spearman with the exact values is 0.63 at the median for one gradient
            (at least 0.9 in 12 of 36), 0.68 for 8 steps (7 of 36) and 0.67 for 16 (7 of 36).

    Raises:
        Cancelled, TargetNotFound, HooksError: see `restore`; the layer has no channels, or no height and width.
    """
    pair = _Pair.of(model, a, b, target, target_b, layers, around, model_a)
    name = pair.finder.find(layer)[0]
    place = (name, call)
    if problem := pair.problem(place):
        raise HooksError(problem)
    parts, shape = pair.channels(place) if by == "channels" else pair.squares(place)
    estimate = pair.integrated(place, parts, steps) if steps else pair.estimates(place, parts)
    exact = np.full(len(parts), math.nan)
    order = np.argsort(-np.abs(np.nan_to_num(estimate)), kind="stable")[: most if by == "channels" else len(parts)]
    counted = Steps(len(order))
    scores, whole, all_paths = pair.scores, math.nan, False
    for number, part in enumerate([None, *order]):
        if number == 1:
            whole, all_paths = pair.measured(place, ())
        if part is not None:
            exact[part] = pair.measured(place, parts[part])[0]
            counted.count(1)
        yield RestoredParts(
            layer,
            call,
            by,
            estimate.reshape(shape),
            exact.reshape(shape).copy(),
            number,
            len(order),
            spearman(estimate, exact),
            target=scores.target,
            target_b=scores.target_b,
            of_a=scores.of_a,
            of_b=scores.of_b,
            runner_up=scores.runner_up,
            whole=whole,
            all_paths=all_paths,
            steps=steps,
        )


Part = tuple[Any, ...]  # an index into the layer's output


class _Pair:
    """A and B, both run once, and B again with parts of A in it."""

    def __init__(
        self,
        model: nn.Module,
        given: tuple[Any, ...],
        layers: Sequence[LayerInfo],
        a: Run,
        b: Run,
        scores: Contrast,
        around: Around,
    ) -> None:
        self.model, self.given, self.layers, self.a, self.b, self.scores = model, given, layers, a, b, scores
        self.finder = Finder(model, layers)
        self.modules = named_layers(model)
        self.axes = Axes(layers)
        self.passed = {place: number for number, place in enumerate(b.whole)}
        self.gradients = gradients_of(scores.tensor, b)
        self.watched = needs_watching(model, a.answered) or needs_watching(model, b.answered)
        self.around_b = around[1]
        # what changes B's values would change those that are played back once more
        kept = self.modules.values() if self.around_b is PLAIN[1] else ()
        self.calls = Counter(self.modules[name] for name, _ in b.whole if not split_name(name))
        self.replayed = {module for module in kept if keeps_nothing(module)}
        self.inside = {module: [each for each in module.modules() if self.calls[each]] for module in self.replayed}

    @classmethod
    def of(
        cls,
        model: nn.Module,
        a: Any,
        b: Any,
        target: Target,
        target_b: Target,
        layers: Sequence[LayerInfo],
        around: Around,
        model_a: nn.Module | None = None,
    ) -> _Pair:
        """Run both, and settle what is compared."""
        given, given_b = arguments.arguments(a), arguments.arguments(b)
        layers = layers or describe(model, *given_b)
        with around[0]():
            of_a = layers if model_a is None else describe(model_a, *given)
            if model_a is not None:
                check_architecture(of_a, layers)
            first = seen(model if model_a is None else model_a, given, of_a, gradients=False)
        with around[1]():
            second = seen(model, given_b, layers, gradients=True)
        return cls(
            model,
            given_b,
            layers,
            first,
            second,
            Contrast.of(first.answered, second.answered, target, target_b),
            around,
        )

    def module(self, place: Place) -> nn.Module:
        """The layer, or of a function the module in which it happens."""
        function = split_name(place[0])
        return self.modules[function[0] if function else place[0]]

    def order(self, place: Place) -> int:
        """When a call ended in B's run."""
        return self.passed[place]

    def problem(self, place: Place) -> str:
        """Why nothing can be restored there; "" if something can."""
        one, other = self.a.outputs.get(place), self.b.outputs.get(place)
        if one is None or other is None:
            return "The layer did not return a tensor in both runs, so there is nothing to put from A into B."
        if one.shape != other.shape:
            sizes = (" x ".join(map(str, each.shape)) for each in (one, other))
            return f"A is {next(sizes)} here and B {next(sizes)}, so A's values do not fit into B's run."
        return ""

    # --- estimates

    def estimated(self, place: Place, strongest: int) -> RestoredLayer:
        """A layer before anything was restored in it."""
        found = RestoredLayer(*place, branch=self.b.branches.get(place, ""), reason=self.problem(place))
        if found.reason:
            return found
        estimate = float(self.estimates(place, [()])[0])
        return replace(found, estimate=estimate, channels=self._differ_most(place, strongest))

    def estimates(self, place: Place, parts: Sequence[Part]) -> np.ndarray:
        """sum((a - b) dM/db) over each part, as a share of M_A - M_B; NaN without a gradient."""
        slope = self.gradients.get(place)
        if slope is None:
            return np.full(len(parts), math.nan)
        product = real((self.a.outputs[place].double() - self.b.outputs[place].double()) * slope.double())
        return np.array([float(product[part].sum()) for part in parts]) / self.scores.gap

    def integrated(self, place: Place, parts: Sequence[Part], steps: int) -> np.ndarray:
        """The same with dM averaged over steps of the layer's values from b to a, all at once; NaN without a gradient.

        Integrated gradients on the activation, by the midpoint rule (Sundararajan and others, "Axiomatic attribution
        for deep networks", 2017): summed over all of a layer they are what comes back with the whole layer, but for the
        error of the rule. Each step costs a pass from the layer to the end and its gradient.
        """
        a, b = self.a.outputs[place], self.b.outputs[place]
        if not (b.is_floating_point() and a.is_floating_point()):
            return np.full(len(parts), math.nan)
        summed: Tensor | None = None
        for step in range(steps):
            stop_if_cancelled()
            slope = self._slope(place, b + (step + 0.5) / steps * (a - b))
            if slope is None:
                return np.full(len(parts), math.nan)
            summed = slope.double() if summed is None else summed + slope.double()
        assert summed is not None
        product = (a.double() - b.double()) * summed / steps
        return np.array([float(product[part].sum()) for part in parts]) / self.scores.gap

    def _slope(self, place: Place, value: Tensor) -> Tensor | None:
        """The gradient of M where a layer has this value."""
        leaf = value.detach().requires_grad_()
        # a copy, which a later layer may write over
        score = self.scores.number(self._run(place, lambda _: leaf.clone(), gradients=True))
        if not score.requires_grad:
            return None
        return torch.autograd.grad(score, leaf, allow_unused=True)[0]

    def _differ_most(self, place: Place, count: int) -> tuple[int, ...]:
        axis = self.axes.channel(*place, self.b.outputs[place], self.module(place))
        if axis is None:
            return ()
        apart = (self.a.outputs[place].double() - self.b.outputs[place].double()).movedim(axis, 0).flatten(1)
        if not 0 < count < len(apart):
            return ()
        return tuple(int(each) for each in apart.square().sum(1).argsort(descending=True)[:count])

    # --- exact values

    def restored(self, found: RestoredLayer) -> RestoredLayer:
        """A layer with A's values in it."""
        place = (found.layer, found.call)
        if found.reason:
            return found
        whole, all_paths = self.measured(place, ())
        strongest = math.nan
        if found.channels:
            axis = self.axes.channel(*place, self.b.outputs[place], self.module(place))
            strongest = self.measured(place, (*[slice(None)] * (axis or 0), list(found.channels)))[0]
        return replace(found, whole=whole, strongest=strongest, all_paths=all_paths)

    def measured(self, place: Place, part: Part) -> tuple[float, bool]:
        """m where a part of a layer gets A's values, and whether the whole answer becomes A's."""
        stop_if_cancelled()

        def change(tensor: Tensor) -> Tensor:
            changed = tensor.clone()
            changed[part or ...] = self.a.outputs[place][part or ...]
            return changed

        answered = self._run(place, change)
        return self.scores.share(answered), self.scores.is_a(answered)

    def _run(self, place: Place, change: Change, *, gradients: bool = False) -> Answered:
        """B's run with one value changed; up to there nothing is computed again."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.around_b())
            model = stack.enter_context(inspecting(self.model, gradients=gradients))
            stack.enter_context(replaying(self._before(place)))
            if split_name(place[0]):
                stack.enter_context(patched_function(model, place[0], self.module(place), place[1], change))
            else:
                stack.enter_context(patched(self.module(place), *place, change))
            stack.enter_context(cancelling())
            return answer(model, *nested.private(self.given, requires_grad=False), watched=self.watched)

    def _before(self, place: Place) -> dict[nn.Module, list[Any]]:
        """What is handed out in place of being computed: of each module its calls up to a place, and that of the place.

        A module whose value is changed need not compute the one that is thrown away. What is inside a module is not
        called where that is handed out, and the calls of each are told by their number. So a module with others inside
        is handed out only if these are not called any more; and one in which the function happens whose value is
        changed, not at all.
        """
        is_function = split_name(place[0]) is not None
        ended = list(islice(self.b.whole.items(), self.passed[place] + (not is_function)))
        done = Counter(self.modules[name] for (name, _), _ in ended if not split_name(name))
        holder = self.module(place) if is_function else None
        chosen = {
            module
            for module in done
            if module in self.replayed
            and (self.inside[module] == [module] or all(done[each] == self.calls[each] for each in self.inside[module]))
            and (holder is None or holder not in self.inside[module])
        }
        before: dict[nn.Module, list[Any]] = {}
        number = len(ended)
        while number:  # from the last to the first: what began earlier has what it contains before it
            number -= 1
            (name, call), value = ended[number]
            if not split_name(name) and self.modules[name] in chosen:
                before.setdefault(self.modules[name], []).insert(0, value)
                number = min(number, self.b.began[name, call])
        return before

    # --- parts

    def channels(self, place: Place) -> tuple[list[Part], tuple[int, ...]]:
        """Each channel of a layer."""
        tensor = self.b.outputs[place]
        axis = self.axes.channel(*place, tensor, self.module(place))
        if axis is None:
            raise HooksError(f"Layer {place[0]!r} has no channels that could be restored one by one.")
        return [(*[slice(None)] * axis, channel) for channel in range(tensor.shape[axis])], (tensor.shape[axis],)

    def squares(self, place: Place) -> tuple[list[Part], tuple[int, ...]]:
        """Squares of a layer's positions, row by row."""
        tensor = self.b.outputs[place]
        info = next((info for info in self.layers if info.name == place[0]), None)
        call = info.calls[place[1]] if info is not None and place[1] < len(info.calls) else None
        axes = call.axes if call is not None and len(call.axes) == tensor.ndim else ()
        if call is not None and call.grid is not None and "token" in axes:
            return _squares_of_tokens(call, axes.index("token"), tensor.shape)
        if not {"height", "width"} <= set(axes):
            raise HooksError(f"Layer {place[0]!r} has no height and width, so there are no positions to restore.")
        rows, columns = (_ranges(tensor.shape[axes.index(name)]) for name in ("height", "width"))
        parts = []
        for row in rows:
            for column in columns:
                index: list[Any] = [slice(None)] * tensor.ndim
                index[axes.index("height")], index[axes.index("width")] = row, column
                parts.append(tuple(index))
        return parts, (len(rows), len(columns))

    def known(self, found: Mapping[Place, RestoredLayer], done: int) -> Restored:
        """What is known so far."""
        layers = tuple(found.values())
        telling = [each for each in layers if not each.all_paths]
        agreement = spearman([each.estimate for each in telling], [each.whole for each in telling])
        scores = self.scores
        return Restored(
            scores.target,
            scores.target_b,
            scores.of_a,
            scores.of_b,
            layers,
            done,
            len(layers),
            agreement,
            scores.runner_up,
        )


def _squares_of_tokens(call: Call, axis: int, shape: Sequence[int]) -> tuple[list[Part], tuple[int, ...]]:
    """Squares of patches, row by row, of a clip through all frames; a class token before them belongs to none.

    Raises:
        HooksError: the tokens are not those patches.
    """
    if reason := why_no_maps(call, tuple(shape)):
        raise HooksError(reason)
    plane = plane_of(call)
    places = np.arange(call.prefix_tokens, shape[axis]).reshape(call.frames, *plane)
    rows, columns = map(_ranges, plane)
    squares = [places[:, row, column].ravel().tolist() for row in rows for column in columns]
    return [(*[slice(None)] * axis, square) for square in squares], (len(rows), len(columns))


def _ranges(length: int) -> list[slice]:
    edges = np.linspace(0, length, min(length, SQUARES) + 1).round().astype(int)
    return [slice(int(start), int(end)) for start, end in pairwise(edges)]
