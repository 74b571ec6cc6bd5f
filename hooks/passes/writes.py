"""What operators write into, seen below autograd: who overwrites a value in place, and whose weights are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Writes(TorchDispatchMode):
    """Sees every operator of a `with` block: which tensors it writes into, and which it is given.

    Arguments:
        written: called with each tensor that has just been written into. read: with each tensor that an operator takes.
    """

    def __init__(self, written: Callable[[Tensor], None], read: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.written = written
        self.read = read
        self._arguments: dict[Any, list[tuple[int, str]]] = {}  # of each operator: those that it writes into

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for tensor in _strided([*args, *kwargs.values()]):
            self.read(tensor)
        for index, name in self._writes_into(func):
            value = args[index] if index < len(args) else kwargs.get(name)
            for tensor in _strided(value):
                self.written(tensor)
        return result

    def _writes_into(self, func: Any) -> list[tuple[int, str]]:
        if func not in self._arguments:
            arguments = func._schema.arguments if func._schema.is_mutable else ()
            self._arguments[func] = [
                (index, argument.name)
                for index, argument in enumerate(arguments)
                if argument.alias_info is not None and argument.alias_info.is_write
            ]
        return self._arguments[func]


def _strided(value: Any) -> Iterator[Tensor]:
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor) and leaf.layout == torch.strided and not leaf.is_meta and not leaf.is_nested:
            yield leaf


def overlap(first: Tensor | None, second: Tensor) -> bool:
    """Whether two tensors of one storage span common bytes."""
    if first is None:
        return False
    return _span(first)[0] < _span(second)[1] and _span(second)[0] < _span(first)[1]


def _span(tensor: Tensor) -> tuple[int, int]:
    if not tensor.numel():
        return 0, 0
    last = sum((int(length) - 1) * int(stride) for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + (last + 1) * tensor.element_size()
