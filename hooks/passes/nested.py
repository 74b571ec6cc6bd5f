"""The tensors inside whatever a module takes or returns: tuples, dicts, dataclasses, packed sequences, lists of dicts.

A path says where a tensor stood: "" is a plain tensor, "0" the first of a tuple, "out" a dict's entry, "0/boxes" the
boxes of a detector's first image.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor

DEPTH_LIMIT = 8  # an output that contains itself must end somewhere


def tensors(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in `value` with its path, depth first; None, numbers and text are skipped.

    A nested (ragged) tensor has no shape of its own, so its parts are given one by one.
    """
    if isinstance(value, Tensor):
        if value.is_nested:
            for index, part in enumerate(value.unbind()):
                yield _join(path, index), part
        else:
            yield path, _of_its_own(value)
    elif depth < DEPTH_LIMIT:
        for key, item in _items(value):
            yield from tensors(item, _join(path, key), depth + 1)


def _of_its_own(tensor: Tensor) -> Tensor:
    """A tensor as it lies in memory: under `torch.vmap` it pretends to be one of many, which come first here."""
    while torch._C._functorch.is_batchedtensor(tensor):
        axis = torch._C._functorch.maybe_get_bdim(tensor)
        tensor = torch._C._functorch.get_unwrapped(tensor).movedim(axis, 0)
    return tensor


def first(value: Any) -> tuple[str, Tensor] | None:
    """The first tensor in `value` with its path, or None."""
    return next(tensors(value), None)


def memory(tensor: Tensor) -> int:
    """Where a tensor's storage lies; 0 if it has none of its own (sparse ones, and those that wrap others)."""
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):  # torch raises the first for sparse ones, either one for wrappers
        return 0


def private(value: Any, requires_grad: bool) -> Any:
    """A copy of a model's inputs that the model may write into without the caller's tensors changing.

    With `requires_grad`, floating tensors come back as *non-leaf* clones that require grad: a frozen model then still
    builds a graph, and one that starts with `x.sub_(mean)` does not fail ("a leaf Variable that requires grad ...").
    """

    def copy(tensor: Tensor) -> Tensor:
        clone = tensor.detach().clone()
        if requires_grad and (clone.is_floating_point() or clone.is_complex()):
            clone = clone.requires_grad_(True).clone()
        return clone

    return map_tensors(value, copy)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with every tensor in its lists, tuples, mappings and dataclasses replaced, each of its own type.

    Other objects are passed on as they are.
    """
    if isinstance(value, Tensor):
        return change(value)
    if type(value) is dict:
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, MutableMapping):  # an OrderedDict, a UserDict such as tokenizers return, ...
        same = copy.copy(value)
        for key, item in value.items():
            same[key] = map_tensors(item, change)
        return same
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        twin = copy.copy(value)
        for field in dataclasses.fields(value):
            object.__setattr__(twin, field.name, map_tensors(getattr(value, field.name, None), change))
        return twin
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip(value._fields, value, strict=True)
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    elif hasattr(value, "__dict__") and not isinstance(value, torch.nn.Module | type) and not callable(value):
        yield from vars(value).items()  # e.g. torchvision's ImageList


def _join(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)
