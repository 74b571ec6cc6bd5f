"""Scales: which value is drawn in which colour, and the sentence that says so beside the picture.

Values of both signs get a symmetric scale with zero in the palette's middle; values that are never negative get one
from zero, so that zero is always the palette's first colour and a small range far from zero is not blown up. What
is not finite takes no part in a scale: it has a colour of its own (`palettes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import INF_LEVEL, LEVELS, MIDDLE_LEVEL, NAN_LEVEL
from hookscope.dashboard.drawing.ranking import mean_map

Kind = Literal["sequential", "diverging"]


@dataclass(frozen=True)
class Scale:
    """The range of values that a palette spans.

    Attributes:
        low, high: the values of its first and its last colour; both NaN if there was no finite value.
        kind: "sequential" from 0 to `high`, or "diverging" from `low` = -`high` to `high`.
    """

    low: float
    high: float
    kind: Kind

    @property
    def text(self) -> str:
        """The range in words, e.g. "-30.81 … 30.81"."""
        if np.isnan(self.high):
            return "no finite value"
        if self.high == 0:
            return "every value is 0"
        return f"{format_number(self.low)} … {format_number(self.high)}"


Scales = Scale | Sequence[Scale]


def layer_scale(*values: np.ndarray | None) -> Scale:
    """One scale for everything given: a layer's maps for A, or for A and B together.

    Arguments:
        values: float arrays of any shape; None is left out.
    """
    extremes = [_extremes(array.reshape(1, -1)) for array in values if array is not None and array.size]
    low = min((float(lows[0]) for lows, _ in extremes), default=np.inf)
    high = max((float(highs[0]) for _, highs in extremes), default=-np.inf)
    return _scale(low, high, signed=low < 0)


def channel_scales(*values: np.ndarray | None) -> tuple[Scale, ...]:
    """A scale of its own for each channel, and as the last one (`MEAN_MAP` is -1) for the mean map; shared by A and B.

    All are of one kind, because a wall has one palette: if any channel is signed, all are.

    Arguments:
        values: float (channel, height, width) arrays with the same number of channels; None is left out.
    """
    arrays = [array for array in values if array is not None]
    if not arrays:
        return ()
    signed = any(bool((_extremes(array.reshape(1, -1))[0] < 0).any()) for array in arrays)
    return _each(arrays, signed)


def difference_scale(difference: np.ndarray) -> Scale:
    """The scale of B - A: always symmetric, and its own, because differences are smaller than values."""
    lows, highs = _extremes(difference.reshape(1, -1)) if difference.size else (np.array([np.inf]), np.array([-np.inf]))
    return _scale(float(lows[0]), float(highs[0]), signed=True)


def difference_scales(difference: np.ndarray) -> tuple[Scale, ...]:
    """The symmetric scale of each channel of B - A, float (channel, height, width), and last of their mean map."""
    return _each([difference], signed=True)


def scale_text(scale: Scales) -> str:
    """The sentence beside a wall: its range, or the span of its channels' ranges."""
    if isinstance(scale, Scale):
        return scale.text
    limits = [one.high for one in scale[:-1] if one.high > 0]
    if not limits:
        return scale[0].text if scale else "no finite value"
    if len(scale) == 2:
        return scale[0].text
    sign = "±" if scale[0].kind == "diverging" else "0 … "
    low, high = format_number(min(limits)), format_number(max(limits))
    return f"each channel its own: {sign}{low} to {sign}{high}"


def levels(values: np.ndarray, scale: Scales) -> np.ndarray:
    """Turn values into palette levels, uint8 of the same shape; rounded, so at most half a level off.

    Arguments:
        values: float (map, height, width); values outside the scale take the colour at its end.
        scale: one for all maps, or one per map.
    """
    each = [scale] if isinstance(scale, Scale) else list(scale)
    zero = MIDDLE_LEVEL if each and each[0].kind == "diverging" else 0
    steps = LEVELS - 1 - zero
    limits = np.array([one.high for one in each], float).reshape(-1, *[1] * (values.ndim - 1))
    # A scale without a finite value, or of zeros only, draws whatever is finite as zero.
    limits = np.where(limits > 0, limits, np.inf)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        factors = steps / limits
        if ((factors == 0) | ((factors > 1e-30) & (factors < 1e30))).all():
            place = values * factors.astype(np.float32)
        else:  # a range that float32 cannot scale: divide first, in float64
            place = values.astype(np.float64) / limits * steps
        place += zero + 0.5
        if not place.size or (place.min() >= 0 and place.max() < LEVELS):  # False if there is a NaN
            return np.asarray(place.astype(np.uint8))
        place = np.nan_to_num(place, nan=0, posinf=LEVELS, neginf=0)
        result = np.clip(place, 0, LEVELS - 1).astype(np.uint8)
    result[np.isnan(values)] = NAN_LEVEL
    result[np.isinf(values)] = INF_LEVEL
    return result


def _each(arrays: Sequence[np.ndarray], signed: bool) -> tuple[Scale, ...]:
    """The scales of the channels and of the mean map."""
    means = [_extremes(mean_map(array).reshape(1, -1)) for array in arrays if len(array)]
    channels = [_extremes(array.reshape(len(array), -1)) for array in arrays]
    found = []
    for extremes in (channels, means):
        if extremes:
            low = np.min([lows for lows, _ in extremes], axis=0)
            high = np.max([highs for _, highs in extremes], axis=0)
            found += [_scale(float(a), float(b), signed) for a, b in zip(low, high, strict=True)]
    return tuple(found)


def _scale(low: float, high: float, signed: bool) -> Scale:
    if not low <= high:  # nothing finite was seen
        return Scale(np.nan, np.nan, "diverging" if signed else "sequential")
    if signed:
        limit = max(-low, high)
        return Scale(-limit, limit, "diverging")
    return Scale(0.0, high, "sequential")


def _extremes(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest finite value of each row, float64; (Inf, -Inf) where there is none."""
    if not rows.shape[1]:
        return np.full(len(rows), np.inf), np.full(len(rows), -np.inf)
    low, high = rows.min(axis=1), rows.max(axis=1)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        finite = np.isfinite(rows)
        low = np.where(finite, rows, np.inf).min(axis=1)
        high = np.where(finite, rows, -np.inf).max(axis=1)
    return low.astype(np.float64), high.astype(np.float64)
