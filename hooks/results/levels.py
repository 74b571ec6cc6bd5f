"""How strongly the levels of a detector's pyramid answer to small, middle and large objects over a set; numpy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hookscope.hooks.results import pyramid
from hookscope.hooks.results.raw_boxes import LEAST_SCORE

SIZES = ("small", "middle", "large")
SMALL, LARGE = 32**2, 96**2  # square pixels of the picture that the model is given, as COCO divides objects
WEAK = 1.1  # times what is around it: less than that hardly stands out
FEW = 5  # boxes, below which nothing is said of a size


@dataclass(frozen=True)
class LevelStrength:
    """One level of a pyramid over a set.

    Attributes:
        layer, call: where.
        stride: pixels of the network's picture per position.
        boxes: int64 (size,), how many boxes of each of `SIZES` there are whose inside and outside are known.
        total: float64 (size,), the sum of what they have inside over outside, see `pyramid.Rung.contrast`.
        taken: int64 (size,), how many a detector of two stages takes from this level by Lin et al.'s rule, which
            `pyramid.assigned` has.
    """

    layer: str
    call: int
    stride: float
    boxes: np.ndarray
    total: np.ndarray
    taken: np.ndarray

    @property
    def contrast(self) -> np.ndarray:
        """Float64 (size,): how many times as strong the level is inside boxes as around them, in the mean over boxes;
        NaN of a size without any.
        """
        return np.divide(self.total, self.boxes, out=np.full(len(SIZES), np.nan), where=self.boxes > 0)

    def merged(self, other: LevelStrength) -> LevelStrength:
        """Of both sets together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in ("boxes", "total", "taken")}
        return replace(self, **sums)


def size_of(box: Sequence[float]) -> int:
    """Which of `SIZES` a box is, of left, top, right and bottom in pixels.

    >>> [size_of((0, 0, side, side)) for side in (31, 32, 96, 97)]
    [0, 1, 1, 2]
    """
    area = max(box[2] - box[0], 0) * max(box[3] - box[1], 0)
    return 0 if area < SMALL else 2 if area > LARGE else 1


def measure(
    maps: dict[tuple[str, int], np.ndarray],
    boxes: np.ndarray,
    frame: tuple[int, int],
    scale: tuple[float, float] = (1.0, 1.0),
) -> tuple[LevelStrength, ...]:
    """The levels' strengths for the boxes of one picture, the finest first.

    Arguments:
        maps: of each level's call, the mean size of its activation over its channels, float64 (height, width).
        boxes: float (box, 4), left, top, right and bottom in pixels of the picture that the model is given.
        frame: (height, width) of what the levels lie over. scale: pixels of that per pixel of the picture, downwards
            and to the right; what the network sees begins at the same corner.
    """
    places = sorted(maps, key=lambda place: -maps[place].shape[0])
    strides = [frame[0] / maps[place].shape[0] for place in places]
    counts = np.zeros((3, len(places), len(SIZES)))  # boxes, total, taken
    for box in boxes.tolist():
        size, seen = size_of(box), [edge * scale[1 - index % 2] for index, edge in enumerate(box)]
        counts[2, pyramid.assigned(seen, strides), size] += 1
        for level, place in enumerate(places):
            contrast = pyramid.rung_of(maps[place], seen, frame).contrast
            if math.isfinite(contrast):
                counts[:2, level, size] += 1, contrast
    return tuple(
        LevelStrength(*place, stride, each[0].astype(np.int64), each[1], each[2].astype(np.int64))
        for place, stride, each in zip(places, strides, counts.swapaxes(0, 1), strict=True)
    )


def describe_levels(levels: Sequence[LevelStrength]) -> str:
    """In one or two sentences on which level small and large objects stand out, and where small ones hardly do."""
    found = [_best(levels, size) for size in range(len(SIZES))]
    if not any(found):
        return (
            f"Too few objects were found with a score of at least {LEAST_SCORE} to say on which level they stand out."
        )
    said = [
        f"{name} ones at stride {best.stride:.0f} (× {best.contrast[size]:.2f})"
        for size, (name, best) in enumerate(zip(SIZES, found, strict=True))
        if best is not None
    ]
    text = f"Against what is around them objects stand out most: {', '.join(said)}."
    if found[0] is None:
        return f"{text} There are too few small objects to say anything of them."
    weak = [each for each in levels if each.contrast[0] < WEAK]
    if len(weak) == len(levels):
        return f"{text} No level answers to small objects by more than {WEAK - 1:.0%}: they are hard to find."
    strides = " and ".join(f"{each.stride:.0f}" for each in weak)
    return f"{text} Stride {strides} answers weakly to small ones." if weak else text


def _best(levels: Sequence[LevelStrength], size: int) -> LevelStrength | None:
    """The level on which objects of a size stand out most; None where there are too few."""
    known = [each for each in levels if each.boxes[size] >= FEW]
    return max(known, key=lambda each: each.contrast[size], default=None)
