"""Channels of a layer's output set to 0, or to their mean, for the length of one forward pass: one copy of the picture
for each.

The one hook of a look that changes what a model computes. It changes a copy: what the layer itself returned, which an
earlier layer may still hold, stays as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.passes import nested
from hookscope.hooks.passes.registry import Placed, hook
from hookscope.hooks.results.effects import Muting


class NotMuted(RuntimeError):
    """The layer's output could not be changed as it was asked."""


@dataclass
class Muter:
    """Mutes channels of one call of a layer.

    Attributes:
        layer: its name. module: the layer. call: which of its calls, from 0.
        axis: of the channels. image: of the images; None to mute in all that the output holds.
        muting: what a muted channel becomes.
        expands: whether the output is of one picture, and is handed on as many copies; else it holds the copies.
        groups: of each copy the channels that are muted in it.
        fired: whether the call came.
    """

    layer: str
    module: nn.Module
    call: int
    axis: int
    image: int | None
    muting: Muting
    expands: bool = False
    groups: Sequence[Sequence[int]] = ()
    fired: bool = False
    placed: Placed | None = None
    _calls: int = field(default=0, repr=False)

    @contextlib.contextmanager
    def muting_in_pass(self) -> Iterator[None]:
        """Mute in the one forward pass of the `with` block."""
        self._calls, self.fired = 0, False
        with hook(self.module, "forward", self._change, layer=self.layer, changes=True) as self.placed:
            yield

    def _change(self, module: nn.Module, args: Any, output: Any) -> Any:
        number, self._calls = self._calls, self._calls + 1
        found = nested.first(output)
        if number != self.call or found is None:
            return None
        tensor = found[1]
        changed = self._muted(tensor)
        handed_on = nested.map_tensors(output, lambda each: changed if each is tensor else each)
        first = nested.first(handed_on)
        if first is None or first[1] is not changed:
            raise NotMuted(f"The output of {self.layer!r} is a {type(output).__name__}, in which no value can be set.")
        self.fired = True
        return handed_on

    def _muted(self, tensor: Tensor) -> Tensor:
        if tensor.is_quantized:
            scale, zero = tensor.q_scale(), tensor.q_zero_point()
            return torch.quantize_per_tensor(self._muted(tensor.dequantize()), scale, zero, tensor.dtype)
        if self.image is None:
            copies = tensor.clone()
            self._mute(copies.movedim(self.axis, 0), (list(self.groups[0]),))
            return copies
        if self.expands:
            sizes = list(tensor.shape)
            if sizes[self.image] != 1:
                raise NotMuted(f"The output of {self.layer!r} is not of one picture.")
            sizes[self.image] = len(self.groups)
            copies = tensor.expand(sizes).clone()
        else:
            copies = tensor.clone()
        if copies.shape[self.image] != len(self.groups):
            raise NotMuted(f"The output of {self.layer!r} holds not as many images as the model was given.")
        pairs = [(copy, channel) for copy, group in enumerate(self.groups) for channel in group]
        self._mute(copies.movedim((self.image, self.axis), (0, 1)), tuple(map(list, zip(*pairs, strict=True))))
        return copies

    def _mute(self, view: Tensor, place: tuple[list[int], ...]) -> None:
        """Set what stands at places of the first axes of a view."""
        if not place or not place[0]:
            return
        if self.muting == "zero":
            view[place] = 0
            return
        chosen = view[place]
        means = chosen.flatten(1).double() if chosen.device.type != "mps" else chosen.flatten(1).float()
        view[place] = means.mean(1).to(view.dtype).reshape(-1, *[1] * (chosen.ndim - 1)).expand_as(chosen)
