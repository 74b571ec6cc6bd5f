"""What one operator does with the channels of an earlier layer: hands them on one by one, reads them all, or neither.

    carry(step, {0: Carried(axis=1)}, parameters)        # where they lie in its result, or who reads them

An operator hands channels on if each channel of its result comes of that channel alone: an activation, a pooling, a
normalisation by stored statistics, a depthwise convolution, a flattening. It reads them if it is a convolution or a
linear layer that mixes them by its weights. The names are those of PyTorch's own operators, below autograd.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

# Of one value to one value, each by itself.
_ALONE = frozenset(
    [
        "_prelu_kernel",
        "_to_copy",
        "abs",
        "alias",
        "celu",
        "clamp",
        "clamp_max",
        "clamp_min",
        "clone",
        "contiguous",
        "detach",
        "dropout",
        "elu",
        "exp",
        "gelu",
        "hardshrink",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "lift_fresh",
        "log_sigmoid_forward",
        "mish",
        "neg",
        "pow",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softshrink",
        "sqrt",
        "square",
        "tanh",
        "threshold",
    ]
)
_IN_PLACES = re.compile("pool|upsample|pad")  # within the last axes alone, whose number the name says
_TOGETHER = frozenset({"native_layer_norm", "native_group_norm", "_fused_rms_norm", "linalg_vector_norm"})

Keeps = Literal["always", "tried"]  # whether 0 stays 0: known, or to be tried on zeros


@dataclass(frozen=True)
class Step:
    """One operator as it was called.

    Attributes:
        name: its own, without the "_" of its form in place. function: what was called with args and kwargs.
        given: its tensors in the order of the arguments, and the numbers of their values. Of those that were written
            over since, the shape is right and the numbers in them are not.
        results: the same of what it returned.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    given: tuple[tuple[Tensor, int], ...]
    results: tuple[tuple[Tensor, int], ...]

    def argument(self, index: int, name: str, default: Any) -> Any:
        """An argument that is no tensor."""
        return self.args[index] if len(self.args) > index else self.kwargs.get(name, default)


@dataclass(frozen=True)
class Carried:
    """Where the channels lie in a value: channel c at `start + c * block`, and as many behind it as a block has."""

    axis: int
    start: int = 0
    block: int = 1


@dataclass(frozen=True)
class Passed:
    """The channels are handed on in the first result.

    Attributes:
        where: they lie. keeps: whether a channel that is 0 stays 0; with several values, if it is 0 in all of them.
        any_zero: whether one of the values is enough, as in a product. gated: whether the other factor is a value that
            does not come of the channels.
        parameters, multiply_adds: of one channel, what goes with it. weights: the memory of its parameters.
    """

    where: Carried
    keeps: Keeps = "always"
    any_zero: bool = False
    gated: bool = False
    parameters: int = 0
    multiply_adds: int = 0
    weights: tuple[int, ...] = ()


@dataclass(frozen=True)
class Read:
    """The channels are mixed by weights, which for one channel are so many; `weights` is the memory of these."""

    parameters: int
    multiply_adds: int
    weights: tuple[int, ...]


@dataclass(frozen=True)
class Stopped:
    """The channels go no further as channels.

    Attributes:
        why: "added" to a value that is not theirs, read in "groups", normalised "together", or "unknown".
        where: they lie all the same in the first result, normalised together; else None.
    """

    why: Literal["added", "groups", "together", "unknown"]
    where: Carried | None = None


Outcome = Passed | Read | Stopped
Places = Mapping[int, Carried]  # of a step's given tensors those that hold the channels
UNKNOWN = Stopped("unknown")


