"""A reading: one layer's activations of A and B as maps, in the order, on the scale and in the colours of a view.

Pictures, figures and exports of a layer are all drawn from one reading, so they cannot disagree.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from cachetools import LRUCache

from hookscope.dashboard.drawing import ranking, scales
from hookscope.dashboard.drawing.palettes import Palette, palette_for
from hookscope.dashboard.drawing.ranking import Rank
from hookscope.dashboard.drawing.tables import SORTS
from hookscope.dashboard.page.standing import NOTHING, Standing
from hookscope.dashboard.page.view import MEAN, state
from hookscope.hooks.results.distributions import channel_distances
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.maps import depth_of, frame, maps

KEPT = 8
KEPT_BYTES = 256 << 20  # of their activations; their arithmetic takes about as much again


@state
@dataclass(frozen=True)
class Walls:
    """How every wall is drawn.

    Attributes:
        rank: the order of the channels. scale: one for the layer, or one for each channel. colours: a palette.
        count: how many channels are shown, best ranked first; "auto" for as many as fit.
        moment: of layers that see a clip, which frame is shown, in thousandths of the way from the first to the last.
        overlay: whether maps lie over what the network saw. table: whether every channel's numbers are listed.
        sort: the column that this list is sorted by, and which way; "" for the walls' order.
        restored: whether there is a wall of what each channel of A brings back of A's answer in B's run.
    """

    rank: Rank = "index"
    scale: Literal["layer", "channel"] = "layer"
    colours: Literal["auto", "viridis", "magma", "grey"] = "auto"
    count: Literal["auto", "64", "256", "all"] = "auto"
    moment: int = 0
    overlay: bool = False
    table: bool = False
    sort: Annotated[str, SORTS] = ""
    restored: bool = False


@dataclass(frozen=True, eq=False)
class Reading:
    """One layer's activations, ready to be drawn.

    Attributes:
        walls: only its rank, scale, colours and moment are read.
        activations: by side, "a" before "b".
        standing: how the channels stand towards what is explained, for ranks that depend on it.
    """

    walls: Walls
    activations: Mapping[str, Activation]
    standing: Standing = NOTHING

    @cached_property
    def all_frames(self) -> dict[str, np.ndarray]:
        """By side: float32 (channel, height, width), of a clip all frames; a side without spatial axes is missing."""
        found = {side: maps(activation) for side, activation in self.activations.items()}
        return {side: array for side, array in found.items() if array is not None}

    @cached_property
    def maps(self) -> dict[str, np.ndarray]:
        """The same, of a clip the frame that is shown."""
        return {side: frame(array, self.depth(side), self.walls.moment) for side, array in self.all_frames.items()}

    def depth(self, side: str) -> int:
        """How many frames a side's numbers are of; 1 of a picture."""
        activation = self.activations[side]
        return depth_of(activation, activation.values.shape)

    @property
    def of_frames(self) -> str:
        """Of what a layer's numbers are, in words, where the maps are of one frame; "" where all is of one picture."""
        depths = {side: self.depth(side) for side in self.activations}
        if set(depths.values()) <= {1}:
            return ""
        each = [f"{side.upper()} of all {depth} frames" for side, depth in depths.items()]
        return f"of all {next(iter(depths.values()))} frames" if len({*depths.values()}) == 1 else ", ".join(each)

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """By side: the values in one row, float32 (feature,), for a layer without spatial axes."""
        return {side: activation.values.reshape(-1) for side, activation in self.activations.items()}

    @property
    def aligned(self) -> bool:
        """Whether A and B have as many channels, so that one order and one set of scales serve both."""
        return len({len(array) for array in self.maps.values()}) < 2

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
        """Mean |A - B| by channel, float64 (channel,); of clips over all frames."""
        arrays = list(self.all_frames.values())
        alike = len(arrays) == 2 and arrays[0].shape == arrays[1].shape
        return ranking.distance(*arrays) if alike else None

    @cached_property
    def distributions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Wasserstein and Kolmogorov-Smirnov distance by channel, see `results.distributions`, whatever the sizes.

        None without two sides of as many channels, or where only means over squares were kept.
        """
        if len(self.maps) != 2 or not self.aligned or any(each.whole for each in self.activations.values()):
            return None
        a, b = (self.all_frames[side].reshape(len(self.all_frames[side]), -1) for side in ("a", "b"))
        return channel_distances(a, b)

    @cached_property
    def numbers(self) -> dict[str, Mapping[str, np.ndarray]]:
        """By side: per-channel numbers, float64 (channel,) by name; of the maps where the statistics have none."""
        found: dict[str, Mapping[str, np.ndarray]] = {}
        for side, array in self.all_frames.items():
            known = self.activations[side].statistics.channels
            found[side] = known if len(known.get("mean", ())) == len(array) else ranking.channel_numbers(array)
            more = {name: column for name, column in self.standing.columns(side).items() if len(column) == len(array)}
            found[side] = {**found[side], **more}
        return found

    @cached_property
    def order(self) -> np.ndarray:
        """All channels' indices in the view's order; by index where A and B have not as many."""
        arrays = list(self.all_frames.values())
        numbers = list(self.numbers.values())
        if not self.aligned:
            return np.arange(max(map(len, arrays)))
        if (told := self.standing.order(len(arrays[0]))) is not None:
            return told
        if len(arrays) == 1:
            return ranking.order(arrays[0], None, self.walls.rank, numbers[0])
        if self.distance is None and self.walls.rank == "difference":
            return ranking.order(arrays[0], None, "index")
        return ranking.order(arrays[0], arrays[1], self.walls.rank, numbers[0], numbers[1])

    def order_of(self, side: str) -> np.ndarray:
        """The same of one side: those channels that it has."""
        return self.order if self.aligned else self.order[: len(self.maps[side])]

    @cached_property
    def scale_of(self) -> Mapping[str, scales.Scales]:
        """By side: one for the layer, or one per channel; A and B share them, where channels are those of both."""
        if self.walls.scale == "layer":
            return dict.fromkeys(self.maps, scales.layer_scale(*self.maps.values()))
        if self.aligned:
            return dict.fromkeys(self.maps, scales.channel_scales(*self.maps.values()))
        return {side: scales.channel_scales(array) for side, array in self.maps.items()}

    @property
    def scale(self) -> scales.Scales:
        """The first side's."""
        return next(iter(self.scale_of.values()))

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
        self._kept: LRUCache[object, Reading] = LRUCache(KEPT_BYTES, getsizeof=_size)
        self._lock = threading.Lock()

    def get(self, walls: Walls, activations: Mapping[str, Activation], standing: Standing = NOTHING) -> Reading:
        """The reading of these activations drawn so."""
        values = tuple((side, id(activation)) for side, activation in activations.items())
        key = (values, walls.rank, walls.scale, walls.colours, walls.moment, standing.signature)
        with self._lock:
            reading: Reading | None = self._kept.get(key)
            if reading is None:
                # it holds the activations, so their ids stay theirs as long as it is kept
                reading = self._kept[key] = Reading(walls, dict(activations), standing)
        return reading


def _size(reading: Reading) -> float:
    """What a reading counts for: the bytes of its activations, and as much as lets `KEPT` of them stay."""
    size = sum(each.values.nbytes for each in reading.activations.values())
    return min(max(size, KEPT_BYTES / KEPT), KEPT_BYTES)
