"""Whether a model that others in this process may change is still what the page has read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hookscope.hooks.passes.modes import unwrap

SAMPLED = 1024  # values of each parameter, spread over it


class Watch:
    """What a model was when it was read: its layers, its parameters, its buffers.

    Torch counts how often a tensor is written to, but not what is written to `parameter.data`; so some of a parameter's
    values are compared as well. Buffers are compared whole: a look at a model may write to them, and puts them back.

    Attributes:
        outdated: set by whoever found it changed, until it is read anew.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = unwrap(model)
        self.remember()

    def remember(self) -> None:
        """It is read now."""
        self.outdated = False
        self._modules = list(self._model.modules())
        self._parameters = list(self._model.parameters())
        self._versions = versions(self._parameters)
        self._values = sample(self._parameters)
        self._buffers = list(self._model.buffers())
        self._copies = [each.detach().clone() for each in self._buffers]

    def written(self) -> bool:
        """Whether a layer or a parameter is another one, or a parameter was written to; costs next to nothing."""
        modules, parameters = self._model.modules(), self._model.parameters()
        return (
            any(one is not other for one, other in itertools.zip_longest(modules, self._modules))
            or any(one is not other for one, other in itertools.zip_longest(parameters, self._parameters))
            or versions(self._parameters) != self._versions
        )

    def changed(self) -> bool:
        """The same, or other values in a buffer, or in the sample of a parameter; not while the model is looked at."""
        if self.written():
            return True
        buffers = list(self._model.buffers())
        if len(buffers) != len(self._copies) or not all(map(same, buffers, self._copies)):
            return True
        return not all(map(same, sample(self._parameters), self._values))


def versions(parameters: Sequence[Tensor]) -> list[int]:
    """How often each was written to; 0 for one of inference mode, which does not count that."""
    return [0 if each.is_inference() else each._version for each in parameters]


def sample(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Some values of each, the first and the last among them: a copy. Without those that are kept in a packed form."""
    found = []
    for each in parameters:
        if each.layout == torch.strided and not each.is_quantized and each.numel():
            value = each.detach()
            order = sorted(range(value.dim()), key=value.stride().__getitem__, reverse=True)  # needs no copy
            flat = value.permute(order).reshape(-1)
            places = torch.linspace(0, flat.numel() - 1, min(SAMPLED, flat.numel()), dtype=torch.float64)
            found.append(flat[places.round().long().to(flat.device)])
    return found


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values; NaN is the same as NaN."""
    if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
        return False
    if one.layout != torch.strided or one.is_quantized:
        return one is other or bool(torch.equal(one, other))
    return bool(torch.equal(one, other)) or bool(((one == other) | ((one != one) & (other != other))).all())
