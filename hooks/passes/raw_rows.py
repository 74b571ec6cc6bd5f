"""Raw boxes as rows: what a detector answers for every cell of a picture, before the best are chosen."""

from __future__ import annotations

import torch
from torch import Tensor

from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.results.raw_boxes import BOX, LEAST_SCORE, MOST_BOXES, MOST_OVERLAP, RAW


def rows(output: Tensor) -> Tensor:
    """One image's raw boxes, (box, number), whichever way they lie: the longer axis is that of the boxes.

    Arguments:
        output: (1, number, box) or (1, box, number).
    """
    return output[0].T if output.shape[2] >= output.shape[1] else output[0]


def are_scores(numbers: Tensor) -> bool:
    """Whether all of these can be scores: they are 0 to 1, and none is NaN."""
    return bool(((numbers >= 0) & (numbers <= 1)).all())


def best(output: Tensor, reads: str) -> list[dict[str, Tensor]]:
    """The boxes that are listed, the best first, in the form of torchvision's detectors and in the graph of the output.

    Each row has the class of its highest score. Of those that reach `LEAST_SCORE`, one that a better one of its class
    overlaps by more than `MOST_OVERLAP` is left out.

    Arguments:
        reads: one of `results.raw_boxes.RAW`.

    >>> found = torch.tensor([[50.0, 20, 8, 4, 0.9, 0.1], [51, 20, 8, 4, 0.8, 0.1], [9, 9, 2, 2, 0.1, 0.2]])
    >>> best(torch.cat([found, torch.zeros(60, 6)])[None], "yolov8")[0]["boxes"].tolist()
    [[46.0, 18.0, 54.0, 22.0]]

    Raises:
        TargetNotFound: the scores are none.
    """
    from torchvision.ops import batched_nms  # here: the library is used without torchvision, too

    found = rows(output)
    if not are_scores(found[:, BOX:]):
        raise TargetNotFound(
            "Behind the box, the rows of the model's raw boxes hold numbers that are not 0 to 1, so these are no "
            "scores. If they are logits, take their sigmoid in a wrapper; if the picture is so small that it has fewer "
            "boxes than numbers in each, prepare it larger."
        )
    scores = found[:, RAW[reads] :]
    if RAW[reads] > BOX:
        scores = scores * found[:, BOX, None]
    score, label = scores.max(1)
    kept = (score.detach() >= LEAST_SCORE).nonzero()[:, 0]
    middle, size, score, label = found[kept, :2], found[kept, 2:BOX], score[kept], label[kept]
    boxes = torch.cat([middle - size / 2, middle + size / 2], 1)
    order = batched_nms(boxes.detach().float(), score.detach().float(), label, MOST_OVERLAP)[:MOST_BOXES]
    return [{"boxes": boxes[order], "labels": label[order], "scores": score[order]}]
