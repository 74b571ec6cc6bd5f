"""What runs at this moment of a forward pass: the modules under way, and the functions that they call.

Two hooks on each module tell when it begins and ends; a `TorchFunctionMode` sees every functional call of the thread.
Together they say in which module an operation happens. Only this thread's calls are seen, by both.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from hookscope.hooks.passes.registry import hook, take_number, waits


@dataclass(eq=False)
class Running:
    """A call of a module that is under way.

    Attributes:
        name: the module's first dotted name. call: which of its calls, from 0.
        handled: the exception that was being handled when it began, which may call it.
        counts: how often each operation has happened in this call so far.
    """

    module: nn.Module
    name: str
    call: int
    handled: BaseException | None = field(default_factory=lambda: sys.exc_info()[1])
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def raised(self) -> bool:
        """Whether it has just ended in an exception."""
        return sys.exc_info()[1] is not self.handled


class Stack:
    """Which modules are running now, the innermost last; told by hooks before and after each of them.

    Arguments:
        names: the modules that are followed, with their first dotted names.
    """

    def __init__(self, names: Mapping[nn.Module, str]) -> None:
        self.names = names
        self.running: list[Running] = []
        self._calls: Counter[nn.Module] = Counter()

    def begin(self, module: nn.Module) -> Running:
        """A module is called."""
        self.running.append(Running(module, self.names[module], self._calls[module]))
        self._calls[module] += 1
        return self.running[-1]

    def end(self, module: nn.Module) -> Running | None:
        """A module has returned, or raised what one around it may catch."""
        while self.running:
            last = self.running.pop()
            if last.module is module:
                return last
        return None

    @property
    def innermost(self) -> Running | None:
        """The module whose own code runs now."""
        return self.running[-1] if self.running else None


@contextlib.contextmanager
def following(names: Mapping[nn.Module, str], stack: Stack) -> Iterator[None]:
    """Keep a stack up to date for the length of a `with` block, by two hooks on each module."""
    with contextlib.ExitStack() as handles:
        for module, name in names.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            begin, end = (lambda module, *_: stack.begin(module)), (lambda module, *_: stack.end(module))
            handles.enter_context(hook(module, "forward_pre", begin, layer=name))
            handles.enter_context(hook(module, "forward", end, layer=name, always=True))
        yield


class Functions(TorchFunctionMode):
    """Sees every functional call of this thread in a `with` block, and passes it on unchanged.

    Arguments:
        see: called with (function, args, kwargs, result) after every call.
    """

    def __init__(self, see: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any], None]) -> None:
        super().__init__()
        self.see = see
        self._blind = False
        self._number = take_number()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._blind and not recomputing() and not waits(self._number):
            self.see(func, args, kwargs, result)
        return result

    def unseeing(self, function: Callable[..., None]) -> Callable[..., None]:
        """A hook of ours whose own calls are not the model's: it asks a tensor forty things for each layer."""

        def call(*args: Any) -> None:
            self._blind, before = True, self._blind
            try:
                function(*args)
            finally:
                self._blind = before

        return call


def recomputing() -> bool:
    """Whether this call happens in a backward pass: checkpointing runs the layers again, which is no second call."""
    return bool(torch._C._current_graph_task_id() != -1)
