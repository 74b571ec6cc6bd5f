"""A detector's pyramid: which layers are its levels, and what one box is on each of them; numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.results.looks import LayerInfo

NCHW = ("image", "channel", "height", "width")
CALLED = ("fpn", "pyramid", "layer_blocks", "pan_blocks", "neck")
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4  # Lin et al. 2017, equation 1


@dataclass(frozen=True)
class Rung:
    """One level, and a box on it.

    Attributes:
        values: float (height, width), the mean size of the level's activation over its channels.
        stride: pixels of the network's picture per position.
        inside, outside: the mean of the values at positions inside the box and outside of it; of a box that holds no
            position's centre the value at the position in which its centre lies.
    """

    values: np.ndarray
    stride: float
    inside: float
    outside: float

    @property
    def contrast(self) -> float:
        """Inside over outside; NaN if there is nothing outside."""
        return self.inside / self.outside if self.outside > 0 else math.nan


def levels(layers: Sequence[LayerInfo]) -> tuple[str, ...]:
    """The layers that are the levels of a pyramid, the finest first; none if there is no such group.

    They stand side by side in one module, have the same number of channels, and become coarser; of several such groups
    the one whose name says so, and of these the one that ran last: torchvision's have one before and one after the sum.
    """
    groups: dict[str, list[LayerInfo]] = {}
    for layer in layers:
        parent, _, number = layer.name.rpartition(".")
        if number.isdigit() and parent and layer.calls and layer.calls[0].axes == NCHW:
            groups.setdefault(parent, []).append(layer)
    found: list[tuple[bool, int, list[LayerInfo]]] = []
    for parent, group in groups.items():
        shapes = [layer.calls[0].shape for layer in group]
        heights = [shape[2] for shape in shapes]
        even = len({shape[1] for shape in shapes}) == 1 and len(group) > 1
        if even and len(set(heights)) > 1 and heights in (sorted(heights), sorted(heights, reverse=True)):
            named = any(word in parent.lower() for word in CALLED)
            last = max(layer.calls[0].order for layer in group)
            found.append((named, last, sorted(group, key=lambda layer: -layer.calls[0].shape[2])))
    if not found:
        return ()
    *_, best = max(found, key=lambda each: each[:2])
    return tuple(layer.name for layer in best)


def rung(maps: np.ndarray, box: Sequence[float], size: tuple[int, int]) -> Rung:
    """A box on one level.

    Arguments:
        maps: (channel, height, width). box: left, top, right, bottom in pixels of the network's picture. size: its
            (height, width).
    """
    return rung_of(np.abs(maps).mean(0, dtype=np.float64), box, size)


def rung_of(values: np.ndarray, box: Sequence[float], size: tuple[int, int]) -> Rung:
    """The same of the mean sizes of a level's activation, float64 (height, width)."""
    rows, columns = (np.arange(length) + 0.5 for length in values.shape)
    high, wide = size[0] / values.shape[0], size[1] / values.shape[1]
    left, top, right, bottom = box
    inside = (
        ((rows * high >= top) & (rows * high < bottom))[:, None] & (columns * wide >= left) & (columns * wide < right)
    )
    if not inside.any():
        row, column = int((top + bottom) / 2 // high), int((left + right) / 2 // wide)
        inside[min(max(row, 0), len(rows) - 1), min(max(column, 0), len(columns) - 1)] = True
    outside = values[~inside]
    return Rung(values, high, float(values[inside].mean()), float(outside.mean()) if outside.size else math.nan)


def assigned(box: Sequence[float], strides: Sequence[float]) -> int:
    """The place, among the levels, of the one from which a two-stage detector takes a box's features.

    floor(4 + log2(sqrt(width * height) / 224)), kept within the levels that there are (Lin et al. 2017, equation 1).
    """
    left, top, right, bottom = box
    side = math.sqrt(max(right - left, 1e-6) * max(bottom - top, 1e-6))
    level = math.floor(CANONICAL_LEVEL + math.log2(side / CANONICAL_SIDE) + 1e-6)
    steps = [round(math.log2(stride)) for stride in strides]
    level = min(max(level, min(steps)), max(steps))
    return min(range(len(steps)), key=lambda place: abs(steps[place] - level))  # of a pyramid that leaves a level out
