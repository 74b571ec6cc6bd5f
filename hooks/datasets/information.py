"""Information along the depth: the entropy of each layer's values, over how many directions its channels vary, and the
bottlenecks that this shows.

Entropy is Shannon's, of the histogram of a layer's values in 64 equal bins between their extremes, in bits: 0 if all
values are the same, 6 if they fill the bins evenly. It does not change when a layer is scaled or shifted, and it says
how the values are spread, not what they know of the input: a deterministic network has no smaller differential entropy
that one could measure from a histogram (Goldfeld et al., "Estimating Information Flow in Deep Neural Networks", ICML
2019). So it is given with two measures of width, both of the eigenvalues of the channels' covariance over positions and
images: the effective rank, exp of their entropy in nats (Roy and Vetterli, "The Effective Rank: A Measure of Effective
Dimensionality", EUSIPCO 2007), and the participation ratio, (sum)^2 / sum of squares (Gao et al., "A theory of
multineuronal dimensionality, dynamics and measurement", 2017).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.axes import Axes, leaves
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.numbers.reductions import real, statistics
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import split_name, tapping
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.sketches import entropy
from hookscope.hooks.results.summaries import Bottleneck, LayerInformation


def information_flow(
    model: nn.Module,
    inputs: Any,
    layers: Pattern | Iterable[Pattern] | None = None,
    *,
    described: Sequence[LayerInfo] | None = None,
) -> tuple[LayerInformation, ...]:
    """Entropy and width of each layer's output, in the order in which the calls end.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments; they are copied. A layer without positions
            needs several images, or its channels do not vary.
        layers: see `layers.names.select`; by default every module without children.
        described: what `layers.describe.describe` said of this model, if it is known; else it is asked here.

    Raises:
        LayerNotFound: a pattern means nothing.
        ModelNotSupported: hooks cannot see into this kind of model.
    """
    chosen = leaves(select(model, "*")) if layers is None else select(model, layers)
    given = arguments.arguments(inputs)
    axes = Axes(describe(model, *arguments.first_image(given)) if described is None else described)
    found: list[LayerInformation] = []
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model))
        look = partial(_hook, axes, found)
        stack.enter_context(tapping(chosen, first_names(model), look))
        model(*nested.private(given, requires_grad=False))
    return tuple(found)


def bottlenecks(flow: Sequence[LayerInformation], factor: float = 2.0) -> tuple[Bottleneck, ...]:
    """The layers through which everything passes on fewer directions than before and after, in their order.

    A layer is narrow if the widest effective rank before it and the widest after it are both at least `factor` times
    its own; of neighbouring narrow layers the narrowest one is named. Layers without a rank are passed over. The order
    is that of execution: in a network with branches a narrow branch is no bottleneck of the whole.
    """
    ranked = [step for step in flow if not math.isnan(step.effective_rank)]
    ranks = [step.effective_rank for step in ranked]
    found: list[Bottleneck] = []
    narrow_before = False
    for index, step in enumerate(ranked):
        around = min(max(ranks[:index], default=0.0), max(ranks[index + 1 :], default=0.0))
        narrow = around >= factor * step.effective_rank
        if narrow:
            here = Bottleneck(step.layer, step.call, step.effective_rank, around / step.effective_rank)
            if not narrow_before:
                found.append(here)
            elif here.effective_rank < found[-1].effective_rank:
                found[-1] = here
        narrow_before = narrow
    return tuple(found)


def widths(samples: Tensor) -> tuple[float, float]:
    """Effective rank and participation ratio of (sample, channel) values; NaN if nothing varies, or is not finite."""
    if samples.shape[0] < 2 or not samples.shape[1] or not bool(samples.isfinite().all()):
        return math.nan, math.nan
    samples = samples.double()
    samples = samples - samples.mean(0)
    size = samples.abs().max()
    if size == 0:
        return math.nan, math.nan
    samples = samples / size  # so that the squares neither overflow nor vanish
    # the two products have the same eigenvalues but for zeros: take the smaller one
    wide = samples.shape[1] > samples.shape[0]
    eigenvalues = torch.linalg.eigvalsh(samples @ samples.T if wide else samples.T @ samples)
    # what is left below the accuracy of the largest one is rounding, and would count as directions
    eigenvalues = eigenvalues[eigenvalues > eigenvalues.max() * len(eigenvalues) * torch.finfo(torch.float64).eps]
    shares = eigenvalues / eigenvalues.sum()
    rank = math.exp(float(-(shares * shares.log()).sum()))
    return rank, float(1 / shares.square().sum())


def _hook(axes: Axes, found: list[LayerInformation], layer: str) -> Callable[[nn.Module, Any, Any], None]:
    calls = iter(range(1 << 62))

    def look(module: nn.Module, args: Any, output: Any) -> None:
        call = next(calls)
        if first := nested.first(output):
            found.append(_information(layer, call, module, first[1], axes))

    return look


def _information(layer: str, call: int, module: nn.Module, tensor: Tensor, axes: Axes) -> LayerInformation:
    channel = axes.channel(layer, call, tensor, module)
    channels, samples, width = 0, 0, (math.nan, math.nan)
    if channel is not None:
        rows = real(tensor).movedim(channel, -1)
        rows = rows.reshape(-1, rows.shape[-1]) if rows.numel() else rows.new_zeros(0, tensor.shape[channel])
        samples, channels = rows.shape
        width = widths(rows)
    histogram = statistics(tensor, None).histogram
    operation = split_name(layer)
    kind = operation[1] if operation else type(module).__name__
    return LayerInformation(layer, call, kind, entropy(histogram), channels, samples, *width)
