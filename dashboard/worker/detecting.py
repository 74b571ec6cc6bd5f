"""Detectors: what they find in a picture, where it lies in the original, and what the network itself saw of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from hookscope.dashboard.sources.load import LoadedModel, Prepared
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.detections import detections
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.registry import hook
from hookscope.hooks.results.looks import Detections, Prediction

Crop = tuple[float, float, float, float]
Seen = tuple[np.ndarray, Crop]  # pixels, and what they are of the original


def detect(model: LoadedModel, task: Task, prepared: Prepared) -> None:
    """Answer with the boxes that the model finds, in pixels of the original picture."""
    seen: list[Seen] = []

    def look(module: nn.Module, args: Any, output: Any) -> None:
        assert isinstance(module, GeneralizedRCNNTransform)
        seen.append(_resized(module, output[0].tensors[0], output[0].image_sizes[0], prepared.crop))

    task.start()
    with contextlib.ExitStack() as stack:
        module = stack.enter_context(inspecting(model.module))
        for name, part in module.named_modules():
            if isinstance(part, GeneralizedRCNNTransform):
                stack.enter_context(hook(part, "forward", look, layer=name))
        stack.enter_context(cancelling())
        given = nested.private((prepared.tensor.to(model.device),), requires_grad=False)
        height, width = prepared.tensor.shape[-2:]
        found = detections(module(*given), (height, width))
        stack.close()
        if found is None:
            raise HooksError(
                "The model found no list of boxes, labels and scores for this picture, although it did in the recorded "
                "run. Its layers can be looked at all the same."
            )
        pixels, crop = seen[0] if seen else (prepared.seen_as(task.question.shown), prepared.crop)
        second = None if task.second is None else task.second.seen_as(task.question.shown)
        answer = Prediction(None, pixels, crop, detections=_placed(found, prepared), second=second)
        task.answer("", 0, answer)


def _resized(transform: GeneralizedRCNNTransform, tensor: Tensor, size: tuple[int, int], crop: Crop) -> Seen:
    """The picture as torchvision's detectors resize it and pad it on the right and below, and where it then lies.

    Arguments:
        tensor: float (channel, height, width), padded. size: (height, width) without the border.
        crop: what the model was given of the original.
    """
    left, top, right, bottom = crop
    height, width = tensor.shape[1:]
    padded = (left, top, left + (right - left) * width / size[1], top + (bottom - top) * height / size[0])
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (transform.image_mean, transform.image_std))
    pixels = (tensor.cpu() * std + mean).clamp(0, 1) * 255
    return np.ascontiguousarray(pixels.round().to(torch.uint8).permute(1, 2, 0).numpy()), padded


def _placed(found: Detections, prepared: Prepared) -> Detections:
    """The boxes, and what belongs to them, in pixels of the original picture."""
    left, top, right, bottom = prepared.crop
    height, width = prepared.pixels.shape[:2]
    scale = np.array([(right - left) / width, (bottom - top) / height])

    def placed(points: np.ndarray) -> np.ndarray:
        times = points.shape[-1] // 2
        return (points * np.tile(scale, times) + [left, top] * times).astype(np.float32)

    masks, keypoints = found.masks, found.keypoints
    if masks is not None:
        areas = (masks.areas * scale.prod()).astype(np.float32)
        masks = replace(masks, extents=placed(masks.extents), areas=areas)
    if keypoints is not None:
        keypoints = replace(keypoints, places=placed(keypoints.places))
    return replace(found, boxes=placed(found.boxes), masks=masks, keypoints=keypoints)
