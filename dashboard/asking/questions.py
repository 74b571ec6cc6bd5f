"""What can be asked of a model: units, the questions they ask, and the keys under which answers are kept.

A unit is the smallest thing that is computed once and cached: (model, input, layer, call, question, target).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, get_args

MapQuestion = Literal["gradcam", "gradcam++", "layercam", "scorecam"]  # the names of results.looks.MAP_METHODS
InputQuestion = Literal["saliency", "integrated gradients", "occlusion"]  # the names of results.looks.INPUT_METHODS
Question = Literal["prediction", "activation", "attention", "gradients", "survey", MapQuestion, InputQuestion]

TITLES: dict[Question, str] = {
    "prediction": "the prediction",
    "activation": "the activation",
    "attention": "the attention",
    "gradients": "gradients by layer",
    "survey": "numbers of every layer",
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "layercam": "LayerCAM",
    "scorecam": "Score-CAM",
    "saliency": "saliency",
    "integrated gradients": "integrated gradients",
    "occlusion": "occlusion",
}
WITHOUT_TARGET = ("prediction", "activation", "attention")
ABOUT_INPUT = ("prediction", "gradients", "survey", *get_args(InputQuestion))  # the others are about a layer

DEFAULT_MODEL = "embedded"  # the spec of the model that comes with the installation
TOP = -1  # the target "whatever class the model itself ranks first"
NO_TARGET = -2  # of a survey that needs no gradient
FIRST_BOX = -3  # a detector's box 0; box 1 is -4, and so on


@dataclass(frozen=True, slots=True)
class Unit:
    """One question about one input.

    Attributes:
        model: the model's spec, as the operator wrote it.
        input: SHA-256 of the input's pixels, hexadecimal.
        question: what is asked; those `ABOUT_INPUT` have no layer, those `WITHOUT_TARGET` no target, and a survey has
            one for gradients only.
        layer: dotted name; "" is the model itself.
        call: which call of the layer, from 0.
        target: class index whose logit is explained; `TOP` for the model's own first class, `box_target(n)` for a
            detector's box n.
    """

    model: str
    input: str
    question: Question
    layer: str = ""
    call: int = 0
    target: int = TOP

    def key(self, fingerprint: str) -> str:
        """The cache key: SHA-256 over this unit and what may change its answer.

        Arguments:
            fingerprint: the loaded model's identity (spec, weights' hash, our version, torch's).
        """
        text = json.dumps([fingerprint, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def box_target(index: int) -> int:
    """A detector's box as a target, by its 0-based place in the model's output."""
    return FIRST_BOX - index


def box_of(target: int | None) -> int | None:
    """The place of the box that a target means; None if it means none."""
    return FIRST_BOX - target if target is not None and target <= FIRST_BOX else None
