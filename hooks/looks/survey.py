"""Every layer of a model at once, from one pass that keeps numbers only: what colours a whole tree.

It asks each layer for the numbers of `methods.METRICS`, which can be had for little: a full set of exact statistics
costs as much as the forward pass itself (see the benchmarks in the README).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hookscope.hooks.errors import NoGradient, TargetNotFound
from hookscope.hooks.layers.axes import Axes, hookable, leaves
from hookscope.hooks.layers.names import first_names, named_layers
from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.targets import Target, score_of
from hookscope.hooks.methods import METRICS, Metric
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.graph import differentiate, overwritten_view, tap
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import split_name, tapping
from hookscope.hooks.results.looks import HISTOGRAM_BINS, LayerInfo
from hookscope.hooks.results.sketches import entropy as bits
from hookscope.hooks.results.summaries import Survey, SurveyedCall

BLOCK = 1 << 16  # values per product in float32: what is lost there is in the seventh digit
SAMPLES = 1 << 15  # values per histogram: of 64 bins they tell the entropy to about a hundredth of a bit
TINY = 1e-24  # mean squares below this lose digits in float32, whose smallest number is 1e-38


def survey(
    model: nn.Module,
    inputs: Any,
    layers: Sequence[LayerInfo],
    *,
    metrics: Iterable[str] | None = None,
    target: Target = None,
    also: Collection[Literal["containers", "operations"]] = (),
) -> Survey:
    """A few numbers of every call of every layer.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments; they are copied.
        layers: what `layers.describe.describe` said of this model; gives the axes.
        metrics: names of `methods.METRICS`; those of the output if none are given. For one of the gradient a class's
            logit is differentiated; the inputs then hold one image. Where there is no such logit, the survey says why
            and has the other numbers.
        target: see `looks.targets`; None or -1 for the model's own first class.
        also: besides the modules without children. "containers": those that have some; an output that is the last
            child's own is not looked at again. "operations": the functional ones that `layers` lists; see
            `passes.operations`.

    >>> from hookscope.hooks.layers.describe import describe
    >>> net, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8)
    >>> [call.layer for call in survey(net, image, describe(net, image), metrics=["zeros"]).calls]
    ['0', '1']

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        ValueError: there is no metric of such a name.
    """
    began = time.perf_counter()
    rows = _of("output", METRICS.values()) if metrics is None else [METRICS.find(name) for name in metrics]
    of_gradient = _of("gradient", rows)
    run = _Run(Axes(layers), _of("output", rows))
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model, gradients=bool(of_gradient)))
        hooked = stack.enter_context(contextlib.ExitStack())
        modules = named_layers(model)
        chosen = hookable(modules) if "containers" in also else leaves(modules)
        if "operations" in also:
            chosen |= _operations(layers, modules)
        hooked.enter_context(tapping(chosen, first_names(model), run.look))
        hooked.enter_context(cancelling())
        given = nested.private(arguments.arguments(inputs), requires_grad=bool(of_gradient))
        output = answer(model, *given) if of_gradient else model(*given)
        hooked.close()  # before the gradient: checkpointed layers run again there, and that is no call of theirs
        index, against, reason = -1, -1, ""
        slopes: dict[Place, dict[str, float]] = {}
        if of_gradient:
            stop_if_cancelled()
            try:
                score = score_of(output, target)
                index, against, slopes = score.index, score.against, _slopes(score.tensor, run, of_gradient)
            except (NoGradient, TargetNotFound) as problem:
                reason = str(problem)
    none = {metric.name: math.nan for metric in of_gradient}
    calls = tuple(
        SurveyedCall(layer, call, numbers | slopes.get(run.same.get((layer, call), (layer, call)), none))
        for (layer, call), numbers in run.numbers.items()
    )
    return Survey(calls, index, reason, (time.perf_counter() - began) * 1000, against)


def _of(what: str, metrics: Iterable[Metric]) -> list[Metric]:
    return [metric for metric in metrics if metric.of == what]


def _operations(layers: Sequence[LayerInfo], modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The names of the operations, and the modules in which they happen."""
    found = {info.name: split_name(info.name) for info in layers if info.operation}
    return {name: modules[parts[0]] for name, parts in found.items() if parts is not None and parts[0] in modules}


Place = tuple[str, int]  # a layer and its call
_Edge = tuple[GradientEdge, tuple[Tensor, int] | None]


class _Run:
    """What the hooks of one pass have seen."""

    def __init__(self, axes: Axes, metrics: Sequence[Metric]) -> None:
        self.axes = axes
        self.metrics = metrics
        self.numbers: dict[Place, dict[str, float]] = {}
        self.channels: dict[Place, int | None] = {}  # the axis of each output's
        self.edges: dict[Place, _Edge] = {}
        self.same: dict[Place, Place] = {}  # a container's call: the one whose output it returned
        self._last: tuple[Tensor, int, Place] | None = None  # output, its version, whose it was

    def look(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, output: Any) -> None:
            with torch._C.DisableTorchFunction():  # where functions are watched, ours are not the model's
                keep(module, output)

        def keep(module: nn.Module, output: Any) -> None:
            key = (layer, next(calls))
            found = nested.first(output)
            if found is None:
                return
            if self._last is not None and found[1] is self._last[0] and _version(found[1]) == self._last[1]:
                self.same[key] = self._last[2]
                self.numbers[key] = self.numbers[self._last[2]]
            else:
                axis = self.channels[key] = self.axes.channel(*key, found[1], module)
                self.numbers[key] = _numbers(found[1], axis, self.metrics)
                edge, watch = tap(found[1])
                if edge is not None:
                    self.edges[key] = (edge, watch)
                self._last = (found[1], _version(found[1]), key)

        return look


