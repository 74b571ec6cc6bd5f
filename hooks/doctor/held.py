"""What layers hold that no training is after, in words: a NaN, a variance below 0, weights that are far too large."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.producers import Producer
from hookscope.hooks.passes.operations import SEPARATOR
from hookscope.hooks.results.findings import Curve, Finding, in_digits, join_names

AGAIN = (
    "Load {} again, from a step of the training before it was so, and look for code that writes into it, averages or "
    "rounds it; or let the model see pictures of the training once more in training mode."
)


def held_by(patient: Patient, layer: str) -> tuple[str, str] | None:
    """What of a layer's own makes such values of finite ones, as (cause, advice), each for a sentence; None if nothing.

    Infinite values below 0 in a buffer are masks, and none of it, unless it holds running statistics.

    Arguments:
        layer: or an operation in one.
    """
    name = layer.partition(SEPARATOR)[0]
    module = patient.modules.get(name)
    if module is None:
        return None
    eps = getattr(module, "eps", None)
    added = float(eps) if isinstance(eps, int | float) else 0.0
    for kind, tensor in (*module.named_buffers(recurse=False), *module.named_parameters(recurse=False)):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        values = tensor.detach().flatten()
        nan = int(values.isnan().sum())
        inf = int((values.isinf() if "running" in kind else values == torch.inf).sum())
        if nan or inf:
            return f"its {kind} holds {_not_finite(nan, inf)}", AGAIN.format(kind)
        bad = torch.nonzero(values + added <= 0)[:, 0].tolist() if "var" in kind else []
        if bad:
            where = f"{len(bad):,} of {len(values):,} channels ({join_names([str(channel) for channel in bad])})"
            least = float(values.min())
            said = f"below 0 in {where}, down to {least:.3g}" if least < 0 else f"0 in {where}, and eps is {added:g}"
            return f"its {kind} is {said}: nothing can be divided by the root of that", AGAIN.format(kind)
    if eps is not None and added == 0:
        said = "its eps is 0, so values that do not vary are divided by 0"
        return said, f"Give {name or 'the model'} the eps of its training, mostly 1e-5."
    return None


def far_too_large(patient: Patient, weights: Sequence[tuple[str, Tensor]], line: float) -> Finding | None:
    """Layers of which half the weights, of two axes or more, are beyond a line: a training has diverged.

    Arguments:
        weights: (name, values), in the layers' order.
    """
    many = [(name, tensor.detach().abs()) for name, tensor in weights if tensor.ndim > 1 and tensor.numel()]
    halves = {_layer_of(name): float(tensor.median()) for name, tensor in many}
    largest = {_layer_of(name): float(tensor.max()) for name, tensor in many}
    found = {layer: half for layer, half in halves.items() if line < half < math.inf}
    if not found:
        return None
    worst = max(found, key=lambda layer: found[layer])
    large = [layer for layer, size in largest.items() if size > line]
    return Finding(
        "precision",
        "warning",
        f"The weights of {join_names(large)} are up to {in_digits(max(largest.values()))} in size, and half of those "
        f"of {worst} above {in_digits(found[worst])} (limit {in_digits(line)}): no trained network has such.",
        why="A training that diverged leaves such weights: what is computed with them says nothing.",
        advice="Load the weights of a step before the loss grew, and train on from there with a smaller learning rate.",
        layer=large[0],
        about="layer" if large[0] in patient.modules and large[0] else "model",
        value=found[worst],
        limit=line,
        excess=found[worst] / line,
        evidence=Curve(
            "largest magnitude of each layer's weights",
            tuple(largest),
            np.array(list(largest.values())),
            tuple(place for place, layer in enumerate(largest) if layer in large),
            limit=line,
            logarithmic=True,
        ),
        by_weights=True,
    )


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0] or name


def count_in_weight(patient: Patient, each: Producer) -> str:
    """How many values of the weight that a producer names are not finite, for a sentence."""
    name = f"{each.owner}.{each.weight}".strip(".")
    for known, tensor in (*patient.inner.named_parameters(), *patient.inner.named_buffers()):
        if known == name:
            return _not_finite(int(tensor.isnan().sum()), int(tensor.isinf().sum()), always=True)
    return "values that are not finite"


def name_trail(looked: int, pictures: int) -> str:
    """The title of a trail around a producer: its numbers are of one pass.

    Arguments:
        looked: how many pictures that pass had. pictures: how many there are.

    >>> name_trail(8, 32)
    'values that are not finite in one pass, of 8 of the 32 pictures, in the order of the calls'
    """
    of = f" in one pass, of {looked:,} of the {pictures:,} pictures," if looked < pictures else ","
    return f"values that are not finite{of} in the order of the calls"


def _not_finite(nan: int, inf: int, *, always: bool = False) -> str:
    some = [f"{count:,} {what}" for count, what in ((nan, "NaN"), (inf, "infinite values")) if count]
    return " and ".join(some) or ("0 NaN" if always else "")
