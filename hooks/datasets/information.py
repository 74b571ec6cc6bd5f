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
from typing import Any, overload

import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.collecting import Collector, Patterns
from hookscope.hooks.datasets.collectors import PlacesCollector
from hookscope.hooks.layers.axes import Axes, leaves
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.numbers.reductions import real, statistics
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import split_name, tapping
from hookscope.hooks.results.information import SetInformation, information_over
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.sketches import entropy
from hookscope.hooks.results.summaries import LayerInformation
from hookscope.hooks.results.sweeps import Sweep


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


@overload
def information(found: Sweep) -> tuple[SetInformation, ...]: ...
@overload
def information(found: Patterns = None, *, drawn: int = 128) -> Collector: ...
def information(found: Sweep | Patterns = None, *, drawn: int = 128) -> tuple[SetInformation, ...] | Collector:
    """Entropy and width of each layer over a set; or, without a sweep, what a sweep has to collect for that.

        told = hs.information(hs.sweep(model, loader, [hs.statistics(), hs.information()]))
        hs.bottlenecks(told)

    Entropy is told from `statistics`. Width is told from one place of each of `drawn` pictures, since a product of all
    channels with all channels, of every layer, would take as long as the network itself and hundreds of megabytes; and
    not from the channels' means, which a convolution passes on in as many directions as a picture has mean colours.

    Arguments:
        found: a sweep that was asked for `information()`. To collect: which layers, as `layers.names.select` takes
            them; by default every module without children.
        drawn: how many pictures are drawn; 4 bytes for each of them and each channel are kept.

    Returns:
        One per call of a layer, in execution order; or what `sweep` takes.

    Raises:
        HooksError: the sweep was not asked for this, or has fewer than 8 pictures.
    """
    return information_over(found) if isinstance(found, Sweep) else PlacesCollector(found, drawn)


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
