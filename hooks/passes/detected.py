"""A detector's answer about one picture, whether it stands in a list of one dict or alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

PARTS = ("boxes", "labels", "scores")


def by_picture(output: Any) -> Any:
    """A dict of one picture's boxes (box, 4), labels and scores (box,) as the list of it; anything else as it is.

    >>> import torch
    >>> [*map(len, by_picture({"boxes": torch.ones(2, 4), "labels": torch.ones(2), "scores": torch.ones(2)}))]
    [3]
    """
    found = [output.get(part) for part in PARTS] if isinstance(output, dict) else []
    tensors = [part for part in found if isinstance(part, Tensor)]
    if len(tensors) < len(PARTS):
        return output
    boxes, labels, scores = tensors
    alike = boxes.ndim == 2 and boxes.shape == (len(scores), 4) and labels.shape == scores.shape and scores.ndim == 1
    return [output] if alike else output
