"""What a detector found: its boxes in a list, best first, each of them a target, and on the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.asking.questions import box_of, box_target
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Detections, Prediction

LISTED = 20
NO_CLASSES = ("__background__", "N/A")  # in torchvision's list for COCO
DRAWN = 5  # on the picture, and whatever is chosen; the other listed ones while they are pointed at
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


def draw_boxes(scene: Scene, prediction: Prediction, frame: tuple[float, float, float, float]) -> list[Any]:
    """The boxes over a picture that shows a part of the original, under the numbers that they have in the list.

    Arguments:
        frame: (left, top, right, bottom) of what it shows, in pixels of the original.
    """
    found = prediction.detections
    if found is None:
        return []
    chosen = chosen_box(scene, found)
    order = [int(index) for index in _order(found)]
    places = [*order[:LISTED], *([chosen] if chosen is not None and chosen not in order[:LISTED] else [])]
    seen = {*order[:DRAWN], chosen}
    sizes = np.prod(np.maximum(found.boxes[:, 2:] - found.boxes[:, :2], 0), axis=1)
    places.sort(key=lambda index: (-sizes[index], -order.index(index)))  # the smaller on top, to be clicked
    return [_rectangle(scene, found, index, index == chosen, index in seen, frame) for index in places]


def _rectangle(
    scene: Scene, found: Detections, index: int, chosen: bool, seen: bool, frame: tuple[float, float, float, float]
) -> html.Button:
    """A box on the picture, with its number; one that is not `seen` shows while its row is pointed at."""
    name = f"Box {index}, {scene.class_name(int(found.labels[index]))}: score {found.scores[index]:.3f}."
    looks = ["detection", "chosen" if chosen else "", "" if seen else "unlit"]
    return html.Button(
        html.Span(str(index), className="number"),
        className=" ".join(filter(None, looks)),
        style=_place(found.boxes[index], frame),
        title=f"{name} Click to explain {_explains(scene, found, index)[1]}.",
        tabIndex="-1",  # its row in the list is where the keyboard stops
        **{**_do(scene, found, index), "aria-label": name},
    )


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
    label, score = int(found.labels[index]), float(found.scores[index])
    name = scene.class_name(label)
    left, top, right, bottom = (f"{edge:.0f}" for edge in found.boxes[index])
    where = f"from ({left}, {top}) to ({right}, {bottom}) in pixels of the picture"
    what = _explains(scene, found, index)[1]
    return html.Button(
        [
            html.Span(str(index), className="number"),
            html.Span(name, className="class"),
            html.Span(html.Span(style={"width": f"{min(max(score, 0), 1) * 100:.2f}%"}), className="bar"),
            html.Span(f"{score:.3f}", className="mono"),
        ],
        className="row boxed chosen" if chosen else "row boxed",
        title=f"Box {index}, {name}: score {format_number(score)}, {where}. Click to explain {what}.",
        **_do(scene, found, index),
    )


def _do(scene: Scene, found: Detections, index: int) -> dict[str, str]:
    """What a click on a box does, and the number by which row and rectangle light each other (assets/boxes.js)."""
    return {"data-do": "target", "data-value": str(_explains(scene, found, index)[0]), "data-box": str(index)}


def _explains(scene: Scene, found: Detections, index: int) -> tuple[int, str]:
    """The target that a box stands for, and what that is called.

    The best box of a class stands for the class, so that the other picture's best box of it is explained too.
    """
    label = int(found.labels[index])
    of_class = found.best(label) == index and 0 <= label < len(scene.info.classes)
    if of_class and scene.class_name(label) not in NO_CLASSES:
        return label, "the best box of this class"
    return box_target(index), "this box"


def _place(box: np.ndarray, frame: tuple[float, float, float, float]) -> dict[str, str]:
    left, top, right, bottom = frame
    width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
    x, y = (float(box[0]) - left) / width, (float(box[1]) - top) / height
    place = {"left": x, "top": y, "width": float(box[2] - box[0]) / width, "height": float(box[3] - box[1]) / height}
    return {name: f"{value * 100:.2f}%" for name, value in place.items()}
