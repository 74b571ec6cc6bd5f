"""A model's positional arguments: how many images they hold, the first of them, the one picture."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.passes.nested import first


def arguments(inputs: Any) -> tuple[Any, ...]:
    """A model's positional arguments: a tuple is taken as it is, anything else is the only argument."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


def images(inputs: tuple[Any, ...]) -> int:
    """How many images the positional arguments hold: a batch's first axis, or a detector's list of pictures.

    A list of batches, as a head gets the maps of a pyramid, holds as many as each of them.
    """
    if inputs and isinstance(inputs[0], list | tuple) and not _is_of_batches(inputs[0]):
        return max(len(inputs[0]), 1)
    found = first(inputs)
    return found[1].shape[0] if found is not None and found[1].ndim >= 2 else 1


def first_image(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The positional arguments cut to their first image: a batch's, or the first of a detector's list of pictures."""
    many = images(inputs)

    def first_of(value: Any) -> Any:
        if isinstance(value, list | tuple) and _is_of_batches(value):
            return type(value)(map(first_of, value))
        if isinstance(value, Tensor) and (value.ndim == 0 or value.shape[0] != many):
            return value  # a number, a table of sizes, a mask for all: nothing that there is one of per image
        return value[:1]

    return tuple(first_of(value) if isinstance(value, Tensor | list | tuple) else value for value in inputs)


def _is_of_batches(values: Any) -> bool:
    return bool(values) and all(isinstance(each, Tensor) and each.ndim >= 4 for each in values)


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
