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
from hookscope.hooks.passes.looking import current
from hookscope.hooks.results.looks import HookKind, LiveHook

_live: dict[int, Placed] = {}
_numbers = itertools.count(1)
_guard = threading.Lock()
_here = threading.local()  # .since: hooks of this thread with a lower number wait; .depth: how many are at work


def live_hooks(owner: str | None = None) -> tuple[LiveHook, ...]:
    """The hooks that are live at this moment, oldest first; those of one owner if given."""
    with _guard:
        shown = [LiveHook(*placed.shown) for placed in _live.values()]
    return tuple(live for live in shown if owner is None or live.owner == owner)


@contextlib.contextmanager
def others_waiting() -> Iterator[None]:
    """Have the hooks that are on the model do nothing in this thread while somebody runs it under new ones."""
    before = getattr(_here, "since", 0)
    _here.since = next(_numbers)
    try:
        yield
    finally:
        _here.since = before


def waits(number: int) -> bool:
    """Whether what was registered under this number waits in this thread."""
    return number < getattr(_here, "since", 0)


def take_number() -> int:
    """A number for something that is told from hooks by its age, as they are from each other."""
    return next(_numbers)


def at_work() -> bool:
    """Whether a hook is called in this thread now: what is computed then is not the model's."""
    return bool(getattr(_here, "depth", 0))


class Placed:
    """A hook where it was put; readable while it is live and afterwards. It is entered once.

    A class and no generator, because a look at every layer enters hundreds.

    Attributes:
        shown: what `live_hooks` shows of it.
        elsewhere: whether it was called in another thread than the one that registered it, and did nothing there.
    """

    __slots__ = ("_always", "_changes", "_function", "_handle", "_module", "_number", "_removed", "elsewhere", "shown")

    def __init__(
        self,
        module: nn.Module | None,
        function: Callable[..., object],
        shown: tuple[str, HookKind, str, str],
        always: bool,
        changes: bool,
    ) -> None:
        self.shown = shown
        self.elsewhere = False
        self._module: nn.Module | None = module
        self._function: Callable[..., object] | None = function
        self._always, self._changes = always, changes
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

    def __enter__(self) -> Placed:
        self._number = next(_numbers)
        self._handle = _register(self._module, self.shown[1], self._call(), self.shown[0], self._always)
        with _guard:
            _live[self._number] = self
        return self

    def __exit__(self, *_: object) -> None:
        self.take_away()
        self._module = self._function = None  # who reads it afterwards does not keep the model
        with _guard:
            _live.pop(self._number, None)

    def _call(self) -> _Call:
        assert self._function is not None, "a hook is entered once"
        return _Call(self, self._function)


class _Call:
    """What is registered for a hook that was placed. A model that is copied or pickled gets one that does nothing."""

    __slots__ = ("_changes", "_function", "_number", "_placed", "_thread")

    def __init__(self, placed: Placed, function: Callable[..., object]) -> None:
        self._placed, self._function = placed, function
        self._thread, self._number, self._changes = threading.get_ident(), placed._number, placed._changes

    # `*rest`, because a forward pass of another thread that is under way while a with_kwargs hook is removed calls
    # the hook with one argument less; and the thread is compared first, so that such a call does nothing at all.
    def __call__(self, module: nn.Module, args: Any, *rest: Any) -> object:
        if threading.get_ident() != self._thread:
            self._placed.elsewhere = True
        elif self._number >= getattr(_here, "since", 0):
            _here.depth = getattr(_here, "depth", 0) + 1
            try:
                found = self._function(module, args, *rest)
            finally:
                _here.depth -= 1
            return found if self._changes else None
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        # something that takes anything and does nothing, and that a computer without Hookscope can load, too
        return getattr, (contextlib.nullcontext(), "__exit__")


def hook(
    module: nn.Module | None,
    kind: HookKind,
    function: Callable[..., object],
    *,
    layer: str,
    owner: str = "",
    purpose: str = "",
    always: bool = False,
    changes: bool = False,
) -> Placed:
    """A hook that is registered for the length of a `with` block.

    Arguments:
        module: where; None for "every_forward_pre".
        kind: "forward" calls `function(module, args, output)`, "forward_pre" `function(module, args, kwargs)`,
            "every_forward_pre" `function(module, args)`.
        function: what to call. Its value is dropped: a value returned from a hook would replace the model's own.
        changes: of a "forward" hook, that it does just that, unless the value is None; for `hooks.edits` and
            `hooks.causes` alone.
        always: whether a "forward" hook is also called where the module raised; `output` is None then.
        layer, owner, purpose: what `live_hooks` shows; the last two are those of `passes.looking` if not given.
    """
    look = current()
    return Placed(module, function, (layer, kind, owner or look.owner, purpose or look.purpose), always, changes)


def _register(
    module: nn.Module | None, kind: HookKind, call: Callable[..., object], layer: str, always: bool
) -> torch.utils.hooks.RemovableHandle:
    if kind == "every_forward_pre":
        return register_module_forward_pre_hook(call)  # type: ignore[arg-type]
    if module is None:
        raise TypeError(f"a {kind!r} hook needs a module")
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelNotSupported(
            f"Layer {layer!r} is TorchScript ({getattr(module, 'original_name', '')}), and hooks cannot be registered "
            "inside it. Open the Python model that it was made from."
        )
    if kind == "forward_pre":
        return module.register_forward_pre_hook(call, with_kwargs=True)
    return module.register_forward_hook(call, always_call=always)
