"""Score-CAM: each channel weighted by what the model says of the picture seen through it; no gradient.

Source: Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR workshops
2020, algorithm 1. Each channel's map is resized to the input, scaled to 0..1 and multiplied with it; the softmax over
the channels of the class's logits for these masked inputs weighs the channels. The map is the weighted sum before ReLU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.map_taps import MapTap, filling, find_taps
from hookscope.hooks.looks.targets import Score, Target, per_image, score_of
from hookscope.hooks.passes import arguments
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import GradCam, LayerInfo

BATCH = 16


def score_cam(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]],
    target: Target,
    layers: Sequence[LayerInfo],
    deliver: Callable[[GradCam], None],
    deliver_error: Callable[[str, int, HooksError], None] | None = None,
    *,
    max_channels: int | None = None,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    owner: str = "hookscope",
    purpose: str = "analysis",
) -> None:
    """Score-CAM maps of several layers for one class: one forward pass, and one more image per channel.

    Arguments:
        inputs: one picture, float32 (1, channel, height, width); its zeros are what a mask hides it with.
        wanted: (layer name, 0-based call).
        target: a class, a mask, or None for the model's own first class; see `looks.targets`.
        layers: what `layers.describe.describe` said of this model; gives the axes.
        deliver, deliver_error: as for `looks.cam.grad_cam`.
        max_channels: only so many channels of each layer, those of the largest mean absolute value; the map's note
            says so. None for all.
        batch: masked pictures per forward pass.
        progress: gets (channels done, channels in all) after each batch.
        cancelled: asked before every module of the model.

    Raises:
        Cancelled: `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
        ModelNotSupported: the input is not one picture. TargetNotFound: there is no such class in the output.
    """
    began = time.perf_counter()
    problems: list[HooksError] = []

    def refuse(layer: str, call: int, problem: HooksError) -> None:
        problems.append(problem)
        if deliver_error is not None:
            deliver_error(layer, call, problem)

    taps = find_taps(model, wanted, layers, refuse)
    if taps:
        picture = arguments.picture(inputs)
        with inspecting(model) as inner, cancelling(cancelled):
            with filling(inner, taps, owner=owner, purpose=purpose):
                output = inner(picture.clone())
            score = per_image(score_of(output, target, differentiable=False), "Score-CAM")
            ready = []
            for each in taps:
                try:
                    ready.append((each, each.channels()))
                except HooksError as problem:
                    refuse(each.asked, each.call, problem)
            chosen = [_strongest(channels, max_channels) for _, channels in ready]
            done, total = 0, sum(map(len, chosen))
            for (each, channels), indices in zip(ready, chosen, strict=True):
                logits: list[Tensor] = []
                for start in range(0, len(indices), batch):
                    part = channels[indices[start : start + batch]]
                    logits.append(_logits(inner, picture, part, score))
                    done += len(part)
                    if progress is not None:
                        progress(done, total)
                weights = torch.cat(logits).cpu().double().softmax(0).numpy()  # Apple's GPU has no float64
                values = np.tensordot(weights, channels[indices].astype(np.float64), 1).astype(np.float32)
                deliver(_result(each, values, score, len(indices), len(channels), began))
    if problems and deliver_error is None:
        raise problems[0]


def _strongest(channels: np.ndarray, limit: int | None) -> np.ndarray:
    """The indices of the channels that are used, in order."""
    if limit is None or limit >= len(channels):
        return np.arange(len(channels))
    size = np.abs(channels).mean((1, 2), dtype=np.float64)
    return np.sort(np.argsort(-size, kind="stable")[:limit])


def _logits(model: nn.Module, picture: Tensor, channels: np.ndarray, score: Score) -> Tensor:
    """The class's logit for the picture seen through each channel, (channel,)."""
    maps = torch.from_numpy(np.ascontiguousarray(channels)).to(picture.device)[:, None]
    maps = functional.interpolate(maps, size=picture.shape[2:], mode="bilinear", align_corners=False)
    least, most = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    spread = most - least
    # a constant map hides everything: it says nothing about where
    masks = torch.where(spread > 0, (maps - least) / spread.where(spread > 0, 1), 0)
    assert score.of_each is not None
    return score.of_each(model(picture * masks.to(picture.dtype)))


def _result(tap: MapTap, values: np.ndarray, score: Score, used: int, channels: int, began: float) -> GradCam:
    note = f"From the {used} strongest of {channels} channels." if used < channels else ""
    milliseconds = (time.perf_counter() - began) * 1000
    return GradCam(tap.asked, tap.call, score.index, score.value, values, milliseconds, "scorecam", note)
