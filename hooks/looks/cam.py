"""Grad-CAM and its kin: how much each position of a layer's feature maps moved one class's logit.

All of them weigh the layer's maps by the gradient of the class's logit, and add them up; `methods.MAPS` has their
rules and sources. Maps stay signed and as small as the layer is; ReLU, scaling and resizing belong to the drawing.
`looks.score_cam` has the one of the family that needs no gradient.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError, NoGradient, called, titled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.map_taps import MapTap, array, filling, find_taps
from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.targets import NO_CLASS, Against, Score, Target, score_of
from hookscope.hooks.methods import MAPS, Rule, function_at
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling, stop_if_cancelled
from hookscope.hooks.passes.graph import differentiate, overwritten_view, reason_no_gradient
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import GradCam, LayerInfo


def layer_map(
    model: nn.Module, inputs: Any, layer: str, target: Target = None, method: str = "gradcam", *, call: int = 0
) -> GradCam:
    """One map of one layer, for a notebook: the model is recorded first, so that the layer's axes are known.

    Arguments:
        inputs: the model's argument, of one image. target: see `looks.targets`.
        method: one of `methods.MAPS`.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> layer_map(net, torch.ones(1, 3, 8, 8), "0", target=2).values.shape
    (6, 6)

    Raises:
        HooksError: there is no such map; the text says why.
    """
    row = MAPS.find(method)
    layers = describe(model, *arguments.arguments(inputs))
    compute = function_at(row.runs) if row.rule is None else partial(grad_cam, method=method)
    ((_, _, found),) = compute(model, inputs, [(layer, call)], target, layers)
    if isinstance(found, HooksError):
        raise found
    return found


def grad_cam(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]],
    target: Target,
    layers: Sequence[LayerInfo],
    *,
    method: str = "gradcam",
) -> Iterator[tuple[str, int, GradCam | HooksError]]:
    """Maps of several layers for one target, from one forward pass and one gradient.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        wanted: (layer name, 0-based call).
        target: see `looks.targets`; None or -1 for the model's own first class.
        layers: what `layers.describe.describe` said of this model; gives the axes.
        method: one of `methods.MAPS` that has a rule.

    Yields:
        The name and call that were asked, and the map, or why there is none.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> image = torch.ones(1, 3, 8, 8)
    >>> [found.values.shape for _, _, found in grad_cam(net, image, [("0", 0)], 2, describe(net, image))]
    [(6, 6)]

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
        TargetNotFound: there is no such class in the output.
        ValueError: there is no such method.
    """
    rule = MAPS.find(method).rule
    if rule is None:
        raise ValueError(f"{method!r} is not made from one gradient; see its row in methods.MAPS")
    refused: list[tuple[str, int, HooksError]] = []
    taps = find_taps(model, wanted, layers, lambda *refusal: refused.append(refusal))
    return itertools.chain(refused, _maps(model, inputs, target, taps, (method, rule)) if taps else ())


def _maps(
    model: nn.Module, inputs: Any, target: Target, taps: list[MapTap], by: tuple[str, Rule]
) -> Iterator[tuple[str, int, GradCam | HooksError]]:
    began, (method, rule) = time.perf_counter(), by
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model, gradients=True))
        hooked = contextlib.ExitStack()
        stack.enter_context(hooked)
        hooked.enter_context(filling(model, taps))
        hooked.enter_context(cancelling())
        output = answer(model, *nested.private(arguments.arguments(inputs), requires_grad=True))
        hooked.close()  # before the gradient: checkpointed layers run again there, and that is no call of theirs
        score = score_of(output, target)
        stop_if_cancelled()
        gradients = _gradients(score.tensor, taps)
    for each, gradient in zip(taps, gradients, strict=True):
        found: GradCam | HooksError
        try:
            channels, slopes = each.channels().astype(np.float64), _slopes(each, gradient, score)
            values = rule(channels, slopes)
            # the slopes of the other against the one are the negative ones
            opposite = rule(channels, -slopes) if isinstance(target, Against) else np.empty((0, 0))
        except HooksError as problem:
            found = problem
        else:
            milliseconds = (time.perf_counter() - began) * 1000
            about = (each.asked, each.call, score.index, score.value, values.astype(np.float32), milliseconds, method)
            found = GradCam(*about, against=score.against, opposite=opposite.astype(np.float32))
        yield each.asked, each.call, found


def _slopes(tap: MapTap, gradient: Tensor | None, score: Score) -> np.ndarray:
    """The gradient as float64 (channel, height, width).

    Raises:
        NoGradient: there is none, or it is 0 everywhere.
    """
    against = "" if score.against == NO_CLASS else f" against class {score.against}"
    if gradient is None:
        reason = tap.unrecorded or reason_no_gradient(tap.watch)
        raise NoGradient(f"{titled(tap.asked)} has no gradient for class {score.index}{against}. {reason}")
    slopes = tap.arrange(array(gradient))
    if not slopes.any():
        hint = (
            "After the last attention only the class token goes on; an earlier layer may have a map."
            if tap.described.prefix_tokens
            else ""
        )
        raise NoGradient(
            f"The logit of class {score.index}{against} does not depend on any position of {called(tap.asked)} for "
            f"this image: the gradient there is exactly 0. {hint}".rstrip()
        )
    return slopes.astype(np.float64)


def _gradients(score: Tensor, taps: list[MapTap]) -> list[Tensor | None]:
    edges = [each.edge for each in taps if each.edge is not None]
    if not edges:
        return [None] * len(taps)
    answers = iter(differentiate(score, edges))
    found = [None if each.edge is None else next(answers) for each in taps]
    return [None if overwritten_view(each.watch) else gradient for each, gradient in zip(taps, found, strict=True)]
