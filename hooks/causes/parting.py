"""Where do two sides part? A and B compared at every call of every layer, from one pass of each.

found = parting(model, working, failing)
first_sentence(found, first_parting(found, parting_calibration(model, photographs)))

A's outputs are kept as they are, and copied where a later layer writes over them; each of B's is compared inside the
hook and let go. A and B are never one batch, so every number equals that of the picture alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.causes.patching import PLAIN, Around
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.axes import Axes, hookable
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import first_names, named_layers
from hookscope.hooks.numbers import compiled, elsewhere
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.looking import Steps, looking
from hookscope.hooks.passes.modes import inspecting, preserve, unwrap
from hookscope.hooks.passes.operations import split_name, tapping
from hookscope.hooks.results.distributions import channel_distances
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.parting import (
    EMPTY,
    Calibration,
    PartedCall,
    Parting,
    Place,
    in_common,
    of_one_architecture,
)

KEPT_BYTES = 1 << 30  # of A's outputs at once; above it each side is run several times
BLOCK = 1 << 15  # values of whole channels that are taken at once
TINY = 1e-24  # mean squares below this lose digits in float32, whose smallest number is 1e-38
Distributions = Literal["all", "unlike", "none"]
See = Callable[[Place, nn.Module, Tensor], None]
Run = Callable[[tuple[Any, ...], See], None]


@dataclass(frozen=True)
class _Kept:
    """One output of A."""

    tensor: Tensor
    version: int
    channel: int | None
    same_as: Place | None


def parting(
    model: nn.Module,
    a: Any,
    b: Any,
    model_b: nn.Module | None = None,
    *,
    layers: Sequence[LayerInfo] = (),
    layers_b: Sequence[LayerInfo] = (),
    distributions: Distributions = "all",
    limit_bytes: int = KEPT_BYTES,
    around: Around = PLAIN,
) -> Parting:
    """How far A and B are apart at every call of every layer, functions included.

    Of an output of several tensors the first is compared. The value is the one that the layer produced, whatever was
    written over it afterwards.

    Arguments:
        a, b: each the model's argument, or a tuple of positional arguments; they are copied.
        model_b: runs B, where that is another model of the same architecture: their layers correspond by name.
        layers, layers_b: what `layers.describe.describe` said of the models, which takes a pass that is saved then.
        distributions: per channel, the distances that do not see positions: of "all" layers, of those whose sizes are
            "unlike" in A and B, which have no other, or of "none". They cost several times what the others cost.
        limit_bytes: what may be kept of A at once.
        around: what is entered for each run of A and of B, such as `edit` with the edits of one of them.

    >>> net, image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.rand(1, 3, 8, 8)
    >>> [(call.layer, call.distance) for call in parting(net, image, image).steps]
    [('0', 0.0), ('1', 0.0)]

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        HooksError: the two models have few layers in common.
    """
    began = time.perf_counter()
    given, given_b = arguments.arguments(a), arguments.arguments(b)
    layers = layers or describe(model, *given)
    other = model if model_b is None else model_b
    if model_b is None:
        layers_b = layers
    else:
        layers_b = layers_b or describe(other, *given_b)
        check_architecture(layers, layers_b)
    found: dict[Place, PartedCall] = {}
    groups = _groups(layers, limit_bytes)
    steps = Steps(len(groups))
    alike = other is model and around == PLAIN  # then hooks that are placed once see both
    for group in groups:
        with around[0](), _watched(model, layers, group) as run:
            kept = _keep(run, given, layers)
            if alike:
                found |= _compare(run, given_b, layers_b, kept, distributions)
        if not alike:
            with around[1](), _watched(other, layers_b, group) as run:
                found |= _compare(run, given_b, layers_b, kept, distributions)
        steps.count(1)
    ordered = _ordered(found, layers, layers_b)
    models = 1 if model_b is None or unwrap(model_b) is unwrap(model) else 2
    return Parting(ordered, models, len(groups), (time.perf_counter() - began) * 1000)


def parting_calibration(model: nn.Module, pictures: Sequence[Any], *, layers: Sequence[LayerInfo] = ()) -> Calibration:
    """The median distance of unrelated pictures at every call of every layer; see `partings_of_pairs`.

    Raises:
        HooksError: there are fewer than two pictures.
    """
    *_, whole = partings_of_pairs(model, pictures, layers=layers)
    return whole


def partings_of_pairs(
    model: nn.Module,
    pictures: Sequence[Any],
    *,
    layers: Sequence[LayerInfo] = (),
    known: MutableMapping[int, Mapping[Place, float]] | None = None,
) -> Iterator[Calibration]:
    """What is known of the calibration after each pair.

    Each picture is compared with the one after it and the last with the first, so every picture is in two pairs. Give
    different photographs: two crops of one are not unrelated.

    Arguments:
        pictures: each the model's argument, or a tuple of positional arguments.
        known: the distances of pairs, by their place from 0, that an earlier call with these pictures had compared when
            it was stopped; they are not compared again. New ones are noted there.

    Raises:
        HooksError: there are fewer than two pictures.
    """
    known = {} if known is None else known
    if len(pictures) < 2:
        raise HooksError(
            f"A calibration compares different pictures with each other, and {len(pictures)} is too few. Give at "
            "least two, better sixteen."
        )
    ring = [(place, (place + 1) % len(pictures)) for place in range(len(pictures))]
    pairs = ring if len(pictures) > 2 else ring[:1]
    layers = layers or describe(model, *arguments.arguments(pictures[0]))
    steps = Steps(len(pairs))
    seen: dict[Place, list[float]] = {}
    for number, (one, other) in enumerate(pairs):
        if number not in known:
            with looking(progress=None):  # a pair is one step here
                pair = parting(model, pictures[one], pictures[other], layers=layers, distributions="none")
            known[number] = {each.place: each.distance for each in pair.calls}
        for place, distance in known[number].items():
            seen.setdefault(place, []).append(distance)
        steps.count(1)
        medians = np.array([_median(values) for values in seen.values()], np.float64)
        names, calls = tuple(name for name, _ in seen), tuple(call for _, call in seen)
        yield Calibration(names, calls, medians, number + 1, len(pairs))


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan


def check_architecture(layers: Sequence[LayerInfo], others: Sequence[LayerInfo]) -> None:
    """Refuse two models that have less than half of their layers in common by name."""
    common, one, other = in_common(layers, others)
    if not of_one_architecture(layers, others):
        raise HooksError(
            f"The two models have {common} layers in common by name, of {one} and {other}, so they are not "
            "of one architecture and no layer of the one belongs to one of the other. Compare their answers instead."
        )


def _groups(layers: Sequence[LayerInfo], limit_bytes: int) -> list[frozenset[str]]:
    """The layers in execution order, in as many groups as it takes for each to keep within the limit."""
    groups: list[set[str]] = [set()]
    taken = 0
    for info in sorted((info for info in layers if info.calls), key=lambda info: info.calls[0].order):
        size = sum(math.prod(call.shape) * _itemsize(call.dtype) for call in info.calls)
        if groups[-1] and taken + size > limit_bytes:
            groups.append(set())
            taken = 0
        groups[-1].add(info.name)
        taken += size
    return [frozenset(group) for group in groups]


def _itemsize(dtype: str) -> int:
    kind = getattr(torch, dtype, None)
    return kind.itemsize if isinstance(kind, torch.dtype) else 4


def _keep(run: Run, given: tuple[Any, ...], layers: Sequence[LayerInfo]) -> dict[Place, _Kept]:
    """A's outputs; a second pass copies those that were written over although the recorded run did not see it."""
    copied = {(info.name, call) for info in layers for call, seen in enumerate(info.calls) if seen.overwritten_by}
    while True:
        kept = _outputs(run, given, layers, copied)
        with torch._C.DisableTorchFunction():
            overwritten = {place for place, each in kept.items() if _version(each.tensor) != each.version} - copied
        if not overwritten:
            return kept
        copied |= overwritten


