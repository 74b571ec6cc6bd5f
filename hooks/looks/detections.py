"""What a detector says of a picture: its boxes, with a class and a score each.

A detector answers, as torchvision's do, a list with one dict of "boxes", "labels" and "scores" per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from hookscope.hooks.results.looks import Detections, LayerInfo

PARTS = ("boxes", "labels", "scores")


def is_detection(output: Any) -> bool:
    """Whether a model's output is a list of dicts, one per image, which may hold boxes."""
    return isinstance(output, list) and bool(output) and isinstance(output[0], dict)


def detects(layers: Sequence[LayerInfo]) -> bool:
    """Whether the recorded run (`layers.describe.describe`) is that of a detector."""
    calls = layers[0].calls if layers else ()
    return bool(calls) and calls[-1].path in {f"0/{part}" for part in PARTS}


def detections(output: Any) -> Detections | None:
    """The boxes of the first image in a detector's output; None if it is not one, or lacks one of the three parts.

    Arguments:
        output: what the model returned.
    """
    if not is_detection(output) or not all(isinstance(output[0].get(part), Tensor) for part in PARTS):
        return None
    boxes, labels, scores = (output[0][part].detach().cpu() for part in PARTS)
    return Detections(
        boxes.float().reshape(-1, 4).numpy().astype(np.float32),
        labels.long().numpy(),
        scores.float().numpy(),
    )
