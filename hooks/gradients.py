"""The gradient of one number at every layer: how large it is along the depth, and where it vanishes or explodes.

found = gradients(model, image, ":Conv2d", target=285)
[(layer.layer, layer.norm) for layer in found.layers]
for anomaly in find_anomalies(found):
    print(anomaly.sentence)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hooks import nested
from hooks.capture import cancelling, capture
from hooks.errors import Cancelled, LayerNotFound
from hooks.layers import Pattern, named_layers
from hooks.modes import inspecting
from hooks.records import Record
from hooks.reductions import real, statistics
from hooks.results import QUANTILE_LEVELS, Gradients, LayerGradient
from hooks.targets import Target, score_of

VANISHING_NORM = 1e-6
EXPLODING_NORM = 1e4
VANISHING_RATIO = 1e-4
EXPLODING_RATIO = 1e4


def gradients(
    model: nn.Module,
    inputs: Any,
    patterns: Pattern | Iterable[Pattern] | None = None,
    target: Target = None,
    *,
    at_inputs: bool = False,
    cancelled: Callable[[], bool] | None = None,
    owner: str = "user",
    purpose: str = "analysis",
) -> Gradients:
    """The gradient of a target at the output of layers, from one forward pass and one `torch.autograd.grad`.

    It is that of the value as the layer produced it, whatever was written in place afterwards. Nobody's `.grad`
    changes, and no weight's gradient is computed.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments; they are copied.
        patterns: which layers; see `hooks.layers.select`. None for every layer that has weights and no children.
        target: see `hooks.targets`.
        at_inputs: also at what each layer is given.
        cancelled: asked before every module of the model, and before the gradient.

    Returns:
        One `LayerGradient` per layer, call and tensor, in the order of the forward pass; one without says why.

    Raises:
        Cancelled: `cancelled` said so.
        LayerNotFound: a pattern means nothing; the model did not run then.
        NoGradient: the model builds no graph. TargetNotFound: the output has no such target.
    """
    began = time.perf_counter()
    chosen = layers_with_weights(model) if patterns is None else patterns
    with inspecting(model, gradients=True) as inner:
        with (
            capture(inner, chosen, gradients=True, inputs=at_inputs, owner=owner, purpose=purpose) as seen,
            cancelling(cancelled),
        ):
            output = inner(*nested.private(nested.arguments(inputs), requires_grad=True))
        score = score_of(output, target)
        if cancelled is not None and cancelled():
            raise Cancelled
        seen.differentiate(score.tensor)
    found = tuple(_reduced(record) for record in seen)
    return Gradients(score.index, score.value, found, (time.perf_counter() - began) * 1000)


def layers_with_weights(model: nn.Module) -> list[str]:
    """The names of the layers that have weights of their own and no children, in registration order.

    Raises:
        LayerNotFound: there is none.
    """
    names = [
        name
        for name, module in named_layers(model).items()
        if not any(True for _ in module.children()) and any(True for _ in module.parameters())
    ]
    if not names:
        raise LayerNotFound(f"{type(model).__name__} has no layer with weights. Name the layers to look at.")
    return names


def _reduced(record: Record) -> LayerGradient:
    where = (record.layer, record.call, record.side, record.path)
    if record.gradient is None:
        none = np.full(len(QUANTILE_LEVELS), math.nan)
        numbers = (math.nan,) * 6
        return LayerGradient(*where, math.prod(record.shape), *numbers, 0, 0, none, none, record.reason_no_gradient)
    values = real(record.gradient)
    signed, size = statistics(values, None), statistics(values.abs(), None)
    finite = values[values.isfinite()] if signed.nan or signed.inf else values
    count = finite.numel()
    norm = _norm(finite) if count else math.nan
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


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))


@dataclass(frozen=True)
class Anomaly:
    """Something about a gradient that a person should know.

    Attributes:
        kind: "not finite", "zero", "vanishing" or "exploding".
        layer, call: where; of a ratio between two layers the one nearest to the input.
        sentence: what was found, with the numbers.
    """

    kind: Literal["not finite", "zero", "vanishing", "exploding"]
    layer: str
    call: int
    sentence: str


def find_anomalies(
    found: Gradients,
    *,
    vanishing_norm: float = VANISHING_NORM,
    exploding_norm: float = EXPLODING_NORM,
    vanishing_ratio: float = VANISHING_RATIO,
    exploding_ratio: float = EXPLODING_RATIO,
) -> list[Anomaly]:
    """Gradients that are not finite, vanish or explode, in the order of the forward pass, each as a sentence.

    Everything is told by norms. A mean says nothing: a gradient whose values cancel has mean 0 at any size.

    Arguments:
        found: from `gradients`; gradients at layers' outputs are looked at.
        vanishing_norm, exploding_norm: a layer whose L2 norm is below, or above, is named.
        vanishing_ratio, exploding_ratio: bounds for the norm at the first layer divided by that at the last one; a
            ratio outside is one sentence of its own, at the front.
    """
    layers = [layer for layer in found.layers if layer.side == "output" and not layer.reason]
    anomalies = _ratio(layers, vanishing_ratio, exploding_ratio)
    for layer in layers:
        title = repr(layer.layer) + (f", call {layer.call + 1}" if layer.call else "")
        if layer.nan or layer.inf:
            sentence = f"The gradient at {title} holds {layer.nan:,} NaN and {layer.inf:,} infinite values."
            anomalies.append(Anomaly("not finite", layer.layer, layer.call, sentence))
        if layer.norm == 0:
            sentence = f"The gradient at {title} is exactly 0: what the layer computes does not matter to the target."
            anomalies.append(Anomaly("zero", layer.layer, layer.call, sentence))
        elif layer.norm < vanishing_norm:
            sentence = f"The gradient vanishes at {title}: its norm is {layer.norm:.3g}, below {vanishing_norm:.3g}."
            anomalies.append(Anomaly("vanishing", layer.layer, layer.call, sentence))
        elif layer.norm > exploding_norm:
            sentence = f"The gradient explodes at {title}: its norm is {layer.norm:.3g}, above {exploding_norm:.3g}."
            anomalies.append(Anomaly("exploding", layer.layer, layer.call, sentence))
    return anomalies


def _ratio(layers: list[LayerGradient], low: float, high: float) -> list[Anomaly]:
    usable = [layer for layer in layers if layer.norm > 0 and not layer.nan and not layer.inf]
    if len(usable) < 2:
        return []
    first, last = usable[0], usable[-1]
    ratio = first.norm / last.norm
    if low <= ratio <= high:
        return []
    kind: Literal["vanishing", "exploding"] = "vanishing" if ratio < low else "exploding"
    verb = "vanishes" if ratio < low else "explodes"
    sentence = (
        f"The gradient {verb} on its way back: its norm is {last.norm:.3g} at {last.layer!r} and {first.norm:.3g} at "
        f"{first.layer!r}, a ratio of {ratio:.2g}."
    )
    return [Anomaly(kind, first.layer, first.call, sentence)]
