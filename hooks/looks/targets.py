"""What is explained: one number of a model's output, and the same number of other outputs of the same model.

A target is one of

    None, OWN         the model's own first class (of a segmenter that of the most pixels, of a detector its best box)
    285, Class(285)   a class: its logit, which stands before a last softmax or sigmoid; of a segmenter the sum of its
                      logits over its own pixels; of a detector the score of its best box; of numbers that are read as
                      values the number itself, or its mean over the positions
    Mask(mask, 285)   a segmenter's class, summed over the pixels of a given mask
    Box(2)            the score of a detector's box 2; Box(2, "left") where a side of it lies; Box(2, "mask") the mean
                      of its mask's logits over the positions of the mask head's grid that are inside it, above 0;
                      Box(2, "keypoint", 5) the score of its keypoint 5, of torchvision's its heatmap's highest value
    a callable        takes the model's whole output and returns one number as a tensor
    Against(504, 968) one target against another: the difference of their two numbers; Against(504) the class against
                      whichever other one the model ranks first, Against() the model's first against the runner-up. Of a
                      segmenter the second class's logits are summed over the pixels of the first
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hookscope.hooks.errors import NoGradient, TargetNotFound
from hookscope.hooks.looks.box_targets import best_of_another, has_boxes, number_of_box
from hookscope.hooks.looks.outputs import Answered, Chosen, choose, regions_of
from hookscope.hooks.results.targets import OWN, RIVAL, Against, Box, Class, Own, Rival

__all__ = [
    "OWN",
    "RIVAL",
    "Against",
    "Box",
    "Class",
    "Likeness",
    "Mask",
    "Own",
    "Rival",
    "Score",
    "Target",
    "per_image",
    "score_of",
]

NO_CLASS = -1  # the index of a target that is no class


@dataclass(frozen=True, eq=False)
class Likeness:
    """The cosine of an embedding with another one, -1..1: how alike a model finds two pictures.

    Attributes:
        vector: float (number,), of the other picture, in the same model.

    >>> score_of(torch.tensor([[3.0, 4.0]]), Likeness(torch.tensor([1.0, 0.0])), differentiable=False).value
    0.6000000238418579
    """

    vector: Tensor


@dataclass(frozen=True)
class Mask:
    """A segmenter's class over pixels of one's own choice.

    Attributes:
        mask: bool (height, width), of the output's height and width.
        index: the class; None for the model's own first one within the mask.
    """

    mask: np.ndarray | Tensor
    index: int | None = None


Target = int | None | Own | Class | Mask | Likeness | Box | Against | Callable[[Any], Tensor]
_Plain = int | Mask | Box | Likeness | Callable[[Any], Tensor] | None


@dataclass(frozen=True)
class Score:
    """One number of a model's output.

    Attributes:
        tensor: the number, a scalar in the autograd graph.
        value: the same as a float.
        index: the class that it belongs to (of a box: its label); `NO_CLASS` for a callable.
        of_each: gives the same number of each image of another output, (image,), with class and mask as they were
            found here; None for targets that only this output has (boxes, callables).
        against: of one target against another the class of the other, as `index` has it; else `NO_CLASS`.
        means: what was found to be explained; equal of two scores that are the same number.
        pixels: bool (height, width), of a segmenter's class those over which it is summed.
        size: of the largest number that it was computed from: rounding is a share of that.
    """

    tensor: Tensor
    value: float
    index: int
    of_each: Callable[[Any], Tensor] | None = None
    against: int = NO_CLASS
    means: tuple[Any, ...] = ()
    pixels: Tensor | None = None
    size: float = 0.0


def score_of(output: Any, target: Target, *, differentiable: bool = True) -> Score:
    """The number that a target means in an output.

    Arguments:
        output: what the model returned for one image, as it is or by `outputs.answer`, which remembers what stood
            before a last softmax. Its answer is (image, class) or (class,), or for a segmenter (image, class, height,
            width); which of several it is, and what its numbers mean, `looking`'s `reading` says. A detector's is a
            list with one dict of "boxes" and "scores". A callable may be given any output.
        target: see above; -1 is None.
        differentiable: whether the number has to stand in the autograd graph.

    Raises:
        TargetNotFound: the output has no such class, mask or box, or is of another kind; or two targets that are held
            against each other are the same.
        NoGradient: the number stands outside the autograd graph.
    """
    answered = _answered(output)
    score = _difference(answered, target) if isinstance(target, Against) else _number(answered, _plain(target))
    if differentiable and not score.tensor.requires_grad:
        raise NoGradient(
            "The model computes its output without a graph (under no_grad, detached, or in integers such as int8), so "
            "it has no gradient. Take that out of its forward, or choose a map that needs no gradient, such as "
            "Score-CAM."
        )
    return score


def _number(answered: Answered, target: _Plain) -> Score:
    """The number of a target that is not two."""
    if callable(target):
        return _called(target, answered.value)
    if isinstance(target, Likeness):
        return _likeness(answered, target)
    if isinstance(target, Box) or has_boxes(answered):
        return _box(answered, target)
    return _logit(answered, target)


def _difference(answered: Answered, target: Against) -> Score:
    """One target's number less another's."""
    if isinstance(target.target, Against | Rival) or isinstance(target.other, Against):
        raise TargetNotFound(
            "Two targets are held against each other, and neither of them may be two or the runner-up of nothing: "
            "give a class, a box, or a function from the model's output to one number."
        )
    first = _number(answered, _plain(target.target))
    if isinstance(target.other, Rival):
        second = _rival(answered, first)
    else:
        other = _plain(target.other)
        if first.pixels is not None and (other is None or isinstance(other, int)):
            other = Mask(first.pixels, other)
        second = _number(answered, other)
    if first.means == second.means:
        raise TargetNotFound(
            f"{_called_by(first)} is held against itself, and the difference is 0 whatever the picture. "
            "Choose another one to hold it against."
        )
    return replace(
        first,
        tensor=first.tensor - second.tensor,
        value=first.value - second.value,
        of_each=_both(first.of_each, second.of_each),
        against=second.index,
        means=("against", first.means, second.means),
        size=max(abs(first.value), abs(second.value)),
    )


def _both(
    first: Callable[[Any], Tensor] | None, second: Callable[[Any], Tensor] | None
) -> Callable[[Any], Tensor] | None:
    if first is None or second is None:
        return None

    def of_each(output: Any) -> Tensor:
        return first(output) - second(output)

    return of_each


def _called_by(score: Score) -> str:
    kind, *found = score.means
    return f"{str(kind).capitalize()} {found[0]}" if kind in ("class", "box") else "This target"


def _rival(answered: Answered, first: Score) -> Score:
    """What the model ranks first of all else.

    Raises:
        TargetNotFound: there is nothing else, or no rank.
    """
    kind, pixels = first.means[0], first.pixels
    if kind == "box" and first.means[2] == "score":
        return _box(answered, best_of_another(answered, first.index))
    chosen = choose(answered) if kind == "class" else None
    if chosen is None or chosen.reads == "values":
        raise TargetNotFound(
            "There is no runner-up to a number that the model does not rank. Say what it is held against: a class by "
            "its index, or a function from the model's output to one number."
        )
    numbers = chosen.logits.detach()[0]
    sums = numbers.clone() if pixels is None else (numbers * pixels).sum((1, 2))
    if len(sums) < 2:
        raise TargetNotFound("The model answers one number alone, so there is no other that it could be held against.")
    sums[first.index] = -torch.inf
    index = int(sums.argmax())
    return _logit(answered, index if pixels is None else Mask(pixels, index))


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


def _plain(target: Any) -> _Plain:
    """A target as the rest of this module has it.

    Raises:
        TargetNotFound: it is none.
    """
    if isinstance(target, Own):
        return None
    if isinstance(target, Class):
        return target.index
    if isinstance(target, np.integer) or (isinstance(target, Tensor) and target.numel() == 1):
        return int(target)
    if target is None or isinstance(target, int | Mask | Box | Likeness) or callable(target):
        return target
    raise TargetNotFound(
        f"{_one_line(repr(target))} is no target. A class is given by its index, such as 285; a box as Box(2); "
        "anything else as a function from the model's output to one number."
    )


def _one_line(text: str, length: int = 60) -> str:
    """The beginning of a text, in one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def _called(target: Callable[[Any], Tensor], output: Any) -> Score:
    number = target(output)
    if not isinstance(number, Tensor) or number.numel() != 1:
        got = f"a tensor of {tuple(number.shape)}" if isinstance(number, Tensor) else type(number).__name__
        raise TargetNotFound(
            f"The target has to return one number as a tensor; it returned {got}. Sum it, or index it."
        )
    return Score(number.reshape(()), float(number.detach()), NO_CLASS, means=("function", id(target)))


