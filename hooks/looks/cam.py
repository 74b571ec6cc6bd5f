"""Grad-CAM and its kin: how much each position of a layer's feature maps moved one class's logit.

All of them weigh the layer's maps by the gradient of the class's logit, and add them up; `methods.MAPS` has their
rules and sources. Maps stay signed and as small as the layer is; ReLU, scaling and resizing belong to the drawing.
`looks.score_cam` has the one of the family that needs no gradient.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from hookscope.hooks.errors import Cancelled, HooksError, NoGradient, called, titled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.map_taps import MapTap, array, filling, find_taps
from hookscope.hooks.looks.targets import Target, score_of
from hookscope.hooks.methods import MAPS, function_at
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.graph import NOT_RECORDED, differentiate, overwritten_view, reason_no_gradient
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import GradCam, LayerInfo


def layer_map(
    model: nn.Module, inputs: Any, layer: str, target: Target = None, method: str = "gradcam", *, call: int = 0
) -> GradCam:
    """One map of one layer, for a notebook: the model is recorded first, so that the layer's axes are known.

    Arguments:
        inputs: the model's argument, of one image. target: see `looks.targets`.
        method: one of `methods.MAPS`.

    Raises:
        HooksError: there is no such map; the text says why.
    """
    found: list[GradCam] = []
    row = MAPS.find(method)
    layers = describe(model, *arguments.arguments(inputs))
    compute = function_at(row.runs) if row.rule is None else partial(grad_cam, method=method)
    compute(model, inputs, [(layer, call)], target, layers, found.append)
    return found[0]


def grad_cam(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]],
    target: Target,
    layers: Sequence[LayerInfo],
    deliver: Callable[[GradCam], None],
    deliver_error: Callable[[str, int, HooksError], None] | None = None,
    *,
    method: str = "gradcam",
    cancelled: Callable[[], bool] | None = None,
    owner: str = "hookscope",
    purpose: str = "analysis",
) -> None:
    """Maps of several layers for one target, from one forward pass and one gradient.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        wanted: (layer name, 0-based call).
        target: see `looks.targets`; None or -1 for the model's own first class.
        layers: what `layers.describe.describe` said of this model; gives the axes.
        deliver: gets each map.
        deliver_error: gets (layer, call, why) of each layer that has no map; without it the first one is raised at
            the end.
        method: one of `methods.MAPS` that has a rule.
        cancelled: asked before every module of the model, and before the gradient.

    Raises:
        Cancelled: `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
        TargetNotFound: there is no such class in the output.
        ValueError: there is no such method.
    """
    rule = MAPS.find(method).rule
    if rule is None:
        raise ValueError(f"{method!r} is not made from one gradient; see its row in methods.MAPS")
    began = time.perf_counter()
    problems: list[HooksError] = []

    def refuse(layer: str, call: int, problem: HooksError) -> None:
        problems.append(problem)
        if deliver_error is not None:
            deliver_error(layer, call, problem)

    taps = find_taps(model, wanted, layers, refuse)
    if taps:
        with contextlib.ExitStack() as stack:
            model = stack.enter_context(inspecting(model, gradients=True))
            hooked = contextlib.ExitStack()
            stack.enter_context(hooked)
            hooked.enter_context(filling(model, taps, owner=owner, purpose=purpose))
            hooked.enter_context(cancelling(cancelled))
            output = model(*nested.private(arguments.arguments(inputs), requires_grad=True))
            hooked.close()  # before the gradient: checkpointed layers run again there, and that is no call of theirs
            score = score_of(output, target)
            if cancelled is not None and cancelled():
                raise Cancelled
            gradients = _gradients(score.tensor, taps)
        for each, gradient in zip(taps, gradients, strict=True):
            try:
                values = rule(each.channels().astype(np.float64), _slopes(each, gradient, score.index))
            except HooksError as problem:
                refuse(each.asked, each.call, problem)
            else:
                milliseconds = (time.perf_counter() - began) * 1000
                deliver(
                    GradCam(
                        each.asked,
                        each.call,
                        score.index,
                        score.value,
                        values.astype(np.float32),
                        milliseconds,
                        method,
                    )
                )
    if problems and deliver_error is None:
        raise problems[0]


def _slopes(tap: MapTap, gradient: Tensor | None, target: int) -> np.ndarray:
    """The gradient as float64 (channel, height, width).

    Raises:
        NoGradient: there is none, or it is 0 everywhere.
    """
    if gradient is None:
        reason = NOT_RECORDED if tap.edge is None else reason_no_gradient(tap.watch)
        raise NoGradient(f"{titled(tap.asked)} has no gradient for class {target}. {reason}")
    slopes = tap.arrange(array(gradient))
    if not slopes.any():
        hint = (
            "After the last attention only the class token goes on; an earlier layer may have a map."
            if tap.described.prefix_tokens
            else ""
        )
        raise NoGradient(
            f"The logit of class {target} does not depend on any position of {called(tap.asked)} for this image: "
            f"the gradient there is exactly 0. {hint}".rstrip()
        )
    return slopes.astype(np.float64)


def _gradients(score: Tensor, taps: list[MapTap]) -> list[Tensor | None]:
    edges = [each.edge for each in taps if each.edge is not None]
    if not edges:
        return [None] * len(taps)
    answers = iter(differentiate(score, edges))
    found = [None if each.edge is None else next(answers) for each in taps]
    return [None if overwritten_view(each.watch) else gradient for each, gradient in zip(taps, found, strict=True)]
