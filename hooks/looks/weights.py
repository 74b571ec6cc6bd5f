"""A layer's own parameters as results: values, numbers, and the norm of what makes each output channel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError, titled
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.packed import learnt
from hookscope.hooks.numbers.reductions import real, statistics
from hookscope.hooks.results.weights import Parameter, Weights

MOST_BYTES = 1 << 25  # of one parameter's values as float32; of larger ones the numbers alone are given


def weights(model: nn.Module, layer: str) -> Weights:
    """The parameters that a layer has of its own, those of its children left out.

    Arguments:
        layer: its name; of an operation ("layer1.0/add") the module in which it happens is meant.

    >>> found = weights(nn.Sequential(nn.Conv2d(3, 4, 5)), "0")
    >>> [(each.name, each.shape, each.norms.shape) for each in found.parameters]
    [('weight', (4, 3, 5, 5), (4,)), ('bias', (4,), (4,))]

    Raises:
        LayerNotFound: no module has that name.
        HooksError: the layer has no parameters of its own.
    """
    _, module = Finder(model).find(layer)
    axis = 1 if isinstance(module, nn.modules.conv._ConvTransposeNd) else 0
    found = tuple(_parameter(name, each, axis) for name, each in learnt(module))
    if not found:
        kind = type(module).__name__
        raise HooksError(f"{titled(layer)} ({kind}) has no weights of its own. Open a layer inside it.")
    return Weights(layer, found)


def _parameter(name: str, parameter: Tensor, axis: int) -> Parameter:
    with torch.no_grad():
        values = real(parameter.detach())
        axis = axis if values.ndim > axis else 0
        rows = values.movedim(axis, 0).reshape(values.shape[axis], -1) if values.ndim else values.reshape(1, 1)
        norms = torch.linalg.vector_norm(rows.cpu(), dim=1, dtype=torch.float64).numpy()
        kept = values.numel() * 4 <= MOST_BYTES
        return Parameter(
            name,
            tuple(values.shape),
            values.to("cpu", torch.float32, copy=True).numpy() if kept else np.empty(0, np.float32),
            statistics(values, axis if values.ndim else None),
            norms,
            axis,
            not parameter.requires_grad,
        )
