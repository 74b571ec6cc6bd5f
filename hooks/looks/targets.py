"""What is explained: one number of a model's output, and the same number of other outputs of the same model.

A target is one of

    None              the model's own first class (of a segmenter that of the most pixels, of a detector its best box)
    285               a class: its logit; of a segmenter the sum of its logits over its own pixels; of a detector the
                      score of its best box
    Mask(mask, 285)   a segmenter's class, summed over the pixels of a given mask
    Box(2)            the score of a detector's box 2
    a callable        takes the model's whole output and returns one number as a tensor
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.errors import NoGradient, TargetNotFound
from hookscope.hooks.looks.detections import is_detection
from hookscope.hooks.passes import nested

NO_CLASS = -1  # the index of a target that is no class


@dataclass(frozen=True)
class Mask:
    """A segmenter's class over pixels of one's own choice.

    Attributes:
        mask: bool (height, width), of the output's height and width.
        index: the class; None for the model's own first one within the mask.
    """

    mask: np.ndarray | Tensor
    index: int | None = None


@dataclass(frozen=True)
class Box:
    """One box of a detector's first image, by its place in the output (0 is the first)."""

    index: int


Target = int | None | Mask | Box | Callable[[Any], Tensor]


@dataclass(frozen=True)
class Score:
    """One number of a model's output.

    Attributes:
        tensor: the number, a scalar in the autograd graph.
        value: the same as a float.
        index: the class that it belongs to (of a box: its label); `NO_CLASS` for a callable.
        of_each: gives the same number of each image of another output, (image,), with class and mask as they were
            found here; None for targets that only this output has (boxes, callables).
    """

    tensor: Tensor
    value: float
    index: int
    of_each: Callable[[Any], Tensor] | None = None


def score_of(output: Any, target: Target, *, differentiable: bool = True) -> Score:
    """The number that a target means in an output.

    Arguments:
        output: what the model returned for one image. Its first tensor holds the logits, (image, class) or (class,),
            or for a segmenter (image, class, height, width); a detector's is a list with one dict of "boxes" and
            "scores". A callable may be given any output.
        target: see above; -1 is None.
        differentiable: whether the number has to stand in the autograd graph.

    Raises:
        TargetNotFound: the output has no such class, mask or box, or is of another kind.
        NoGradient: the number stands outside the autograd graph.
    """
    if callable(target):
        score = _called(target, output)
    elif isinstance(target, Box) or is_detection(output):
        score = _box(output, target)
    else:
        score = _logit(output, target)
    if differentiable and not score.tensor.requires_grad:
        raise NoGradient(
            "The model computes its output without a graph (under no_grad, or detached), so it has no gradient. "
            "Take that out of its forward."
        )
    return score


def per_image(score: Score, method: str) -> Score:
    """The score, if it can be asked of other images too, as methods that change the picture have to.

    Raises:
        TargetNotFound: it cannot.
    """
    if score.of_each is None:
        raise TargetNotFound(
            f"{method} changes the picture, and asks for the same number of the changed one; a detector's box or a "
            "callable belongs to one output. Choose a method that leaves the picture as it is, such as Grad-CAM or "
            "saliency."
        )
    return score


def _called(target: Callable[[Any], Tensor], output: Any) -> Score:
    number = target(output)
    if not isinstance(number, Tensor) or number.numel() != 1:
        got = f"a tensor of {tuple(number.shape)}" if isinstance(number, Tensor) else type(number).__name__
        raise TargetNotFound(
            f"The target has to return one number as a tensor; it returned {got}. Sum it, or index it."
        )
    return Score(number.reshape(()), float(number.detach()), NO_CLASS)


def _logit(output: Any, target: int | Mask | None) -> Score:
    found = nested.first(output)
    logits = None if found is None else found[1]
    if logits is None or logits.ndim not in (1, 2, 4) or not logits.is_floating_point():
        raise TargetNotFound(
            "The model's output is not one logit per class and image, so there is no class to explain. A class can be "
            "explained for classifiers, segmenters and detectors; for another model, give a callable that picks one "
            "number of the output."
        )
    logits = logits[None] if logits.ndim == 1 else logits
    if logits.shape[0] != 1:
        raise TargetNotFound(
            f"A class is explained for one image at a time; this batch holds {logits.shape[0]}. Give them one by "
            "one, or a callable that sums over them."
        )
    classes = logits.shape[1]
    winners = logits.detach().argmax(1)
    given = _mask(target, logits) if isinstance(target, Mask) else None
    index = target.index if isinstance(target, Mask) else target
    if index is None or index == -1:
        voting = winners.flatten() if given is None else winners[0][given]
        index = int(voting.bincount().argmax()) if voting.numel() else 0
    if not 0 <= index < classes:
        raise TargetNotFound(f"There is no class {index}: the model has {classes}, from 0 to {classes - 1}.")
    mask = given
    if logits.ndim == 4 and mask is None:
        mask = winners[0] == index
        if not mask.any():
            raise TargetNotFound(
                f"The model gives no pixel of this image to class {index}, so there is nothing to explain. "
                "Choose another class."
            )

    def of_each(other: Any) -> Tensor:
        row = nested.first(other)
        assert row is not None
        values = (row[1][None] if row[1].ndim == 1 else row[1])[:, index]
        return values if mask is None else (values * mask).sum((1, 2))

    number = of_each(output)[0]
    return Score(number, float(number.detach()), index, of_each)


def _mask(target: Mask, logits: Tensor) -> Tensor:
    if logits.ndim != 4:
        raise TargetNotFound(
            "A mask is a target of segmenters, and this model's output has no height and width. Choose a class."
        )
    mask = torch.as_tensor(target.mask, device=logits.device).bool()
    if mask.shape != logits.shape[2:]:
        sizes = " x ".join(map(str, mask.shape)), " x ".join(map(str, logits.shape[2:]))
        raise TargetNotFound(f"The mask has {sizes[0]} pixels and the model's output {sizes[1]}. Resize it.")
    if not mask.any():
        raise TargetNotFound("The mask is empty, so there is nothing to explain. Mark some pixels.")
    return mask


def _box(output: Any, target: int | Mask | Box | None) -> Score:
    if not is_detection(output) or not isinstance(output[0].get("scores"), Tensor):
        raise TargetNotFound(
            'A box or its class is explained by its score, and this model\'s output has no "scores". Give a callable '
            "that picks one number of the output."
        )
    if isinstance(target, Mask):
        raise TargetNotFound("A mask is a target of segmenters; of a detector, choose a class or a box.")
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
        wanted = torch.ones_like(labels, dtype=torch.bool) if target is None or target == -1 else labels == target
        if not wanted.any():
            raise TargetNotFound(f"The model detects nothing of class {target} in this image; choose a class it found.")
        place = int(scores.detach().where(wanted, -torch.inf).argmax())
    return Score(scores[place], float(scores[place].detach()), int(labels[place]))
