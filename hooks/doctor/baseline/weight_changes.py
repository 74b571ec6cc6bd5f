"""What became of a model's weights since a baseline was written, layer by layer, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from hookscope.hooks.doctor.baseline.marks import Change, by_layer, change_of, swapped, weights_of
from hookscope.hooks.doctor.initial import look_at
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.results.reference import Reference

NORMS = nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm
NAMED = 3  # layers that a sentence describes
CHANNELS = 6  # that it names


@dataclass(frozen=True)
class Changes:
    """What became of the weights, sorted by what it is; each (layer -> its changes) in execution order.

    Attributes:
        rounded: to bfloat16 or float16. statistics: of BatchNorms, where no weight is another. head: the rows of the
            last layer with weights, in another order. others: all else. layers: how many layers have weights.
    """

    rounded: Mapping[str, Sequence[Change]]
    statistics: Mapping[str, Sequence[Change]]
    head: Mapping[str, Sequence[Change]]
    others: Mapping[str, Sequence[Change]]
    layers: int

    @property
    def order(self) -> tuple[int, ...]:
        """Of each row of the head, which of the baseline's it is; () if it is not in another order."""
        return next((each.order for changes in self.head.values() for each in changes), ())

    def __bool__(self) -> bool:
        return bool(self.rounded or self.statistics or self.head or self.others)


def changes_of(patient: Patient, reference: Reference, ran: Sequence[str]) -> Changes:
    """What became of each weight.

    Arguments:
        ran: the layers in execution order.
    """
    stored = {each.name: index for index, each in enumerate(reference.told.tensors)}
    own = first_names(patient.inner)
    names = {name: own.get(module, name) for name, module in patient.inner.named_modules(remove_duplicate=False)}
    found: list[Change] = []
    holders: dict[str, None] = {}
    for weight in weights_of(patient.inner):
        holders[names.get(weight.layer, weight.layer)] = None
        index = stored.get(weight.name)
        if index is None:
            continue
        told = reference.told.tensors[index]
        change = change_of(weight, told, reference.rows_of(index), reference.sample_of(index))
        if change is not None:
            layer = names.get(change.layer, change.layer)
            found.append(Change(change.name, layer, *_rest(change)))
    places = {layer: place for place, layer in reversed(list(enumerate(ran)))}
    order = sorted(holders, key=lambda layer: (_place(layer, places), list(holders).index(layer)))
    grouped = by_layer(found)
    grouped = {layer: grouped[layer] for layer in order if layer in grouped}
    trained = any(each.how not in ("bfloat16", "float16", "buffer", "order") for each in found)
    last = next((layer for layer in reversed(ran) if layer in holders), None)
    groups: dict[str, dict[str, list[Change]]] = {"rounded": {}, "statistics": {}, "head": {}, "others": {}}
    for layer, changes in grouped.items():
        hows = {each.how for each in changes}
        if hows <= {"bfloat16", "float16"}:
            kind = "rounded"
        elif hows == {"order"} and layer == last and len({each.order for each in changes}) == 1:
            kind = "head"
        elif hows <= {"buffer", "bfloat16", "float16"} and not trained:
            kind = "statistics"
        else:
            kind = "others"
        groups[kind][layer] = changes
    if groups["statistics"] and groups["rounded"] and _counted_only(groups["statistics"]):
        groups["rounded"] |= groups.pop("statistics")
        groups["statistics"] = {}
    return Changes(**groups, layers=len(holders))


def _rest(change: Change) -> tuple[str, tuple[int, ...], int, tuple[int, ...], float]:
    return change.how, change.rows, change.among, change.order, change.by


def _place(layer: str, places: Mapping[str, int]) -> int:
    """Where a layer runs; one that was never seen itself, where the layers of the module that holds it begin."""
    while layer not in places and layer:
        inside = [place for name, place in places.items() if name.startswith(f"{layer}.")]
        if inside:
            return min(inside)
        layer = layer.rpartition(".")[0]
    return places.get(layer, -1)


def _counted_only(groups: Mapping[str, Sequence[Change]]) -> bool:
    """Whether nothing but the number of batches is another."""
    return all(each.name.endswith("num_batches_tracked") for changes in groups.values() for each in changes)