def carry(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    """What becomes of the channels in a step.

    Arguments:
        places: which of the given tensors hold them, and where; at least one.
        parameters: the memory addresses of the model's parameters.
    """
    rule = _RULES.get(step.name)
    if rule is None and "batch_norm" in step.name:
        rule = _batch_norm
    if rule is None and _IN_PLACES.search(step.name):
        rule = _pooling
    if rule is None or not step.results:
        return UNKNOWN
    return rule(step, places, parameters)


def keeps_zero(step: Step, where: Carried, count: int) -> bool:
    """Whether a step whose first argument is 0 gives 0 where the channels lie; tried out, outside of any recording.

    Arguments:
        where: they lie in the result. count: how many there are.
    """
    with torch.no_grad():
        result = step.function(torch.zeros_like(step.given[0][0]), *step.args[1:], **step.kwargs)
    first = result if isinstance(result, Tensor) else result[0]
    return not bool(first.narrow(where.axis, where.start, count * where.block).any())


def _only(step: Step, places: Places) -> tuple[Tensor, Carried] | None:
    """The first argument, if it is a tensor and alone holds the channels."""
    return (step.given[0][0], places[0]) if set(places) == {0} and step.args[0] is step.given[0][0] else None


def _same_axis(step: Step, tensor: Tensor, where: Carried) -> bool:
    result = step.results[0][0]
    return result.ndim == tensor.ndim and result.shape[where.axis] == tensor.shape[where.axis]


def _alone(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    found = _only(step, places)
    if found is None or not _same_axis(step, *found):
        return UNKNOWN
    tensor, where = found
    own = [each for each, _ in step.given[1:] if each.data_ptr() in parameters and each.numel() > 1]  # PReLU's
    if any(each.numel() != tensor.shape[where.axis] for each in own):
        return UNKNOWN
    weights = tuple(each.data_ptr() for each in own)
    return Passed(where, "tried", parameters=where.block * len(own), weights=weights)


def _pooling(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    found = _only(step, places)
    if found is None or not _same_axis(step, *found):
        return UNKNOWN
    tensor, where = found
    named = re.search(r"(\d)d", step.name)
    last = len(step.args[1]) // 2 if step.name == "constant_pad_nd" else int(named[1]) if named else tensor.ndim
    return Passed(where, "tried") if where.axis < tensor.ndim - last else UNKNOWN


def _batch_norm(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    found = _only(step, places)
    if found is None or found[1].axis != 1:
        return UNKNOWN
    learnt = [each for each in step.args[1:3] if each is not None]
    if any(each.data_ptr() not in parameters for each in learnt):
        return UNKNOWN
    weights = tuple(each.data_ptr() for each in learnt)
    return Passed(found[1], "tried", parameters=found[1].block * len(learnt), weights=weights)


def _together(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    where = places.get(0)
    result = step.results[0][0]
    return Stopped("together", where if where and result.shape == step.given[0][0].shape else None)


def _convolution(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    found = _only(step, places)
    weight = step.args[1]
    if found is None or found[1].axis != 1 or found[1].block != 1 or weight.data_ptr() not in parameters:
        return UNKNOWN
    (tensor, where), result = found, step.results[0][0]
    transposed, groups = step.args[6], step.args[8]
    kernel = prod(weight.shape[2:])
    positions = prod((tensor if transposed else result).shape[2:])
    weights = (weight.data_ptr(),)
    if groups == 1:
        each = result.shape[1] * kernel
        return Read(each, each * positions, weights)
    if groups != tensor.shape[1] or result.shape[1] != groups:
        return Stopped("groups")
    biased = step.args[2] is not None
    return Passed(where, "tried", parameters=kernel + biased, multiply_adds=kernel * positions, weights=weights)


def _linear(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    index = 1 if step.name == "addmm" else 0
    if set(places) != {index} or places[index].axis != 1:
        return UNKNOWN
    weight, result = step.given[index + 1][0], step.results[0][0]
    if weight.data_ptr() not in parameters:
        return UNKNOWN
    each = places[index].block * result.shape[1]
    return Read(each, each * result.shape[0], (weight.data_ptr(),))


def _sum(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    if len(step.given) == 1:  # with a number
        return _alone(step, places, parameters)
    where, others = _of_both(step, places)
    if where is None:
        return UNKNOWN
    return Stopped("added") if others else Passed(where)


def _product(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    if len(step.given) == 1:
        return _alone(step, places, parameters)
    where, others = _of_both(step, places)
    if where is None or (step.name == "div" and 0 not in places):
        return UNKNOWN
    learnt = [each for each in others if each.data_ptr() in parameters]
    if any(each.numel() not in (1, step.results[0][0].shape[where.axis]) for each in learnt):
        return UNKNOWN
    own = [each for each in learnt if each.numel() > 1]
    weights = tuple(each.data_ptr() for each in own)
    gated = len(others) > len(learnt)
    return Passed(where, any_zero=True, gated=gated, parameters=where.block * len(own), weights=weights)


def _of_both(step: Step, places: Places) -> tuple[Carried | None, list[Tensor]]:
    """Where the channels lie in the result of two values that are broadcast, and those that do not hold them."""
    result = step.results[0][0]
    found = set()
    for index, where in places.items():
        tensor = step.given[index][0]
        axis = where.axis + result.ndim - tensor.ndim
        if result.shape[axis] != tensor.shape[where.axis]:
            return None, []
        found.add(replace(where, axis=axis))
    others = [tensor for index, (tensor, _) in enumerate(step.given) if index not in places]
    return (found.pop() if len(found) == 1 else None), others


def _join(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    axis = step.argument(1, "dim", 0) % step.results[0][0].ndim
    if len(set(places.values())) != 1:
        return UNKNOWN
    where = next(iter(places.values()))
    if where.axis != axis:  # tokens: the others hold channels of their own
        return Passed(where) if len(places) == len(step.given) else Stopped("added")
    if len(places) != 1:
        return UNKNOWN
    before = sum(tensor.shape[axis] for tensor, _ in step.given[: next(iter(places))])
    return Passed(replace(where, start=where.start + before))


def _view(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
    found = _only(step, places)
    if found is None:
        return UNKNOWN
    (tensor, where), shape = found, step.results[0][0].shape
    before, length = prod(tensor.shape[: where.axis]), tensor.shape[where.axis]
    for axis, size in enumerate(shape):
        if prod(shape[:axis]) == before and size % length == 0:
            block = size // length
            return Passed(Carried(axis, where.start * block, where.block * block))
    return UNKNOWN


def _moved(axis_of: Callable[[Step, int, int], int | None]) -> _Rule:
    """A rule of what only moves axes, by a function from (step, axis, number of axes) to the new axis."""

    def rule(step: Step, places: Places, parameters: Collection[int]) -> Outcome:
        found = _only(step, places)
        axis = None if found is None else axis_of(step, found[1].axis, found[0].ndim)
        shape = step.results[0][0].shape
        if found is None or axis is None or axis >= len(shape) or shape[axis] != found[0].shape[found[1].axis]:
            return UNKNOWN
        return Passed(replace(found[1], axis=axis))

    return rule


def _permuted(step: Step, axis: int, axes: int) -> int:
    return [each % axes for each in step.args[1]].index(axis)


def _transposed(step: Step, axis: int, axes: int) -> int:
    one, other = (each % axes for each in step.args[1:3])
    return {one: other, other: one}.get(axis, axis)


def _without(step: Step, axis: int, axes: int) -> int | None:
    """Of a reduction over some axes, or a squeezing or choosing along them."""
    dims = step.argument(1, "dim", None)
    gone = [each % axes for each in (dims if isinstance(dims, list | tuple) else [0 if dims is None else dims])]
    if axis in gone or (dims is None and step.name != "select"):
        return None
    kept = step.results[0][0].ndim == axes
    return axis if kept else axis - sum(each < axis for each in gone)


def _squeezed(step: Step, axis: int, axes: int) -> int | None:
    shape = step.given[0][0].shape
    dims = step.argument(1, "dim", range(axes))
    gone = [each % axes for each in (dims if isinstance(dims, list | tuple | range) else [dims])]
    return None if axis in gone and shape[axis] == 1 else axis - sum(each < axis for each in gone if shape[each] == 1)


def _unsqueezed(step: Step, axis: int, axes: int) -> int:
    return axis + (step.args[1] % (axes + 1) <= axis)


def _expanded(step: Step, axis: int, axes: int) -> int:
    return axis + step.results[0][0].ndim - axes


_Rule = Callable[[Step, Places, Collection[int]], Outcome]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_ALONE, _alone),
    **dict.fromkeys(_TOGETHER, _together),
    **dict.fromkeys(("_softmax", "_log_softmax"), _together),
    **dict.fromkeys(("addmm", "mm"), _linear),
    **dict.fromkeys(("add", "sub"), _sum),
    **dict.fromkeys(("mul", "div"), _product),
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), _view),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "select"), _moved(_without)),
    **dict.fromkeys(("squeeze", "squeeze_dims"), _moved(_squeezed)),
    "convolution": _convolution,
    "cat": _join,
    "permute": _moved(_permuted),
    "transpose": _moved(_transposed),
    "t": _moved(lambda step, axis, axes: 1 - axis),
    "unsqueeze": _moved(_unsqueezed),
    "expand": _moved(_expanded),
    "slice": _moved(lambda step, axis, axes: axis),
}