def _outputs(
    run: Run, given: tuple[Any, ...], layers: Sequence[LayerInfo], copied: Collection[Place]
) -> dict[Place, _Kept]:
    """What one pass gave; copied at some places, and elsewhere as it lies in the model's memory."""
    axes = Axes(layers)
    kept: dict[Place, _Kept] = {}
    last: list[tuple[Tensor, int, Place]] = []

    def keep(place: Place, module: nn.Module, tensor: Tensor) -> None:
        same_as = last[0][2] if last and last[0][0] is tensor and last[0][1] == _version(tensor) else None
        if same_as is None:
            last[:] = [(tensor, _version(tensor), place)]
        copy = place in copied or tensor.is_inference()
        held = kept[same_as].tensor if same_as else tensor.detach().clone() if copy else tensor.detach()
        kept[place] = _Kept(held, _version(held), axes.channel(*place, tensor, module), same_as)

    run(given, keep)
    return kept


def _version(tensor: Tensor) -> int:
    """Changes when something is written in place, into the tensor or a view of it."""
    return -1 if tensor.is_inference() else tensor._version


def _compare(
    run: Run,
    given: tuple[Any, ...],
    layers: Sequence[LayerInfo],
    kept: Mapping[Place, _Kept],
    distributions: Distributions,
) -> dict[Place, PartedCall]:
    """B's outputs against those of A that were kept."""
    found: dict[Place, PartedCall] = {}
    last: list[tuple[Tensor, int, Place]] = []

    def compare(place: Place, module: nn.Module, tensor: Tensor) -> None:
        same = last and last[0][0] is tensor and last[0][1] == _version(tensor) and last[0][2] in found
        one = kept.get(place)
        if one is None:
            found[place] = _without(place, "Only B called it: the model's path depends on its input.")
        elif same and one.same_as == last[0][2]:
            found[place] = replace(found[last[0][2]], layer=place[0], call=place[1], same_as=_written(last[0][2]))
        else:
            found[place] = _distance(place, one.tensor, tensor, one.channel, distributions)
            last[:] = [(tensor, _version(tensor), place)]

    run(given, compare)
    there = {info.name for info in layers if info.calls}
    for place in kept.keys() - found.keys():
        lacks = f"B's model has no layer {place[0]!r} that runs."
        found[place] = _without(
            place, lacks if place[0] not in there else "Only A called it: the model's path depends on its input."
        )
    return found


