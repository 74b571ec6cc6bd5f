"""Which call makes values that are not finite: the one whose inputs and weights are finite and whose output is not.

Every functional call of a pass is looked at, so a module of torch is told by the function that does its work, and a
container never is. Infinite values that are made on purpose (`masked_fill(mask, -inf)`, `full(-inf)`, a buffer that
holds -inf) are no fault, nor is what comes of them, as long as it is not NaN: a softmax makes zeros of them, and NaN
only where all are -inf.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import first_names
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.operations import SEPARATOR, Namer, flat, function_name, is_whole
from hookscope.hooks.passes.registry import at_work, hook, waits
from hookscope.hooks.passes.running import Functions, Stack, following, recomputing

AROUND = 3  # calls before and after a producer that are shown
SUMS = "conv", "linear", "matmul", "mm", "einsum"  # parts of the names of functions that add up products
QUOTIENTS = "div", "divide", "true_divide", "reciprocal", "rsqrt"
PURPOSE = -1  # stands among the producers of a tensor for: made on purpose
# What asks something of a tensor, or only looks at it.
_ASKS = {"isnan", "isinf", "isfinite", "size", "dim", "__get__", "__len__", "numel", "is_floating_point", "stride"}
_EMPTY = {"empty", "empty_like", "new_empty", "empty_strided"}  # memory as it was left, which is written later


@dataclass
class Producer:
    """A call that made values that are not finite.

    Attributes:
        layer, call: where, as `layers.describe` names it. weight: the module's weight that was not finite, "" if none
            was; owner: that module.
        nan, inf: how many values of its output are NaN, and how many infinite, over all pictures.
        pictures: in which they were; empty where it is not known.
        reached: whether the answer is not finite because of it. place: which of the lines it is.
        lines: (call, what its output held) of each call of the pass in which it was found. kind: the function, as
            "conv2d"; "" where no function was seen. looked: how many pictures that pass had.
    """

    layer: str
    call: int
    weight: str
    owner: str
    nan: int
    inf: int
    pictures: set[int] = field(default_factory=set)
    reached: bool = False
    place: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)
    kind: str = ""
    looked: int = 0

    @property
    def overflows(self) -> bool:
        """Whether it adds up many products, so that nobody has it give an infinite value on purpose."""
        return not self.weight and any(part in self.kind for part in SUMS)

    @property
    def divides(self) -> bool:
        """Whether it divides: by 0, then. Exponentials and logarithms give infinite values that others take."""
        return not self.weight and self.kind in QUOTIENTS

    @property
    def trail(self) -> tuple[tuple[tuple[str, str], ...], int]:
        """The lines around it, and which of those it is."""
        start = max(0, self.place - AROUND)
        return tuple(self.lines[start : self.place + AROUND + 1]), self.place - start


class Tracker(Functions):
    """Sees every functional call of a pass, and what of it is not finite.

    Arguments:
        model: its weights are known apart from what it computes. first: the number of the batch's first picture.
        pictures: how many the batch has.
        producers: those that are known so far, by layer and call; added to.
    """

    def __init__(self, model: nn.Module, first: int, pictures: int, producers: dict[tuple[str, int], Producer]) -> None:
        super().__init__(lambda *seen: None)
        self._namer = Namer(Stack(first_names(model)))
        self._first, self._pictures = first, pictures
        self.producers = producers
        self._keys = list(producers)
        self._weights = _weights_of(model)
        self._made_by: dict[int, frozenset[int]] = {}  # by the memory of what is not finite
        self._held: list[Tensor] = []  # so that no memory of it is used twice
        self.lines: list[tuple[str, str]] = []

    @property
    def stack(self) -> Stack:
        """To be followed while the model runs."""
        return self._namer.stack

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if at_work() or recomputing() or waits(self._number):
            return func(*args, **kwargs)
        given = [value for value in flat((*args, *kwargs.values())) if isinstance(value, Tensor)]
        bad = [(tensor, _not_finite(tensor)) for tensor in given]  # before: it may be written into
        bad = [(tensor, counts) for tensor, counts in bad if any(counts)]
        result = func(*args, **kwargs)
        kind = function_name(func)
        found = self._namer.operation(func, args, kwargs, result)
        if func.__name__ in _ASKS or kind in _EMPTY:
            return result
        written = [tensor for _, tensor in nested.tensors(result)]
        if func.__name__ in ("__setitem__", "copy_") and args and isinstance(args[0], Tensor):
            written.append(args[0])  # of which nothing, or the same, is returned
        self._see(kind, found, args, kwargs, given, bad, written)
        return result

    def _see(
        self, kind: str, found: Any, args: Any, kwargs: Any, given: list[Tensor], bad: list[Any], written: list[Tensor]
    ) -> None:
        counts = [_not_finite(tensor) for tensor in written]
        nan, inf = sum(each[0] for each in counts), sum(each[1] for each in counts)
        floating = any(tensor.is_floating_point() or tensor.is_complex() for tensor in written)
        place = self._name(kind, found)
        if floating and place is not None and (found is not None or nan or inf or self._whole()):
            self.lines.append((place[0], _held(nan, inf)))
        if not nan and not inf:
            for tensor in written:
                if not tensor._is_view():
                    self._made_by.pop(nested.memory(tensor), None)
            return
        makers: set[int] = set()
        weight = ""
        for tensor, (of_nan, _) in bad:
            known = self._made_by.get(nested.memory(tensor))
            if known is not None:
                makers |= known
            elif (name := self._weights.get(nested.memory(tensor))) is not None and (
                of_nan or isinstance(tensor, nn.Parameter)
            ):
                weight = weight or name
            elif not of_nan:
                makers.add(PURPOSE)
            else:
                weight = weight or "?"
        if any(isinstance(value, float) and math.isinf(value) for value in flat((*args, *kwargs.values()))):
            makers.add(PURPOSE)
        faults = makers - {PURPOSE}
        if not faults and place is not None and (weight or nan or PURPOSE not in makers):
            makers = {self._produced(*place, weight, nan, inf, written, kind)}
        for tensor in written:
            if any(_not_finite(tensor)):
                self._held.append(tensor)
                self._made_by[nested.memory(tensor)] = frozenset(makers)

    def look(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module of torch has returned: some of them call what no mode sees (`nn.LSTM`)."""
        bad = [tensor for _, tensor in nested.tensors(output) if any(_not_finite(tensor))]
        unknown = [tensor for tensor in bad if nested.memory(tensor) not in self._made_by]
        running = self._namer.stack.innermost
        if not unknown or running is None or running.module is not module:
            return
        given = [tensor for _, tensor in nested.tensors(args) if any(_not_finite(tensor))]
        makers = set().union(*(self._made_by.get(nested.memory(tensor), {PURPOSE}) for tensor in given))
        counts = [_not_finite(tensor) for tensor in unknown]
        nan, inf = sum(each[0] for each in counts), sum(each[1] for each in counts)
        self.lines.append((running.name, _held(nan, inf)))
        if not makers - {PURPOSE} and (nan or not given):
            own = [name for name, tensor in module.named_parameters() if any(_not_finite(tensor))]
            weight = f"{running.name}.{own[0]}".strip(".") if own else ""
            makers = {self._produced(running.name, running.call, weight, nan, inf, unknown)}
        for tensor in unknown:
            self._held.append(tensor)
            self._made_by[nested.memory(tensor)] = frozenset(makers)

    def _whole(self) -> bool:
        running = self._namer.stack.innermost
        return running is not None and is_whole(running.module)

    def _name(self, kind: str, found: Any) -> tuple[str, int] | None:
        """The call's name: of an operation its own, of a module of torch the module's."""
        if found is not None:
            return found.name, found.call
        running = self._namer.stack.innermost
        if running is None:
            return None
        if is_whole(running.module):
            return running.name, running.call
        return f"{running.name}{SEPARATOR}{kind}", running.call

    def _produced(
        self, layer: str, call: int, weight: str, nan: int, inf: int, written: list[Tensor], kind: str = ""
    ) -> int:
        owner, _, own = weight.rpartition(".")
        key, place = (layer, call), len(self.lines) - 1
        if key not in self.producers:
            self.producers[key] = Producer(
                layer, call, own, owner, 0, 0, place=place, lines=self.lines, kind=kind, looked=self._pictures
            )
        known = self.producers[key]
        known.nan += nan
        known.inf += inf
        for tensor in written:
            if tensor.ndim and len(tensor) == self._pictures:
                rows = ~tensor.isfinite().reshape(len(tensor), -1).all(1)
                known.pictures |= {self._first + int(row) for row in rows.nonzero()[:, 0]}
        if key not in self._keys:
            self._keys.append(key)
        return self._keys.index(key)

    def end(self, output: Any) -> bool:
        """The model has answered: mark what reached the answer; whether some of it is not finite and not on purpose."""
        left = False
        for _, tensor in nested.tensors(output):
            if any(_not_finite(tensor)):
                makers = self._made_by.get(nested.memory(tensor), frozenset())
                left = left or PURPOSE not in makers
                for maker in makers - {PURPOSE}:
                    self.producers[self._keys[maker]].reached = True
        return left


