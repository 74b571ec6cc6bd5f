"""Gradients, weights and updates of one step, each layer's own weights together.

Gradients are divided by what the loss was multiplied with. They and the weights are of one moment: after the backward
pass and before the update; clipped gradients only where nobody looked before they were clipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.numbers.moments import Scratch
from hookscope.hooks.training.reading import Reading, read_later

TWO_STEPS = 2.0**-23  # twice the smallest number of float16


def inner_optimizers(given: Any) -> tuple[torch.optim.Optimizer, ...]:
    """The optimisers themselves, without what other libraries wrap around them."""
    if given is None:
        return ()
    found = []
    for each in given if isinstance(given, Iterable) else (given,):
        while isinstance(inner := getattr(each, "optimizer", None), torch.optim.Optimizer):
            each = inner
        found.append(each)
    return tuple(found)


def weights_of(optimizers: Iterable[torch.optim.Optimizer]) -> Set[int]:
    """The `id`s of all weights that some optimisers change."""
    return {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}


def scale_of(scaler: Any, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[float, float]:
    """By what the loss is multiplied, NaN without a scaler; and by what gradients are multiplied at this moment.

    `GradScaler.unscale_` may have been called already; fused optimisers divide inside their step, others before it.
    """
    if scaler is None or not getattr(scaler, "is_enabled", lambda: True)():
        return math.nan, 1.0
    scale = float(scaler.get_scale())
    states = getattr(scaler, "_per_optimizer_states", None) or {}
    known = [states[id(each)] for each in optimizers if id(each) in states] if optimizers else list(states.values())
    stages = {getattr(state.get("stage"), "name", "") for state in known}
    return scale, 1.0 if stages & {"UNSCALED", "STEPPED"} else scale


@dataclass
class OwnWeights:
    """The weights of one layer and of none below it.

    Attributes:
        layer: its name. tensors: by their full names. gradient, weight: their numbers; None where there are none.
        underflow: of the gradient's values that are not 0 the share at float16's end; NaN where nobody asked.
        wants: whether any of them wants a gradient.
    """

    layer: str
    tensors: Mapping[str, nn.Parameter]
    gradient: Reading | None = None
    weight: Reading | None = None
    underflow: float = math.nan
    wants: bool = False


@dataclass
class Moment:
    """Gradients and weights as they were before an update.

    Attributes:
        layers: in the order of the model. scale: see `scale_of`, the first.
        matrices: the layers that have weights of two axes or more.
        ratios: of each layer the norm of its update by that of its weights; there once the update was seen.
        unchanged: weights of two axes or more that want a gradient and did not change.
        rates: of each group of the optimiser.
        at_rate_0: whether every group's is 0.
    """

    layers: list[OwnWeights]
    scale: float = math.nan
    matrices: tuple[str, ...] = ()
    ratios: dict[str, float] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    updated: bool = False
    _before: dict[str, Tensor] = field(default_factory=dict)

    def has_gradients(self) -> bool:
        """Whether there was any gradient that is not 0."""
        found = [each.gradient.statistics for each in self.layers if each.gradient is not None]
        return any(each.nan or each.inf or each.zeros < 1 for each in found)

    def keep(self) -> None:
        """Keep a copy of what may change, to see by how much it does."""
        with torch.no_grad():
            self._before = {
                name: _local(tensor).detach().clone()
                for each in self.layers
                for name, tensor in each.tensors.items()
                if tensor.requires_grad
            }

    def read_again(
        self, optimizers: Sequence[torch.optim.Optimizer], scaler: Any, scratch: Scratch, *, halves: bool
    ) -> None:
        """Read the gradients of some optimisers' weights, which were not ready when the others were read."""
        of = weights_of(optimizers)
        theirs = [each for each in self.layers if any(id(tensor) in of for tensor in each.tensors.values())]
        newer = [OwnWeights(each.layer, each.tensors) for each in theirs]
        read_moment(newer, scaler, optimizers, scratch, halves=halves)
        for each, new in zip(theirs, newer, strict=True):
            each.gradient, each.underflow = new.gradient, new.underflow

    def see_update(self, of: Set[int] | None = None) -> None:
        """The update has been done: measure it, and let the copies go.

        Arguments:
            of: the `id`s of the weights that were updated; all by default.
        """
        norms: dict[str, Tensor] = {}
        with torch.no_grad():
            for each in self.layers:
                for name, tensor in each.tensors.items():
                    if name in self._before and (of is None or id(tensor) in of):
                        away = _local(tensor).detach() - self._before[name]
                        norms[name] = torch.linalg.vector_norm(away.reshape(-1), dtype=torch.float64).cpu()
        self._before = {}
        sizes = {name: float(norm) for name, norm in norms.items()}
        for each in self.layers:
            own = [sizes[name] for name in each.tensors if name in sizes]
            if own and each.weight is not None and each.weight.norm > 0:
                self.ratios[each.layer] = math.sqrt(math.fsum(size**2 for size in own)) / each.weight.norm
        wide = {name for each in self.layers for name, tensor in each.tensors.items() if tensor.dim() > 1}
        # a bias before a normalisation is not felt, and its gradient is rounding
        self.unchanged = tuple(name for name, size in sizes.items() if size == 0 and name in wide)
        self.updated = True

    def forget(self) -> None:
        """No update will come."""
        self._before = {}


