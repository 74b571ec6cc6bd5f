"""Gradients, weights and updates of one step, each layer's own weights together.

Gradients are divided by what the loss was multiplied with. They and the weights are of one moment: after the backward
pass and before the update; clipped gradients only where nobody looked before they were clipped.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.numbers.moments import Scratch
from hookscope.hooks.training.reading import Reading, read_later

TWO_STEPS = 2.0**-23  # twice the smallest number of float16


def inner_optimizers(given: Any) -> tuple[torch.optim.Optimizer, ...]:
    """The optimisers themselves, without what other libraries wrap around them.

    Raises:
        HooksError: one of them is none.
    """
    if given is None:
        return ()
    found = []
    for each in given if isinstance(given, Iterable) and not isinstance(given, Mapping) else (given,):
        while isinstance(inner := getattr(each, "optimizer", None), torch.optim.Optimizer):
            each = inner
        if not all(hasattr(each, name) for name in ("param_groups", "register_step_post_hook")):
            raise HooksError(
                f"optimizer is a {type(each).__name__}: give the torch.optim.Optimizer, or a list of them."
            )
        found.append(each)
    return tuple(found)


def weights_of(optimizers: Iterable[torch.optim.Optimizer]) -> Set[int]:
    """The `id`s of all weights that some optimisers change."""
    return {id(each) for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}


@dataclass(frozen=True)
class Scale:
    """By what a scaler multiplied the loss, and by what gradients are multiplied at one moment.

    Attributes:
        scale: of the loss; NaN without a scaler. others: of the gradients of weights that no optimiser is known of; NaN
            where that cannot be told. by: of a weight's gradient, by the weight's `id`.
        growth: the scaler's count of steps since the scale changed. stepped: how many optimisers it was asked to step
            since its last update.
    """

    scale: float = math.nan
    others: float = 1.0
    by: Mapping[int, float] = field(default_factory=dict)
    growth: int = 0
    stepped: int = 0

    def of(self, weight: Tensor) -> float:
        """By what this weight's gradient is multiplied."""
        return self.by.get(id(weight), self.others)

    def updated_since(self, before: Scale) -> bool:
        """Whether the scaler's update came in between."""
        return (self.scale, self.growth) != (before.scale, before.growth) and not math.isnan(before.scale)

    def fell_since(self, before: Scale) -> bool:
        """Whether the scaler found values that are not finite in between, and left an update out."""
        return self.scale < before.scale

    def behind_the_update(self, unknown: bool) -> Scale:
        """The same once gradients were divided by it.

        Arguments:
            unknown: whether it cannot be told that they were: a fused optimiser that leaves a step out does not.
        """
        return dataclasses.replace(self, by={}, others=math.nan if unknown else 1.0)


NO_SCALER = Scale()


def scale_of(scaler: Any, optimizers: Sequence[torch.optim.Optimizer]) -> Scale:
    """What a scaler does at this moment; nothing without one.

    `GradScaler.unscale_` may have been called already, for each optimiser by itself; otherwise it comes within
    `GradScaler.step`, before the optimiser's own or, of a fused one, inside it.
    """
    if scaler is None or not getattr(scaler, "is_enabled", lambda: True)():
        return NO_SCALER
    scale = float(scaler.get_scale())
    states = getattr(scaler, "_per_optimizer_states", None) or {}
    stages = {key: getattr(state.get("stage"), "name", "") for key, state in states.items()}
    plain = {key: stage in ("UNSCALED", "STEPPED") for key, stage in stages.items()}
    by = {}
    for optimizer in optimizers:
        by.update(dict.fromkeys(weights_of((optimizer,)), 1.0 if plain.pop(id(optimizer), False) else scale))
    unknown = plain.values()  # of optimisers that nobody gave
    others = scale if not any(unknown) else 1.0 if all(unknown) and not optimizers else math.nan
    growth = getattr(scaler, "_get_growth_tracker", lambda: 0)()
    return Scale(scale, others, by, int(growth), sum(stage == "STEPPED" for stage in stages.values()))


@dataclass
class OwnWeights:
    """The weights of one layer and of none below it.

    Attributes:
        layer: its name. tensors: by their full names. gradient, weight: their numbers; None where there are none.
        underflow: of the gradient's values that are not 0 the share at float16's end; NaN where nobody asked.
        wanting: those that wanted a gradient at any moment of the step: where two networks are trained by turns, each
            is often frozen while the other learns.
    """

    layer: str
    tensors: Mapping[str, nn.Parameter]
    gradient: Reading | None = None
    weight: Reading | None = None
    underflow: float = math.nan
    wanting: set[str] = field(default_factory=set)

    @property
    def wants(self) -> bool:
        """Whether any of them wanted a gradient."""
        return bool(self.wanting)

    @property
    def matrices(self) -> list[str]:
        """Those of two axes or more."""
        return [name for name, tensor in self.tensors.items() if tensor.ndim > 1]