def _likeness(answered: Answered, target: Likeness) -> Score:
    chosen = choose(answered)
    numbers = chosen.logits
    if numbers.ndim != 2 or target.vector.numel() != numbers.shape[1]:
        raise TargetNotFound(
            f"The likeness is to an embedding of {target.vector.numel()} numbers, and this model's answer is of "
            f"{' x '.join(map(str, numbers.shape[1:]))}. Take both from one model."
        )
    other = target.vector.detach().to(numbers.device, numbers.dtype).reshape(1, -1)

    def of_each(output: Any) -> Tensor:
        return functional.cosine_similarity(chosen.again(_answered(output)), other)

    number = of_each(answered)[0]
    return Score(number, float(number.detach()), NO_CLASS, of_each, means=("likeness", id(target.vector)))


def _logit(answered: Answered, target: int | Mask | None) -> Score:
    chosen = choose(answered)
    classes = chosen.logits.shape[1]
    index = target.index if isinstance(target, Mask) else target
    if index is not None and index != -1 and not 0 <= index < classes:
        raise TargetNotFound(f"There is no class {index}: the model has {classes}, from 0 to {classes - 1}.")
    given = _mask(target, chosen.logits) if isinstance(target, Mask) else None
    if index is None or index == -1:
        index = _own(chosen, given)
    pixels: Tensor | None = None
    if chosen.logits.ndim == 2:

        def of_each(other: Any) -> Tensor:
            return chosen.again(_answered(other))[:, index]

    else:
        mask = given if given is not None else _pixels(chosen, index)
        is_mean = chosen.reads == "values" and given is None
        count, pixels = mask.sum() if is_mean else 1, None if is_mean else mask

        def of_each(other: Any) -> Tensor:
            return (chosen.again(_answered(other))[:, index] * mask).sum((1, 2)) / count

    number = of_each(answered)[0]
    means = ("class", index, b"" if pixels is None else pixels.cpu().numpy().tobytes())
    return Score(number, float(number.detach()), index, of_each, means=means, pixels=pixels)


