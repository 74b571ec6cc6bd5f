"""How much of the explained number each channel of a layer speaks for: gradient x activation, from one backward pass.

Its sign turned, this is Taylor's estimate of what muting the channel changes: Molchanov et al., "Pruning Convolutional
Neural Networks for Resource Efficient Inference", ICLR 2017, equation 7, and "Importance Estimation for Neural Network
Pruning", CVPR 2019 (arXiv:1906.10771). Both take the magnitude and average it over a set of pictures; here it is one
picture's, and keeps its sign.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError, LayerNotExecuted, NoGradient, called, titled
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.reasons import why_unseen
from hookscope.hooks.looks.map_taps import MapTap, array, filling
from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.targets import Score, Target, score_of
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.graph import differentiate, overwritten_view, reason_no_gradient
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.effects import ChannelShares, Muting
from hookscope.hooks.results.looks import Call, LayerInfo


def channel_shares(
    model: nn.Module, inputs: Any, wanted: Sequence[tuple[str, int]], target: Target, layers: Sequence[LayerInfo]
) -> Iterator[tuple[str, int, ChannelShares | HooksError]]:
    """The channels' shares of several layers for one target, from one forward pass and one gradient.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        wanted: (layer name, 0-based call); functional operations too.
        target: see `looks.targets`; None for the model's own first class.
        layers: what `layers.describe.describe` said of this model; gives the axes.

    Yields:
        The name and call that were asked, and the shares, or why there are none.

    >>> from hookscope.hooks.layers.describe import describe
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> image = torch.ones(1, 3, 8, 8)
    >>> ((_, _, found),) = channel_shares(net, image, [("0", 0)], 2, describe(net, image))
    >>> np.flatnonzero(found.values)
    array([2])

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
        TargetNotFound: there is no such class in the output. NoGradient: the model builds no graph.
    """
    began = time.perf_counter()
    taps: list[MapTap] = []
    infos, finder = {info.name: info for info in layers}, Finder(model, layers)
    found = [(asked, call, *finder.find(asked)) for asked, call in dict.fromkeys(wanted)]
    for asked, call, name, module in found:
        if problem := finder.not_executed(name, call):
            yield asked, call, problem
        else:
            seen = infos[name].calls[call] if name in infos else None
            taps.append(MapTap(asked, name, call, module, seen))
    if not taps:
        return
    score, gradients = differentiated(model, inputs, target, taps)
    for each, gradient in zip(taps, gradients, strict=True):
        result: ChannelShares | HooksError
        try:
            values = share_of(each, gradient, score)
        except HooksError as problem:
            result = problem
        else:
            milliseconds = (time.perf_counter() - began) * 1000
            result = ChannelShares(each.asked, each.call, score.index, score.value, values, milliseconds, score.against)
        yield each.asked, each.call, result


def differentiated(
    model: nn.Module, inputs: Any, target: Target, taps: list[MapTap]
) -> tuple[Score, list[Tensor | None]]:
    """The explained number, and its gradient at every tap, None where there is none."""
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model, gradients=True))
        hooked = stack.enter_context(contextlib.ExitStack())
        hooked.enter_context(filling(model, taps))
        hooked.enter_context(cancelling())
        output = answer(model, *nested.private(arguments.arguments(inputs), requires_grad=True))
        hooked.close()  # before the gradient: checkpointed layers run again there, and that is no call of theirs
        score = score_of(output, target)
        stop_if_cancelled()
        edges = [each.edge for each in taps if each.edge is not None]
        answers = iter(differentiate(score.tensor, edges) if edges else ())
        found = [None if each.edge is None else next(answers) for each in taps]
        whole = [None if overwritten_view(each.watch) else slope for each, slope in zip(taps, found, strict=True)]
    return score, whole


def share_of(tap: MapTap, gradient: Tensor | None, score: Score, muting: Muting | None = None) -> np.ndarray:
    """Activation x gradient summed over each channel's positions, float64 (channel,).

    Arguments:
        muting: what the channel becomes, to have Taylor's estimate of that change in place of the share.

    Raises:
        LayerNotExecuted: the layer was not called (so often). HooksError: its output has no channels.
        NoGradient: there is no gradient, or it is 0 everywhere.
    """
    if tap.value is None:
        if unseen := why_unseen(tap.placed):
            raise LayerNotExecuted(f"{titled(tap.asked)} was not seen in this forward pass. {unseen}")
        raise LayerNotExecuted(
            f"{titled(tap.asked)} was not called (so often) for this input. Choose another layer or call."
        )
    axis = channel_axis(tap.asked, tap.described, tap.value.shape)
    if gradient is None:
        reason = tap.unrecorded or reason_no_gradient(tap.watch)
        raise NoGradient(f"{titled(tap.asked)} has no gradient for what is explained. {reason}")
    slopes, values = (_rows(each, axis) for each in (array(gradient), tap.value))
    if not slopes.any():
        raise NoGradient(
            f"What is explained does not depend on {called(tap.asked)} for this image: the gradient there is exactly "
            "0, so no channel has a share in it."
        )
    if muting is None:
        return np.asarray((values * slopes).sum(1))
    muted = values.mean(1, keepdims=True) if muting == "mean" else 0.0
    return np.asarray(((muted - values) * slopes).sum(1))


def channel_axis(name: str, described: Call, shape: tuple[int, ...]) -> int:
    """The axis of a layer's channels; the features of a layer without positions are its channels.

    Raises:
        HooksError: it has none.
    """
    for axis in ("channel", "feature"):
        if described.axes.count(axis) == 1 and len(described.axes) == len(shape):
            return described.axes.index(axis)
    written = " x ".join(map(str, shape)) or "a single number"
    raise HooksError(
        f"{titled(name)} has no channels to tell apart: what the axes of its output ({written}) mean is not known."
    )


def _rows(values: np.ndarray, axis: int) -> np.ndarray:
    """Values as float64 (channel, position)."""
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.float64)
