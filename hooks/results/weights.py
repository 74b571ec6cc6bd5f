"""What a layer has learned: its own parameters, with their numbers; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hookscope.hooks.results.looks import Statistics


@dataclass(frozen=True)
class Parameter:
    """One parameter of a layer.

    Attributes:
        name: as the module has it, "weight". shape: of all of its values.
        values: float32, of that shape, other dtypes converted; of shape (0,) if they are too many to be handed on.
        statistics: of all values; per channel by output channel.
        norms: float64 (output channel,), the L2 norm of the values that make one output channel.
        output_axis: which axis holds the output channels: 0, or 1 of a transposed convolution.
        frozen: whether it takes no gradient.
    """

    name: str
    shape: tuple[int, ...]
    values: np.ndarray
    statistics: Statistics
    norms: np.ndarray
    output_axis: int = 0
    frozen: bool = False


@dataclass(frozen=True)
class Weights:
    """A layer's own parameters, those of its children left out, in registration order."""

    layer: str
    parameters: tuple[Parameter, ...]
