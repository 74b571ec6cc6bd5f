"""Functional operations as layers: the `+`, `relu`, `cat`, `matmul` ... that no module computes, seen as they happen.

An operation is named by the module in which it happens, a slash, and its function: "layer1.0/add", or "/flatten" in the
model itself. "layer1.0/add@2" is the second add within one call of that module. Like a module, it has calls: the second
call of "layer1.0/add" is the one in the second call of `layer1.0` (if every call of the module does it). `out += x` and
`torch.add(out, x)` are both "add".

`layer1.0/add` is a dotted name for `looks.capture`, `looks.cam` and `layers.names`; nothing here runs, and no
hook is registered, unless an operation is asked for.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.passes import nested
from hookscope.hooks.passes.registry import Placed, at_work, hook, waits
from hookscope.hooks.passes.running import Functions, Running, Stack, following, recomputing

SEPARATOR = "/"

_here = threading.local()

# Python's operators that are no methods of their own, and functions that have several names.
_SAME = {
    "__iadd__": "add",
    "__radd__": "add",
    "__isub__": "sub",
    "__rsub__": "sub",
    "rsub": "sub",
    "subtract": "sub",
    "__imul__": "mul",
    "__rmul__": "mul",
    "multiply": "mul",
    "__itruediv__": "div",
    "__truediv__": "div",
    "__rtruediv__": "div",
    "__rdiv__": "div",
    "__idiv__": "div",
    "divide": "div",
    "true_divide": "div",
    "__rpow__": "pow",
    "__ipow__": "pow",
    "__rmatmul__": "matmul",
    "concat": "cat",
    "concatenate": "cat",
    "upsample": "interpolate",
}

# What only moves, copies, converts, selects or makes values is no operation of its own: nothing was computed.
_MOVED = """
    alpha_dropout as_strided as_tensor atleast_1d atleast_2d atleast_3d bfloat16 broadcast_tensors broadcast_to chunk
    clone contiguous copy cpu cuda data detach diagonal double dropout dropout1d dropout2d dropout3d dsplit empty_like
    expand expand_as feature_alpha_dropout feature_dropout fill flip float fold full_like gather get getitem half hsplit
    index_select masked_fill masked_select meshgrid movedim moveaxis narrow new_empty new_full new_ones new_tensor
    new_zeros one_hot ones_like pad permute pin_memory pixel_shuffle pixel_unshuffle rand_like randn_like ravel repeat
    repeat_interleave requires_grad reshape reshape_as resolve_conj resolve_neg retain_grad roll rot90 select set
    setitem split split_with_sizes squeeze swapaxes swapdims t take tensor_split tile to transpose type type_as unbind
    unflatten unfold unsqueeze view view_as vsplit where zero zeros_like
"""
_MOVES = frozenset(_MOVED.split())


def function_name(function: Callable[..., Any]) -> str:
    """The operation's own name, the same for its operator, its method and its in-place form.

    >>> function_name(torch.Tensor.add_), function_name(torch.nn.functional.relu), function_name(torch.Tensor.__rsub__)
    ('add', 'relu', 'sub')
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    return _SAME.get(name) or _SAME.get(name.strip("_")) or name.strip("_")


def split_name(name: str) -> tuple[str, str] | None:
    """(module, operation) of an operation's name, None if it is no such name.

    >>> split_name("layer1.0/add@2"), split_name("/flatten"), split_name("layer1.0")
    (('layer1.0', 'add@2'), ('', 'flatten'), None)
    """
    module, slash, operation = name.rpartition(SEPARATOR)
    return (module, operation) if slash and operation else None


@dataclass(frozen=True)
class Operation:
    """One functional call, just after it returned.

    Attributes:
        name: as above. call: how often an operation of this name happened before.
        function: its own name, e.g. "add". running: the module's call that it happens in.
        args: its positional arguments, then the values of the named ones. result: what it returned.
    """

    name: str
    call: int
    function: str
    running: Running
    args: tuple[Any, ...]
    result: Any


