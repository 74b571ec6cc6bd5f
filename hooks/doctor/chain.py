"""Layers by what feeds them: where a channel became what it is, and where it is only handed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import batchnorm, conv, instancenorm

from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.doctor.probe import Drawn, Fed, Place, drawn, feeding
from hookscope.hooks.passes.operations import split_name
from hookscope.hooks.results.summaries import LayerSummary

CONSTANT = 1e-6  # of a channel's magnitude: deviations below are rounding
EXACT = {"relu", "relu6", "threshold"}  # silent means 0
SMOOTH = {"gelu", "silu", "swish", "swishme", "hardswish", "hardswishme", "mish", "mishme", "hardmish", "hardmishme"}
SMOOTH |= {"quickgelu", "gelutanh", "pytorchgelutanh"}  # silent means nearly 0
NEARLY = 0.01
FILTERS = {"conv1d", "conv2d", "conv3d", "linear", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
SCALES = {"batch_norm", "layer_norm", "group_norm", "instance_norm"}
MIXING = FILTERS | {"matmul", "einsum", "bmm", "cat", "scaled_dot_product_attention", "multi_head_attention_forward"}


class Chain:
    """The calls of a patient's layers, in execution order.

    Attributes:
        summaries: of those with channels. feeding: see `probe.feeding`.
        constant: bool (channel,), which channels have one value in all pictures, everywhere.
    """

    def __init__(self, patient: Patient) -> None:
        self._seen = patient.seen
        self.feeding = feeding(patient)
        self.summaries: dict[Place, LayerSummary] = {
            (each.layer, each.call): self._named(each) for each in self._seen.statistics if len(each.fired)
        }
        self.constant = {place: _constant(each) for place, each in self.summaries.items()}
        self._followers: dict[Place, Place] = {}
        for place, summary in self.summaries.items():
            if silence_of(summary) is not None:
                for source in self.sources(place):
                    self._followers.setdefault(source, place)

    def _named(self, summary: LayerSummary) -> LayerSummary:
        """The same; a layer of somebody's own that ends with an activation function by that function's name."""
        fed = self.feeding.get((summary.layer, summary.call))
        return replace(summary, type=fed.kind, activation=True) if fed is not None and fed.kind else summary

    def sources(self, place: Place) -> Iterator[Place]:
        """What fed a call, under the names that have numbers."""
        fed = self.feeding.get(place)
        for source in () if fed is None else fed.sources:
            known = self._seen.place_of(*source)
            if known != place and known in self.summaries:
                yield known

    def before(self, place: Place) -> LayerSummary | None:
        """The only layer that fed an activation, with as many channels; None if it is not known."""
        known = [self.summaries[source] for source in self.sources(place)]
        if len(known) != 1 or len(known[0].fired) != len(self.summaries[place].fired):
            return None
        return known[0]

    def follower(self, place: Place) -> Place | None:
        """An activation that can be silent and is given what this call gave."""
        return self._followers.get(place)

    def handed_on(self, place: Place, among: Mapping[Place, np.ndarray] | None = None) -> np.ndarray:
        """Bool (channel,): which channels are only handed on, as they were given: in a source they are marked, too.

        Arguments:
            among: bool (channel,) by call, the marks; by default the constant channels.
        """
        marked = self.constant if among is None else among
        found = np.zeros(len(self.summaries[place].fired), bool)
        if self._keeps_channels(place):
            for source in self.sources(place):
                if len(marked.get(source, ())) == len(found):
                    found |= marked[source]
        return found

    def fed_constant(self, place: Place) -> bool:
        """Whether all that a call was given is constant."""
        known = list(self.sources(place))
        return bool(known) and all(self.constant[source].all() for source in known)

    def _keeps_channels(self, place: Place) -> bool:
        """Whether each channel of what a call gives comes of the same channel of what it is given."""
        fed, operation = self.feeding.get(place), split_name(place[0])
        if fed is None:
            return False
        if fed.function and operation is not None:
            return operation[1].partition("@")[0] not in MIXING
        if isinstance(fed.module, conv._ConvNd):
            return fed.module.groups == fed.module.in_channels
        return not isinstance(fed.module, nn.Linear | nn.MultiheadAttention | nn.RNNBase | nn.Bilinear)


def filters(patient: Patient) -> dict[Place, tuple[Fed, LayerSummary]]:
    """The calls that make each of their channels of others by weights, in execution order."""
    chain, found = Chain(patient), {}
    for place, summary in chain.summaries.items():
        fed = chain.feeding.get(place)
        if fed is not None and has_filters(fed, summary):
            found[place] = fed, summary
    return found


def drawn_of_filters(patient: Patient) -> dict[Place, Drawn]:
    """Some values of each of these."""
    return drawn(patient, filters(patient))


def silence_of(summary: LayerSummary) -> float | None:
    """The magnitude up to which a channel after this activation is silent; None where it cannot be."""
    kind = summary.type.replace("_", "").lower()
    if kind in EXACT:
        return 0.0
    return NEARLY if kind in SMOOTH else None


def largest_of(summary: LayerSummary) -> np.ndarray:
    """Float64 (channel,): the largest magnitude of each; NaN where it has no finite value."""
    channels = summary.statistics.channels
    found: np.ndarray = np.maximum(np.abs(channels["min"]), np.abs(channels["max"]))
    return found


def _constant(summary: LayerSummary) -> np.ndarray:
    """Bool (channel,); a channel with values that are not finite is none."""
    channels = summary.statistics.channels
    if summary.statistics.count <= summary.inputs and summary.inputs < 2:
        return np.zeros(len(summary.fired), bool)
    with np.errstate(invalid="ignore"):
        same = channels["std"] <= CONSTANT * largest_of(summary)
    found: np.ndarray = same & (channels["nan"] + channels["inf"] == 0)
    return found


# --- weights


def weight_rows(fed: Fed, summary: LayerSummary) -> Tensor | None:
    """Float (channel, weight): the weights of each channel; a normalisation's have length 1. None without any."""
    operation = split_name(summary.layer)
    if operation is not None and operation[1].partition("@")[0] not in SCALES:
        return None  # an operation's weights are some module's: which is not known
    weight = getattr(fed.module, "weight", None)
    if not isinstance(weight, Tensor) or weight.is_quantized or not weight.is_floating_point():
        return None
    if isinstance(fed.module, nn.Embedding | nn.PReLU | nn.MultiheadAttention):
        return None
    if isinstance(fed.module, conv._ConvTransposeNd):
        if fed.module.groups != 1:
            return None
        weight = weight.transpose(0, 1)
    rows = weight.detach().flatten(1) if weight.ndim > 1 else weight.detach()[:, None]
    return rows.float().cpu() if len(rows) == len(summary.fired) else None


