"""Which tensors of a forward pass come from the weights alone: masks, tables of positions, clamped scales.

They are the same for every image, so an operation that computes one is no layer worth listing (swin_v2_t: 60 of 193).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hookscope.hooks.passes import nested
from hookscope.hooks.passes.nested import memory
from hookscope.hooks.passes.operations import flat


class Constants:
    """Follows parameters and buffers through functional calls, by where tensors lie in memory.

    Arguments:
        model: whose parameters and buffers the constants are made of.
    """

    def __init__(self, model: nn.Module) -> None:
        self._memory = {memory(tensor) for tensor in (*model.parameters(), *model.buffers())} - {0}
        self._alive: list[Tensor] = []  # or the memory of one would be given to another tensor

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is known to come from the weights alone."""
        return memory(tensor) in self._memory

    def follow(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> bool:
        """Look at a call after it returned; whether what it gives does not depend on the model's inputs."""
        name = str(getattr(function, "__name__", ""))
        given = [value for value in flat((*args, *kwargs.values())) if isinstance(value, Tensor)]
        found = [tensor for _, tensor in nested.tensors(result)]
        if name.startswith("new_") or name.endswith("_like"):
            given = []
        if any(memory(value) not in self._memory for value in given):
            written = given[:1] if name == "__setitem__" else found  # a constant that is written into is one no more
            self._memory.difference_update(map(memory, written))
            return False
        self._memory.update(place for place in map(memory, found) if place)
        self._alive += found
        return True
