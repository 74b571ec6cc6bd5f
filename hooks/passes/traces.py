"""A run of a model that whoever owns it does not have: what can be put back behind it, and whom it is kept from."""

from __future__ import annotations

import contextlib
import random
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.passes.registry import others_waiting

LARGEST = 2**24  # values of a plain tensor that are copied
DEPTH, MANY = 2, 1_000  # of lists in lists: how deep, and how many entries


@contextlib.contextmanager
def without_traces(model: nn.Module) -> Iterator[None]:
    """Put back what modules keep, see `attributes_kept`, and have other looks' hooks wait, in a `with` block."""
    with attributes_kept(model), others_waiting():
        yield


@contextlib.contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put back what modules keep besides weights and buffers, in a `with` block.

    That is every attribute itself; what is in a list, a dict, a set or a deque, and in those that lie in it; the values
    of a tensor; and the state of a random generator. What lies in objects of other kinds, or outside the model, as
    where a hook of one's own writes, is not known.
    Weights, buffers, flags and global random numbers are `passes.modes.preserve`'s; those that are made in the block,
    as by a model that adds a table of positions or a layer when it first runs, are taken away again.
    """
    kept = [(module, attributes(module), _tables(module)) for module in model.modules()]
    undo = [back for _, own, _ in kept for value in own.values() for back in _undoing(value)]
    try:
        yield
    finally:
        for module, own, tables in kept:
            now = module.__dict__
            for name in [each for each in attributes(module) if each not in own]:
                del now[name]
            for name, value in own.items():
                if now.get(name, now) is not value:
                    now[name] = value
            for table, before in tables:
                _drop_new(table, before)
        for back in undo:
            with contextlib.suppress(Exception):
                back()


_lent: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def lend(model: nn.Module) -> None:
    """Have every look at a model that somebody else runs meanwhile keep its attributes, see `kept_if_lent`."""
    _lent.add(model)


def take_back(model: nn.Module) -> None:
    """It is nobody else's any more."""
    _lent.discard(model)


def kept_if_lent(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """`attributes_kept` of a model that was lent; of any other nothing, whose looks are its own matter."""
    return attributes_kept(model) if model in _lent else contextlib.nullcontext()


def _tables(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Where a module keeps its weights, buffers and children, and what is in there now; nothing of TorchScript."""
    found = [module.__dict__.get(name) for name in ("_parameters", "_buffers", "_modules")]
    return [(each, dict(each)) for each in found if isinstance(each, dict)]


def _drop_new(table: dict[str, Any], before: dict[str, Any]) -> None:
    """Take away what was put into a module's table; what it held has its keeper elsewhere."""
    for name in [each for each, value in table.items() if value is not None and before.get(each) is None]:
        if name in before:
            table[name] = None
        else:
            del table[name]


def attributes(module: nn.Module) -> dict[str, Any]:
    """A module's own attributes but for what every module has: weights, buffers, children, hooks and its mode."""
    return {name: value for name, value in module.__dict__.items() if name not in _COMMON}


_COMMON = frozenset(nn.Module().__dict__)


def _undoing(value: Any, depth: int = 0) -> list[Callable[[], object]]:
    """What puts back the inside of a value; nothing where it has none that is known."""
    if isinstance(value, Tensor):
        return _undoing_writes(value)
    if isinstance(value, list | deque | dict | set):
        items: Any = dict(value) if isinstance(value, dict) else list(value)
        inside = list(items.values() if isinstance(value, dict) else items)
        deeper = inside if depth < DEPTH and len(inside) <= MANY else []
        return [lambda: _put(value, items), *(undo for each in deeper for undo in _undoing(each, depth + 1))]
    back = _undoing_draws(value)
    return [] if back is None else [back]


def _put(value: Any, items: Any) -> None:
    if isinstance(value, dict):
        same = list(value) == list(items) and all(value[key] is item for key, item in items.items())
    else:
        same = len(value) == len(items) and all(one is other for one, other in zip(value, items, strict=True))
    if not same:
        value.clear()
        (value.update if isinstance(value, dict | set) else value.extend)(items)


def _undoing_draws(value: Any) -> Callable[[], object] | None:
    """What sets a random generator back."""
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: value.set_state(state)
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    if isinstance(value, np.random.Generator):
        numbers = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", numbers)
    if isinstance(value, np.random.RandomState):
        older = value.get_state()
        return lambda: value.set_state(older)
    return None


def _undoing_writes(tensor: Tensor) -> list[Callable[[], object]]:
    if tensor.numel() > LARGEST or tensor.is_inference() or tensor.layout != torch.strided:
        return []
    with torch.no_grad():
        values, version = tensor.detach().clone(), tensor._version

    def put_back() -> None:
        if tensor._version != version:
            with torch.no_grad():
                tensor.detach().copy_(values)

    return [put_back]
