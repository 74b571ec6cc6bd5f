"""What a model answers to a picture: the classes that it ranks first, the boxes, or the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.web.api.answers import Refused
from hookscope.dashboard.web.api.looking import Asked, about, pictured
from hookscope.hooks.results.looks import Detections, Prediction
from hookscope.hooks.results.outputs import Scores
from hookscope.hooks.results.scores import top_classes

CLASSES, MOST_CLASSES = 5, 100
NAMES_NOTHING = (
    "The answer of this model is no list of classes, boxes or numbers with names. Look at its layers instead."
)
WANTS_CAPTIONS = "This model compares a picture with captions. Give some as captions, a line each."


def top(asked: Asked) -> dict[str, Any]:
    """The first classes, boxes or numbers of a model's answer to a picture."""
    count = asked.given.whole("k", CLASSES, 1, MOST_CLASSES)
    scene = asked.one_side()
    info = scene.info_of("a")
    found = asked.result(scene.prediction("a"), Prediction)
    head = {
        **about(info, scene.view.model),
        **pictured(scene),
        "crop": {"left_top_right_bottom": found.crop, "of": "the picture's own pixels"},
    }
    if found.detections is not None:
        return {**head, "reads": "boxes", **boxes(scene, found.detections, count)}
    if found.scores is None:
        raise Refused(found.note.partition("\n")[0] or NAMES_NOTHING, 404)
    if found.scores.reads == "embedding" and info.captioned:
        raise Refused(WANTS_CAPTIONS, 404)
    if found.scores.reads == "embedding" or not scene.classes("a"):
        raise Refused(NAMES_NOTHING, 404)
    return {**head, "reads": found.scores.reads, "number": scene.called("a"), **classes(scene, found.scores, count)}


def classes(scene: Scene, scores: Scores, count: int) -> dict[str, Any]:
    """The classes with the largest shares, or numbers where there are no shares; equal ones by index.

    Raises:
        Refused: some are not finite, so that nothing has a rank.
    """
    ranked = scores.shares if len(scores.shares) else scores.logits
    best = top_classes(ranked, count)
    if not best:
        raise Refused("The network's answer contains NaN or infinite values: there is no ranking.", 422)
    rows = [
        {
            "index": index,
            "class": scene.class_name("a", index),
            "share": share if len(scores.shares) else None,
            "logit": float(scores.logits[index]) if index < len(scores.logits) else None,
        }
        for index, share in best
    ]
    return {"top": rows, "classes": len(ranked)}


def boxes(scene: Scene, found: Detections, count: int) -> dict[str, Any]:
    """The boxes with the highest scores, in pixels of the picture; equal ones in the order of the output."""
    rows = [
        {
            "box": index,
            "index": int(found.labels[index]),
            "class": scene.class_name("a", int(found.labels[index])),
            "score": float(found.scores[index]),
            "left_top_right_bottom": found.boxes[index],
        }
        for index in np.argsort(-found.scores, kind="stable")[:count].tolist()
    ]
    return {"top": rows, "boxes": len(found.scores)}
