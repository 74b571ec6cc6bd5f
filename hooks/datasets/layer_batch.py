"""What one call of a layer gave for a batch of pictures, read once for everybody who collects something of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.numbers.rows import Rows, read
from hookscope.hooks.results.looks import Call
from hookscope.hooks.results.sweeps import NOWHERE


@dataclass(frozen=True)
class Layout:
    """Where the positions of a layer lie on the picture.

    Attributes:
        columns: of its maps; 0 of a layer whose positions lie nowhere on the picture.
        before: positions before the map's first: a class token, registers.
    """

    columns: int
    before: int = 0

    def spots(self, places: np.ndarray) -> np.ndarray:
        """Int16 (..., 2): the row and the column of each place of a row of values; -1 of one that lies nowhere."""
        if not self.columns:
            return np.full((*places.shape, 2), NOWHERE, np.int16)
        inside = places.astype(np.int64) - self.before
        spots = np.stack([inside // self.columns, inside % self.columns], -1)
        return np.where(inside[..., None] >= 0, spots, NOWHERE).astype(np.int16)


@dataclass(frozen=True)
class Plan:
    """How the output of a layer's call is read, for one shape of it.

    Attributes:
        image, channel: the axes of the images and of the channels, None if there is none, or it is not known.
        layout: where the positions lie.
    """

    image: int | None
    channel: int | None
    layout: Layout

    def read(self, tensor: Tensor, pictures: int, whole: bool = False) -> Rows | None:
        """A row of values for each channel of each picture; None where these axes are not known.

        Arguments:
            whole: nobody asks for channels, so that all values of a picture may be one row, where that spares a copy.
        """
        if self.image is None or self.channel is None or tensor.shape[self.image] != pictures:
            return None
        values = real(tensor)
        if whole and self.image == 0 and values.numel() and _is_channels_last(values):
            return read(values.permute(0, 2, 3, 1).reshape(pictures, 1, -1))
        if (self.image, self.channel) != (0, 1):
            values = values.movedim((self.image, self.channel), (0, 1))
        if values.ndim != 3:
            values = values.reshape(*values.shape[:2], -1) if values.numel() else values.flatten(2)[..., :0]
        return read(values.contiguous())


def _is_channels_last(values: Tensor) -> bool:
    return values.ndim == 4 and not values.is_contiguous() and values.is_contiguous(memory_format=torch.channels_last)


class Plans:
    """The plans of a model's layers, each made once: what axes mean is asked again and again otherwise.

    Arguments:
        axes: of the layers' outputs.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.read: dict[tuple[str, int], None] = {}  # the calls that were read
        self._known: dict[tuple[str, int, Sequence[int]], Plan] = {}

    @property
    def shapes(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """The shape of what each call has returned, of the last that was new, without the first axis."""
        return {(layer, call): tuple(shape) for layer, call, shape in self._known}

    def of(self, layer: str, call: int, module: nn.Module, tensor: Tensor) -> Plan:
        """The plan for what a call has returned."""
        key = layer, call, tensor.shape[1:]
        plan = self._known.get(key)
        if plan is None:
            image, channel = self.axes.image(layer, call, tensor), self.axes.channel(layer, call, tensor, module)
            layout = layout_of(self.axes.seen(layer, call, tensor), tensor.shape)
            plan = self._known[key] = Plan(image, channel, layout)
        return plan


@dataclass(slots=True)
class LayerBatch:
    """One call of a layer and a batch.

    Attributes:
        layer, call, module: whose. tensor: what it returned. axes: what its axes are.
        pictures: int64 (picture,), the numbers of the batch's pictures in their set.
        rows: the tensor's values, a row for each channel of each picture; None where these axes are not known.
        layout: where its positions lie on the picture.
        output: everything that it returned.
    """

    layer: str
    call: int
    module: nn.Module
    tensor: Tensor
    axes: Axes
    pictures: np.ndarray
    rows: Rows | None
    layout: Layout
    output: Any = None


def layout_of(seen: Call | None, shape: Sequence[int]) -> Layout:
    """Where the positions lie of an output of this shape, of which a recorded run saw the axes."""
    if seen is None:
        return Layout(0)
    places = [axis for axis in seen.axes if axis not in ("image", "channel", "feature")]
    if places[-2:] == ["height", "width"] and places[:-2] in ([], ["depth"]):
        return Layout(shape[seen.axes.index("width")])
    if places == ["token"] and seen.grid is not None:
        return Layout(seen.grid[1], seen.prefix_tokens)
    return Layout(0)
