"""A model's answer as scores by class, and the classes that it ranks first."""

from __future__ import annotations

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.looks import Activation

ABSENT = 1e-9  # the share of a class that a segmenter sees nowhere


def top_classes(logits: np.ndarray, count: int = 5) -> list[tuple[int, float]]:
    """The classes that a prediction ranks first, each with its softmax share 0..1; equal ones by index.

    Arguments:
        logits: float (class,), e.g. `Prediction.logits`. Where softmax is not finite nothing has a rank.

    >>> top_classes(np.log(np.array([0.25, 0.5, 0.25])), 2)
    [(1, 0.5), (0, 0.25)]
    """
    shares = softmax(logits)
    if not np.isfinite(shares).all():
        return []
    return [(int(index), float(shares[index])) for index in np.argsort(-shares, kind="stable")[:count]]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Logits (class,) as shares that sum to 1, float64."""
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not finite is told by whoever shows the shares
        raised = np.exp(logits.astype(np.float64) - np.max(logits, initial=-np.inf))
        return np.asarray(raised / raised.sum())


class NoPrediction(HooksError):
    """The model's output is not a list of class scores."""


def class_scores(output: Activation) -> np.ndarray:
    """float32 (class,) from the model's output.

    Of a segmenter's (class, height, width) it is the logarithm of each class's share of the positions, so that softmax
    gives the shares and the first class is the one that Grad-CAM explains by itself.

    Raises:
        NoPrediction: the output has another form.
    """
    values = output.values
    if values.ndim == 1:
        return values
    if values.ndim == 3 and output.axes[:1] == ("channel",):
        counts = np.bincount(values.argmax(0).ravel(), minlength=len(values))
        shares: np.ndarray = np.log(np.maximum(counts / counts.sum(), ABSENT)).astype(np.float32)
        return shares
    raise NoPrediction(
        f"The model answers a tensor of {' x '.join(map(str, values.shape))} numbers, which is no list of class "
        "scores, so there are no top classes. Its layers can be looked at all the same."
    )
