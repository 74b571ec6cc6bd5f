"""Grad-CAM: how much each position of a layer's feature maps moved one class's logit.

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
Each channel is weighted by the mean of its gradient over the positions, and the weighted channels are added up. The map
stays signed and as small as the layer is; ReLU, scaling and resizing belong to the drawing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hooks import nested
from hooks.capture import cancelling
from hooks.errors import Cancelled, HooksError, LayerNotExecuted, NoGradient, NoSpatialAxes, TargetNotFound
from hooks.layers import find, first_names, not_executed
from hooks.maps import arrange, why_no_maps
from hooks.modes import inspecting
from hooks.operations import tapping
from hooks.records import NOT_RECORDED, differentiate, reason_no_gradient, tap
from hooks.reductions import real
from hooks.results import Call, GradCam, LayerInfo


def grad_cam(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]],
    target: int | None,
    layers: Sequence[LayerInfo],
    deliver: Callable[[GradCam], None],
    deliver_error: Callable[[str, int, HooksError], None] | None = None,
    *,
    cancelled: Callable[[], bool] | None = None,
    owner: str = "hookscope",
    purpose: str = "analysis",
) -> None:
    """Grad-CAM maps of several layers for one class, from one forward pass and one gradient.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        wanted: (layer name, 0-based call).
        target: class index whose logit is explained; None or -1 for the model's own first class. For a segmenter it is
            the sum of the class's logits over the pixels that the model gives to it.
        layers: what `hooks.layers.describe` said of this model; gives the axes.
        deliver: gets each map.
        deliver_error: gets (layer, call, why) of each layer that has no map; without it the first one is raised at
            the end.
        cancelled: asked before every module of the model, and before the gradient.

    Raises:
        Cancelled: `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
        TargetNotFound: there is no such class in the output.
    """
    began = time.perf_counter()
    problems: list[HooksError] = []

    def refuse(layer: str, call: int, problem: HooksError) -> None:
        problems.append(problem)
        if deliver_error is not None:
            deliver_error(layer, call, problem)

    taps = _find(model, wanted, layers, refuse)
    if taps:
        with contextlib.ExitStack() as stack:
            model = stack.enter_context(inspecting(model, gradients=True))
            hooked = contextlib.ExitStack()
            stack.enter_context(hooked)
            hooked.enter_context(
                tapping(
                    {tap.name: tap.module for tap in taps},
                    first_names(model),
                    lambda name: _hook_of([tap for tap in taps if tap.name == name]),
                    owner=owner,
                    purpose=purpose,
                )
            )
            hooked.enter_context(cancelling(cancelled))
            output = model(*nested.private(nested.arguments(inputs), requires_grad=True))
            hooked.close()  # before the gradient: checkpointed layers run again there, and that is no call of theirs
            score, logit, index = score_of(output, target)
            if cancelled is not None and cancelled():
                raise Cancelled
            gradients = _gradients(score, taps)
        for tap_, gradient in zip(taps, gradients, strict=True):
            try:
                values = tap_.map(gradient, index)
            except HooksError as problem:
                refuse(tap_.asked, tap_.call, problem)
            else:
                milliseconds = (time.perf_counter() - began) * 1000
                deliver(GradCam(tap_.asked, tap_.call, index, logit, values, milliseconds))
    if problems and deliver_error is None:
        raise problems[0]


def score_of(output: Any, target: int | None) -> tuple[Tensor, float, int]:
    """The number to differentiate, its value, and the class index it belongs to.

    Arguments:
        output: what the model returned; its first tensor holds the logits, (image, class) or, for a segmenter,
            (image, class, height, width).
        target: class index; None or -1 for the model's own first class (a segmenter: that of the most pixels).
    """
    found = nested.first(output)
    logits = None if found is None else found[1]
    if logits is None or logits.ndim not in (1, 2, 4) or not logits.is_floating_point() or _is_detection(output):
        raise TargetNotFound(
            "The model's output is not one logit per class and image, so there is no class to explain. Grad-CAM works "
            "on classifiers and on segmenters."
        )
    logits = logits[None] if logits.ndim == 1 else logits
    if logits.shape[0] != 1:
        raise TargetNotFound(
            f"Grad-CAM explains one image at a time; this batch holds {logits.shape[0]}. Give them one by one."
        )
    classes = logits.shape[1]
    winners = logits.detach().argmax(1)
    if target is None or target == -1:
        target = int(winners.flatten().bincount().argmax()) if winners.numel() else 0
    if not 0 <= target < classes:
        raise TargetNotFound(f"There is no class {target}: the model has {classes}, from 0 to {classes - 1}.")
    score = logits[0, target]
    if logits.ndim == 4:
        mask = winners[0] == target
        if not mask.any():
            raise TargetNotFound(
                f"The model gives no pixel of this image to class {target}, so there is nothing to explain. "
                "Choose another class."
            )
        score = (score * mask).sum()
    if not score.requires_grad:
        raise NoGradient(
            "The model computes its output without a graph (under no_grad, or detached), so it has no gradient. "
            "Take that out of its forward."
        )
    return score, float(score.detach()), target


@dataclass
class _Tap:
    """One wanted (layer, call), and what the hook saw of it."""

    asked: str
    name: str
    call: int
    module: nn.Module
    seen: Call | None
    value: np.ndarray | None = None
    edge: GradientEdge | None = None
    watch: tuple[Tensor, int] | None = None
    axes: tuple[str, ...] = ()

    def look(self, output: Any) -> None:
        found = nested.first(output)
        if found is None:
            return
        self.value = _array(found[1])
        same = self.seen is not None and len(self.seen.axes) == found[1].ndim
        self.axes = self.seen.axes if self.seen is not None and same else ("axis",) * found[1].ndim
        self.edge, self.watch = tap(found[1])

    def map(self, gradient: Tensor | None, target: int) -> np.ndarray:
        """Float32 (height, width), signed; refused in a sentence where there is none."""
        if self.value is None:
            raise LayerNotExecuted(
                f"Layer {self.asked!r} was not called (so often) for this input. Choose another layer or call."
            )
        if gradient is None:
            reason = NOT_RECORDED if self.edge is None else reason_no_gradient(self.watch)
            raise NoGradient(f"Layer {self.asked!r} has no gradient for class {target}. {reason}")
        grid, prefix = (self.seen.grid, self.seen.prefix_tokens) if self.seen is not None else (None, 0)
        described = self.seen if self.seen is not None else Call((), self.axes, 0)
        if len(described.axes) != self.value.ndim or (reason := why_no_maps(described, self.value.shape)):
            raise NoSpatialAxes(f"Layer {self.asked!r} has no map. {reason if described.axes else ''}".rstrip())
        channels = arrange(self.value, self.axes, grid, prefix).astype(np.float64)
        slopes = arrange(_array(gradient), self.axes, grid, prefix)
        if not slopes.any():
            hint = (
                "After the last attention only the class token goes on; an earlier layer may have a map."
                if prefix
                else ""
            )
            raise NoGradient(
                f"The logit of class {target} does not depend on any position of layer {self.asked!r} for this image: "
                f"the gradient there is exactly 0. {hint}".rstrip()
            )
        weights = slopes.mean((1, 2), dtype=np.float64)
        return np.tensordot(weights, channels, 1).astype(np.float32)


def _find(
    model: nn.Module,
    wanted: Sequence[tuple[str, int]],
    layers: Sequence[LayerInfo],
    refuse: Callable[[str, int, HooksError], None],
) -> list[_Tap]:
    """Look every name up, and refuse at once what the recorded run already tells."""
    infos = {info.name: info for info in layers}
    found = [(asked, call, *find(model, asked)) for asked, call in dict.fromkeys(wanted)]
    taps = []
    for asked, call, name, module in found:
        if problem := not_executed(layers, name, call):
            refuse(asked, call, problem)
            continue
        seen = infos[name].calls[call] if name in infos else None
        if seen is not None and (reason := why_no_maps(seen, seen.shape)):
            refuse(asked, call, NoSpatialAxes(f"Layer {asked!r} has no Grad-CAM map. {reason}"))
            continue
        taps.append(_Tap(asked, name, call, module, seen))
    return taps


def _hook_of(taps: list[_Tap]) -> Callable[[nn.Module, Any, Any], None]:
    calls = iter(range(1 << 62))

    def look(module: nn.Module, args: Any, output: Any) -> None:
        call = next(calls)
        for tap_ in taps:
            if tap_.call == call:
                tap_.look(output)

    return look


def _gradients(score: Tensor, taps: list[_Tap]) -> list[Tensor | None]:
    edges = [tap_.edge for tap_ in taps if tap_.edge is not None]
    if not edges:
        return [None] * len(taps)
    answers = iter(differentiate(score, edges))
    return [None if tap_.edge is None else next(answers) for tap_ in taps]


def _is_detection(output: Any) -> bool:
    return isinstance(output, list) and bool(output) and isinstance(output[0], dict)


def _array(tensor: Tensor) -> np.ndarray:
    with torch.no_grad():
        array: np.ndarray = real(tensor).to("cpu", torch.float32, copy=True).numpy()
    return array