def _written(place: Place) -> tuple[str, ...]:
    return place[0], str(place[1])


def _without(place: Place, reason: str) -> PartedCall:
    return PartedCall(*place, math.nan, math.nan, math.nan, reason=reason)


@contextlib.contextmanager
def _watched(model: nn.Module, layers: Iterable[LayerInfo], group: frozenset[str]) -> Iterator[Run]:
    """What runs a model and shows the first tensor of every call of the layers in a group."""
    calls: Counter[str] = Counter()
    sees: list[See] = []

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            place = (name, calls[name])
            calls[name] += 1
            with torch._C.DisableTorchFunction():  # where functions are watched, ours are not the model's
                found = nested.first(output)
                if found is not None:
                    sees[-1](place, module, found[1])

        return look

    with inspecting(model) as inner, preserve(inner) as put_back:
        modules = named_layers(inner)
        chosen = {name: module for name, module in hookable(modules).items() if name in group}
        functions = {info.name: split_name(info.name) for info in layers if info.operation and info.name in group}
        chosen |= {name: modules[parts[0]] for name, parts in functions.items() if parts and parts[0] in modules}

        def run(given: tuple[Any, ...], see: See) -> None:
            if sees:
                calls.clear()
                with torch._C.DisableTorchFunction():
                    put_back()
            sees.append(see)
            inner(*nested.private(given, requires_grad=False))

        with tapping(chosen, first_names(inner), hook_of), cancelling():
            yield run


def _distance(
    place: Place, one: Tensor, other: Tensor, channel: int | None, distributions: Distributions
) -> PartedCall:
    a, b = real(one), real(other).to(one.device)
    like = a.shape == b.shape
    wasserstein = smirnov = EMPTY
    if distributions == "all" or (distributions == "unlike" and not like):
        wasserstein, smirnov = _position_blind(a, b, channel)
    if not like:
        sizes = (" x ".join(map(str, each.shape)) or "one number" for each in (a, b))
        reason = f"A is {next(sizes)} here and B {next(sizes)}, so no value of the one belongs to one of the other."
        return replace(_without(place, reason), wasserstein=wasserstein, smirnov=smirnov)
    if not a.numel():
        return _without(place, "There is no value here.")
    left_out = unlike = 0
    squares = _squares(a, b, channel)
    sums = squares.sum(1)
    if not np.isfinite(sums).all():
        both = a.isfinite() & b.isfinite()
        left_out = int((~both).sum())
        unlike = int((~both & (a != b) & ~(a.isnan() & b.isnan())).sum())
        if left_out == a.numel():
            reason = "Every value is NaN or infinite on one side, so there is no distance."
            return replace(_without(place, reason), left_out=left_out, unlike=unlike)
        zero = torch.zeros((), dtype=torch.float64, device=a.device)  # wide: what is left may be very large
        squares = _squares(torch.where(both, a.double(), zero), torch.where(both, b.double(), zero), channel)
        sums = squares.sum(1)
    of_a, of_b, apart = map(math.sqrt, sums.tolist())
    share = (squares[2] / sums[2]).astype(np.float32) if apart and channel is not None else EMPTY
    return PartedCall(
        *place,
        distance=2 * apart / (of_a + of_b) if apart else 0.0,
        cosine=_cosine(of_a, of_b, apart),
        sqnr=math.inf if not apart else 20 * math.log10(of_a / apart) if of_a else -math.inf,
        share=share,
        wasserstein=wasserstein,
        smirnov=smirnov,
        left_out=left_out,
        unlike=unlike,
    )


