"""Score-CAM: each channel weighted by what the model says of the picture seen through it; no gradient.

Source: Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR workshops
2020, algorithm 1. Each channel's map is resized to the input, scaled to 0..1 and multiplied with it; the softmax over
the channels of the class's logits for these masked inputs weighs the channels. The map is the weighted sum before ReLU.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.errors import HooksError, NoSpatialAxes, titled
from hookscope.hooks.looks.batching import ALONE, baseline_of, scores_of_each
from hookscope.hooks.looks.map_taps import MapTap, filling, find_taps
from hookscope.hooks.looks.outputs import answer
from hookscope.hooks.looks.targets import Against, Score, Target, per_image, score_of
from hookscope.hooks.passes import arguments
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.looking import Steps
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.looks import GradCam, LayerInfo
from hookscope.hooks.results.maps import depth_of

BATCH = 16  # masked pictures per forward pass


def score_cam(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]],
    target: Target,
    layers: Sequence[LayerInfo],
    *,
    max_channels: int | None = None,
) -> Iterator[tuple[str, int, GradCam | HooksError]]:
    """Score-CAM maps of several layers for one class: one forward pass, and one more image per channel.

    Arguments:
        inputs: one picture, float32 (1, channel, height, width); its zeros are what a mask hides it with.
        wanted: (layer name, 0-based call).
        target: a class, a mask, one of these against another, or None for the model's own first class; see
            `looks.targets`.
        layers: what `layers.describe.describe` said of this model; gives the axes.
        max_channels: only so many channels of each layer, those of the largest mean absolute value; the map's note
            says so. None for all.

    Yields:
        The name and call that were asked, and the map, or why there is none; a layer's when it is there.

    >>> from hookscope.hooks.layers.describe import describe
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> image = torch.ones(1, 3, 8, 8)
    >>> [found.values.shape for _, _, found in score_cam(net, image, [("0", 0)], 2, describe(net, image))]
    [(6, 6)]

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound: a name is wrong; the model did not run then.
        ModelNotSupported: the input is not one picture. TargetNotFound: there is no such class in the output.
    """
    refused: list[tuple[str, int, HooksError]] = []
    taps = find_taps(model, wanted, layers, lambda *refusal: refused.append(refusal))
    return itertools.chain(refused, _maps(model, inputs, target, taps, max_channels) if taps else ())


def _maps(
    model: nn.Module, inputs: Any, target: Target, taps: list[MapTap], max_channels: int | None
) -> Iterator[tuple[str, int, GradCam | HooksError]]:
    began = time.perf_counter()
    picture = arguments.picture(inputs)
    with inspecting(model) as inner:
        with filling(inner, taps), cancelling():
            output = answer(inner, picture.clone())
        score = per_image(score_of(output, target, differentiable=False), "Score-CAM")
        ready = []
        for each in taps:
            try:
                channels = each.channels()
                if depth_of(each.described, each.value.shape if each.value is not None else ()) > 1:
                    raise NoSpatialAxes(
                        f"{titled(each.asked)} has maps of several frames, and Score-CAM hides parts of one picture. "
                        "Choose Grad-CAM."
                    )
                ready.append((each, channels))
            except HooksError as problem:
                yield each.asked, each.call, problem
        chosen = [_strongest(channels, max_channels) for _, channels in ready]
        together = not ready or baseline_of(inner, score, picture)[1]
        batch, note = (BATCH, "") if together else (1, ALONE)
        steps = Steps(sum(map(len, chosen)))
        for (each, channels), indices in zip(ready, chosen, strict=True):
            logits: list[Tensor] = []
            for start in range(0, len(indices), batch):
                part = channels[indices[start : start + batch]]
                with cancelling():  # and not between two passes, where others may run the model
                    logits.append(_logits(inner, picture, part, score))
                steps.count(len(part))
            scores = torch.cat(logits).cpu().double()  # Apple's GPU has no float64
            values = _weighted(scores, channels[indices])
            opposite = _weighted(-scores, channels[indices]) if isinstance(target, Against) else np.empty((0, 0))
            used = f"From the {len(indices)} strongest of {len(channels)} channels."
            said = " ".join(filter(None, [used if len(indices) < len(channels) else "", note]))
            milliseconds = (time.perf_counter() - began) * 1000
            about = (each.asked, each.call, score.index, score.value, values, milliseconds, "scorecam", said)
            yield each.asked, each.call, GradCam(*about, score.against, opposite.astype(np.float32))


def _weighted(scores: Tensor, channels: np.ndarray) -> np.ndarray:
    """The channels' maps, each weighed by the softmax of its score: float32 (height, width)."""
    return np.tensordot(scores.softmax(0).numpy(), channels.astype(np.float64), 1).astype(np.float32)


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
    return scores_of_each(model, score, picture * masks.to(picture.dtype))
