"""One tensor that a layer gave, as the summary that `datasets.diagnostics` merges over batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.numbers.reductions import by_image, real, statistics
from hookscope.hooks.numbers.sketch import sketch
from hookscope.hooks.passes.operations import split_name
from hookscope.hooks.results.summaries import LayerSummary

_NO_ACTIVATION = (nn.MultiheadAttention, nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax)
# timm's own, which derive from nn.Module directly
_ACTIVATION_NAMES = {"Swish", "SwishMe", "MishMe", "HardSwish", "HardSwishMe", "HardMish", "HardMishMe", "QuickGELU"}

# functions that are activations when no module calls them
_FUNCTIONS = {
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "prelu", "relu",
    "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "tanh", "threshold",
}  # fmt: skip


def is_activation(module: nn.Module) -> bool:
    """Whether a module is an activation function: ReLU, GELU, SiLU and the like, timm's included."""
    if isinstance(module, _NO_ACTIVATION):
        return False
    kinds = [kind for kind in type(module).__mro__ if issubclass(kind, nn.Module) and kind is not nn.Module]
    return any(kind.__module__ == activation.__name__ or kind.__name__ in _ACTIVATION_NAMES for kind in kinds)


def kind_of(layer: str, module: nn.Module) -> tuple[str, bool]:
    """What a layer is called, its class or its operation, and whether it is an activation function."""
    operation = split_name(layer)
    if operation is None:
        return type(module).__name__, is_activation(module)
    kind = operation[1].partition("@")[0]
    return kind, kind in _FUNCTIONS


def summarise(
    layer: str, call: int, module: nn.Module, of: str, tensor: Tensor, axes: Axes, threshold: float
) -> LayerSummary:
    """The summary of one tensor, with quantiles and histogram left empty (`merging.complete`)."""
    channel, image = axes.channel(layer, call, tensor, module), axes.image(layer, call, tensor)
    read = by_image(real(tensor)) if (image, channel) == (0, 1) else None
    if read is not None:
        numbers, firing = read[0], (read[1] > threshold).sum(0)
    else:
        numbers = statistics(tensor, channel, distribution=False)
        firing = fired(tensor, channel, image, threshold)
    kind, activates = kind_of(layer, module)
    finite = numbers.count - numbers.nan - numbers.inf
    return LayerSummary(
        layer=layer,
        call=call,
        type=kind,
        of=of,
        inputs=1 if image is None else tensor.shape[image],
        statistics=numbers,
        sketch=sketch(tensor),
        fired=firing,
        threshold=threshold,
        activation=activates,
        norm=float(np.sqrt(finite) * np.hypot(numbers.mean, numbers.std)) if finite else 0.0,
    )


def fired(tensor: Tensor, channel: int | None, image: int | None, threshold: float) -> np.ndarray:
    """Int64 (channel,): in how many images each channel has a value whose magnitude is above the threshold.

    NaN counts as firing: such a channel is broken, and not dead. Empty without a channel axis.
    """
    if channel is None:
        return np.zeros(0, np.int64)
    values = real(tensor)
    rows = values.movedim(channel, 0)[None] if image is None else values.movedim((image, channel), (0, 1))
    if not rows.numel():
        return np.zeros(tensor.shape[channel], np.int64)
    rows = rows.flatten(2) if rows.ndim > 2 else rows[..., None]
    quiet = torch.maximum(rows.amax(2), -rows.amin(2)) <= threshold
    count: np.ndarray = (~quiet).sum(0).cpu().numpy()
    return count
