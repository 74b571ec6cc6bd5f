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
    """Pictures by the cosine of their features with a picture's, the most alike first; none if it has no features."""
    rows = {int(picture): row for row, picture in enumerate(features.pictures)}
    there = [int(picture) for picture in among if int(picture) in rows]
    if number not in rows or not there:
        return []
    found = cosines(features, features.values[rows[number]])[[rows[picture] for picture in there]]
    return [there[place] for place in np.argsort(-found, kind="stable")]


def features_of(found: Sweep | None) -> LayerFeatures | None:
    """By what the pictures of a set are alike: a model's answer where that is an embedding, else what comes before its
    head; None if nothing is known.
    """
    known = () if found is None else found.features
    return next((each for each in known if not each.layer), next(iter(known), None))


def features_at(features: LayerFeatures, number: int) -> np.ndarray | None:
    """Float32 (channel,), a picture's; None if it has none."""
    row = int(np.searchsorted(features.pictures, number))
    there = row < len(features.pictures) and features.pictures[row] == number
    return np.asarray(features.values[row]) if there else None


def cosines(features: LayerFeatures, vector: np.ndarray) -> np.ndarray:
    """Float64 (picture,): the cosine of each picture's features with a vector; 0 of what has no length.

    >>> cosines(LayerFeatures("", 0, 0, np.arange(2), np.array([[3.0, 4.0], [0.0, 0.0]])), np.array([1.0, 0.0]))
    array([0.6, 0. ])
    """
    values, wanted = features.values.astype(np.float64), np.asarray(vector, np.float64)
    lengths, length = np.linalg.norm(values, axis=1), np.linalg.norm(wanted)
    return (values @ wanted) / (np.where(lengths > 0, lengths, 1) * (length if length > 0 else 1))
