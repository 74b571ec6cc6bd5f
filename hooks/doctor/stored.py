"""What BatchNorms store of their inputs, and how far from it is what they are given.

The distance of a channel is the mean of the two Kullback-Leibler divergences between a normal distribution of the
stored mean and variance and one of those that the channel has over the pictures; a layer's shift is the median of its
channels' distances.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.doctor.patient import CannotTell, Patient
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.passes.registry import hook

POSITIONS = 1 << 14  # of each map that are read, evenly spread; smaller maps are read whole
LEFT = 0.005  # of what a BatchNorm began with: 51 batches at a momentum of 0.1
BEFORE = 3  # layers with weights that may lie between the pictures and the first BatchNorm


@dataclass(frozen=True)
class Stored:
    """What one BatchNorm stores.

    Attributes:
        name: its dotted name. module: itself. mean, variance: float64 (channel,). eps: what it adds to the variance.
    """

    name: str
    module: nn.Module
    mean: np.ndarray
    variance: np.ndarray
    eps: float

    @property
    def initial(self) -> bool:
        """Whether it has seen nothing: mean 0 and variance 1 in every channel.

        The count of batches is not asked: weights that were converted have 0 there.
        """
        return bool((self.mean == 0).all() and (self.variance == 1).all())

    @property
    def unsettled(self) -> str:
        """Why its statistics say little yet, as a part of a sentence; "" if they do, or nobody counted.

        With every batch they keep 1 - momentum of what they were, a mean of 0 and a variance of 1 at first.
        """
        counted, momentum = getattr(self.module, "num_batches_tracked", None), getattr(self.module, "momentum", None)
        if not isinstance(counted, Tensor) or counted.numel() != 1 or not isinstance(momentum, float):
            return ""
        batches = int(counted)
        left = (1 - momentum) ** batches
        if batches <= 0 or left <= LEFT:
            return ""
        if (self.variance < left).any():  # none of that 1 is left: they are a plain mean, as `update_bn` has it
            return ""
        seen = "1 batch" if batches == 1 else f"{batches} batches"
        return f"{self.name} has seen only {seen}, and {left:.1%} of what it stored is still what it began with"


@dataclass
class Seen:
    """Moments of what one BatchNorm was given, about its stored mean, over all pictures so far.

    Attributes:
        about: float64 (channel,). count: values of each channel. sums, squares: float64 (channel,).
    """

    about: np.ndarray
    count: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, values: Tensor) -> None:
        """Count values (picture, channel, ...) in."""
        values = values.dequantize() if values.is_quantized else values
        flat = values.detach().flatten(2) if values.ndim > 2 else values.detach()[:, :, None]
        step = _step(flat.shape[2], values.shape[-1])
        some = flat[:, :, ::step].double() - torch.from_numpy(self.about).to(flat.device)[:, None]
        if not self.count:
            self.sums, self.squares = np.zeros(len(self.about)), np.zeros(len(self.about))
        self.count += some.shape[0] * some.shape[2]
        self.sums = self.sums + some.sum((0, 2)).cpu().numpy()
        self.squares = self.squares + some.square_().sum((0, 2)).cpu().numpy()

    @property
    def mean(self) -> np.ndarray:
        """Float64 (channel,)."""
        return np.asarray(self.about + self.sums / self.count)

    @property
    def variance(self) -> np.ndarray:
        """Float64 (channel,), the population's."""
        with np.errstate(invalid="ignore", over="ignore"):  # what it was given may not be finite
            return np.maximum(self.squares / self.count - (self.sums / self.count) ** 2, 0)


