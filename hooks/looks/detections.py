"""What a detector says of a picture: its boxes, with a class and a score each.

A detector answers, as torchvision's do, a list with one dict of "boxes", "labels" and "scores" per image, or that dict
alone, maybe with
"masks", (box, 1, height, width), and "keypoints", (box, point, (x, y, visibility)), of "keypoints_scores".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hookscope.hooks.errors import TargetNotFound
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.detected import PARTS, by_picture
from hookscope.hooks.passes.looking import current
from hookscope.hooks.passes.raw_rows import best
from hookscope.hooks.results.looks import Detections, Keypoints, Masks
from hookscope.hooks.results.raw_boxes import RAW, could_be

CELLS = 128  # of a mask's grid, per side: the heads of torchvision say 28


def is_detection(output: Any) -> bool:
    """Whether a model's output is a list of dicts, one per image, which hold boxes, or what belongs to boxes."""
    output = by_picture(output)
    first = output[0] if isinstance(output, list) and output else None
    return isinstance(first, dict) and any(part in first for part in PARTS)


def as_detection(output: Any) -> Any:
    """A model's output, of one that is read as raw boxes the best of these, in a detector's form and in its graph.

    Raises:
        TargetNotFound: `looking`'s `reading` says that it has raw boxes, and it has none.
    """
    reading = current().reading
    if reading.reads not in RAW:
        return by_picture(output)
    found = [each for path, each in nested.tensors(output) if path == reading.output]
    if not found or not could_be(found[0].shape, reading.reads):
        raise TargetNotFound(
            f"The model's answer is read as raw boxes ({reading.reads}), and this one has none of a picture: they are "
            "(1, numbers, boxes) or (1, boxes, numbers). Read it otherwise."
        )
    return best(found[0], reading.reads)


def detections(output: Any, size: tuple[int, int] | None = None) -> Detections | None:
    """The boxes of the first image in a detector's output; None if it is not one, or lacks one of the three parts.

    Arguments:
        output: what the model returned. size: (height, width) of the picture that it was given, over which its masks
            lie; None for the masks' own size.
    """
    output = as_detection(output)
    if not is_detection(output) or not all(isinstance(output[0].get(part), Tensor) for part in PARTS):
        return None
    boxes, labels, scores = (output[0][part].detach().cpu() for part in PARTS)
    return Detections(
        boxes.float().reshape(-1, 4).numpy().astype(np.float32),
        labels.long().numpy(),
        scores.float().numpy(),
        _masks(output[0].get("masks"), len(scores), size),
        _keypoints(output[0].get("keypoints"), output[0].get("keypoints_scores"), len(scores)),
    )


def _masks(given: Any, count: int, size: tuple[int, int] | None) -> Masks | None:
    """What belongs to each box where its share is above one half."""
    if not isinstance(given, Tensor) or given.ndim not in (3, 4) or len(given) != count:
        return None
    planes = given.detach()
    if planes.ndim == 4:
        if planes.shape[1] != 1:
            return None
        planes = planes[:, 0]
    height, width = planes.shape[1:]
    scale = np.array([width, height] * 2) if size is None else np.array([size[1], size[0]] * 2)
    scale = scale / np.maximum([width, height] * 2, 1)
    found = [_grid((plane > 0.5 if plane.is_floating_point() else plane != 0).cpu().numpy()) for plane in planes]
    bits = np.array([bits for bits, _, _ in found], np.uint8).reshape(count, CELLS, CELLS // 8)
    extents = np.array([extent for _, extent, _ in found], np.float64).reshape(count, 4) * scale
    areas = np.array([area for _, _, area in found], np.float64) * scale[0] * scale[1]
    return Masks(bits, extents.astype(np.float32), areas.astype(np.float32))


def _grid(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int], int]:
    """(bits, extent, area) of one mask, as `Masks` has them."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((CELLS, CELLS // 8), np.uint8), (0, 0, 0, 0), 0
    left, top, right, bottom = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    inner = mask[top:bottom, left:right]
    y, x = (((np.arange(CELLS) + 0.5) * length / CELLS).astype(int) for length in inner.shape)
    bits = np.packbits(inner[y[:, None], x], axis=1)
    return bits, (left, top, right, bottom), int(inner.sum())


def _keypoints(given: Any, scores: Any, count: int) -> Keypoints | None:
    if not isinstance(given, Tensor) or given.ndim != 3 or len(given) != count or given.shape[2] < 2:
        return None
    places = given.detach().cpu().float().numpy()[:, :, :2]
    fits = isinstance(scores, Tensor) and scores.shape == given.shape[:2]
    known = scores.detach().cpu().float().numpy() if fits else np.full(places.shape[:2], np.nan, np.float32)
    return Keypoints(np.ascontiguousarray(places), known)
