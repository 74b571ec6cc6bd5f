"""What rules about channels, values and borders need beside `Patient.seen`: from which layers a layer is fed, and some
of the values that layers gave for a few pictures. Both are found once and kept with the patient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.layer_batch import Plan, Plans
from hookscope.hooks.datasets.summarising import is_activation
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.layers.names import first_names, select
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.operations import SEPARATOR, flat, is_whole, tapping
from hookscope.hooks.results.findings import SEVERITIES, Curve, Finding

Place = tuple[str, int]  # a layer or operation, and its call
PICTURES = 8  # that are looked at here, evenly spread over the set
POSITIONS = 64  # of each picture's that are drawn from a layer
MOST = 8  # layers that share a fault and are told one by one
ENDS = ("relu", "relu6", "gelu", "silu", "hardswish", "mish", "sigmoid", "tanh", "hardtanh", "hardsigmoid")
CHANNELS = 4096  # of a layer that are drawn from at most: quadratic work follows


@dataclass(frozen=True)
class Fed:
    """One call of a layer or operation, and what it was given.

    Attributes:
        module: the layer, or the one in which the operation happens. sources: the calls whose outputs it was given,
            as far as they are layers or operations, each once.
        function: whether it is an operation. given: how many tensors it was given. output: the shape of what it gave.
        kind: of a layer of somebody's own, which ends with an activation function: its name, as "relu"; else "".
    """

    module: nn.Module
    sources: tuple[Place, ...]
    function: bool
    given: int
    output: tuple[int, ...]
    kind: str = ""


@dataclass
class Maps:
    """Sums over pictures of a layer's maps, where positions lie on the picture.

    Attributes:
        total: float32 (channel, height, width), of values.
        squares: float64 (channel,), of the squares of those inside the outermost ring of positions.
        count: over how many pictures.
    """

    total: Tensor
    squares: Tensor
    count: int = 0


@dataclass
class Drawn:
    """What one call of a layer gave for some pictures.

    Attributes:
        values: float32 (channel, value): of each picture the same few positions. maps: None without positions.
        parts: the same values, batch by batch.
    """

    values: np.ndarray | None = None
    maps: Maps | None = None
    parts: list[np.ndarray] = field(default_factory=list)


def names_of(patient: Patient) -> list[str]:
    """Every layer without children and every operation that ran, in execution order."""
    found = [layer.name for layer in patient.layers if layer.calls and (layer.operation or (layer.leaf and layer.name))]
    return found or list(select(patient.model, "*"))


def feeding(patient: Patient) -> dict[Place, Fed]:
    """What fed each call, from a pass of one picture; in execution order."""
    kept = patient.found.get("probe: feeding")
    if kept is not None:
        return kept  # type: ignore[return-value]
    chosen = select(patient.model, names_of(patient))
    names = first_names(patient.model)
    ends = _own_ends(chosen, names)
    writer: dict[tuple[int, int], Place] = {}
    within: dict[tuple[int, int], tuple[str, tuple[Place, ...]]] = {}  # what these functions gave, and of what
    held: list[Any] = []  # so that no memory is used twice
    found: dict[Place, Fed] = {}

    def hook_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def note(module: nn.Module, args: Any, output: Any) -> None:
            given = [value for value in flat(args) if isinstance(value, Tensor)]
            sources = dict.fromkeys(writer[key] for key in map(_key, given) if key in writer)
            for _, tensor in nested.tensors(output):
                within[_key(tensor)] = ends[name], tuple(sources)
                held.append(tensor)

        def look(module: nn.Module, args: Any, output: Any) -> None:
            place = name, next(calls)
            given = [value for value in flat(args) if isinstance(value, Tensor)]
            sources = dict.fromkeys(writer[key] for key in map(_key, given) if key in writer)
            first = nested.first(output)
            shape = tuple(first[1].shape) if first else ()
            function = names.get(module) != name
            kind = ""
            if first and not function and (ended := within.get(_key(first[1]))) is not None:
                kind, sources = ended[0], dict.fromkeys(ended[1] or tuple(sources))
            found[place] = Fed(module, tuple(sources), function, len(given), shape, kind)
            for _, tensor in nested.tensors(output):
                writer[_key(tensor)] = place
                held.append(tensor)

        return note if name in ends else look

    for inner, picture in patient.runs([patient.batches[0][:1]]):
        with tapping({**chosen, **{name: chosen[name.rpartition(SEPARATOR)[0]] for name in ends}}, names, hook_of):
            inner(nested.private(picture, requires_grad=False))
    patient.found["probe: feeding"] = found
    return found


def _own_ends(chosen: Mapping[str, nn.Module], names: Mapping[nn.Module, str]) -> dict[str, str]:
    """Activation functions with which a layer of somebody's own may end, by the names of these operations.

    An operation that gives its layer's output is not listed beside the layer.
    """
    found = {}
    for name, module in chosen.items():
        if names.get(module) == name and name and not is_whole(module) and not is_activation(module):
            operations = {f"{name}{SEPARATOR}{kind}": kind for kind in ENDS}
            found.update({name: kind for name, kind in operations.items() if name not in chosen})
    return found


def _key(tensor: Tensor) -> tuple[int, int]:
    return nested.memory(tensor), tensor.numel()


def some_pictures(patient: Patient, count: int = PICTURES) -> Iterator[Tensor]:
    """Batches of pictures that lie evenly among all."""
    wanted = set(np.linspace(0, patient.pictures - 1, min(count, patient.pictures)).round().astype(int).tolist())
    start = 0
    for batch in patient.batches:
        inside = [number - start for number in range(start, start + len(batch)) if number in wanted]
        if inside:
            yield batch[inside]
        start += len(batch)


def drawn(patient: Patient, wanted: Collection[Place]) -> dict[Place, Drawn]:
    """Some values of calls over a few pictures.

    Arguments:
        wanted: which calls; those that ask later get what the first one asked for.
    """
    kept = patient.found.get("probe: drawn")
    if kept is not None:
        return kept  # type: ignore[return-value]
    chosen = select(patient.model, sorted({place for place, _ in wanted}))
    names = first_names(patient.model)
    plans = Plans(Axes(patient.layers))
    found: dict[Place, Drawn] = {}
    some = list(some_pictures(patient))
    for inner, pictures in patient.runs(some):
        looks = _Looks(plans, found, len(pictures))
        with tapping(chosen, names, looks.hook_of):
            inner(nested.private(pictures, requires_grad=False))
    for each in found.values():
        if each.parts:
            each.values = np.concatenate(each.parts, 1)
            each.parts = []
    patient.found["probe: drawn"] = found
    return found


class _Looks:
    def __init__(self, plans: Plans, found: dict[Place, Drawn], pictures: int) -> None:
        self.plans, self.found, self.pictures = plans, found, pictures

    def hook_of(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        calls = iter(range(1 << 62))

        def look(module: nn.Module, args: Any, output: Any) -> None:
            place = name, next(calls)
            first = nested.first(output)
            if first is not None:
                plan = self.plans.of(*place, module, first[1])
                rows = _rows(plan, first[1], self.pictures)
                if rows is not None:
                    self.take(self.found.setdefault(place, Drawn()), rows, plan)

        return look

    def take(self, known: Drawn, rows: Tensor, plan: Plan) -> None:
        pictures, channels, positions = rows.shape
        step = max(1, positions // POSITIONS)
        part = rows[:, :CHANNELS, ::step][..., :POSITIONS].permute(1, 0, 2).reshape(min(channels, CHANNELS), -1)
        known.parts.append(part.float().cpu().numpy())
        columns = plan.layout.columns
        if columns >= 5 and (positions - plan.layout.before) >= 5 * columns:
            maps = rows[..., plan.layout.before :].reshape(pictures, channels, -1, columns)
            total = maps.sum(0)
            squares = torch.linalg.vector_norm(maps[..., 1:-1, 1:-1], dim=(0, 2, 3)).double() ** 2
            if known.maps is None:
                known.maps = Maps(total, squares)
            elif known.maps.total.shape == total.shape:
                known.maps.total += total
                known.maps.squares += squares
            else:
                return  # pictures of another size
            known.maps.count += pictures


def _rows(plan: Plan, tensor: Tensor, pictures: int) -> Tensor | None:
    if plan.image is None or plan.channel is None or tensor.shape[plan.image] != pictures or not tensor.numel():
        return None
    values = real(tensor)
    if (plan.image, plan.channel) != (0, 1):
        values = values.movedim((plan.image, plan.channel), (0, 1))
    return values.reshape(*values.shape[:2], -1) if values.ndim != 3 else values


def at_most(findings: list[Finding], have: str) -> list[Finding]:
    """Findings of one rule, each about a layer; where more than 8 are as severe, one that stands for them.

    Arguments:
        have: what is the matter with the layers, as the end of a sentence: "have dead channels".
    """
    kept: list[Finding] = []
    for severity in SEVERITIES:
        same = [each for each in findings if each.severity == severity]
        if len(same) <= MOST:
            kept += same
            continue
        first = same[0]
        values = np.array([each.value for each in same])
        evidence = Curve("in each of these layers, in their order", tuple(each.layer for each in same), values)
        sentence = f"{first.sentence[:-1]}, and {len(same) - 1:,} layers after it {have}, too."
        excess = max(each.excess for each in same)
        kept.append(replace(first, sentence=sentence, evidence=evidence, excess=excess))
    return kept
