"""Watches the forward passes of one training step, by hooks that are on the layers while the model runs.

Until its forward pass begins there is one hook, on the model itself. A pass counts if it is part of the training: with
gradients, and in training mode if the model ever was. So a validation between two steps is not taken for one.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.numbers.moments import Scratch
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.passes.registry import Placed, hook
from hookscope.hooks.passes.running import recomputing
from hookscope.hooks.training.reading import Reading, read_output_later

CALLS = 8  # of a layer in one pass; of a layer that is called more often, as in a recurrence, the first ones
PURPOSE = "training"

Metric = Callable[[str, Tensor], Any]
Later = Callable[[], Reading]


@dataclass
class Memory:
    """What is learnt in one look and used in the next.

    Attributes:
        axes: what axes mean, once a first pass was seen. trains: whether the model was ever seen in training mode.
        direct: whether the layers are watched from the start of a step on, because the model itself is not called.
        metrics: the person's own, by name; those that failed are taken out. scratch: memory to work in.
    """

    axes: Axes | None = None
    trains: bool = False
    direct: bool = False
    metrics: dict[str, Metric] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=Scratch)


@dataclass(frozen=True)
class Autocast:
    """In which precision a pass computed: the devices' types with autocast on, and their dtypes."""

    kinds: tuple[tuple[str, torch.dtype], ...] = ()

    @staticmethod
    def now(device: str) -> Autocast:
        """As it is in this thread."""
        kinds = dict.fromkeys((device, "cpu"))
        return Autocast(
            tuple((kind, torch.get_autocast_dtype(kind)) for kind in kinds if torch.is_autocast_enabled(kind))
        )

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Compute as then."""
        with contextlib.ExitStack() as stack:
            for kind, dtype in self.kinds:
                stack.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
            yield

    @property
    def halves(self) -> bool:
        """Whether in float16."""
        return any(dtype is torch.float16 for _, dtype in self.kinds)


class Watching:
    """One step's forward passes.

    Arguments:
        model: unwrapped. layers: what is looked at, by name. memory: added to. said: gets a sentence about what cannot
            be seen. owner: what `live_hooks` shows.

    Attributes:
        passes: how many were seen. inputs: how many pictures the last had. given: its arguments.
        classes: how many numbers it answered for each picture; 0 where that is not what it answered.
        readings: of each (layer, call), in the order in which they ran, one for each pass. own: the person's numbers.
        cost: seconds spent in hooks.
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
        self._learning = self._over = self._within = False
        self.passes, self.inputs, self.classes = 0, 0, 0
        self.given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.autocast = Autocast()
        self.readings: dict[tuple[str, int], list[Later]] = {}
        self.own: dict[str, dict[str, float]] = {name: {} for name in memory.metrics}
        self.cost = 0.0

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Wait for the forward passes of a `with` block."""
        model = self._model()
        assert model is not None
        with contextlib.ExitStack() as stack, self._open:
            with looking(owner=self._owner, purpose=PURPOSE):
                if self._memory.direct:
                    stack.enter_context(tapping(self._layers, first_names(model), self._look_of))
                else:
                    end = hook(model, "forward", self._end, layer="", always=True)
                    self._placed = [stack.enter_context(hook(model, "forward_pre", self._begin, layer=""))]
                    stack.enter_context(end)
            yield
        if any(placed.elsewhere for placed in self._placed):
            self._said(
                "The model also ran in other threads, as nn.DataParallel has it: what it computed there is not in the "
                "numbers of activations. Use DistributedDataParallel, or one device."
            )

    # --- while the model runs

    def _counts(self, module: nn.Module) -> bool:
        """Whether this pass is one of the training."""
        if self._learning or self._over or recomputing() or not torch.is_grad_enabled():
            return False
        self._memory.trains = self._memory.trains or module.training
        return module.training or not self._memory.trains

    def _begin(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if self._within or not self._counts(module):
            return
        begun = time.perf_counter()
        with self._harmless():
            device = next((tensor.device.type for tensor in module.parameters()), "cpu")
            self.autocast = Autocast.now(device)
            if self._memory.axes is None:
                self._memory.axes = Axes(self._described(module, args, kwargs))
            self.passes += 1
            self.inputs = arguments.images(_placed(module, args, kwargs))
            self.given = (tuple(args), dict(kwargs or {}))
            self._calls.clear()
            with looking(owner=self._owner, purpose=PURPOSE):
                self._open.enter_context(tapping(self._layers, first_names(module), self._look_of))
            self._within = True
        self.cost += time.perf_counter() - begun

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._within or self._learning:
            return
        self._within = False
        with self._harmless():
            self._open.close()
            found = nested.first(output)
            if found is not None and found[1].ndim == 2 and len(found[1]) == self.inputs:
                self.classes = int(found[1].shape[1])

    def _described(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, ...]:
        """What a run of the first picture says of axes; nothing where that cannot be run alone."""
        self._learning = True
        try:
            placed = _placed(module, args, kwargs)
            return describe(module, *arguments.first_image(placed), training=module.training) if placed else ()
        except Exception:  # then the layers' types have to do
            return ()
        finally:
            self._learning = False

    def _look_of(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            if self._over or self._learning or not (self._within or self._counts(module)):
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
            call, self.passes = 0, self.passes or 1
        if call >= CALLS:
            return
        tensor = found[1].detach()
        axes = self._memory.axes or Axes(())
        later = read_output_later(layer, call, module, tensor, axes, self._memory.scratch)
        self.readings.setdefault((layer, call), []).append(later)
        if call == 0:
            self._measure(layer, tensor)

    def _measure(self, layer: str, tensor: Tensor) -> None:
        for name, function in list(self._memory.metrics.items()):
            try:
                value = function(layer, tensor)
                if value is not None:
                    self.own[name][layer] = float(value.detach() if isinstance(value, Tensor) else value)
            except Exception as error:
                del self._memory.metrics[name]
                self._said(
                    f"The metric {name!r} failed at layer {layer!r} ({type(error).__name__}: {error!s:.200}), and is "
                    "switched off. The training goes on."
                )

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._over = True
            self._said(
                f"Hookscope cannot watch this step ({type(error).__name__}: {error!s:.200}), and the training goes on."
            )

    # --- when the step is over

    def found(self) -> dict[tuple[str, int], Reading]:
        """What was read of each call, all passes together."""
        done = {}
        for place, laters in self.readings.items():
            whole = laters[0]()
            for later in laters[1:]:
                whole = whole.and_also(later())
            done[place] = whole
        self.readings = {}
        return done

    def own_of(self, name: str, layers: tuple[str, ...]) -> list[float]:
        """The person's own numbers, NaN where a layer has none."""
        return [self.own[name].get(layer, math.nan) for layer in layers]


def _placed(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """The arguments that say what axes mean: those in their places or, where all are named, the first one."""
    if args or not kwargs:
        return () if kwargs else tuple(args)
    first = next(iter(inspect.signature(module.forward).parameters), "")
    return (kwargs[first],) if isinstance(kwargs.get(first), Tensor) else ()
