"""What a detector found: its boxes in a list, best first, each of them a target, and on the picture with its mask."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.targets import Target, part_of, write_target
from hookscope.dashboard.drawing.box_pictures import COCO_POINTS, colour_of, keypoints_svg, mask_png, point_name
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Detections, Keypoints, Prediction
from hookscope.hooks.results.raw_boxes import LEAST_SCORE
from hookscope.hooks.results.targets import SIDES, Box, Class

LISTED = 20
NO_CLASSES = ("__background__", "N/A")  # in torchvision's list for COCO
DRAWN = 5  # on the picture, and whatever is chosen; the other listed ones while they are pointed at
NOTHING = (
    "The model detects nothing in this picture: no box reaches its score threshold. Its layers can be looked at all "
    "the same. torchvision's detectors take a lower threshold by "
    "--factory-arg box_score_thresh=0.01 or score_thresh=0.01."
)
NOTHING_RAW = (
    f"No box of the model reaches a score of {LEAST_SCORE} in this picture. Its layers can be looked at all the same."
)
OF_MASK = (
    "the mean of its logits over the positions inside it, those above 0, of the grid on which the model makes it (28 × "
    "28 in torchvision's)"
)
OF_KEYPOINT = "its score as the model gives it (in torchvision's the highest value of its heatmap)"


def rows(scene: Scene, side: str, found: Detections) -> list[Any]:
    """The list; a click explains the box."""
    if not len(found.scores):
        output = scene.info_of(side).output(scene.reading(side))
        return [html.P(NOTHING_RAW if output and output.raw else NOTHING, className="sentence")]
    chosen = chosen_box(scene.aim(side), found)
    listed: list[Any] = [_row(scene, side, found, int(index), int(index) == chosen) for index in _order(found)[:LISTED]]
    if chosen is not None and chosen in (places := _order(found)[:LISTED].tolist()):
        listed[places.index(chosen) + 1 : places.index(chosen) + 1] = _parts(scene, side, found, chosen)
    left = len(found.scores) - LISTED
    return [*listed, html.P(f"and {left} more below these", className="muted")] if left > 0 else listed


def _parts(scene: Scene, side: str, found: Detections, chosen: int) -> list[html.Div]:
    """What of the chosen box is explained: its score, where one of its sides lies, its mask, one of its keypoints."""
    target = scene.aim(side)
    now = target if isinstance(target, Box) else Box(chosen)
    chips = [_chip(scene, side, Box(chosen), now, "score", f"Explain the score of box {chosen}.")]
    chips += [
        _chip(scene, side, Box(chosen, part), now, part, f"Explain where its {part} side lies.") for part in SIDES
    ]
    if found.masks is not None:
        chips.append(
            _chip(scene, side, Box(chosen, "mask"), now, "mask", f"Explain the mask of box {chosen}: {OF_MASK}.")
        )
    lines = [html.Div([html.Span("its", className="muted"), *chips], className="box-parts")]
    if found.keypoints is not None:
        lines.append(_keypoints(scene, side, found.keypoints, chosen, now))
    if now.part in ("mask", "keypoint"):
        meant = OF_MASK if now.part == "mask" else OF_KEYPOINT
        lines.append(html.Div(f"Explained is {part_of(now)} of box {chosen}: {meant}.", className="box-parts muted"))
    return lines


def _keypoints(scene: Scene, side: str, keypoints: Keypoints, chosen: int, now: Box) -> html.Div:
    scores = keypoints.scores[chosen]
    names = [point_name(point, len(scores)) for point in range(len(scores))]
    chips = [
        _chip(
            scene,
            side,
            Box(chosen, "keypoint", point),
            now,
            [f"{point} {name}".rstrip() + " ", html.Span(_score(score), className="mono muted")],
            f"Explain keypoint {point} of box {chosen}: {OF_KEYPOINT}.",
        )
        for point, (name, score) in enumerate(zip(names, map(float, scores), strict=True))
    ]
    named = len(names) == len(COCO_POINTS)
    help_text = "As there are 17, they are named and joined as COCO does a person's." if named else "By number."
    return html.Div([html.Span("keypoints", className="muted", title=help_text), *chips], className="box-parts")


def _score(score: float) -> str:
    return "" if math.isnan(score) else f"{score:.1f}"


def _chip(scene: Scene, side: str, wanted: Box, now: Box, text: Any, help_text: str) -> html.Button:
    value = json.dumps({scene.target_field(side): write_target(wanted)})
    return html.Button(
        text,
        className="chip chosen" if wanted == now else "chip",
        title=help_text,
        **{"data-do": "set", "data-value": value, "aria-pressed": "true" if wanted == now else "false"},
    )


def draw_boxes(scene: Scene, side: str, prediction: Prediction, frame: tuple[float, float, float, float]) -> list[Any]:
    """The boxes over a picture that shows a part of the original, under the numbers that they have in the list.

    Arguments:
        frame: (left, top, right, bottom) of what it shows, in pixels of the original.
    """
    found = prediction.detections
    if found is None:
        return []
    chosen = chosen_box(scene.aim(side), found)
    order = [int(index) for index in _order(found)]
    places = [*order[:LISTED], *([chosen] if chosen is not None and chosen not in order[:LISTED] else [])]
    seen = {*order[:DRAWN], chosen}
    sizes = np.prod(np.maximum(found.boxes[:, 2:] - found.boxes[:, :2], 0), axis=1)
    places.sort(key=lambda index: (-sizes[index], -order.index(index)))  # the smaller on top, to be clicked
    rectangles = [_rectangle(scene, side, found, index, index == chosen, index in seen, frame) for index in places]
    return [*_laid_over(scene, side, found, [(index, index in seen) for index in places], frame), *rectangles]


def _laid_over(
    scene: Scene,
    side: str,
    found: Detections,
    places: list[tuple[int, bool]],
    frame: tuple[float, float, float, float],
) -> list[html.Img]:
    """The masks and keypoints of boxes, each in its box's colour, to lie under the boxes' rectangles."""
    unit, target = scene.prediction(side), scene.aim(side)
    pictures = []
    for index, seen in places:
        look = "laid" if seen else "laid unlit"
        if found.masks is not None and found.masks.areas[index]:
            source = scene.picture(("mask", unit, index), partial(_mask, scene, unit, index))
            style = place(found.masks.extents[index], frame)
            pictures.append(html.Img(src=source, alt="", className=look, style=style, **{"data-box": str(index)}))
        if found.keypoints is not None:
            is_marked = isinstance(target, Box) and target.index == index and target.part == "keypoint"
            marked = target.keypoint if is_marked and isinstance(target, Box) else None
            draw = partial(_figure, scene, unit, index, frame, marked)
            source = scene.picture(("keypoints", unit, index, frame, marked), draw, "image/svg+xml")
            style = {"left": "0", "top": "0", "width": "100%", "height": "100%"}
            pictures.append(html.Img(src=source, alt="", className=look, style=style, **{"data-box": str(index)}))
    return pictures


def _mask(scene: Scene, unit: Unit, index: int) -> bytes:
    found = scene.kept(unit, Prediction).detections
    assert found is not None and found.masks is not None
    return mask_png(found.masks.of(index), colour_of(index))


def _figure(
    scene: Scene, unit: Unit, index: int, frame: tuple[float, float, float, float], marked: int | None
) -> bytes:
    found = scene.kept(unit, Prediction).detections
    assert found is not None and found.keypoints is not None
    left, top, right, bottom = frame
    size = np.maximum([right - left, bottom - top], 1e-6)
    return keypoints_svg((found.keypoints.places[index] - [left, top]) / size, colour_of(index), marked)


def _rectangle(
    scene: Scene,
    side: str,
    found: Detections,
    index: int,
    chosen: bool,
    seen: bool,
    frame: tuple[float, float, float, float],
) -> html.Button:
    """A box on the picture, with its number; one that is not `seen` shows while its row is pointed at."""
    name = f"Box {index}, {scene.class_name(side, int(found.labels[index]))}: score {found.scores[index]:.3f}."
    looks = ["detection", "chosen" if chosen else "", "" if seen else "unlit"]
    return html.Button(
        html.Span(str(index), className="number"),
        className=" ".join(filter(None, looks)),
        style=place(found.boxes[index], frame),
        title=f"{name} Click to explain {_explains(scene, side, found, index)[1]}.",
        tabIndex="-1",  # its row in the list is where the keyboard stops
        **{**_do(scene, side, found, index), "aria-label": name},
    )


def chosen_box(target: Target, found: Detections) -> int | None:
    """The box that is explained of a picture; None if none was chosen, or the picture has no such box."""
    if isinstance(target, Class):
        best = found.best(target.index)
        return best if best >= 0 else None
    return target.index if isinstance(target, Box) and target.index < len(found.scores) else None


def _order(found: Detections) -> np.ndarray:
    return np.argsort(-found.scores, kind="stable")


def _row(scene: Scene, side: str, found: Detections, index: int, chosen: bool) -> html.Button:
    label, score = int(found.labels[index]), float(found.scores[index])
    name = scene.class_name(side, label)
    left, top, right, bottom = (f"{edge:.0f}" for edge in found.boxes[index])
    where = f"from ({left}, {top}) to ({right}, {bottom}) in pixels of the picture"
    what = _explains(scene, side, found, index)[1]
    return html.Button(
        [
            html.Span(str(index), className="number"),
            html.Span(name, className="class"),
            html.Span(html.Span(style={"width": f"{min(max(score, 0), 1) * 100:.2f}%"}), className="bar"),
            html.Span(f"{score:.3f}", className="mono"),
            *_besides(found, index),
        ],
        className="row boxed chosen" if chosen else "row boxed",
        title=f"Box {index}, {name}: score {format_number(score)}, {where}. Click to explain {what}.",
        **_do(scene, side, found, index),
    )


def _besides(found: Detections, index: int) -> list[html.Span]:
    """What a box has beside its score, in the colour in which that is drawn."""
    said = []
    if found.masks is not None:
        said.append(f"mask {found.masks.areas[index]:,.0f} px")
    if found.keypoints is not None:
        scores = found.keypoints.scores[index]
        known = scores[np.isfinite(scores)]
        span = f", scores {known.min():.1f} to {known.max():.1f}" if known.size else ""
        said.append(f"{len(scores)} keypoints{span}")
    if not said:
        return []
    swatch = html.Span(className="swatch", style={"background": colour_of(index)})
    return [html.Span([swatch, " · ".join(said)], className="besides muted")]


def _do(scene: Scene, side: str, found: Detections, index: int) -> dict[str, str]:
    """What a click on a box does, and the number by which row and rectangle light each other (assets/boxes.js)."""
    target = write_target(_explains(scene, side, found, index)[0])
    return {"data-do": scene.target_field(side), "data-value": target, "data-box": str(index)}


def _explains(scene: Scene, side: str, found: Detections, index: int) -> tuple[Target, str]:
    """The target that a box stands for, and what that is called.

    The best box of a class stands for the class, so that the other picture's best box of it is explained too.
    """
    label = int(found.labels[index])
    of_class = found.best(label) == index and 0 <= label < len(scene.info_of(side).classes)
    if of_class and scene.class_name(side, label) not in NO_CLASSES:
        return Class(label), "the best box of this class"
    return Box(index), "this box"


def place(box: np.ndarray, frame: tuple[float, float, float, float]) -> dict[str, str]:
    """Where a box lies on a picture that shows a part of the original, as a style."""
    left, top, right, bottom = frame
    width, height = max(right - left, 1e-6), max(bottom - top, 1e-6)
    x, y = (float(box[0]) - left) / width, (float(box[1]) - top) / height
    shares = {"left": x, "top": y, "width": float(box[2] - box[0]) / width, "height": float(box[3] - box[1]) / height}
    return {name: f"{value * 100:.2f}%" for name, value in shares.items()}