def _version(tensor: Tensor) -> int:
    """Changes when something is written in place; the tensors of inference mode do not count that, and nothing is."""
    return -1 if tensor.is_inference() else tensor._version


@torch.no_grad()
def _numbers(tensor: Tensor, channel_axis: int | None, metrics: Sequence[Metric]) -> dict[str, float]:
    measured = TensorMeasured(real(tensor), channel_axis)
    return {metric.name: metric.rule(measured) if measured.values.numel() else math.nan for metric in metrics}


class TensorMeasured:
    """See `methods.Measured`.

    Arguments:
        values: real. channel_axis: its channels', None if it has none.
    """

    def __init__(self, values: Tensor, channel_axis: int | None) -> None:
        self.values = values
        self.channel_axis = channel_axis

    @cached_property
    def _flat(self) -> Tensor:
        # Each reduction runs over memory in its own order: a strided one costs ten times as much.
        strides = self.values.stride()
        dense = self.values.permute(sorted(range(self.values.ndim), key=lambda axis: -strides[axis]))
        return dense.contiguous().reshape(-1)

    @cached_property
    def _counted(self) -> tuple[float, int]:
        """The sum of the squares of all values, and how many are 0."""
        return _squares_and_zeros(self._flat)

    @cached_property
    def finite(self) -> Tensor:
        return self._flat if math.isfinite(self._counted[0]) else self._flat[self._flat.isfinite()]

    @property
    def count(self) -> int:
        return self.finite.numel()

    @cached_property
    def squares(self) -> float:
        return self._counted[0] if math.isfinite(self._counted[0]) else _wide_squares(self.finite)

    @property
    def norm(self) -> float:
        return math.sqrt(self._counted[0])

    @property
    def zeros(self) -> int:
        return self._counted[1]

    @cached_property
    def silent(self) -> float:
        if self.channel_axis is None:
            return math.nan
        # most layers have too few zeros for a silent channel, and need not be looked at again
        enough = self.zeros >= self.values.numel() // max(self.values.shape[self.channel_axis], 1)
        return _silent(self.values, self.channel_axis) if enough else 0.0

    @cached_property
    def entropy(self) -> float:
        return _entropy(self.finite) if self.count else math.nan


def _squares_and_zeros(flat: Tensor) -> tuple[float, int]:
    """The sum of squares, which is not finite if a value is not, and how many values are 0.

    In blocks that stay in the processor's cache between the two, and are short enough for a product of vectors in
    float32, which is six times as fast as a norm in float64; the squares of very large or very small values are taken
    in float64. numpy counts booleans three times as fast as floats, and twenty times as fast as torch.
    """
    if flat.device.type != "cpu":
        return _wide_squares(flat), int((flat == 0).sum())
    array = flat.numpy()
    squares, others = [], 0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(array), BLOCK):
            block = array[start : start + BLOCK]
            squares.append(float(np.dot(block, block)))
            others += int(np.count_nonzero(block != 0))  # NaN is not 0
    total = sum(squares)
    fits = TINY * len(array) < total < math.inf
    return total if fits else _wide_squares(flat), len(array) - others


def _wide_squares(flat: Tensor) -> float:
    return float(torch.linalg.vector_norm(flat, dtype=torch.float64)) ** 2


def _silent(values: Tensor, channel_axis: int) -> float:
    others = [axis for axis in range(values.ndim) if axis != channel_axis]
    if not others:
        return float((values == 0).double().mean())
    # NaN is not 0, and passes through both
    silent = (values.amax(others) == 0) & (values.amin(others) == 0)
    return float(silent.double().mean())


def _entropy(flat: Tensor) -> float:
    """Bits; a value within rounding of an edge may be counted on its other side."""
    least, most = (float(number) for number in flat.aminmax())
    if least == most:
        return 0.0
    step = -(-flat.numel() // SAMPLES)
    while math.gcd(step, flat.numel()) > 1 and step > 1:  # else it could hit the same column of every row
        step += 1
    flat = flat[::step]
    if not 1e-30 < most - least < 1e37:
        flat = flat.double()  # the differences would overflow, or their inverse
    # an int32 index: counting by int64 takes seven times as long
    index = ((flat - least) * (HISTOGRAM_BINS / (most - least))).to(torch.int32).clamp_(max=HISTOGRAM_BINS - 1)
    return bits(torch.bincount(index, minlength=HISTOGRAM_BINS).cpu().numpy())


def _slopes(score: Tensor, run: _Run, metrics: Sequence[Metric]) -> dict[Place, dict[str, float]]:
    if not run.edges:
        return {}
    gradients = differentiate(score, [edge for edge, _ in run.edges.values()])
    return {
        key: _numbers(gradient, run.channels[key], metrics)
        for (key, (_, watch)), gradient in zip(run.edges.items(), gradients, strict=True)
        if gradient is not None and not overwritten_view(watch)
    }
