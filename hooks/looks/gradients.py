"""The gradient of one number at every layer, and how large it is along the depth.

found = gradients(model, image, ":Conv2d", target=285)
[(layer.layer, layer.norm) for layer in found.layers]

`results.anomalies` says of these numbers where the gradient vanishes or explodes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from hookscope.hooks.errors import LayerNotFound
from hookscope.hooks.layers.names import Pattern, named_layers
from hookscope.hooks.looks.capture import capture
from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.records import Record
from hookscope.hooks.looks.targets import Target, score_of
from hookscope.hooks.numbers.reductions import real, statistics_later
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Gradients, LayerGradient


def gradients(
    model: nn.Module,
    inputs: Any,
    patterns: Pattern | Iterable[Pattern] | None = None,
    target: Target = None,
    *,
    at_inputs: bool = False,
) -> Gradients:
    """The gradient of a target at the output of layers, from one forward pass and one `torch.autograd.grad`.

    It is that of the value as the layer produced it, whatever was written in place afterwards. Nobody's `.grad`
    changes, and no weight's gradient is computed.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments; they are copied.
        patterns: which layers; see `layers.names.select`. None for every layer that has weights of its own.
        target: see `looks.targets`.
        at_inputs: also at what each layer is given.

    Returns:
        One `LayerGradient` per layer, call and tensor, in the order of the forward pass; one without says why.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> [(each.layer, each.count) for each in gradients(net, torch.zeros(1, 3, 8, 8), target=2).layers]
    [('0', 144)]

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound: a pattern means nothing; the model did not run then.
        NoGradient: the model builds no graph. TargetNotFound: the output has no such target.
    """
    began = time.perf_counter()
    chosen = layers_with_weights(model) if patterns is None else patterns
    with inspecting(model, gradients=True) as inner:
        with (
            capture(inner, chosen, gradients=True, inputs=at_inputs) as seen,
            cancelling(),
        ):
            output = answer(inner, *nested.private(arguments.arguments(inputs), requires_grad=True))
        score = score_of(output, target)
        stop_if_cancelled()
        seen.differentiate(score.tensor)
    reading = [_reduced(record) for record in seen]
    found = tuple(read() for read in reading)
    return Gradients(score.index, score.value, found, (time.perf_counter() - began) * 1000, score.against)


def layers_with_weights(model: nn.Module) -> list[str]:
    """The names of the layers that have weights of their own, the model itself left out, in registration order.

    A layer may have children too: timm's normalisations hold their activation.

    Raises:
        LayerNotFound: there is none.
    """
    names = [
        name
        for name, module in named_layers(model).items()
        if name and any(True for _ in module.parameters(recurse=False))
    ]
    if not names:
        raise LayerNotFound(f"{type(model).__name__} has no layer with weights. Name the layers to look at.")
    return names


def _reduced(record: Record) -> Callable[[], LayerGradient]:
    """What gives the numbers of one gradient: all of them are asked for before the first is waited for."""
    where = (record.layer, record.call, record.side, record.path)
    if record.gradient is None:
        none = np.full(len(QUANTILE_LEVELS), math.nan)
        numbers = (math.nan,) * 6
        nothing = LayerGradient(*where, math.prod(record.shape), *numbers, 0, 0, none, none, record.reason_no_gradient)
        return lambda: nothing
    values = real(record.gradient)
    later, sizes = statistics_later(values, None), statistics_later(values.abs(), None)

    def read() -> LayerGradient:
        signed, size = later(), sizes()
        finite = values[values.isfinite()] if signed.nan or signed.inf else values
        count = finite.numel()
        norm = float(torch.linalg.vector_norm(finite, dtype=torch.float64)) if count else math.nan
        return LayerGradient(
            *where,
            count=signed.count,
            norm=norm,
            rms=norm / math.sqrt(count) if count else math.nan,
            max_abs=size.max,
            min=signed.min,
            max=signed.max,
            zeros=signed.zeros,
            nan=signed.nan,
            inf=signed.inf,
            quantiles=signed.quantiles,
            magnitudes=size.quantiles,
        )

    return read
