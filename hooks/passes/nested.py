"""The tensors inside whatever a module takes or returns: tuples, dicts, dataclasses, packed sequences, lists of dicts.

A path says where a tensor stood: "" is a plain tensor, "0" the first of a tuple, "out" a dict's entry, "0/boxes" the
boxes of a detector's first image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hookscope.hooks.errors import ModelNotSupported

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
            yield path, value
    elif depth < DEPTH_LIMIT:
        for key, item in _items(value):
            yield from tensors(item, _join(path, key), depth + 1)


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
    """`value` with every tensor in its lists, tuples and dicts replaced; other objects are passed on as they are."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(item, change) for item in value)
    return value


def arguments(inputs: Any) -> tuple[Any, ...]:
    """A model's positional arguments: a tuple is taken as it is, anything else is the only argument."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def images(inputs: tuple[Any, ...]) -> int:
    """How many images the positional arguments hold: a batch's first axis, or a detector's list of pictures."""
    if inputs and isinstance(inputs[0], list | tuple):
        return max(len(inputs[0]), 1)
    found = first(inputs)
    return found[1].shape[0] if found is not None and found[1].ndim >= 2 else 1


def first_image(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The positional arguments cut to their first image: a batch's, or the first of a detector's list of pictures."""
    return tuple(value[:1] if isinstance(value, Tensor | list | tuple) else value for value in inputs)


def picture(inputs: Any) -> Tensor:
    """The one picture (1, channel, height, width) that a model is given, if that is all it is given.

    Raises:
        ModelNotSupported: it is given something else.
    """
    given = arguments(inputs)
    if len(given) == 1 and isinstance(given[0], Tensor) and given[0].ndim == 4 and given[0].shape[0] == 1:
        return given[0]
    raise ModelNotSupported(
        "This needs a model whose only input is one picture, as a tensor (1, channel, height, width)."
    )


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
