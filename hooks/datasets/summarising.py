"""One tensor that a layer gave, as the summary that `datasets.diagnostics` merges over batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from hookscope.hooks.layers.shapes import is_channels_first
from hookscope.hooks.numbers.merging import with_distribution
from hookscope.hooks.numbers.reductions import real, statistics
from hookscope.hooks.numbers.sketch import sketch
from hookscope.hooks.passes.operations import split_name
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.maps import arrange, why_no_maps
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


def leaves(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules without children that can be hooked."""
    return {name: module for name, module in hookable(modules).items() if not any(True for _ in module.children())}


def hookable(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules without those that are TorchScript."""
    return {name: module for name, module in modules.items() if not isinstance(module, torch.jit.ScriptModule)}


class Axes:
    """Which axis of a layer's output holds the images and which the channels, as a recorded run saw it.

    Arguments:
        layers: what `layers.names.describe` said; without it only convolutions and the like are known.
    """

    def __init__(self, layers: Iterable[LayerInfo]) -> None:
        self._calls = {(info.name, call): seen for info in layers for call, seen in enumerate(info.calls)}

    def image(self, layer: str, call: int, tensor: Tensor) -> int | None:
        """The axis of the images, or None if there is none (or nothing is known)."""
        return self._find(layer, call, tensor, ("image",))

    def channel(self, layer: str, call: int, tensor: Tensor, module: nn.Module) -> int | None:
        """The axis of the channels; the features of a layer without positions are its channels."""
        found = self._find(layer, call, tensor, ("channel", "feature"))
        if found is None and (layer, call) not in self._calls and tensor.ndim >= 3 and is_channels_first(module):
            return 1
        return found

    def _find(self, layer: str, call: int, tensor: Tensor, names: tuple[str, ...]) -> int | None:
        seen = self._calls.get((layer, call))
        if seen is None or len(seen.axes) != tensor.ndim:
            return None
        return next((seen.axes.index(name) for name in names if name in seen.axes), None)

    def maps(self, layer: str, call: int, tensor: Tensor) -> np.ndarray | None:
        """The first image's feature maps, float32 (channel, height, width); None where the layer has none."""
        seen, image = self._calls.get((layer, call)), self.image(layer, call, tensor)
        if seen is None or image is None:
            return None
        values = real(tensor.narrow(image, 0, 1)).cpu().float().numpy()
        return None if why_no_maps(seen, values.shape) else arrange(values, seen.axes, seen.grid, seen.prefix_tokens)


def summarise(
    layer: str, call: int, module: nn.Module, of: str, tensor: Tensor, axes: Axes, threshold: float
) -> LayerSummary:
    """The summary of one tensor; the fields are those of `results.summaries.LayerSummary`."""
    channel, image = axes.channel(layer, call, tensor, module), axes.image(layer, call, tensor)
    numbers = statistics(tensor, channel, distribution=False)
    counted = sketch(tensor)
    operation = split_name(layer)
    kind = operation[1].partition("@")[0] if operation else type(module).__name__
    finite = numbers.count - numbers.nan - numbers.inf
    return LayerSummary(
        layer=layer,
        call=call,
        type=kind,
        of=of,
        inputs=1 if image is None else tensor.shape[image],
        statistics=with_distribution(numbers, counted),
        sketch=counted,
        fired=fired(tensor, channel, image, threshold),
        threshold=threshold,
        activation=kind in _FUNCTIONS if operation else is_activation(module),
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
