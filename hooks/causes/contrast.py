"""One number that tells A's answer from B's, in any run: the logit of A's class minus that of B's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from hookscope.hooks.errors import HooksError, TargetNotFound
from hookscope.hooks.looks.outputs import Answered, choose
from hookscope.hooks.looks.targets import NO_CLASS, Mask, Score, Target, score_of
from hookscope.hooks.results.targets import Against

EXACT = 1e-5  # by which two runs' answers may differ and count as the same


class Contrast:
    """M, the logit of A's class minus that of B's, of any run."""

    def __init__(self, first: Score, second: Score, a: Answered, b: Answered, runner_up: bool) -> None:
        _refuse_other_sizes(first, a, b)
        self.target, self.target_b, self.runner_up = first.index, second.index, runner_up
        self.number = _difference(first, second)
        self.tensor = self.number(b)
        self.of_a, self.of_b = (float(self.number(each).detach()) for each in (a, b))
        self.gap = self.of_a - self.of_b
        self._logits = choose(a).logits.detach().double()
        if not math.isfinite(self.gap):
            raise HooksError(
                "An answer is NaN or infinite for these two classes, so nothing that comes back can be measured. Find "
                "the first layer with such values: colour the tree by them."
            )
        if not abs(self.gap) > EXACT * max(float(self._logits.abs().max()), 1.0):
            raise HooksError(
                "A's answer and B's differ in nothing for these two classes, so nothing can come back. Choose another "
                "class to explain, or another picture."
            )

    @classmethod
    def of(cls, a: Answered, b: Answered, target: Target, target_b: Target) -> Contrast:
        """A's class against B's; where both are one, against what both hold it against, else A's runner-up.

        Where each side holds its class against another one, those others are left out: what is asked is why A answers
        otherwise than B.
        """
        first, second = (score_of(side, each, differentiable=False) for side, each in ((a, target), (b, target_b)))
        if first.of_each is None or second.of_each is None:
            raise TargetNotFound(
                "What comes back is asked of the same two numbers in many runs, and a detector's boxes, or what a "
                "callable picks, belong to one run: once something is changed they move, or are gone. Where A and B "
                "part can be seen all the same."
            )
        if NO_CLASS != first.against == second.against and first.index == second.index:
            one, other = (score_of(a, index, differentiable=False) for index in (first.index, first.against))
            return cls(one, other, a, b, runner_up=False)
        first, second = (
            score_of(side, each.target, differentiable=False) if isinstance(each, Against) else known
            for side, each, known in ((a, target, first), (b, target_b, second))
        )
        if first.index != second.index:
            return cls(first, second, a, b, runner_up=False)
        return cls(first, _runner_up(a, first), a, b, runner_up=True)

    def share(self, answered: Answered) -> float:
        """m of a run."""
        return (float(self.number(answered).detach()) - self.of_b) / self.gap

    def is_a(self, answered: Answered) -> bool:
        """Whether all of a run's answer is A's."""
        logits, own = choose(answered).logits.detach().double(), self._logits
        return logits.shape == own.shape and bool(
            (logits - own).abs().max() <= EXACT * max(float(own.abs().max()), 1.0)
        )


def _runner_up(answered: Answered, first: Score) -> Score:
    """What the model ranks first of all other classes; of a segmenter over the same pixels."""
    try:
        index = score_of(answered, Against(_of_class(first)), differentiable=False).against
    except TargetNotFound as error:
        raise TargetNotFound(
            "A and B have the same class, and there is no second one to set against it. The distance of the layers "
            "tells where they part; or explain different classes of A and of B."
        ) from error
    return score_of(answered, _of_class(replace(first, index=index)), differentiable=False)


def _of_class(score: Score) -> int | Mask:
    return score.index if score.pixels is None else Mask(score.pixels, score.index)


def _refuse_other_sizes(first: Score, a: Answered, b: Answered) -> None:
    """A segmenter's classes are summed over positions, which are the same ones in every run."""
    if first.pixels is None:
        return
    sizes = [tuple(choose(each).logits.shape[-2:]) for each in (a, b)]
    if sizes[0] != sizes[1]:
        raise HooksError(
            f"The model answers at each position, at {sizes[0][0]} x {sizes[0][1]} of A and {sizes[1][0]} x "
            f"{sizes[1][1]} of B, so the same positions cannot be asked of both. Take pictures of one size, or paint "
            "on A."
        )


def _difference(first: Score, second: Score) -> Callable[[Answered], Tensor]:
    one, other = first.of_each, second.of_each
    assert one is not None and other is not None  # `of` has refused these
    return lambda answered: one(answered)[0] - other(answered)[0]
