"""The hooks that are registered right now: each with the layer it sits on, its kind, its owner and its purpose.

with ExitStack() as stack:
    stack.enter_context(hook(module, "forward", look, layer="layer4", owner="me", purpose="diagnostic"))
    model(image)
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.results.looks import HookKind, LiveHook

_live: dict[int, LiveHook] = {}
_numbers = itertools.count()
_guard = threading.Lock()


def live_hooks(owner: str | None = None) -> tuple[LiveHook, ...]:
    """The hooks that are live at this moment, oldest first; those of one owner if given."""
    with _guard:
        return tuple(live for live in _live.values() if owner is None or live.owner == owner)


class Placed:
    """A hook where it was put; readable while it is live and afterwards.

    Attributes:
        elsewhere: whether it was called in another thread than the one that registered it, and did nothing there.
    """

    def __init__(self, handle: torch.utils.hooks.RemovableHandle) -> None:
        self.elsewhere = False
        self._handle = handle
        self._removed: bool | None = None

    @property
    def removed(self) -> bool:
        """Whether somebody else took the hook away before its time: a model may clear its layers' hooks."""
        if self._removed is None:
            return self._handle.id not in (self._handle.hooks_dict_ref() or {})
        return self._removed

    def take_away(self) -> None:
        """Remove the hook."""
        self._removed = self.removed
        self._handle.remove()


@contextlib.contextmanager
def hook(
    module: nn.Module | None,
    kind: HookKind,
    function: Callable[..., object],
    *,
    layer: str,
    owner: str,
    purpose: str,
) -> Iterator[Placed]:
    """Register a hook for the length of a `with` block.

    Arguments:
        module: where; None for "every_forward_pre".
        kind: "forward" calls `function(module, args, output)`, "forward_pre" `function(module, args, kwargs)`,
            "every_forward_pre" `function(module, args)`.
        function: what to call. Its value is dropped: a value returned from a hook would replace the model's own.
        layer, owner, purpose: what `live_hooks` shows.
    """
    thread = threading.get_ident()

    # `*rest`, because a forward pass of another thread that is under way while a with_kwargs hook is removed calls the
    # hook with one argument less; and the thread is compared first, so that such a call does nothing at all.
    def call(module: nn.Module, args: Any, *rest: Any) -> None:
        if threading.get_ident() == thread:
            function(module, args, *rest)
        else:
            placed.elsewhere = True

    number = next(_numbers)
    placed = Placed(_register(module, kind, call, layer))
    try:
        with _guard:
            _live[number] = LiveHook(layer, kind, owner, purpose)
        yield placed
    finally:
        placed.take_away()
        with _guard:
            _live.pop(number, None)


def _register(
    module: nn.Module | None, kind: HookKind, call: Callable[..., None], layer: str
) -> torch.utils.hooks.RemovableHandle:
    if kind == "every_forward_pre":
        return register_module_forward_pre_hook(call)
    if module is None:
        raise TypeError(f"a {kind!r} hook needs a module")
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelNotSupported(
            f"Layer {layer!r} is TorchScript ({getattr(module, 'original_name', '')}), and hooks cannot be registered "
            "inside it. Open the Python model that it was made from."
        )
    if kind == "forward_pre":
        return module.register_forward_pre_hook(call, with_kwargs=True)
    return module.register_forward_hook(call)