@contextlib.contextmanager
def tracking(
    model: nn.Module, first: int, pictures: int, producers: dict[tuple[str, int], Producer]
) -> Iterator[Tracker]:
    """Look for producers in the one pass of a `with` block."""
    tracker, names = Tracker(model, first, pictures, producers), first_names(model)
    with contextlib.ExitStack() as stack:
        for module, name in names.items():
            if is_whole(module):
                stack.enter_context(hook(module, "forward", tracker.look, layer=name))
        stack.enter_context(following(names, tracker.stack))
        yield stack.enter_context(tracker)


def _weights_of(model: nn.Module) -> dict[int, str]:
    """The names of parameters and buffers, by their memory."""
    return {
        nested.memory(tensor): name
        for named in (model.named_buffers, model.named_parameters)
        for name, tensor in named()
        if tensor.numel()
    }


def _not_finite(tensor: Tensor) -> tuple[int, int]:
    """How many values are NaN, and how many infinite."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_sparse or tensor.is_quantized:
        return 0, 0
    with torch._C.DisableTorchFunction():
        if not tensor.numel() or bool(tensor.isfinite().all()):
            return 0, 0
        return int(tensor.isnan().sum()), int(tensor.isinf().sum())


def _held(nan: int, inf: int) -> str:
    return f"{nan:,} NaN, {inf:,} infinite" if nan or inf else "finite"
