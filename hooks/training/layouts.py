"""What the axes of outputs mean, learnt from a training's own forward pass while it runs: nothing is run for it.

A run of its own would be one that the training does not have alone: it would count, draw from generators of the
model's own, and leave what it computed in lists. `layers.describe` says the same of one picture.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.weak import TensorWeakRef

from hookscope.hooks.errors import LayerNotFound
from hookscope.hooks.layers.axes import Axes, hookable
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.layers.shapes import Layout, Layouts
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.from_weights import Constants
from hookscope.hooks.passes.operations import Namer, unwatched
from hookscope.hooks.passes.registry import at_work, hook
from hookscope.hooks.passes.running import Functions, Stack
from hookscope.hooks.results.looks import Call


def choose(model: nn.Module, patterns: Pattern | Iterable[Pattern] | None) -> dict[str, nn.Module]:
    """What patterns mean; by default all layers, see `with_outputs`.

    Raises:
        LayerNotFound: a pattern means nothing.
    """
    return with_outputs(select(model, "*")) if patterns is None else dict(select(model, patterns))


def others_than(
    layers: Mapping[str, nn.Module], model: nn.Module, patterns: Pattern | Iterable[Pattern] | None
) -> dict[str, nn.Module]:
    """What patterns mean now, if a layer was replaced, added or taken away since; else nothing."""
    try:
        now = choose(model, patterns)
    except LayerNotFound:  # what was asked for is gone: its old layers are called no more
        return {}
    same = now.keys() == layers.keys() and all(now[name] is layer for name, layer in layers.items())
    return {} if same else now


def with_outputs(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules whose outputs are looked at by default: without children, or with weights of their own.

    A layer whose weight is computed, as by a spectral norm, has its weights in a child; the model itself is no layer.
    """
    return {
        name: module
        for name, module in hookable(modules).items()
        if not any(True for _ in module.children()) or (name and _has_weights(module))
    }


def _has_weights(module: nn.Module) -> bool:
    return any(each is not None for each in module._parameters.values()) or parametrize.is_parametrized(module)


class Learnt(Axes):
    """Axes that are added to as calls are seen."""

    def __init__(self) -> None:
        super().__init__(())

    def knows(self, layer: str, call: int) -> bool:
        """Whether this call was seen."""
        return (layer, call) in self._calls

    def learn(self, layer: str, call: int, tensor: Tensor, layout: Layout) -> None:
        """Remember what the axes of a call's output mean; the newest comes first."""
        others = [each for each in self._calls.get((layer, call), ()) if len(each.axes) != tensor.ndim]
        seen = Call(
            tuple(tensor.shape),
            layout.axes,
            0,
            grid=layout.grid,
            prefix_tokens=layout.prefix_tokens,
            frames=layout.frames,
        )
        self._calls[layer, call] = [seen, *others]


class Learning:
    """Sees the calls of a forward pass and what they return.

    Arguments:
        model: unwrapped. given: its positional arguments. axes: added to.
        counts: where the model itself is not called but its parts: whether a call of one is looked at. Then each part
            that is not called by another says how many pictures there are, and all calls of a layer are one.
    """

    def __init__(
        self,
        model: nn.Module,
        given: tuple[Any, ...],
        axes: Learnt,
        counts: Callable[[nn.Module], bool] | None = None,
    ) -> None:
        self._model, self._axes, self._counts = model, axes, counts
        self._names = first_names(model)
        self._namer = Namer(Stack(self._names))
        self._layouts = _Layouts(model, *_pictures(given))
        self._constants = Constants(model)
        self._calls: Counter[nn.Module] = Counter()

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Learn for the length of a `with` block, which begins when the model does."""
        whole = self._counts is None
        with contextlib.ExitStack() as stack:
            for module, name in self._names.items():
                if isinstance(module, torch.jit.ScriptModule) or (whole and module is self._model):
                    continue
                stack.enter_context(hook(module, "forward_pre", self._begin, layer=name))
                stack.enter_context(hook(module, "forward", self.end, layer=name, always=True))
            if whole:
                self._namer.stack.begin(self._model)
                stack.enter_context(unwatched(self._names))
                stack.enter_context(Functions(self._see))
            yield

    def _begin(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if self._counts is not None and self._namer.stack.innermost is None:
            self._layouts.images, self._layouts.size = _pictures((*args, *(kwargs or {}).values()))
        self._namer.stack.begin(module)

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module has returned; of the model itself this is called by who has it run."""
        running = self._namer.stack.end(module)
        raised = running is not None and running.raised
        found = None if raised else nested.first(output)
        if found is None or not (self._counts is None or self._counts(module)):
            return
        number = 0
        if self._counts is None:
            number = self._calls[module]
            self._calls[module] += 1
        with torch._C.DisableTorchFunction():
            tensor = found[1]
            constant = self._constants.holds(tensor)
            given = [each for _, each in nested.tensors(args)]
            layout = self._layouts.constant(tensor) if constant else self._layouts.infer(module, tensor, given)
            self._axes.learn(self._names[module], number, tensor, layout)

    def _see(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        if at_work():  # what a hook computes is not the model's
            return
        operation = self._namer.operation(function, args, kwargs, result)
        constant = self._constants.follow(function, args, kwargs, result)
        found = nested.first(result)
        if operation is None or constant or found is None:
            return
        given = [each for _, each in nested.tensors(operation.args)]
        layout = self._layouts.infer_operation(operation.function, found[1], given)
        self._axes.learn(operation.name, operation.call, found[1], layout)


class _Layouts(Layouts):
    """Layouts in a pass whose tensors nobody keeps: where one lay there may lie another by now."""

    def __init__(self, model: nn.Module, images: int, size: tuple[int, int] | None) -> None:
        super().__init__(model, images, size)
        self._alive: dict[tuple[Any, ...], TensorWeakRef] = {}

    def _keep(self, output: Tensor, layout: Layout) -> Layout:
        self._alive[_place(output)] = TensorWeakRef(output)
        return super()._keep(output, layout)

    def _known(self, tensor: Tensor) -> Layout | None:
        there = self._alive.get(_place(tensor))
        return super()._known(tensor) if there is not None and there() is not None else None


def _place(tensor: Tensor) -> tuple[Any, ...]:
    memory = nested.memory(tensor)
    return (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()) if memory else (id(tensor),)


def _pictures(given: Sequence[Any]) -> tuple[int, tuple[int, int] | None]:
    """How many pictures there are, and their (height, width) where they are planes."""
    first = nested.first(given)
    plane = first is not None and first[1].ndim >= 3
    size = (int(first[1].shape[-2]), int(first[1].shape[-1])) if first is not None and plane else None
    return arguments.images(tuple(given)), size
