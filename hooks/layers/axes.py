"""Which axis of an output is which, and which modules a hook can be put on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.layers.shapes import channel_axis_by_type, is_channels_first
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import arrange, why_no_maps


def leaves(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules without children that can be hooked."""
    return {name: module for name, module in hookable(modules).items() if not any(True for _ in module.children())}


def hookable(modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules without those that are TorchScript."""
    return {name: module for name, module in modules.items() if not isinstance(module, torch.jit.ScriptModule)}


class Axes:
    """Which axis of a layer's output holds the images and which the channels, as a recorded run saw it.

    Arguments:
        layers: what `layers.describe.describe` said; without it only convolutions and the like are known.
        others: what it said of another run, for calls that this one lacks, or that have other axes there.
    """

    def __init__(self, layers: Iterable[LayerInfo], others: Iterable[LayerInfo] = ()) -> None:
        self._calls: dict[tuple[str, int], list[Call]] = {}
        for info in (*layers, *others):
            for number, call in enumerate(info.calls):
                self._calls.setdefault((info.name, number), []).append(call)

    def image(self, layer: str, call: int, tensor: Tensor) -> int | None:
        """The axis of the images, or None if there is none (or nothing is known)."""
        return self._find(layer, call, tensor, ("image",))

    def channel(self, layer: str, call: int, tensor: Tensor, module: nn.Module) -> int | None:
        """The axis of the channels; the features of a layer without positions are its channels."""
        found = self._find(layer, call, tensor, ("channel", "feature"))
        if found is None and (layer, call) not in self._calls and tensor.ndim >= 3 and is_channels_first(module):
            known = channel_axis_by_type(module, tensor)
            return 1 if known is None else known
        return found

    def _find(self, layer: str, call: int, tensor: Tensor, names: tuple[str, ...]) -> int | None:
        seen = self.seen(layer, call, tensor)
        return None if seen is None else next((seen.axes.index(name) for name in names if name in seen.axes), None)

    def seen(self, layer: str, call: int, tensor: Tensor) -> Call | None:
        """This call as a recorded run saw it, if it had as many axes there."""
        return next((each for each in self._calls.get((layer, call), ()) if len(each.axes) == tensor.ndim), None)

    def maps(self, layer: str, call: int, tensor: Tensor) -> np.ndarray | None:
        """The first image's feature maps, float32 (channel, height, width); None where the layer has none."""
        seen, image = self.seen(layer, call, tensor), self.image(layer, call, tensor)
        if seen is None or image is None:
            return None
        values = real(tensor.narrow(image, 0, 1)).cpu().float().numpy()
        return None if why_no_maps(seen, values.shape) else arrange(values, seen.axes, seen.grid, seen.prefix_tokens)
