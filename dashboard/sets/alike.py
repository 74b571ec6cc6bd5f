"""Which pictures of a set are alike to a model: by the cosine of their features before the head."""

from __future__ import annotations

import numpy as np

from hookscope.hooks.results.sweeps import LayerFeatures, Sweep


def nearest_right(found: Sweep, labels: np.ndarray, number: int) -> int | None:
    """The picture of the same class most like a picture, among those that are answered rightly; None if there is none.

    Arguments:
        labels: int64 (picture,), of every picture of the set, -1 for none.
    """
    answers = found.answers
    if answers is None or not found.features or labels[number] < 0:
        return None
    right = answers.pictures[answers.best[:, 0] == labels[answers.pictures]]
    candidates = right[(labels[right] == labels[number]) & (right != number)]
    return next(iter(nearest(found.features[0], number, candidates)), None)


def nearest(features: LayerFeatures, number: int, among: np.ndarray) -> list[int]:
    """Pictures by the cosine of their features with a picture's, the likest first; none if it has no features."""
    rows = {int(picture): row for row, picture in enumerate(features.pictures)}
    there = [int(picture) for picture in among if int(picture) in rows]
    if number not in rows or not there:
        return []
    values = features.values.astype(np.float64)
    lengths = np.linalg.norm(values, axis=1)
    unit = values / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = unit[[rows[picture] for picture in there]] @ unit[rows[number]]
    return [there[place] for place in np.argsort(-cosines, kind="stable")]