@dataclass
class Moment:
    """Gradients and weights as they were before an update.

    Attributes:
        layers: in the order of the model. scale: of the loss, NaN without a scaler.
        ratios: of each layer the norm of its update by that of its weights; there once the update was seen.
        unchanged: weights of two axes or more that want a gradient and did not change.
        rates: of each group of the optimiser.
        updated: whether any update was seen.
    """

    layers: list[OwnWeights]
    scale: float = math.nan
    ratios: dict[str, float] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    updated: bool = False
    _before: dict[str, Tensor] = field(default_factory=dict)
    _sizes: dict[str, float] = field(default_factory=dict)

    def has_gradients(self) -> bool:
        """Whether there was any gradient that is not 0."""
        found = [each.gradient.statistics for each in self.layers if each.gradient is not None]
        return any(each.nan or each.inf or each.zeros < 1 for each in found)

    def weights(self) -> Set[int]:
        """The `id`s of all of them."""
        return {id(tensor) for each in self.layers for tensor in each.tensors.values()}

    @property
    def matrices(self) -> tuple[str, ...]:
        """The layers that have weights of two axes or more which wanted a gradient."""
        return tuple(each.layer for each in self.layers if each.wanting.intersection(each.matrices))

    @property
    def frozen(self) -> frozenset[str]:
        """The layers whose weights of two axes or more wanted none."""
        wide = [each for each in self.layers if each.matrices]
        return frozenset(each.layer for each in wide if not each.wanting.intersection(each.matrices))

    def keep(self, of: Set[int] | None = None) -> None:
        """Keep a copy of what may change and is not kept yet, to see by how much it does.

        Arguments:
            of: the `id`s of the weights that an update which begins now may change; by default all.
        """
        with torch.no_grad():
            for each in self.layers:
                for name, tensor in each.tensors.items():
                    if tensor.requires_grad and (of is None or id(tensor) in of):
                        each.wanting.add(name)
                        if name not in self._before and name not in self._sizes:
                            self._before[name] = _local(tensor).detach().clone()

    def read_again(
        self, optimizers: Sequence[torch.optim.Optimizer], scaler: Any, scratch: Scratch, *, halves: bool
    ) -> None:
        """Read the gradients of some optimisers' weights, which were not ready when the others were read."""
        of = weights_of(optimizers)
        theirs = [each for each in self.layers if any(id(tensor) in of for tensor in each.tensors.values())]
        newer = [OwnWeights(each.layer, each.tensors) for each in theirs]
        read_moment(newer, scale_of(scaler, optimizers), optimizers, scratch, halves=halves)
        for each, new in zip(theirs, newer, strict=True):
            each.gradient, each.underflow = new.gradient, new.underflow

    def see_update(self, of: Set[int]) -> None:
        """An update has been done: measure it, and let the copies of what it changed go.

        Arguments:
            of: the `id`s of the weights that were updated.
        """
        norms: dict[str, Tensor] = {}
        with torch.no_grad():
            for each in self.layers:
                for name, tensor in each.tensors.items():
                    if name in self._before and id(tensor) in of:
                        away = _local(tensor).detach() - self._before.pop(name)
                        away = torch.view_as_real(away) if away.is_complex() else away
                        norms[name] = torch.linalg.vector_norm(away.reshape(-1), dtype=torch.float64).cpu()
        self._sizes |= {name: float(norm) for name, norm in norms.items()}
        self.updated = True

    def settle(self) -> None:
        """No other update will come: tell how large those were that did."""
        sizes, self._before = self._sizes, {}
        for each in self.layers:
            own = [sizes[name] for name in each.tensors if name in sizes]
            if own and each.weight is not None and each.weight.norm > 0:
                self.ratios[each.layer] = math.sqrt(math.fsum(size**2 for size in own)) / each.weight.norm
        wide = {name for each in self.layers for name in each.matrices}
        # a bias before a normalisation is not felt, and its gradient is rounding
        self.unchanged = tuple(name for name, size in sizes.items() if size == 0 and name in wide)


def own_weights(layers: Iterable[str], every: bool, names: Mapping[nn.Module, str]) -> list[OwnWeights]:
    """The layers' own weights; one that several layers share is the first one's.

    Arguments:
        layers: those that are followed. every: whether all other layers with weights are, too. names: of all modules.
    """
    chosen, seen, found = set(layers), set[int](), []
    for module, name in names.items():
        tensors = {}
        for own, tensor in module._parameters.items() if every or name in chosen else ():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                tensors[f"{name}.{own}".strip(".")] = tensor
        if tensors:
            wanting = {own for own, tensor in tensors.items() if tensor.requires_grad}
            found.append(OwnWeights(name, tensors, wanting=wanting))
    return found


def read_moment(
    own: list[OwnWeights],
    scale: Scale,
    optimizers: Sequence[torch.optim.Optimizer],
    scratch: Scratch,
    *,
    halves: bool,
) -> Moment:
    """Read gradients and weights as they are.

    Arguments:
        scale: of the gradients; those of which it cannot be told are left out.
        halves: whether gradients were computed in float16.
    """
    waiting = []
    with torch.no_grad():
        for each in own:
            known = [tensor for tensor in each.tensors.values() if tensor.grad is not None]
            known = [] if any(math.isnan(scale.of(tensor)) for tensor in known) else known
            gradients = [(_local(tensor.grad), scale.of(tensor)) for tensor in known if tensor.grad is not None]
            laters = [read_later(_divided(gradient, by), scratch) for gradient, by in gradients]
            weights = [read_later(_local(tensor), scratch) for tensor in each.tensors.values()]
            smallest = TWO_STEPS if math.isnan(scale.scale) else TWO_STEPS / scale.scale
            ends = [_at_the_end(gradient, smallest * by) for gradient, by in gradients] if halves else []
            waiting.append((each, laters, weights, ends))
        for each, laters, weights, ends in waiting:
            each.gradient = _together([later() for later in laters])
            each.weight = _together([later() for later in weights])
            low, some = (sum(int(end[place]) for end in ends) for place in (0, 1))
            each.underflow = low / some if some else math.nan
    rates = tuple(float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups if "lr" in group)
    return Moment(own, scale.scale, rates=rates)


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