def _answered(output: Any) -> Answered:
    return output if isinstance(output, Answered) else Answered(output)


def _own(chosen: Chosen, within: Tensor | None) -> int:
    """The class that the model itself ranks first; of a segmenter that of the most pixels.

    Raises:
        TargetNotFound: its numbers are read as something that has no classes.
    """
    if chosen.reads == "embedding":
        raise TargetNotFound(
            "The model's answer is read as an embedding, whose numbers mean nothing one by one, so there is no class "
            "to explain. Its likeness to another picture can be: choose a second picture, or give Likeness(vector)."
        )
    logits = chosen.logits.detach()
    if logits.ndim == 2:
        return int(logits.argmax())
    if chosen.reads == "values" and logits.shape[1] > 1:
        raise TargetNotFound(
            "The model's answer is read as a picture or features, with several numbers per position and no classes. "
            "Choose one of its channels, or read it otherwise."
        )
    regions = regions_of(chosen)
    regions = regions if within is None else regions & within
    return int(regions.flatten(1).sum(1).argmax())


def _pixels(chosen: Chosen, index: int) -> Tensor:
    mask = regions_of(chosen)[index]
    if not mask.any():
        raise TargetNotFound(
            f"The model gives no pixel of this image to class {index}, so there is nothing to explain. "
            "Choose another class."
        )
    return mask


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


def _box(answered: Answered, target: int | Mask | Box | None) -> Score:
    if isinstance(target, Mask):
        raise TargetNotFound("A mask is a target of segmenters; of a detector, choose a class or a box.")
    number, label, box = number_of_box(answered, None if target == -1 else target)
    return Score(number, float(number.detach()), label, means=("box", box.index, box.part, box.keypoint))
