"""A reading: one layer's activations of A and B as maps, in the order, on the scale and in the colours of a view.

Pictures, figures and exports of a layer are all drawn from one reading, so they cannot disagree.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from hookscope.dashboard.drawing import ranking, scales
from hookscope.dashboard.drawing.palettes import Palette, palette_for
from hookscope.dashboard.drawing.ranking import Rank
from hookscope.dashboard.page.view import MEAN, state
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.maps import maps

KEPT = 8
KEPT_BYTES = 256 << 20  # of their activations; their arithmetic takes about as much again


@state
@dataclass(frozen=True)
class Walls:
    """How every wall is drawn.

    Attributes:
        rank: the order of the channels. scale: one for the layer, or one for each channel. colours: a palette.
        count: how many channels are shown, best ranked first; "auto" for as many as fit.
        overlay: whether maps lie over what the network saw. table: whether every channel's numbers are listed.
    """

    rank: Rank = "index"
    scale: Literal["layer", "channel"] = "layer"
    colours: Literal["auto", "viridis", "magma", "grey"] = "auto"
    count: Literal["auto", "64", "256", "all"] = "auto"
    overlay: bool = False
    table: bool = False


@dataclass(frozen=True, eq=False)
class Reading:
    """One layer's activations, ready to be drawn.

    Attributes:
        walls: only its rank, scale and colours are read.
        activations: by side, "a" before "b".
    """

    walls: Walls
    activations: Mapping[str, Activation]

    @cached_property
    def maps(self) -> dict[str, np.ndarray]:
        """By side: float32 (channel, height, width); a side without spatial axes is missing."""
        found = {side: maps(activation) for side, activation in self.activations.items()}
        there = {side: array for side, array in found.items() if array is not None}
        counts = {len(array) for array in there.values()}
        # One order and one set of scales serve both sides: with another number of channels, B is left out.
        return there if len(counts) < 2 else dict(list(there.items())[:1])

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """By side: the values in one row, float32 (feature,), for a layer without spatial axes."""
        return {side: activation.values.reshape(-1) for side, activation in self.activations.items()}

    @property
    def comparable(self) -> bool:
        """Whether A and B are both there and of one shape, so that B - A exists."""
        return len(self.maps) == 2 and len({array.shape for array in self.maps.values()}) == 1

    @cached_property
    def difference(self) -> np.ndarray | None:
        """B - A, float32 (channel, height, width)."""
        return ranking.difference(self.maps["a"], self.maps["b"]) if self.comparable else None

    @cached_property
    def distance(self) -> np.ndarray | None:
        """Mean |A - B| by channel, float64 (channel,)."""
        return ranking.distance(self.maps["a"], self.maps["b"]) if self.comparable else None

    @cached_property
    def numbers(self) -> dict[str, Mapping[str, np.ndarray]]:
        """By side: per-channel numbers, float64 (channel,) by name; of the maps where the statistics have none."""
        found: dict[str, Mapping[str, np.ndarray]] = {}
        for side, array in self.maps.items():
            known = self.activations[side].statistics.channels
            found[side] = known if len(known.get("mean", ())) == len(array) else ranking.channel_numbers(array)
        return found

    @cached_property
    def order(self) -> np.ndarray:
        """All channels' indices in the view's order."""
        arrays = list(self.maps.values())
        numbers = list(self.numbers.values())
        if len(arrays) == 1:
            return ranking.order(arrays[0], None, self.walls.rank, numbers[0])
        if arrays[0].shape != arrays[1].shape and self.walls.rank == "difference":
            return ranking.order(arrays[0], None, "index")
        return ranking.order(arrays[0], arrays[1], self.walls.rank, numbers[0], numbers[1])

    @cached_property
    def scale(self) -> scales.Scales:
        """The scale that A and B share: one for the layer, or one per channel."""
        arrays = list(self.maps.values())
        if self.walls.scale == "layer":
            return scales.layer_scale(*arrays)
        return scales.channel_scales(*arrays)

    @cached_property
    def palette(self) -> Palette:
        """The colours of A and B."""
        return palette_for(kind_of(self.scale), self.walls.colours)

    @cached_property
    def difference_scale(self) -> scales.Scales:
        """The scale of B - A; only for a comparable reading."""
        assert self.difference is not None
        if self.walls.scale == "layer":
            return scales.difference_scale(self.difference)
        return scales.difference_scales(self.difference)

    def channel(self, side: str, index: int) -> np.ndarray | None:
        """One side's map of a channel, or of `MEAN`: float32 (height, width); None if there is no such channel."""
        array = self.maps.get(side)
        if array is None or index >= len(array):
            return None
        return ranking.mean_map(array) if index == MEAN else array[index]


def kind_of(scale: scales.Scales) -> str:
    """Whether a scale, or the scales of a layer's channels, are sequential or diverging."""
    if isinstance(scale, scales.Scale):
        return scale.kind
    return scale[0].kind if scale else "sequential"


class Readings:
    """The newest readings, so that the figures and pictures of one card do the arithmetic once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Reading] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, walls: Walls, activations: Mapping[str, Activation]) -> Reading:
        """The reading of these activations drawn so."""
        values = tuple((side, id(activation)) for side, activation in activations.items())
        key = (values, walls.rank, walls.scale, walls.colours)
        with self._lock:
            reading = self._kept.get(key)
            if reading is None:
                # it holds the activations, so their ids stay theirs as long as it is kept
                reading = self._kept[key] = Reading(walls, dict(activations))
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT or (len(self._kept) > 1 and self._bytes() > KEPT_BYTES):
                self._kept.popitem(last=False)
        return reading

    def _bytes(self) -> int:
        """What the kept activations take, each counted once."""
        arrays = {id(each): each.values.nbytes for one in self._kept.values() for each in one.activations.values()}
        return sum(arrays.values())
