"""Whether a model may be given several pictures at once: its answer to one may depend on the others beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.targets import Score
from hookscope.hooks.passes.cancelling import cancelling

SAME = 1e-3  # of the largest number: by which the same answer may differ in a batch, because sums run in another order
ALONE = "One picture at a time: what this model answers to one depends on the others that it is given with it."


def scores_of_each(model: nn.Module, score: Score, pictures: Tensor) -> Tensor:
    """The score of each of several pictures (image, channel, height, width), in one pass."""
    assert score.of_each is not None
    # a clone, because a model may write into its input
    return score.of_each(answer(model, pictures.clone()))


def baseline_of(model: nn.Module, score: Score, picture: Tensor) -> tuple[float, bool]:
    """The score of a picture of zeros, and whether pictures may be given together.

    A BatchNorm without running statistics takes them from the batch: an occlusion map in batches was 86 % off.

    Arguments:
        picture: float (1, channel, height, width), whose score is known.
    """
    with torch.no_grad(), cancelling():
        nothing = torch.zeros_like(picture)
        try:
            known, baseline = (float(each) for each in scores_of_each(model, score, torch.cat([picture, nothing])))
        except (RuntimeError, ValueError, IndexError, AssertionError):  # a model for one picture at a time
            known = baseline = float("nan")
        if abs(known - score.value) <= SAME * max(abs(known), abs(score.value), score.size, SAME):
            return baseline, True
        return float(scores_of_each(model, score, nothing)[0]), False
