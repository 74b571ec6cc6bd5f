"""One value of a forward pass replaced by another, and what came before it not computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import first_names
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.operations import Changing, Namer, naming
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.passes.running import Stack

Change = Callable[[Tensor], Tensor]
Around = tuple[
    Callable[[], contextlib.AbstractContextManager[object]], Callable[[], contextlib.AbstractContextManager[object]]
]
LIBRARIES = ("torch.nn.", "torchvision.", "timm.")  # whose modules' calls are handed out in place of being repeated
PLAIN: Around = (contextlib.nullcontext, contextlib.nullcontext)  # around the runs of A and of B


@contextlib.contextmanager
def patched(module: nn.Module, layer: str, call: int, change: Change) -> Iterator[None]:
    """Have one call of a module return something else in place of its first tensor, for the length of a block."""
    first = _first_of(call)

    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        found = first(output)
        if found is None:
            return None
        in_place = getattr(module, "inplace", False) and any(found is given for given in args)
        if in_place and not torch.is_grad_enabled():
            found.copy_(change(found))  # where others hold it they read what the module wrote
            return None
        return nested.map_tensors(output, lambda tensor: change(tensor) if tensor is found else tensor)

    with hook(module, "forward", replace, layer=layer, changes=True):
        yield


def _first_of(call: int) -> Callable[[Any], Tensor | None]:
    """What tells the first tensor of the outputs that it is given in turn: of one call, and None of the others."""
    calls = count()

    def first(output: Any) -> Tensor | None:
        found = nested.first(output) if next(calls) == call else None
        return found[1] if found else None

    return first


def keeps_nothing(module: nn.Module) -> bool:
    """Whether a module's call leaves nothing behind that another one reads: known of the libraries' own modules."""
    return all(type(part).__module__.startswith(LIBRARIES) for part in module.modules())


@contextlib.contextmanager
def patched_function(model: nn.Module, name: str, holder: nn.Module, call: int, change: Change) -> Iterator[None]:
    """The same of one call of a function, which happens in a module of the model.

    Arguments:
        name: as `passes.operations` has it. holder: the module.
    """
    first = _first_of(call)

    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        found = first(output)
        if found is None:
            return None
        with torch._C.DisableTorchFunction():
            return nested.map_tensors(output, lambda tensor: change(tensor) if tensor is found else tensor)

    names = first_names(model)
    namer = Namer(Stack(names))
    with naming({name: holder}, names, namer), Changing(namer, {name: replace}):
        yield


@contextlib.contextmanager
def replaying(outputs: Mapping[nn.Module, Sequence[Any]]) -> Iterator[None]:
    """Have modules return what they returned before, copied, in place of computing it again.

    A module's calls beyond those that are given are computed. It is for modules whose calls leave nothing behind: what
    another one reads from them by the way would be missing.

    Arguments:
        outputs: of each module its first calls' outputs.
    """
    with contextlib.ExitStack() as stack:
        for module, values in outputs.items():
            stack.enter_context(_replaying(module, values))
        yield


@contextlib.contextmanager
def _replaying(module: nn.Module, values: Sequence[Any]) -> Iterator[None]:
    compute, left = module.forward, iter(values)

    def forward(*args: Any, **kwargs: Any) -> Any:
        for value in left:
            if getattr(module, "inplace", False) and len(args) == 1 and isinstance(args[0], Tensor):
                return args[0].copy_(value)  # where others hold it they read what the module wrote
            return nested.map_tensors(value, lambda tensor: tensor.clone())
        return compute(*args, **kwargs)

    with computing_as(module, forward):
        yield


@contextlib.contextmanager
def computing_as(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Have a module compute by another function for the length of a block; a hook cannot keep it from computing."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