# --- in words


def describe_layers(patient: Patient, groups: Mapping[str, Sequence[Change]]) -> str:
    """What became of the first few layers of a group, and how many more there are."""
    said = [describe_layer(patient, layer, changes) for layer, changes in list(groups.items())[:NAMED]]
    more = len(groups) - NAMED
    return "; ".join(said) + (f"; and {more} more layers are others" if more > 0 else "")


def describe_layer(patient: Patient, layer: str, changes: Sequence[Change]) -> str:
    """What became of one layer: "channel 5 of conv1 is zeroed"."""
    called = layer or "the model's own parameters"
    by_kind = {how: [each for each in changes if each.how == how] for how in {each.how for each in changes}}
    if _is_new(patient, layer, changes):
        return f"{called} looks re-initialised: nothing is left of what it held"
    if "replaced" in by_kind:
        return f"{called} holds other weights: {by_kind['replaced'][0].name} has nothing in common with the baseline's"
    if "zeroed" in by_kind:
        first = max(by_kind["zeroed"], key=lambda each: len(each.rows))
        be = "is" if len(first.rows) == 1 else "are"
        return f"{say_channels(first.rows, first.among)} in {called} {be} zeroed"
    if "rows" in by_kind:
        first = max(by_kind["rows"], key=lambda each: len(each.rows))
        be = "is another" if len(first.rows) == 1 else "are others"
        return f"{say_channels(first.rows, first.among)} in {called} {be}"
    if "order" in by_kind:
        pairs = swapped(by_kind["order"][0].order)
        return f"the channels of {called} are in another order ({len(pairs)} of {by_kind['order'][0].among})"
    if "scaled" in by_kind:
        return f"{by_kind['scaled'][0].name} is multiplied by {by_kind['scaled'][0].by:.6g}"
    if "moved" in by_kind:
        far = max(each.by if np.isfinite(each.by) else 0.0 for each in by_kind["moved"])
        share = f" by {far:.2%} of their norm" if far else ""
        return f"the weights of {called} have moved{share}"
    if "buffer" in by_kind:
        return f"the statistics of {called} have moved"
    return f"the weights of {called} are rounded to {next(iter(by_kind))}"


def say_channels(rows: Sequence[int], among: int) -> str:
    """Channels for a sentence: "channel 5 of 64", "channels 1, 2 and 3 more of 64"."""
    if len(rows) == 1:
        return f"channel {rows[0]} of {among:,}"
    named = ", ".join(map(str, rows[:CHANNELS]))
    more = f" and {len(rows) - CHANNELS:,} more" if len(rows) > CHANNELS else ""
    return f"channels {named}{more} of {among:,}"


def _is_new(patient: Patient, layer: str, changes: Sequence[Change]) -> bool:
    """Whether a layer's weights are as an initialisation makes them, and are others than they were."""
    module = patient.modules.get(layer)
    if isinstance(module, NORMS):
        return _at_beginning(module) and any(each.how in ("replaced", "moved", "zeroed", "rows") for each in changes)
    replaced = [each for each in changes if each.how == "replaced"]
    if not replaced:
        return False
    state = patient.inner.state_dict()
    return all(look_at(state[each.name]).verdict != "trained" for each in replaced)


def _at_beginning(norm: nn.Module) -> bool:
    """Whether a normalisation is as it was made: 1, 0, and statistics 0 and 1."""
    wanted = {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}
    held: dict[str, Any] = {name: getattr(norm, name, None) for name in wanted}
    return all(bool(held[name].eq(value).all()) for name, value in wanted.items() if held[name] is not None)


def reset_statistics(patient: Patient, groups: Mapping[str, Sequence[Change]]) -> bool:
    """Whether the statistics that have moved are back at 0 and 1."""
    norms: list[Any] = [patient.modules[layer] for layer in groups if layer in patient.modules]
    known = [each for each in norms if getattr(each, "running_mean", None) is not None]
    return bool(known) and all(
        bool(each.running_mean.eq(0).all()) and bool(each.running_var.eq(1).all()) for each in known
    )