def _cosine(of_a: float, of_b: float, apart: float) -> float:
    """1 - a.b / (|a| |b|), by |a - b|: a product of nearly equal vectors would lose all its digits."""
    if not apart:
        return 0.0
    return max((apart**2 - (of_a - of_b) ** 2) / (2 * of_a * of_b), 0.0) if of_a and of_b else math.nan


def _squares(a: Tensor, b: Tensor, channel: int | None) -> np.ndarray:
    """The sums of squares of A, B and their difference, float64 (3, channel).

    On an accelerator they are taken there. Here by one compiled loop where there is one, else by numpy: in rows that
    stay in the processor's cache, and as products of vectors in their own precision, for a norm in float64 takes a
    hundred times as long. What leaves the range of float32 is then taken in float64.
    """
    rows_a, rows_b = _rows(a, channel), _rows(b, channel)
    if elsewhere.lies_there(rows_a):
        wide_a, wide_b = rows_a.double(), rows_b.double()
        sums = torch.stack([each.square().sum(1) for each in (wide_a, wide_b, wide_a - wide_b)])
        squared: np.ndarray = sums.cpu().numpy()
        return squared
    if compiled.usable(rows_a) and compiled.usable(rows_b):
        return compiled.squares(rows_a, rows_b).T
    one, other = rows_a.cpu().numpy(), rows_b.cpu().numpy()
    found = np.zeros((3, len(one)))
    rows = max(BLOCK // max(one.shape[1], 1), 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(one), rows):
            first, second = one[start : start + rows], other[start : start + rows]
            for number, each in enumerate((first, second, first - second)):
                found[number, start : start + rows] = np.vecdot(each, each)
    lost = found.max() < TINY * a.numel() and (one.any() or other.any())
    if a.dtype != torch.float64 and (lost or not np.isfinite(found).all()):
        return _squares(a.double(), b.double(), channel)
    return found


def _rows(values: Tensor, channel: int | None) -> Tensor:
    """(channel, position); all values as one channel where no axis is that of the channels."""
    if channel is None:
        return values.reshape(1, -1)
    return values.movedim(channel, 0).reshape(values.shape[channel], -1)


def _position_blind(a: Tensor, b: Tensor, channel: int | None) -> tuple[np.ndarray, np.ndarray]:
    if channel is None or a.ndim != b.ndim or a.shape[channel] != b.shape[channel]:
        return EMPTY, EMPTY
    rows, others = (_rows(each, channel).cpu().contiguous() for each in (a, b))
    if compiled.usable(rows) and compiled.usable(others):
        wasserstein, smirnov = compiled.distances(rows, others)
    else:
        wasserstein, smirnov = channel_distances(rows.numpy(), others.numpy())
    return wasserstein.astype(np.float32), smirnov.astype(np.float32)


def _ordered(
    found: Mapping[Place, PartedCall], layers: Sequence[LayerInfo], layers_b: Sequence[LayerInfo]
) -> tuple[PartedCall, ...]:
    """In the order in which the calls ended in A's recorded run; what happened only otherwise comes last."""
    order: dict[Place, int] = {}
    for each in (layers_b, layers):
        order |= {(info.name, number): call.order for info in each for number, call in enumerate(info.calls)}
    return tuple(sorted(found.values(), key=lambda call: order.get(call.place, len(order))))
