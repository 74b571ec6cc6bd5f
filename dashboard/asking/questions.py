"""What can be asked of a model: units, the questions they ask, and the keys under which answers are kept.

A unit is the smallest thing that is computed once and cached: (model, input, layer, call, question, target).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from hookscope.hooks.methods import INPUTS, MAPS

# What is asked of an input or a layer besides the methods of `hooks.methods`, each a question under its own name.
OTHERS = {
    "prediction": "the prediction",
    "activation": "the activation",
    "attention": "the attention",
    "gradients": "gradients by layer",
    "survey": "numbers of every layer",
}
WITHOUT_TARGET = ("prediction", "activation", "attention")


def title_of(question: str) -> str:
    """A question in words."""
    return OTHERS[question] if question in OTHERS else (MAPS if question in MAPS else INPUTS)[question].title


def is_about_input(question: str) -> bool:
    """Whether a question is about a whole input; the others are about a layer."""
    return question in ("prediction", "gradients", "survey") or question in INPUTS


TOP = -1  # the target "whatever class the model itself ranks first"
NO_TARGET = -2  # of a survey that needs no gradient
FIRST_BOX = -3  # a detector's box 0; box 1 is -4, and so on


@dataclass(frozen=True, slots=True)
class Unit:
    """One question about one input.

    Attributes:
        model: the model's spec, as the operator wrote it.
        input: SHA-256 of the input's pixels, hexadecimal.
        question: what is asked: one of `OTHERS`, `methods.MAPS`, `methods.INPUTS`. What `is_about_input` has no layer,
            what is `WITHOUT_TARGET` no target, and a survey has one for gradients only.
        layer: dotted name; "" is the model itself.
        call: which call of the layer, from 0.
        target: class index whose logit is explained; `TOP` for the model's own first class, `box_target(n)` for a
            detector's box n.
    """

    model: str
    input: str
    question: str
    layer: str = ""
    call: int = 0
    target: int = TOP

    def __post_init__(self) -> None:
        if self.question not in OTHERS and self.question not in MAPS and self.question not in INPUTS:
            raise ValueError(f"there is no question {self.question!r}")

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
