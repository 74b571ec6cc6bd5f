"""Shares of classes from a model's numbers, and the classes that it ranks first."""

from __future__ import annotations

import numpy as np


def top_classes(shares: np.ndarray, count: int = 5) -> list[tuple[int, float]]:
    """The classes that an answer ranks first, each with its share 0..1; equal ones by index.

    Arguments:
        shares: float (class,), e.g. `Prediction.shares`. Where one is not finite nothing has a rank.

    >>> top_classes(np.array([0.25, 0.5, 0.25]), 2)
    [(1, 0.5), (0, 0.25)]
    """
    if not np.isfinite(shares).all():
        return []
    return [(int(index), float(shares[index])) for index in np.argsort(-shares, kind="stable")[:count]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (class,) as shares that sum to 1, float64."""
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is told by whoever shows the shares
        raised = np.exp(logits.astype(np.float64) - np.max(logits, initial=-np.inf))
        return np.asarray(raised / raised.sum())


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits (class,) as shares of their own, float64.

    >>> sigmoid(np.array([0.0, -1000.0])).tolist()
    [0.5, 0.0]
    """
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-wide)))
