"""Makes an answer that is too large to be kept one that can be: maps of fewer positions, beside the exact numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import TypeVar

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.looks import Activation, AttentionMaps
from hookscope.hooks.results.maps import depth_of, maps

MEGABYTE = 1_000_000
ResultT = TypeVar("ResultT")


class AnswerTooLarge(HooksError):
    """There is no smaller form of this answer that would show anything."""


def fit(result: ResultT, limit_bytes: int) -> ResultT | Activation | AttentionMaps:
    """The result itself if its arrays fit into the limit, else what can be shown of it.

    An activation keeps its statistics, which are of all values, and becomes means over squares of positions; one
    without maps keeps its statistics only. Attention goes without its rollout.

    Raises:
        AnswerTooLarge: a sentence with the size.
    """
    if size(result) <= limit_bytes:
        return result
    if isinstance(result, Activation):
        return _reduced(result, limit_bytes)
    if isinstance(result, AttentionMaps) and result.weights.nbytes <= limit_bytes:
        return dataclasses.replace(result, rollout=None)
    takes, kept = (f"{each / MEGABYTE:,.0f} MB" for each in (size(result), limit_bytes))
    raise AnswerTooLarge(
        f"This answer takes {takes}, and more than {kept} are not kept. "
        "Choose a layer with a smaller output, or start with a smaller --input-size."
    )


def size(result: object) -> int:
    """The bytes of the arrays that stand in a result's own fields."""
    fields = dataclasses.fields(result) if dataclasses.is_dataclass(result) else ()
    values = (getattr(result, field.name) for field in fields)
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _reduced(activation: Activation, limit_bytes: int) -> Activation:
    whole = activation.values.shape
    found = maps(activation) if depth_of(activation, whole) == 1 else None  # a square is of one frame
    if found is not None:
        channels, height, width = found.shape
        for side in range(2, max(height, width)):
            rows, columns = math.ceil(height / side), math.ceil(width / side)
            if channels * rows * columns * 4 <= limit_bytes and rows * columns > 1:
                return dataclasses.replace(
                    activation,
                    values=mean_over_squares(found, side),
                    axes=("channel", "height", "width"),
                    grid=None,
                    prefix_tokens=0,
                    whole=whole,
                )
    return dataclasses.replace(
        activation, values=np.empty(0, np.float32), axes=("feature",), grid=None, prefix_tokens=0, frames=1, whole=whole
    )


def mean_over_squares(values: np.ndarray, side: int) -> np.ndarray:
    """Means over squares of `side` x `side` positions; those at the right and lower edge may be cut.

    A square with NaN in it is NaN, one with an infinity infinite.

    Arguments:
        values: float32 (channel, height, width).

    Returns:
        float32 (channel, ceil(height / side), ceil(width / side)).
    """
    result = np.empty((len(values), math.ceil(values.shape[1] / side), math.ceil(values.shape[2] / side)), np.float32)
    for channel, one in enumerate(values):  # one by one, and each in float64: no second copy of all, and no overflow
        wide = torch.from_numpy(np.ascontiguousarray(one)).double()[None, None]
        result[channel] = avg_pool2d(wide, side, ceil_mode=True, count_include_pad=False)[0, 0].numpy()
    return result
