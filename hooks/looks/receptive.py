"""Where on the picture a layer's units look: all that they can depend on, and what one of them does depend on.

field = receptive_fields(model, picture, "layer3.0.conv1")
field.box(3, 5)     # (top, left, bottom, right) in pixels of the picture that the model is given
field.whole         # after attention or squeeze-and-excitation every unit sees all of it: then ask for
effective_field(model, picture, "layer3.0.conv1", channel=7, place=(3, 5)).box
effective_extent(model, torch.randn(4, *picture.shape[1:]), "layer3.0.conv1").side     # of all its units
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from hookscope.hooks.errors import HooksError, NoGradient, NoSpatialAxes, StopForward, called, titled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.looks.map_taps import MapTap, filling
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.following_edges import Following
from hookscope.hooks.passes.graph import differentiate
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.running import Functions
from hookscope.hooks.results import receptive as boxes
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import why_no_maps
from hookscope.hooks.results.receptive import EffectiveExtent, EffectiveField, ReceptiveField

PROBED = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75))  # of a map's height and width: not at its edges
_NO_GRADIENT = (
    "{} has no gradient: its value was detached, or computed under torch.no_grad or in whole numbers. What it can "
    "depend on at all is known without one."
)


def receptive_fields(
    model: nn.Module, inputs: Any, layer: str, call: int = 0, layers: Sequence[LayerInfo] | None = None
) -> ReceptiveField:
    """The box of pixels on which each place of a layer's maps can depend, from one forward pass.

    It is the structure's field: the union of the supports of the input gradient over all pictures and all weights. No
    gradient is taken, in which a ReLU that is off, a pixel that loses a maximum, a weight that begins as zero, paths
    that cancel, or a number too small for its type hide pixels. Instead the box of each value lies beside it, and every
    operator of torch hands the boxes on: a convolution puts the least box around those under its kernel, a sum around
    both, softmax and normalisations around all that they sum over. A box around boxes is the least one again, so
    nothing is lost on the way; for chains it is the arithmetic of Araujo, Norris and Sim, "Computing Receptive Fields
    of Convolutional Neural Networks", Distill 2019. What a mask hides from attention is not seen.

    Arguments:
        inputs: one picture, float (1, channel, height, width); it is copied. Its values matter only where the model's
            path depends on them.
        layer: its name, or that of an operation ("layer1.0/add"). call: 0-based call of this forward pass.
        layers: what `layers.describe.describe` said of this model; it is asked if they are not given.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> field = receptive_fields(net, torch.zeros(1, 3, 18, 18), "2")
    >>> field.box(3, 1), field.size, field.stride, field.whole
    ((6, 2, 10, 6), (4, 4), (2, 2), False)

    Raises:
        Cancelled: `looking`'s `cancelled` said so. LayerNotFound, LayerNotExecuted: there is no such layer, or call.
        NoSpatialAxes: its output has no height and width. HooksError: none of its values depends on the picture.
        ModelNotSupported: the input is not one picture, or the model is quantised.
    """
    began = time.perf_counter()
    picture = arguments.picture(inputs)
    tap, seen = _find(model, picture, layer, call, layers)
    with inspecting(model) as inner:
        given = picture.detach().clone()
        following = Following(given)
        tap.keep = following.look
        # functions are watched, so that torch's transformers leave their fused kernels and call their parts
        with filling(inner, [tap]), cancelling(), Functions(lambda *ran: None), following:
            tap.run(inner, given)
    field = boxes.field_of(tap.kept, seen, (picture.shape[2], picture.shape[3]), layer, call)
    unknown = ", ".join(sorted(following.unknown))
    note = f"Not looked into, and taken to depend on all that it is given: {unknown}." if unknown else ""
    return replace(field, note=note, milliseconds=(time.perf_counter() - began) * 1000)


def effective_field(
    model: nn.Module,
    inputs: Any,
    layer: str,
    channel: int,
    place: tuple[int, int],
    call: int = 0,
    layers: Sequence[LayerInfo] | None = None,
    share: float = 0.9,
) -> EffectiveField:
    """Where a unit's value comes from in one picture: the least square that holds most of its squared gradient.

    The gradient is the model's own, of one value with respect to the picture. Its squares, summed over the input's
    channels, are the energy of each pixel. The square lies around the pixel where the medians of rows and columns
    cross, each weighed by energy, and ends at the picture's edges.

    Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS
    2016: it is much smaller than all that a unit can depend on, and often has the form of a Gaussian.

    Arguments:
        inputs: one picture, float (1, channel, height, width); it is copied.
        channel, place: which unit: its channel, and its (row, column) in the layer's maps, from 0.
        call, layers: see `receptive_fields`. share: of the energy, above 0 and at most 1.

    Raises:
        Cancelled, LayerNotFound, LayerNotExecuted, NoSpatialAxes, ModelNotSupported: see `receptive_fields`.
        NoGradient: there is none, or it is zero everywhere. HooksError: there is no such unit, or it is not finite.
        ValueError: the share is none.
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share is {share}; give one above 0, and at most 1.")
    began = time.perf_counter()
    picture = arguments.picture(inputs)
    tap, seen = _find(model, picture, layer, call, layers)
    unit = boxes.unit_of(seen, layer, channel, place)
    with inspecting(model, gradients=True) as inner:
        given = nested.private(picture, requires_grad=True)
        edges = [get_gradient_edge(given)] if given.requires_grad else []
        tap.keep = lambda output: output[unit].clone()  # because the next layer may write over the output
        with filling(inner, [tap]), cancelling():
            tap.run(inner, given)
        if not edges or not tap.kept.requires_grad:
            raise NoGradient(_NO_GRADIENT.format(titled(layer)))
        stop_if_cancelled()
        gradient = differentiate(tap.kept, edges)[0]
    slopes = np.zeros(picture.shape[1:]) if gradient is None else gradient[0].cpu().double().numpy()
    field = boxes.effective_field_of(slopes, share, layer, call, channel, place)
    return replace(field, value=float(tap.kept.detach()), milliseconds=(time.perf_counter() - began) * 1000)


