"""Resizing of maps: by area when they shrink, bilinearly when heat is spread over a picture, else by nearest value."""

from __future__ import annotations

import numpy as np


def reduce_by_area(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink maps so that each new value is the mean over the area it covers; sizes need not divide each other.

    NaN and Inf do not spread: a new value is NaN if it covers any NaN (or both infinities), else infinite if it covers
    an infinity.

    Arguments:
        maps: float (map, height, width), not smaller than the new height and width.

    Returns:
        The same dtype, (map, new height, new width); the array itself where nothing changes.
    """
    if maps.shape[1:] == (height, width) or not maps.size:
        return maps
    finite = np.isfinite(maps)
    if finite.all():
        return _weighted(maps, _area(maps.shape[1], height), _area(maps.shape[2], width))
    result = reduce_by_area(np.where(finite, maps, 0), height, width)
    for bad, value in ((maps == np.inf, np.inf), (maps == -np.inf, -np.inf), (np.isnan(maps), np.nan)):
        covered = reduce_by_area(bad.astype(np.float32), height, width) > 0
        with np.errstate(invalid="ignore"):
            result[covered] += value
    return result


def resize_bilinear(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize one map as torch's `F.interpolate(mode="bilinear", align_corners=False)` does.

    Arguments:
        values: float (height, width).

    Returns:
        The same dtype, (new height, new width).
    """
    return _weighted(values[None], _linear(values.shape[0], height), _linear(values.shape[1], width))[0]


def nearest(count: int, size: int) -> np.ndarray:
    """For each of `size` places, which of `count` values lies under its middle; int64 (size,)."""
    return np.minimum((np.arange(size) * 2 + 1) * count // (2 * size), count - 1)


def _weighted(maps: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """rows @ map @ columns.T for every map; as two matrix products it takes any pair of sizes at BLAS speed."""
    # float32 sums of values near the type's end can round to infinity.
    wide = maps.dtype if max(abs(float(maps.min())), abs(float(maps.max()))) < 1e37 else np.dtype(np.float64)
    narrow = np.matmul(maps.astype(wide, copy=False), columns.T.astype(wide))
    result = np.matmul(rows.astype(wide), narrow)
    limit = np.finfo(maps.dtype).max
    return np.clip(result, -limit, limit).astype(maps.dtype) if wide != maps.dtype else result


def _area(old: int, new: int) -> np.ndarray:
    """Weights (new, old): the share of new value i's area that old value j covers."""
    edges = np.arange(new + 1) * old / new
    start, end = edges[:-1, None], edges[1:, None]
    place = np.arange(old)
    return np.clip(np.minimum(end, place + 1) - np.maximum(start, place), 0, None) * (new / old)


def _linear(old: int, new: int) -> np.ndarray:
    """Weights (new, old) of linear interpolation between pixel centres, the outermost values held at the border."""
    centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.floor(centre).astype(int)
    right = np.minimum(left + 1, old - 1)
    weights = np.zeros((new, old))
    weights[np.arange(new), left] += 1 - (centre - left)
    weights[np.arange(new), right] += centre - left
    return weights