def _step(positions: int, columns: int) -> int:
    step = -(-positions // POSITIONS)
    while step > 1 and np.gcd(step, max(columns, 1)) > 1:  # or one column of each map would be read alone
        step += 1
    return step


def divergences(stored: Stored, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Float64 (channel,), the distance of each, 0 to infinity; NaN where a number is not finite.

    >>> one = Stored("", nn.Identity(), np.zeros(1), np.ones(1), 0.0)
    >>> divergences(one, np.ones(1), np.ones(1)), divergences(one, np.zeros(1), np.full(1, 4.0))
    (array([0.5]), array([0.5625]))
    """
    ours, theirs = variance + stored.eps, stored.variance + stored.eps
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.asarray(
            0.25 * (ours / theirs + theirs / ours - 2 + (mean - stored.mean) ** 2 * (1 / ours + 1 / theirs))
        )


def shift_of(stored: Stored, mean: np.ndarray, variance: np.ndarray) -> float:
    """The median of the channels' distances; NaN where none is finite."""
    return median_of(divergences(stored, mean, variance))


def median_of(each: np.ndarray) -> float:
    """The median of channels' distances, NaN left aside; NaN where there is no other."""
    each = each[~np.isnan(each)]
    return float(np.median(each)) if len(each) else float("nan")


def find_stored(patient: Patient) -> dict[str, Stored]:
    """The model's BatchNorms by name, whatever their types: what holds a mean and a variance for each channel."""
    found = patient.found.get("what BatchNorms store")
    if isinstance(found, dict):
        return found
    read = {name: one for name, module in patient.modules.items() if (one := _read(name, module)) is not None}
    patient.found["what BatchNorms store"] = read
    return read


def _read(name: str, module: nn.Module) -> Stored | None:
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):  # its variance is that within single pictures
        return None
    mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return None
    if mean.ndim != 1 or mean.shape != variance.shape or not len(mean):
        return None
    arrays = [each.detach().cpu().double().numpy().copy() for each in (mean, variance)]
    return Stored(name, module, arrays[0], arrays[1], float(getattr(module, "eps", 1e-5)))


# --- passes


class _Enough(BaseException):
    """Ends a pass that has reached what it was made for; no `Exception`, which a model might catch."""


def _given(args: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    found = nested.first([*args, *kwargs.values()])
    return None if found is None else found[1]


def watch(
    patient: Patient,
    stored: Mapping[str, Stored],
    batches: Iterable[Tensor] | None = None,
    *,
    ends: bool = False,
    by_batch: bool = False,
) -> dict[str, Seen]:
    """What BatchNorms are given over all pictures; those that did not run are left out.

    Arguments:
        batches: other pictures than the patient's. ends: whether a pass ends when all of them have run once.
        by_batch: have every BatchNorm of the model normalise by the batch, where it can, so that what one is given owes
            nothing to what those before it have stored.
    """
    found: dict[str, Seen] = {}
    everyone = find_stored(patient)
    for model, pictures in patient.runs(batches):
        waiting = set(stored)
        with contextlib.ExitStack() as stack:
            for name in [*everyone] if by_batch else [*stored]:
                one = everyone[name]

                def look(module: nn.Module, args: Any, kwargs: Any, one: Stored = one) -> None:
                    values = _given(args, kwargs)
                    if values is None or values.ndim < 2 or values.shape[1] != len(one.mean):
                        return
                    if one.name in stored:
                        found.setdefault(one.name, Seen(one.mean)).add(values)
                        waiting.discard(one.name)  # noqa: B023
                    if by_batch:
                        module.training = _can_train(module) and values.numel() > len(one.mean)
                    if ends and not waiting:  # noqa: B023
                        raise _Enough

                stack.enter_context(hook(one.module, "forward_pre", look, layer=name))
            with contextlib.suppress(_Enough):
                model(pictures.clone())
    return found


def _can_train(module: nn.Module) -> bool:
    batchnorm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return batchnorm and not isinstance(module, nn.SyncBatchNorm)  # which would ask other processes


def shifts(stored: Mapping[str, Stored], seen: Mapping[str, Seen]) -> dict[str, float]:
    """The shift of each that was seen."""
    return {name: shift_of(stored[name], one.mean, one.variance) for name, one in seen.items()}


def distances_as_given(patient: Patient) -> dict[str, np.ndarray]:
    """The distance of each channel of every BatchNorm that ran, in the order in which they did.

    Where what a BatchNorm is given is just what another layer returned, the numbers of the pass that all rules share
    are taken; only of the others a pass of its own is made.
    """
    kept = patient.found.get("distances at BatchNorms")
    if isinstance(kept, dict):
        return kept
    stored = find_stored(patient)
    found: dict[str, np.ndarray] = {}
    unknown = {}
    for name, source in _sources(patient, stored).items():
        found[name] = np.zeros(0)
        numbers = None if source is None else _of_source(patient, *source)
        if numbers is None or len(numbers[0]) != len(stored[name].mean):
            unknown[name] = stored[name]
        else:
            found[name] = divergences(stored[name], *numbers)
    if unknown:
        found |= {
            name: divergences(stored[name], one.mean, one.variance) for name, one in watch(patient, unknown).items()
        }
    found = {name: each for name, each in found.items() if np.isfinite(each).any()}
    patient.found["distances at BatchNorms"] = found
    return found


def shifts_as_given(patient: Patient) -> dict[str, float]:
    """The shift of every BatchNorm that ran, in the order in which they did."""
    return {name: median_of(each) for name, each in distances_as_given(patient).items()}


def _of_source(patient: Patient, layer: str, call: int) -> tuple[np.ndarray, np.ndarray] | None:
    for each in patient.seen.statistics:
        if (each.layer, each.call) == (layer, call):
            channels = each.statistics.channels
            if not channels or each.statistics.nan or each.statistics.inf:
                return None
            return channels["mean"], channels["std"] ** 2
    return None


def _sources(patient: Patient, stored: Mapping[str, Stored]) -> dict[str, tuple[str, int] | None]:
    """Of each BatchNorm that runs, whose output it is given, where that is a layer's or an operation's; else None."""
    names = first_names(patient.model)
    looked = {each.layer for each in patient.seen.statistics}
    chosen = {}
    for layer in patient.layers:
        if layer.name in looked:
            module = patient.modules.get(layer.name.rpartition("/")[0] if layer.operation else layer.name)
            if module is not None:
                chosen[layer.name] = module
    last: dict[int, tuple[Tensor, int, tuple[str, int]]] = {}  # the tensor is kept: no other one gets its id
    found: dict[str, tuple[str, int] | None] = {}

    def hook_of(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, output: Any) -> None:
            place = layer, next(calls)
            if (value := nested.first(output)) is not None:
                last[id(value[1])] = value[1], value[1]._version, place

        return look

    for model, pictures in patient.runs([patient.batches[0][:1]]):
        with contextlib.ExitStack() as stack:
            for name, one in stored.items():

                def before(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                    values = _given(args, kwargs)
                    if values is None:
                        return
                    known = last.get(id(values))
                    # a token axis may be taken for channels; and of several calls each has its own statistics
                    plain = values.ndim in (2, 4, 5) and name not in found
                    same = known is not None and known[0] is values and known[1] == values._version
                    found[name] = known[2] if known is not None and same and plain else None

                stack.enter_context(hook(one.module, "forward_pre", before, layer=name))
            with tapping(chosen, names, hook_of):
                model(pictures.clone())
    return found


def first_stored(patient: Patient) -> Stored:
    """The first BatchNorm, where only layers of weights, activations and pooling lie between it and the pictures.

    Raises:
        CannotTell: there is none.
    """
    stored = find_stored(patient)
    kinds: list[nn.Module] = []
    first: list[Stored] = []
    for model, pictures in patient.runs([patient.batches[0][:1]]):
        with contextlib.ExitStack() as stack:
            for name, module in patient.modules.items():
                if name in stored:

                    def reached(module: nn.Module, args: Any, kwargs: Any, one: Stored = stored[name]) -> None:
                        first.append(one)
                        raise _Enough

                    stack.enter_context(hook(module, "forward_pre", reached, layer=name))
                elif not any(True for _ in module.children()):

                    def passed(module: nn.Module, args: Any, kwargs: Any) -> None:
                        kinds.append(module)

                    stack.enter_context(hook(module, "forward_pre", passed, layer=name))
            with contextlib.suppress(_Enough):
                model(pictures.clone())
    without = _why_not_near(patient, first[0] if first else None, kinds)
    if without:
        raise CannotTell(
            f"{without}, so the model stores nothing of its inputs: this cannot be told without a baseline, which "
            "`hookscope check --update-baseline` or `hs.Baseline` makes while all is well."
        )
    if first[0].initial:
        raise CannotTell(
            f"The first BatchNorm ({first[0].name}) has never seen a picture: its mean is 0, its variance 1."
        )
    return first[0]


def _why_not_near(patient: Patient, first: Stored | None, kinds: list[nn.Module]) -> str:
    if first is None:
        return "There is no BatchNorm with stored statistics in it that runs"
    for module in kinds:
        kind = type(module).__name__
        if "Norm" in kind or "Attention" in kind:
            return f"Before its first BatchNorm ({first.name}) there is a {kind}"
    weighted = sum(any(True for _ in module.parameters()) for module in kinds)
    if weighted > BEFORE:
        return f"Its first BatchNorm ({first.name}) lies behind {weighted} layers with weights"
    return ""


def spread_over_layers(found: Mapping[str, float]) -> float:
    """The geometric mean of the shifts of all layers: it tells by how much all of them are off."""
    return float(np.exp(np.log(np.array(list(found.values())) + 0.003).mean()))
