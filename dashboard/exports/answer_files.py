"""The files that an answer with places can be saved as: a detector's boxes, a segmenter's regions, as CSV."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.drawing.box_pictures import point_name
from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Detections, Prediction

REGIONS = ("class index", "class", "share of the positions", "area (px)", "sum of logits")
BOXES = ("box", "class index", "class", "score", "x1 (px)", "y1 (px)", "x2 (px)", "y2 (px)")


def file(scene: Scene, side: str, unit: Unit, prediction: Prediction) -> tuple[str, str] | None:
    """What a side's answer can be saved as: (text, address); None of an answer that has no places.

    Arguments:
        unit: of the prediction.
    """
    name = f"{file_name(scene.info_of(side).title)}-{file_name(PurePath(scene.inputs[side].name).stem)}"
    shows = ("answer", unit, scene.classes(side))
    if prediction.detections is not None:
        draw = partial(_boxes, scene, side, unit)
        return "boxes as CSV", scene.file(shows, draw, "text/csv", f"{name}-boxes.csv")
    if scene.form(side) == "pixels" and prediction.scores is not None and len(prediction.scores.shares):
        draw = partial(_regions, scene, side, unit)
        return "regions as CSV", scene.file(shows, draw, "text/csv", f"{name}-regions.csv")
    return None


def _boxes(scene: Scene, side: str, unit: Unit) -> bytes:
    found = scene.kept(unit, Prediction).detections
    assert found is not None
    return boxes_csv(found, partial(scene.class_name, side)).encode()


def boxes_csv(found: Detections, named: Callable[[int], str]) -> str:
    """Every box, the best first as in the list, under the number that it has there."""
    head = [*BOXES, *(["mask area (px)"] if found.masks is not None else []), *_points(found)]
    rows = []
    for index in np.argsort(-found.scores, kind="stable").tolist():
        label = int(found.labels[index])
        row = [index, label, named(label), found.scores[index].item(), *found.boxes[index].tolist()]
        if found.masks is not None:
            row.append(found.masks.areas[index].item())
        if found.keypoints is not None:
            for place, score in zip(found.keypoints.places[index], found.keypoints.scores[index], strict=True):
                row += [*place.tolist(), score.item()]
        rows.append(row)
    return csv_of(head, rows)


def _points(found: Detections) -> list[str]:
    """The columns of keypoints: each with its place in the picture and its score."""
    if found.keypoints is None:
        return []
    count = found.keypoints.places.shape[1]
    names = [f"keypoint {point} {point_name(point, count)}".rstrip() for point in range(count)]
    return [f"{name} {what}" for name in names for what in ("x (px)", "y (px)", "score")]


def _regions(scene: Scene, side: str, unit: Unit) -> bytes:
    """Every class, the largest first: its share of what the network saw, and of how many pixels of the picture."""
    prediction = scene.kept(unit, Prediction)
    scores = prediction.scores
    assert scores is not None
    left, top, right, bottom = prediction.crop
    pixels = (right - left) * (bottom - top)
    rows: list[list[Any]] = []
    for index in np.argsort(-scores.shares, kind="stable").tolist():
        share = scores.shares[index].item()
        rows.append([index, scene.class_name(side, index), share, share * pixels, scores.logits[index].item()])
    return csv_of(REGIONS, rows).encode()
