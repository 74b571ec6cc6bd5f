"""Maps as grey pictures on a scale that is said: for trackers, which clip, stretch or truncate what is no picture yet.

Values that are never negative go from 0 (black) to the largest (white), others symmetrically with 0 in the middle grey;
what is not finite is black.
"""

from __future__ import annotations

import numpy as np


def scale(values: np.ndarray) -> tuple[float, float]:
    """The values drawn black and white: 0 and the largest or, if any is negative, symmetric about 0."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 0.0
    high = float(np.abs(finite).max())
    return (-high if float(finite.min()) < 0 else 0.0), high


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Uint8 grey levels of float values, rounded; `low` is 0 and `high` 255, what is not finite is 0."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    shares = (values.astype(np.float64) - low) / (high - low)
    shares = np.where(np.isfinite(shares), shares.clip(0, 1), 0)
    found: np.ndarray = np.rint(shares * 255).astype(np.uint8)
    return found


def grid(levels: np.ndarray) -> np.ndarray:
    """Maps beside each other, in rows that make it about square, one black line between them.

    Arguments:
        levels: uint8 (map, height, width), at least one.

    Returns:
        uint8 (height, width).
    """
    count, height, width = levels.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    found = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1), np.uint8)
    for place, one in enumerate(levels):
        top, left = place // columns * (height + 1), place % columns * (width + 1)
        found[top : top + height, left : left + width] = one
    return found
