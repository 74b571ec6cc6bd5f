"""The numbers of a detector's boxes: scores, sides, masks, keypoints."""

from __future__ import annotations

import torch
from torch import Tensor

from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.looks.detections import as_detection, is_detection
from hookscope.hooks.looks.outputs import Answered
from hookscope.hooks.passes.looking import current
from hookscope.hooks.results.raw_boxes import RAW
from hookscope.hooks.results.targets import SIDES, Box


def has_boxes(answered: Answered) -> bool:
    """Whether an answer is a detector's, or is read as boxes."""
    return is_detection(answered.value) or current().reading.reads in RAW


def number_of_box(answered: Answered, target: int | Box | None) -> tuple[Tensor, int, Box]:
    """The number of a box: of the one that is named, of the best one of a class, or of the best.

    Returns:
        The number, in its graph; the box's class; and which box and part it is.

    Raises:
        TargetNotFound: there is no such box or class, or the output has no boxes.
    """
    output = as_detection(answered.value)
    if not is_detection(output) or not isinstance(output[0].get("scores"), Tensor):
        raise TargetNotFound(
            'A box or its class is explained by its score, and this model\'s output has no "scores". Give a callable '
            "that picks one number of the output."
        )
    if len(output) != 1:
        raise TargetNotFound(
            f"A box is explained for one image at a time; this output holds {len(output)}. Give them one by one."
        )
    scores: Tensor = output[0]["scores"]
    labels: Tensor = output[0].get("labels", torch.zeros_like(scores, dtype=torch.int64))
    if not len(scores):
        raise TargetNotFound(
            "The model detects nothing in this image, so there is no box to explain. Choose another one."
        )
    if isinstance(target, Box):
        place = target.index
        if not 0 <= place < len(scores):
            raise TargetNotFound(
                f"There is no box {place}: the model found {len(scores)}, from 0 to {len(scores) - 1}."
            )
    else:
        wanted = torch.ones_like(labels, dtype=torch.bool) if target is None else labels == target
        if not wanted.any():
            raise TargetNotFound(f"The model detects nothing of class {target} in this image; choose a class it found.")
        place = int(scores.detach().where(wanted, -torch.inf).argmax())
    label, number = int(labels[place]), scores[place]
    box = target if isinstance(target, Box) else Box(place)
    if box.part != "score":
        number = _part(answered, output[0], box, label)
    return number, label, box


def best_of_another(answered: Answered, label: int) -> Box:
    """The best box of another class than this.

    Raises:
        TargetNotFound: there is none.
    """
    (found,) = as_detection(answered.value)
    scores: Tensor = found["scores"].detach()
    labels: Tensor = found.get("labels", torch.zeros_like(scores, dtype=torch.int64))
    others = labels != label
    if not others.any():
        raise TargetNotFound(
            "The model detects nothing of another class in this image that the box could be held against. Choose a box."
        )
    return Box(int(scores.where(others, -torch.inf).argmax()))


def _part(answered: Answered, found: dict[str, Tensor], target: Box, label: int) -> Tensor:
    """One number of a box that is not its score."""
    if target.part == "mask":
        return _mask_of_box(answered, found, target.index, label)
    if target.part == "keypoint":
        scores = found.get("keypoints_scores")
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            raise TargetNotFound(
                'The model gives no scores of keypoints ("keypoints_scores"), so there is none to explain. Choose the '
                "box's score or one of its sides."
            )
        if target.keypoint >= scores.shape[1]:
            raise TargetNotFound(
                f"There is no keypoint {target.keypoint}: each box has {scores.shape[1]}, from 0 to "
                f"{scores.shape[1] - 1}."
            )
        return scores[target.index, target.keypoint]
    return found["boxes"][target.index, SIDES.index(target.part)]


def _mask_of_box(answered: Answered, found: dict[str, Tensor], index: int, label: int) -> Tensor:
    """The mean of the logits that are inside a box's mask."""
    masks, logits = found.get("masks"), answered.mask_logits
    if not isinstance(masks, Tensor):
        raise TargetNotFound("The model gives no masks. Choose the box's score or one of its sides.")
    if logits is not None and len(logits) == len(masks) and label < logits.shape[1]:
        logits = logits[index, label]
    else:
        ended = answered.ended(masks)
        if ended is None or ended.kind != "sigmoid":
            raise TargetNotFound(
                "The model gives masks that are not a sigmoid's own value, so the logits that they came of are not "
                "known, and those are what is explained. Choose the box's score or one of its sides."
            )
        logits = ended.before[index]
    inside = logits.detach() > 0
    if not inside.any():
        raise TargetNotFound(
            f"The mask of box {index} is empty, with no logit above 0, so there is nothing to explain. Choose the "
            "box's score or one of its sides."
        )
    return logits[inside].mean()