def has_filters(fed: Fed, summary: LayerSummary) -> bool:
    """Whether a call makes each of its channels of all or several others, by weights."""
    operation = split_name(summary.layer)
    if operation is not None:
        return operation[1].partition("@")[0] in FILTERS
    rows = weight_rows(fed, summary)
    return rows is not None and not has_scales(fed, summary)


def has_scales(fed: Fed, summary: LayerSummary) -> bool:
    """Whether a call normalises and scales each channel by a weight of its own."""
    operation = split_name(summary.layer)
    if operation is not None:
        return operation[1].partition("@")[0] in SCALES
    norms = (batchnorm._NormBase, instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm)
    weight = getattr(fed.module, "weight", None)
    return isinstance(fed.module, norms) or (isinstance(weight, Tensor) and weight.ndim == 1)


def zero_rows(fed: Fed, summary: LayerSummary) -> set[int]:
    """The channels whose weights are all 0; in float16 that says nothing: small ones become 0 there."""
    rows = weight_rows(fed, summary)
    if rows is None or fed.module.weight.dtype == torch.float16:
        return set()
    return set(map(int, torch.nonzero((rows == 0).all(1))[:, 0]))


def row_ratios(fed: Fed, summary: LayerSummary) -> np.ndarray | None:
    """Float64 (channel,): the largest weight of each channel by that of the median one; None without weights."""
    rows = weight_rows(fed, summary)
    if rows is None:
        return None
    largest = rows.abs().amax(1).double().numpy()
    usual = float(np.median(largest[largest > 0])) if (largest > 0).any() else 0.0
    return largest / usual if usual else None
