"""What a model answers to one picture: its numbers as they are read, and those of each class that are explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.looks.outputs import Answered, Chosen, answer, choose, regions_of
from hookscope.hooks.methods import READINGS
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.outputs import MOST_CELLS, Scores


def predict(model: nn.Module, inputs: Any, *, ends_in_shares: bool = True) -> Scores:
    """The answer of a model to one picture, read as `looking`'s `reading` says.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        ends_in_shares: whether the model may end in a softmax or sigmoid, before which to look. Where it is known not
            to, watching for one can be spared, and with it the last bits by which torch's fused layers differ from
            watched ones.

    >>> net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1))
    >>> predict(net, torch.ones(1, 3, 8, 8)).reads
    'probabilities'

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        TargetNotFound: the model's output is no list of classes, or several could be meant.
    """
    with inspecting(model) as inner, cancelling():
        given = nested.private(arguments.arguments(inputs), requires_grad=False)
        answered = answer(inner, *given) if ends_in_shares else Answered(inner(*given))
        return scores_of(choose(answered))


def scores_of(chosen: Chosen) -> Scores:
    """An output as numbers, and as shares where it is read so."""
    if chosen.numbers.ndim == 4:
        return _of_pixels(chosen)
    numbers, logits = _array(chosen.numbers[0]), _array(chosen.logits[0])
    row = READINGS.find(chosen.reads)
    shares = np.empty(0, np.float32) if row.shares is None else row.shares(numbers).astype(np.float32)
    return Scores(chosen.path, chosen.reads, logits, numbers, shares)


def _of_pixels(chosen: Chosen) -> Scores:
    none = np.empty(0, np.float32)
    logits = chosen.logits.detach()[0]
    if chosen.reads in ("values", "embedding"):
        return Scores(chosen.path, chosen.reads, _array(logits.double().mean((1, 2))), none, none)
    regions = regions_of(chosen)
    sums = (logits.double() * regions).sum((1, 2))
    return Scores(chosen.path, chosen.reads, _array(sums), none, _array(regions.double().mean((1, 2))), _drawn(regions))


def _drawn(regions: Tensor) -> np.ndarray:
    """The class at each position as `Scores.regions` has it, from bool (class, height, width)."""
    sizes = regions.flatten(1).sum(1)
    rows, columns = (_every(length, regions.device) for length in regions.shape[1:])
    there = regions[:, rows][:, :, columns]
    smallest = torch.where(there, sizes[:, None, None], torch.iinfo(sizes.dtype).max).argmin(0)
    found = torch.where(there.any(0), smallest, -1).cpu().numpy()
    return found.astype(np.int16 if len(regions) < 2**15 else np.int32)


def _every(length: int, device: torch.device) -> Tensor:
    """Positions spread over a length, the middle of each of at most `MOST_CELLS` equal parts."""
    parts = min(length, MOST_CELLS)
    return ((torch.arange(parts, device=device) + 0.5) * length / parts).long()


def _array(tensor: Tensor) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().to(torch.float32).numpy()
    return found