def own_weights(layers: Iterable[str], every: bool, names: Mapping[nn.Module, str]) -> list[OwnWeights]:
    """The layers' own weights; one that several layers share is the first one's.

    Arguments:
        layers: those that are followed. every: whether all other layers with weights are, too. names: of all modules.
    """
    chosen, seen, found = set(layers), set[int](), []
    for module, name in names.items():
        tensors = {}
        for own, tensor in module._parameters.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                tensors[f"{name}.{own}".strip(".")] = tensor
        if tensors and (every or name in chosen):
            found.append(OwnWeights(name, tensors, wants=any(tensor.requires_grad for tensor in tensors.values())))
    return found


def read_moment(
    own: list[OwnWeights],
    scaler: Any,
    optimizers: Sequence[torch.optim.Optimizer],
    scratch: Scratch,
    *,
    halves: bool,
    fused: bool = False,
) -> Moment:
    """Read gradients and weights as they are.

    Arguments:
        halves: whether gradients were computed in float16. fused: whether this is inside the step of an optimiser that
            divides by the scale there.
    """
    scale, by = scale_of(scaler, optimizers)
    if fused and optimizers:
        given = getattr(optimizers[0], "grad_scale", None)
        by = 1.0 if given is None else float(given)
    limit = TWO_STEPS if math.isnan(scale) else TWO_STEPS * by / scale
    waiting = []
    with torch.no_grad():
        for each in own:
            gradients = [_local(tensor.grad) for tensor in each.tensors.values() if tensor.grad is not None]
            laters = [read_later(_divided(gradient, by), scratch) for gradient in gradients]
            weights = [read_later(_local(tensor), scratch) for tensor in each.tensors.values()]
            ends = [_at_the_end(gradient, limit) for gradient in gradients] if halves else []
            waiting.append((each, laters, weights, ends))
        for each, laters, weights, ends in waiting:
            each.gradient = _together([later() for later in laters])
            each.weight = _together([later() for later in weights])
            low, some = (sum(int(end[place]) for end in ends) for place in (0, 1))
            each.underflow = low / some if some else math.nan
    matrices = tuple(each.layer for each in own if any(tensor.ndim > 1 for tensor in each.tensors.values()))
    rates = tuple(float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups if "lr" in group)
    return Moment(own, scale, matrices, rates=rates)


def _together(readings: list[Reading]) -> Reading | None:
    if not readings:
        return None
    whole = readings[0]
    for reading in readings[1:]:
        whole = whole.and_also(reading)
    return whole


def _divided(gradient: Tensor, by: float) -> Tensor:
    if by == 1.0:
        return gradient
    return gradient.to(torch.float32 if gradient.dtype in (torch.float16, torch.bfloat16) else gradient.dtype) / by


def _at_the_end(gradient: Tensor, limit: float) -> Tensor:
    """How many values that are not 0 are up to a limit in size, and how many are not 0: int64 (2,)."""
    size = (gradient.to_dense() if gradient.is_sparse else gradient).abs()
    some = size > 0
    return torch.stack([(some & (size <= limit)).sum(), some.sum()])


def _local(tensor: Tensor) -> Tensor:
    """This process's own part of a tensor that several have."""
    found: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return found
