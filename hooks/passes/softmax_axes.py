"""What becomes of a softmax on its way to the product that applies it: carried, turned, its heads mixed, or lost.

Each axis of a tensor that came of a softmax has a name: KEY for the one that it ran over, QUERY for the one before, ""
for the others, and UNKNOWN where a reshape has made one axis of several.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

QUERY, KEY, UNKNOWN = "query", "key", "?"
Axes = tuple[str, ...]

PRODUCTS = {"matmul", "bmm", "einsum"}
_SAME = {"dropout", "to", "type_as", "float", "half", "bfloat16", "contiguous", "clone"}
_GROUPED = {"view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"}
_SWAPPED = {"transpose", "swapaxes", "swapdims"}
_MIXED = {"linear", "conv2d"}
CARRIES = _SAME | _GROUPED | _SWAPPED | _MIXED | {"permute", "einsum"}


def axes_of_softmax(softmax: Tensor) -> Axes:
    """The names of a softmax's axes, (..., query, key)."""
    return ("",) * (softmax.ndim - 2) + (QUERY, KEY)


def onward(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Tensor, axes: Axes, result: Tensor
) -> Axes | None:
    """The names of the axes of what a function made of a carried tensor; None if it is something else by now.

    Heads may be mixed, by a linear layer or a 1 x 1 convolution over their axis alone, as talking heads are.

    Arguments:
        name: the function's (`passes.operations.function_name`), one of `CARRIES`. given: the tensor that was carried
            so far, and `axes` its names; it is among `args` and `kwargs`.
    """
    if name in _SAME:
        return axes
    if name in _GROUPED:
        return _grouped(given.shape, axes, result.shape)
    if name == "permute":
        order = kwargs["dims"] if "dims" in kwargs else args[1:]
        order = order[0] if len(order) == 1 else order
        return tuple(axes[axis] for axis in order)
    if name in _SWAPPED:
        first, second = [axis for axis in (*args, *kwargs.values()) if isinstance(axis, int)][:2]
        swapped = list(axes)
        swapped[first], swapped[second] = axes[second], axes[first]
        return tuple(swapped)
    if name == "einsum":
        letters = _letters(args, given)
        if letters is None:
            return None
        named = dict(zip(letters[0], axes, strict=True))
        return tuple(named.get(letter, "") for letter in letters[1])
    return axes if _mixes_heads(name, args, kwargs, given, axes) else None


def sums_over_keys(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], value: Tensor, axes: Axes) -> bool:
    """Whether a product adds up over the keys of a carried tensor, which makes its values weights of something."""
    if name == "einsum":
        letters = _letters(args, value)
        if letters is None:
            return True  # in a notation that is not read here
        return any(axes[place] in (KEY, UNKNOWN) and n not in letters[1] for place, n in enumerate(letters[0]))
    first = next(iter((*args, *kwargs.values())))
    return axes[-1 if first is value else -2] in (KEY, UNKNOWN)


def _grouped(old: Sequence[int], axes: Axes, new: Sequence[int]) -> Axes:
    """The last axes keep their names as far as their lengths are the same; those before are not told apart."""
    same = 0
    while same < min(len(old), len(new)) and old[-1 - same] == new[-1 - same]:
        same += 1
    lost = set(axes[: len(axes) - same]) - {""}
    return (UNKNOWN if lost else "",) * (len(new) - same) + axes[len(axes) - same :]


def _mixes_heads(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Tensor, axes: Axes) -> bool:
    values = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if len(values) < 2 or values[0] is not given:
        return False
    axis = -1 if name == "linear" else 1
    heads, weight = given.shape[axis], values[1]
    square = (heads, heads) if name == "linear" else (heads, heads, 1, 1)
    return axes[axis] == "" and tuple(weight.shape) == square and given.ndim == 4


def _letters(args: Sequence[Any], value: Tensor) -> tuple[str, str] | None:
    """The einsum's letters for one of its operands, and for its result; None if it is written in another way."""
    if not args or not isinstance(args[0], str) or "->" not in args[0] or "." in args[0]:
        return None
    operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
    given, result = args[0].replace(" ", "").split("->")
    for letters, operand in zip(given.split(","), operands, strict=False):
        if operand is value:
            return letters, result
    return None
