"""Watches the forward passes of one training step, by hooks that are on the layers while the model runs.

Until its forward pass begins there are two hooks, both on the model itself. A pass counts if it is part of the
training: with gradients, and in training mode if the model ever was; which of these belong to the step is known when it
is over, see `training.passes`. So a validation between two steps is not taken for one.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import Pattern, first_names
from hookscope.hooks.numbers.moments import Scratch
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.modes import is_inspecting, random_state_kept
from hookscope.hooks.passes.operations import split_name, tapping
from hookscope.hooks.passes.registry import Placed, hook
from hookscope.hooks.passes.running import recomputing
from hookscope.hooks.training.layouts import Learning, Learnt, others_than
from hookscope.hooks.training.passes import Autocast, Pass, see_what_was_thrown, that_belong
from hookscope.hooks.training.reading import Reading, read_output_later

CALLS = 8  # of a layer in one pass; of a layer that is called more often, as in a recurrence, the first ones
PURPOSE = "training"
_DERIVATIVES = torch._C._functorch.TransformType.Grad, torch._C._functorch.TransformType.Jvp

Metric = Callable[[str, Tensor], Any]

IN_OTHER_THREADS = (
    "The model also ran in other threads, as nn.DataParallel has it: what it computed there is not in the numbers of "
    "activations. Use DistributedDataParallel, or one device."
)
IN_ANOTHER_THREAD = (
    "The model ran in another thread than the one that waited for it, so there are no activations of this step. Call "
    "follow(), or feed.open(), in the thread that trains."
)
ONLY_PARTS = (
    "The model itself was not called in the step that was looked at, only parts of it or a compiled copy, so there are "
    "no activations of it; its layers are watched from the next look on."
)
NOT_SEEN = (
    "The model did not run in a step that was looked at, or it ran without gradients, as in a checkpoint with "
    "use_reentrant=True: there are no activations of it. Give follow() the model that is called."
)
ONLY_EVALUATED = (
    "The model was in evaluation mode in a step that was looked at, and had been in training mode before; passes in "
    "evaluation mode are taken for a validation, so there are no activations of it. Call model.train() before the step."
)
OTHER_LAYERS = (
    "Layers of the model are others than at the look before: they were replaced, added or taken away. Those that it "
    "has now are followed."
)
NO_OPERATION = "The operation {name!r} did not happen in a step that was looked at, so there are no numbers of it."
METRIC_FAILED = (
    "The metric {name!r} failed at layer {layer!r} ({kind}: {why}), and is switched off. The training goes on."
)
CANNOT_WATCH = "Hookscope cannot watch this step ({kind}: {why}), and the training goes on."
MORE_CALLS = (
    "Layer {layer!r} was called more than {calls} times in one forward pass, as in a recurrence: its activations, and "
    "those of layers like it, are of its first {calls} calls."
)


@dataclass
class Memory:
    """What is learnt in one look and used in the next.

    Attributes:
        axes: what axes mean, as far as passes showed it. learns: whether the next pass is learnt from.
        tried: the calls for which that was done in vain. trains: whether the model was ever seen in training mode.
        seen: whether the model itself was ever seen to run.
        direct: whether the layers are watched from the start of a step on, because the model itself is not called.
        metrics: the person's own, by name; those that failed are taken out. scratch: memory to work in.
    """

    axes: Learnt = field(default_factory=Learnt)
    learns: bool = True
    tried: set[tuple[str, int]] = field(default_factory=set)
    trains: bool = False
    seen: bool = False
    direct: bool = False
    metrics: dict[str, Metric] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)

    def renew(
        self,
        layers: dict[str, nn.Module],
        model: nn.Module,
        patterns: Pattern | Iterable[Pattern] | None,
        said: Callable[[str], None],
    ) -> dict[str, nn.Module]:
        """The layers that are followed now: where some were replaced, their axes are learnt anew."""
        others = others_than(layers, model, patterns)
        if others:
            self.axes, self.learns, self.tried = Learnt(), True, set()
            said(OTHER_LAYERS)
        return others or layers


class Watching:
    """One step's forward passes.

    Arguments:
        model: unwrapped. layers: what is looked at, by name. memory: added to. said: gets a sentence about what cannot
            be seen. owner: what `live_hooks` shows.

    Attributes:
        own: the person's numbers, by metric and layer, once `found` was called. cost: seconds spent in hooks.
        why_not: why nothing was seen of it, where that is known.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        memory: Memory,
        said: Callable[[str], None],
        owner: str,
    ) -> None:
        self._model = weakref.ref(model)
        self._layers = layers
        self._memory = memory
        self._said = said
        self._owner = owner
        self._open = contextlib.ExitStack()  # the layers' hooks, while the model runs
        self._placed: list[Placed] = []
        self._calls: dict[str, int] = {}
        self._over = self._busy = False
        self._depth = 0  # a model may call itself
        self._learning: Learning | None = None
        self._all: list[Pass] = []
        self._pass = Pass()
        self.own: dict[str, dict[str, float]] = {name: {} for name in memory.metrics}
        self.cost = 0.0
        self.why_not = ""

    # --- what was seen

    @property
    def passes(self) -> int:
        """How many forward passes belong to the step, as far as is known by now."""
        return len(that_belong(self._all))

    @property
    def _last(self) -> Pass:
        return next(reversed(that_belong(self._all)), Pass())

    @property
    def inputs(self) -> int:
        """How many pictures the last pass had."""
        return self._last.inputs

    @property
    def classes(self) -> int:
        """How many numbers it answered for each picture; 0 where that is not what it answered."""
        return self._last.classes

    @property
    def autocast(self) -> Autocast:
        """In which precision the last pass computed."""
        return self._last.autocast

    @property
    def given(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """The arguments of the last pass; None where they are not kept."""
        return self._last.given

    def forget_given(self) -> None:
        """Let the batch go."""
        for each in self._all:
            each.given = None

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Wait for the forward passes of a `with` block."""
        model = self._model()
        assert model is not None
        with contextlib.ExitStack() as stack, self._open:
            with looking(owner=self._owner, purpose=PURPOSE):
                if self._memory.direct:
                    if self._memory.learns:
                        self._memory.learns = False
                        learning = Learning(model, (), self._memory.axes, self._counts)
                        stack.enter_context(learning.going_on())
                    taps = stack.enter_context(tapping(self._layers, first_names(model), self._look_of))
                    self._placed = list(taps.values())
                else:
                    end = hook(model, "forward", self._end, layer="", always=True)
                    self._placed = [stack.enter_context(hook(model, "forward_pre", self._begin, layer=""))]
                    stack.enter_context(end)
            yield
        if any(placed.elsewhere for placed in self._placed):
            self.why_not = IN_ANOTHER_THREAD
            if self._all:
                self._said(IN_OTHER_THREADS)

    # --- while the model runs

    def _counts(self, module: nn.Module) -> bool:
        """Whether this pass is one of the training."""
        if self._busy or self._over or recomputing() or not torch.is_grad_enabled() or _in_a_derivative():
            return False
        if is_inspecting():  # somebody looks at the model between two steps, with gradients
            return False
        self._memory.trains = self._memory.trains or module.training
        counts = module.training or not self._memory.trains
        if not counts:
            self.why_not = ONLY_EVALUATED
        return counts

    def _begin(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if self._busy or recomputing():
            return
        if self._depth:
            self._depth += 1
            return
        if not self._counts(module):
            return
        begun = time.perf_counter()
        with self._harmless():
            self._all = [each for each in self._all if each.ended]
            self._see_what_was_thrown()
            self.forget_given()
            device = next((tensor.device.type for tensor in module.parameters()), "cpu")
            placed = _placed(module, args, kwargs)
            given = (tuple(args), dict(kwargs or {}))
            self._pass = Pass(inputs=arguments.images(placed), given=given, autocast=Autocast.now(device))
            self._pass.begin(module)
            self._all.append(self._pass)
            self._calls.clear()
            self._learning = None
            with looking(owner=self._owner, purpose=PURPOSE):
                if self._memory.learns:
                    self._learning = Learning(module, placed, self._memory.axes)
                    self._open.enter_context(self._learning.going_on())
                inner = {name: each for name, each in self._layers.items() if each is not module or name}
                taps = tapping(inner, first_names(module), self._look_of, within=module)
                self._open.enter_context(taps)
            self._depth = 1
        self.cost += time.perf_counter() - begun

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._busy or recomputing() or not self._depth:
            return
        self._depth -= 1
        if self._depth:
            return
        begun = time.perf_counter()
        with self._harmless():
            raised = sys.exc_info()[1] is not self._pass.handled
            self._pass.ended = not raised
            if not raised and not self._over:
                self._end_of_pass(module, args, output)
        with self._harmless():
            self._open.close()
        self.cost += time.perf_counter() - begun

    def _end_of_pass(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._learning is not None:
            self._memory.learns = False  # what did not run in it may be learnt later, see `_look`
        if self._layers.get("") is module:
            if self._learning is not None:
                self._learning.end(module, args, output)
            self._look("", module, output)
        found = nested.first(output)
        if found is not None and found[1].ndim == 2 and len(found[1]) == self._pass.inputs:
            self._pass.classes = int(found[1].shape[1])
        self._pass.end(output, self._see_what_was_thrown)

    def _see_what_was_thrown(self) -> None:
        with self._harmless():
            see_what_was_thrown(self._all)

    def _look_of(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            if self._over or self._busy or not (self._depth or (self._memory.direct and self._counts(module))):
                return
            begun = time.perf_counter()
            with self._harmless():
                self._look(layer, module, output)
            self.cost += time.perf_counter() - begun

        return look

    def _look(self, layer: str, module: nn.Module, output: Any) -> None:
        found = nested.first(output)
        if found is None or not (found[1].is_floating_point() or found[1].is_complex()):
            return
        call = self._calls.get(layer, 0)
        self._calls[layer] = call + 1
        if self._memory.direct:
            call = 0
            if not self._all:
                self._all.append(Pass(ended=True))
            self._pass = self._all[0]
        if call >= CALLS:
            self._said(MORE_CALLS.format(layer=layer, calls=CALLS))
            return
        tensor, axes = found[1].detach(), self._memory.axes
        if not axes.knows(layer, call) and (layer, call) not in self._memory.tried:
            self._memory.tried.add((layer, call))
            self._memory.learns = True  # in the next pass; this one has begun
        with torch._C.DisableTorchFunction() if type(tensor) is Tensor else contextlib.nullcontext():
            later = read_output_later(layer, call, module, tensor, axes, self._memory.scratch)
            if call == 0 and self._memory.metrics:
                image = axes.image(layer, call, tensor)
                pictures = self._pass.inputs or (1 if image is None else tensor.shape[image])
                self._measure(layer, tensor, pictures)
        self._pass.readings.setdefault((layer, call), []).append(later)

    def _measure(self, layer: str, tensor: Tensor, pictures: int) -> None:
        """The person's own numbers. What they do is theirs: they may draw random numbers, write, run the model."""
        self._busy = True
        try:
            with random_state_kept(), torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
                for name, function in list(self._memory.metrics.items()):
                    try:
                        value = function(layer, tensor.clone())
                        if value is not None:
                            number = float(value.detach() if isinstance(value, Tensor) else value)
                            self._pass.own.setdefault((name, layer), []).append((number, pictures))
                    except Exception as error:
                        del self._memory.metrics[name]
                        kind, why = type(error).__name__, f"{error!s:.200}"
                        self._said(METRIC_FAILED.format(name=name, layer=layer, kind=kind, why=why))
        finally:
            self._busy = False

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._over = True
            self._said(CANNOT_WATCH.format(kind=type(error).__name__, why=f"{error!s:.200}"))

    # --- when the step is over

    def found(self) -> dict[tuple[str, int], Reading]:
        """What was read of each call, all passes that belong to the step together."""
        laters: dict[tuple[str, int], list[Callable[[], Reading]]] = {}
        own: dict[tuple[str, str], list[tuple[float, int]]] = {}
        for each in that_belong(self._all):
            for place, theirs in each.readings.items():
                laters.setdefault(place, []).extend(theirs)
            for key, values in each.own.items():
                own.setdefault(key, []).extend(values)
            each.readings, each.own = {}, {}
        for (name, layer), values in own.items():
            counted = math.fsum(count for _, count in values)
            self.own.setdefault(name, {})[layer] = sum(value * count for value, count in values) / counted
        done = {}
        for place, theirs in laters.items():
            whole = theirs[0]()
            for later in theirs[1:]:
                whole = whole.and_also(later())
            done[place] = whole
        if self.passes and not self._over:
            seen = {layer for layer, _ in done}
            for name in self._layers:
                if name not in seen and split_name(name):
                    self._said(NO_OPERATION.format(name=name))
        return done

    def say_what_is_missing(self) -> None:
        """Say why there are no activations, if there are none; of a model that is never called its parts come next."""
        if self.passes:
            self._memory.seen = True
        elif self.why_not:
            self._said(self.why_not)
        elif not self._memory.direct and not self._memory.seen:
            self._memory.direct = True
            self._said(ONLY_PARTS)
        else:
            self._said(NOT_SEEN)

    def own_of(self, name: str, layers: tuple[str, ...]) -> list[float]:
        """The person's own numbers, NaN where a layer has none."""
        return [self.own[name].get(layer, math.nan) for layer in layers]


def _as_it_is(tensor: Tensor) -> Tensor:
    """What a checkpoint around the model is not told of, since it does not come again when that is run again."""
    return tensor


def _in_a_derivative() -> bool:
    """Whether `torch.func` takes a derivative here, as of each picture by itself: tensors hold no values then."""
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() in _DERIVATIVES for level in levels)


def _placed(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """The arguments that say what axes mean: those in their places or, where all are named, the first one."""
    if args or not kwargs:
        return tuple(args)
    first = next(iter(inspect.signature(module.forward).parameters), "")
    return (kwargs[first],) if isinstance(kwargs.get(first), Tensor) else ()
