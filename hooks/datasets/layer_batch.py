"""What one call of a layer gave for a batch of pictures, read once for everybody who collects something of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
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
class LayerBatch:
    """One call of a layer and a batch.

    Attributes:
        layer, call, module: whose. tensor: what it returned. axes: what its axes are.
        pictures: int64 (picture,), the numbers of the batch's pictures in their set.
    """

    layer: str
    call: int
    module: nn.Module
    tensor: Tensor
    axes: Axes
    pictures: np.ndarray

    @cached_property
    def rows(self) -> Rows | None:
        """Its values, a row for each channel of each picture; None where these axes are not known."""
        image = self.axes.image(self.layer, self.call, self.tensor)
        channel = self.axes.channel(self.layer, self.call, self.tensor, self.module)
        if image is None or channel is None or self.tensor.shape[image] != len(self.pictures):
            return None
        values = real(self.tensor)
        if (image, channel) != (0, 1):
            values = values.movedim((image, channel), (0, 1))
        return read(values.reshape(*values.shape[:2], values[0, 0].numel() if values.numel() else 0).contiguous())

    @cached_property
    def layout(self) -> Layout:
        """Where its positions lie on the picture."""
        return layout_of(self.axes.seen(self.layer, self.call, self.tensor), self.tensor.shape)


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
