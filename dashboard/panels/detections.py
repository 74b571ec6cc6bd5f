"""What a detector found: its boxes in a list, best first, each of them a target, and on the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from dash import html

from dashboard.drawing.numbers import format_number
from dashboard.jobs import box_of, box_target
from dashboard.scene import Scene
from hooks.results import Detections, Prediction

LISTED = 20
NO_CLASSES = ("__background__", "N/A")  # in torchvision's list for COCO
DRAWN = 5  # on the picture, and whatever is chosen
NOTHING = (
    "The model detects nothing in this picture: no box reaches its score threshold. Its layers can be looked at all "
    "the same. torchvision's detectors take a lower threshold by "
    "--factory-arg box_score_thresh=0.01 or score_thresh=0.01."
)


def rows(scene: Scene, found: Detections) -> list[Any]:
    """The list; a click explains the box."""
    if not len(found.scores):
        return [html.P(NOTHING, className="sentence")]
    chosen = chosen_box(scene, found)
    listed = [_row(scene, found, int(index), int(index) == chosen) for index in _order(found)[:LISTED]]
    left = len(found.scores) - len(listed)
    return [*listed, html.P(f"and {left} more below these", className="muted")] if left else listed


def drawn(scene: Scene, prediction: Prediction, frame: tuple[float, float, float, float]) -> list[Any]:
    """The boxes over a picture that shows a part of the original.

    Arguments:
        frame: (left, top, right, bottom) of what it shows, in pixels of the original.
    """
    found = prediction.detections
    if found is None:
        return []
    chosen = chosen_box(scene, found)
    places = [int(index) for index in _order(found)[:DRAWN]]
    places += [chosen] if chosen is not None and chosen not in places else []
    return [
        html.Span(
            className="detection chosen" if index == chosen else "detection",
            style=_place(found.boxes[index], frame),
            title=f"{scene.class_name(int(found.labels[index]))} {found.scores[index]:.3f}",
        )
        for index in reversed(places)  # the best on top
    ]


def chosen_box(scene: Scene, found: Detections) -> int | None:
    """The box that is explained of this picture; None if none was chosen, or this picture has no such box."""
    target = scene.view.target
    if target is None:
        return None
    box = box_of(target)
    index = found.best(target) if box is None else box
    return index if 0 <= index < len(found.scores) else None


def _order(found: Detections) -> np.ndarray:
    return np.argsort(-found.scores, kind="stable")


def _row(scene: Scene, found: Detections, index: int, chosen: bool) -> html.Button:
    """The best box of a class stands for the class, so that the other picture's best box of it is explained too."""
    label, score = int(found.labels[index]), float(found.scores[index])
    name = scene.class_name(label)
    of_class = found.best(label) == index and 0 <= label < len(scene.info.classes) and name not in NO_CLASSES
    left, top, right, bottom = (f"{edge:.0f}" for edge in found.boxes[index])
    where = f"from ({left}, {top}) to ({right}, {bottom}) in pixels of the picture"
    what = "the best box of this class" if of_class else "this box"
    return html.Button(
        [
            html.Span(name, className="class"),
            html.Span(html.Span(style={"width": f"{min(max(score, 0), 1) * 100:.2f}%"}), className="bar"),
            html.Span(f"{score:.3f}", className="mono"),
        ],
        className="row chosen" if chosen else "row",
        title=f"Box {index}, {name}: score {format_number(score)}, {where}. Click to explain {what}.",
        **{"data-do": "target", "data-value": str(label if of_class else box_target(index))},
    )


def _place(box: np.ndarray, frame: tuple[float, float, float, float]) -> dict[str, str]:
    left, top, right, bottom = frame
    width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
    x, y = (float(box[0]) - left) / width, (float(box[1]) - top) / height
    place = {"left": x, "top": y, "width": float(box[2] - box[0]) / width, "height": float(box[3] - box[1]) / height}
    return {name: f"{value * 100:.2f}%" for name, value in place.items()}
