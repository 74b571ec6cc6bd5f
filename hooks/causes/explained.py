"""The number that is explained, read from the answers of passes in which something was changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.errors import HooksError, TargetNotFound
from hookscope.hooks.looks.detections import as_detection, is_detection
from hookscope.hooks.looks.outputs import Answered, Chosen, choose
from hookscope.hooks.looks.targets import Score, Target, score_of
from hookscope.hooks.results.effects import UNKNOWN
from hookscope.hooks.results.targets import Box

Compared = tuple[np.ndarray, np.ndarray, np.ndarray]  # effect, whether another class comes first, divergence

SAME_BOX = 0.5  # least intersection over union


@dataclass(frozen=True)
class Read:
    """What was read of an answer to several copies of a picture.

    Attributes:
        numbers: float64 (copy,), what is explained. logits: float64 (copy, class), None where there are no classes.
    """

    numbers: np.ndarray
    logits: np.ndarray | None = None

    def first(self) -> Read:
        """Of the first copy alone."""
        return Read(self.numbers[:1], None if self.logits is None else self.logits[:1])

    def rest(self) -> Read:
        """Of all others."""
        return Read(self.numbers[1:], None if self.logits is None else self.logits[1:])


@dataclass(frozen=True)
class Explained:
    """One number of a model's plain answer, and the same of others.

    Attributes:
        index: the class that it belongs to. against: the one that it is held against, -1 if none.
        value: of the plain answer. size: how large the answer's numbers are.
        read: reads answers to so many copies. alone: whether an answer can be to one picture only.
        shares: whether one of the classes is right, so that answers diverge.
    """

    index: int
    against: int
    value: float
    size: float
    read: Callable[[Answered, int], Read]
    alone: bool
    shares: bool

    def compare(self, plain: Read, changed: Read) -> Compared:
        """Of each copy the effect, whether another class comes first, and the divergence; see `Effects`."""
        effect = changed.numbers - plain.numbers[0]
        count = len(effect)
        if plain.logits is None or changed.logits is None:
            return effect, np.full(count, UNKNOWN, np.int8), np.full(count, np.nan)
        first = changed.logits.argmax(1) != plain.logits[0].argmax()
        divergence = _divergence(plain.logits[0], changed.logits) if self.shares else np.full(count, np.nan)
        return effect, first.astype(np.int8), divergence


def first_class(read: Read) -> int:
    """The first class of the first copy, `UNKNOWN` where there are no classes."""
    return UNKNOWN if read.logits is None else int(read.logits[0].argmax())


def explained(plain: Answered, target: Target) -> Explained:
    """What a target means in a model's plain answer.

    Raises:
        TargetNotFound: the answer has no such target. HooksError: its number is not finite.
    """
    score = score_of(plain, target, differentiable=False)
    if not math.isfinite(score.value):
        raise HooksError(
            f"What is explained is {score.value} for this picture, so no effect on it can be measured. Find the first "
            "layer with such values: colour the tree by them."
        )
    chosen = _classes(plain) if score.of_each is not None or callable(target) else None
    logits = None if chosen is None else chosen.logits
    size = max(abs(score.value), 0.0 if logits is None else float(logits.abs().max()))
    number = _number_of(plain, target, score)

    def read(answered: Answered, copies: int) -> Read:
        numbers = number(answered)
        if numbers.shape != (copies,):
            raise ValueError(f"{copies} pictures gave {numbers.shape} numbers")
        rows = None if chosen is None else _numpy(chosen.again(answered))
        if rows is not None and len(rows) != copies:
            raise ValueError(f"{copies} pictures gave {len(rows)} answers")
        return Read(numbers, rows)

    shares = chosen is not None and _has_shares(plain, chosen)
    return Explained(score.index, score.against, score.value, size, read, score.of_each is None, shares)


def _number_of(plain: Answered, target: Target, score: Score) -> Callable[[Answered], np.ndarray]:
    if (of_each := score.of_each) is not None:
        return lambda answered: _numpy(of_each(answered).reshape(-1))
    if callable(target):
        return lambda answered: np.array([score_of(answered, target, differentiable=False).value])
    return _same_box(plain, target, score)


def _same_box(plain: Answered, target: Target, score: Score) -> Callable[[Answered], np.ndarray]:
    """The number of the box of the same class that overlaps the explained one most; see `effects`."""
    boxes, labels, scores = _boxes(plain)
    if isinstance(target, Box):
        place = target.index
    else:
        place = int(torch.where(labels == score.index, scores, -torch.inf).argmax())
    wanted, part = boxes[place], target if isinstance(target, Box) else Box(0)

    def number(answered: Answered) -> np.ndarray:
        others, classes, _ = _boxes(answered)
        overlap = torch.where(classes == score.index, _overlap(wanted, others), -1.0)
        if not len(overlap) or float(overlap.max()) < SAME_BOX:
            return np.array([0.0 if part.part == "score" else np.nan])
        found = Box(int(overlap.argmax()), part.part, part.keypoint)
        return np.array([score_of(answered, found, differentiable=False).value])

    return number


def _boxes(answered: Answered) -> tuple[Tensor, Tensor, Tensor]:
    output = as_detection(answered.value)
    if not is_detection(output):
        raise TargetNotFound("The model's answer holds no boxes. Choose another target.")
    found = output[0]
    labels = found.get("labels", torch.zeros_like(found["scores"], dtype=torch.int64))
    return found["boxes"], labels, found["scores"]


def _overlap(one: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of a box, left, top, right and bottom, with others, (box,)."""
    corners = torch.maximum(one[:2], others[:, :2]), torch.minimum(one[2:], others[:, 2:])
    both = (corners[1] - corners[0]).clamp(min=0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (one[2:] - one[:2]).prod()
    return both / (areas - both).clamp(min=torch.finfo(areas.dtype).tiny)


def _classes(plain: Answered) -> Chosen | None:
    """The answer, if it is a list of classes of which the model ranks one first."""
    try:
        chosen = choose(plain)
    except TargetNotFound:
        return None
    is_list = chosen.logits.ndim == 2 and chosen.logits.shape[1] > 1
    return chosen if is_list and chosen.reads not in ("values", "embedding") else None


def _has_shares(plain: Answered, chosen: Chosen) -> bool:
    """Whether the logits become shares by a softmax."""
    if chosen.reads == "softmax":
        return True
    return chosen.reads == "probabilities" and chosen.logits is not chosen.numbers and not _by_sigmoid(plain, chosen)


def _by_sigmoid(plain: Answered, chosen: Chosen) -> bool:
    shares = chosen.numbers.double().cpu() if chosen.numbers.device.type == "mps" else chosen.numbers.double()
    return abs(float(shares.sum()) - 1) > 1e-3


def _divergence(plain: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence of the softmax of each row from that of the plain logits, in nats, (row,)."""
    before, after = _log_softmax(plain[None]), _log_softmax(changed)
    terms = np.where(np.exp(before) > 0, np.exp(before) * (before - after), 0.0)
    return np.asarray(np.maximum(terms.sum(1), 0.0))


def _log_softmax(rows: np.ndarray) -> np.ndarray:
    shifted = rows - rows.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _numpy(tensor: Tensor) -> np.ndarray:
    values: np.ndarray = tensor.detach().cpu().double().numpy()  # in this order: Apple's GPU has no float64
    return values