class Namer:
    """Tells operations from the other functional calls, and gives them their names.

    Arguments:
        stack: says where they happen.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._calls: Counter[str] = Counter()

    def operation(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> Operation | None:
        """The call as an operation, or None: it computes no values, or it is the whole work of a module of torch."""
        running = self.stack.innermost
        if running is None or is_whole(running.module):
            return None
        kind = function_name(function)
        if kind in _MOVES or not _computed(result, (*args, *kwargs.values())):
            return None
        running.counts[kind] += 1
        number = running.counts[kind]
        name = f"{running.name}{SEPARATOR}{kind}" + (f"@{number}" if number > 1 else "")
        self._calls[name] += 1
        return Operation(name, self._calls[name] - 1, kind, running, (*args, *kwargs.values()), result)


def is_whole(module: nn.Module) -> bool:
    """Whether a module of torch has no parts to look at: what it computes is its output, which is a layer already."""
    ours = type(module).__module__.startswith("torch.nn.")
    if not ours:
        return False
    return isinstance(module, nn.MultiheadAttention) or not any(part is not None for part in module._modules.values())


@contextlib.contextmanager
def tapping(
    chosen: Mapping[str, nn.Module],
    names: Mapping[nn.Module, str],
    hook_of: Callable[[str], Callable[[nn.Module, Any, Any], None]],
    within: nn.Module | None = None,
) -> Iterator[Mapping[str, Placed]]:
    """See the outputs of modules and operations for the length of a `with` block.

    The model's output stays what it is, bit by bit: `nn.MultiheadAttention`, which would leave its fused kernel while
    functions are watched, is run unwatched.

    Arguments:
        chosen: what to look at: the module of that name, or the module in which the operation of that name happens.
        names: every module of the model with its first name; needed for operations only.
        hook_of: makes the hook of a name, which is called with (module, args, output) of every call.
        within: the module whose call has begun already, if one has.

    Yields:
        The hooks on modules, by the names under which these were chosen.
    """
    operations = {name: module for name, module in chosen.items() if names.get(module) != name}
    placed = {}
    with contextlib.ExitStack() as stack:
        for name, module in chosen.items():
            if name not in operations:
                seen = _unwatched_look(hook_of(name)) if operations else hook_of(name)
                placed[name] = stack.enter_context(hook(module, "forward", seen, layer=name))
        if operations:
            stack.enter_context(_watching(operations, names, hook_of, within))
        yield placed


def _unwatched_look(look: Callable[[nn.Module, Any, Any], None]) -> Callable[[nn.Module, Any, Any], None]:
    """A hook that works while functions are watched: of its own ones nobody is told, which costs more than they do."""

    def unwatched_look(module: nn.Module, args: Any, output: Any) -> None:
        if type(output) is Tensor:  # one of another type may need its own functions
            with torch._C.DisableTorchFunction():
                look(module, args, output)
        else:
            look(module, args, output)

    return unwatched_look


@contextlib.contextmanager
def _watching(
    operations: Mapping[str, nn.Module],
    names: Mapping[nn.Module, str],
    hook_of: Callable[[str], Callable[[nn.Module, Any, Any], None]],
    within: nn.Module | None,
) -> Iterator[None]:
    looks = {name: hook_of(name) for name in operations}
    namer = Namer(Stack(names))

    def see(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        found = namer.operation(function, args, kwargs, result)
        if found is not None and found.name in looks:
            looks[found.name](found.running.module, found.args, found.result)

    with naming(operations, names, namer), Functions(see):
        if within is not None:
            namer.stack.begin(within)
        yield


@contextlib.contextmanager
def naming(operations: Mapping[str, nn.Module], names: Mapping[nn.Module, str], namer: Namer) -> Iterator[None]:
    """Have a namer know, for the length of a `with` block, in which module an operation happens.

    Arguments:
        operations: those that are asked about, with the modules in which they happen. names: of every module.
    """
    # Only the modules inside those that are asked about need hooks.
    followed = {part: names[part] for module in operations.values() for part in module.modules() if part in names}
    with following(followed, namer.stack), unwatched(followed):
        yield


@contextlib.contextmanager
def unwatched(modules: Mapping[nn.Module, str]) -> Iterator[None]:
    """Let every `nn.MultiheadAttention` run as if no functions were watched, for the length of a `with` block.

    Arguments:
        modules: with their names; those of other types are left alone.
    """
    with contextlib.ExitStack() as stack:
        open_ = stack.enter_context(contextlib.ExitStack())  # closed here, too, if such a module never returns

        def begin(*_: Any) -> None:
            open_.enter_context(_disabled())

        for module, name in modules.items():
            if isinstance(module, nn.MultiheadAttention):
                stack.enter_context(hook(module, "forward_pre", begin, layer=name))
                stack.enter_context(hook(module, "forward", lambda *_: open_.close(), layer=name))
        yield


@contextlib.contextmanager
def _disabled() -> Iterator[None]:
    """Have functions watched by nobody; once, however many ask: they do not leave in the order that they came."""
    if getattr(_here, "disabled", False):
        yield
        return
    _here.disabled = True
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        _here.disabled = False


class Changing(Functions):
    """Sees every functional call of the thread, and changes what those that are chosen return.

    For `hooks.edits` and `hooks.causes` alone: it changes what a model computes.

    Arguments:
        namer: says which operation a call is. changes: what changes its result, by the operation's name.
    """

    def __init__(self, namer: Namer, changes: Mapping[str, Callable[[nn.Module, Any, Any], Any]]) -> None:
        super().__init__(lambda *seen: None)
        self._namer = namer
        self._changes = changes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before = _version(args[0]) if args else None
        result = func(*args, **kwargs)
        if at_work() or recomputing() or waits(self._number):
            return result
        found = self._namer.operation(func, args, kwargs, result)
        if found is None or found.name not in self._changes:
            return result
        changed = self._changes[found.name](found.running.module, found.args, found.result)
        if changed is None:
            return result
        in_place = args and result is args[0] and (before is None or before != _version(result))
        if in_place and not torch.is_grad_enabled():
            return result.copy_(changed)
        return changed


def _version(value: Any) -> int | None:
    """How often a tensor was written into; None where nobody counts, as in inference mode."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else None


def _computed(result: Any, args: tuple[Any, ...]) -> bool:
    """Whether numbers came out of tensors; a shape, a comparison or a constant is no activation."""
    found = nested.first(result)
    if found is None or not (found[1].is_floating_point() or found[1].is_complex()) or found[1].ndim == 0:
        return False
    return any(isinstance(value, Tensor) for value in flat(args))


def flat(values: Any, depth: int = 0) -> Iterator[Any]:
    """The arguments of a call one by one, those in lists (`cat`, `einsum`) too."""
    for value in values:
        if isinstance(value, list | tuple) and depth < 2:
            yield from flat(value, depth + 1)
        else:
            yield value