def effective_extent(
    model: nn.Module,
    pictures: Tensor,
    layer: str,
    call: int = 0,
    layers: Sequence[LayerInfo] | None = None,
    share: float = 0.9,
    seconds: float = math.inf,
) -> EffectiveExtent:
    """How much of the picture a layer's units are moved by in the main: over its channels, several places and pictures.

    For each picture and place the squared gradient of all channels together is estimated from one gradient: that of
    their sum with random signs, whose square is the sum of the channels' squares on average (Hutchinson 1989). Only the
    distance from the place's own middle counts, so that all of them add up. For the source see `effective_field`, which
    looks at one unit in one picture.

    Arguments:
        pictures: float (picture, channel, height, width), shown one by one; random ones tell of the network, some of a
            set of that set.
        call, layers: see `receptive_fields`. share: of the squared gradient, above 0 and at most 1.
        seconds: after which no other picture is begun.

    >>> net = nn.Conv2d(1, 2, 5, padding=2, bias=False)
    >>> _ = nn.init.ones_(net.weight)
    >>> effective_extent(net, torch.zeros(1, 1, 20, 20), "", share=1.0).side
    5

    Raises:
        Cancelled, LayerNotFound, LayerNotExecuted, NoSpatialAxes, ModelNotSupported: see `receptive_fields`.
        NoGradient: there is none, or it is zero at all of the places. HooksError: it is not finite.
        ValueError: the share is none.
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share is {share}; give one above 0, and at most 1.")
    began = time.perf_counter()
    energies: list[np.ndarray] = []
    centres: list[tuple[float, float]] = []
    for number, one in enumerate(pictures.split(1)):
        if number and time.perf_counter() - began > seconds:
            break
        found, at = _probe(model, arguments.picture(one), layer, call, layers, number)
        energies += found
        centres += at
    extent = boxes.extent_of(energies, centres, share)
    return replace(extent, milliseconds=(time.perf_counter() - began) * 1000)


def _probe(
    model: nn.Module, picture: Tensor, layer: str, call: int, layers: Sequence[LayerInfo] | None, seed: int
) -> tuple[list[np.ndarray], list[tuple[float, float]]]:
    """The energy (height, width) that moves all channels at some places of one picture, and where those lie in it."""
    tap, seen = _find(model, picture, layer, call, layers)
    units = boxes.places(np.arange(math.prod(seen.shape)).reshape(seen.shape), seen)
    channels, rows, columns = units.shape
    height, width = picture.shape[2:]
    signs = torch.from_numpy(np.random.default_rng(seed).choice((-1.0, 1.0), (len(PROBED), channels)))
    energies, centres = [], []
    with inspecting(model, gradients=True) as inner:
        given = nested.private(picture, requires_grad=True)
        edges = [get_gradient_edge(given)] if given.requires_grad else []
        tap.keep = lambda output: output.clone()
        with filling(inner, [tap]), cancelling():
            tap.run(inner, given)
        if not edges or not tap.kept.requires_grad:
            raise NoGradient(_NO_GRADIENT.format(titled(layer)))
        values = tap.kept.flatten()
        for sign, (down, right) in zip(signs, PROBED, strict=True):
            stop_if_cancelled()
            row, column = int(down * rows), int(right * columns)
            score = values[torch.from_numpy(units[:, row, column]).to(values.device)] @ sign.to(values)
            slopes = differentiate(score, edges, retain_graph=True)[0]
            energy = np.zeros((height, width)) if slopes is None else slopes[0].cpu().double().square().sum(0).numpy()
            if not np.isfinite(energy).all():
                raise HooksError(f"The gradient of {called(layer)} is not finite. Choose another layer.")
            energies.append(energy)
            centres.append((boxes.centre_of(row, rows, height), boxes.centre_of(column, columns, width)))
    return energies, centres


@dataclass
class _Tap(MapTap):
    """A layer's call of which something is kept, and at which the pass ends."""

    keep: Callable[[Tensor], Any] = lambda output: None
    kept: Any = None

    def look(self, output: Any) -> None:
        found = nested.first(output)
        if found is not None and self.seen is not None and found[1].shape == self.seen.shape:
            self.value, self.kept = np.empty(0), self.keep(found[1])
        raise StopForward

    def run(self, model: nn.Module, given: Tensor) -> None:
        """Run the model as far as the layer; refuse if that was not called."""
        with contextlib.suppress(StopForward):
            model(given)
        if self.value is None:
            self.channels()  # which says why


def _find(
    model: nn.Module, picture: Tensor, layer: str, call: int, layers: Sequence[LayerInfo] | None
) -> tuple[_Tap, Call]:
    """The layer, and its call in the recorded run; refused if it has no places."""
    described = describe(model, picture) if layers is None else layers
    finder = Finder(model, described)
    name, module = finder.find(layer)
    if problem := finder.not_executed(name, call):
        raise problem
    seen = next((info.calls[call] for info in described if info.name == name), Call((), (), 0))
    reason = why_no_maps(seen, seen.shape)
    if reason and not (seen.axes == ("image", "channel", "height", "width") and seen.shape[2:] == (1, 1)):
        raise NoSpatialAxes(f"{titled(layer)} has no map to lay over the picture. {reason}")
    return _Tap(layer, name, call, module, seen), seen
