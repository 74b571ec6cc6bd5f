"""What can be asked of a model: units, the questions they ask, and the keys under which answers are kept.

A unit is the smallest thing that is computed once and cached: (model, input, layer, call, question, target).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

Question = Literal["prediction", "activation", "gradcam", "attention", "survey"]

TOP = -1  # the target "whatever class the model itself ranks first"
NO_TARGET = -2  # of a survey that needs no gradient


@dataclass(frozen=True, slots=True)
class Unit:
    """One question about one input.

    Attributes:
        model: the model's spec, as the operator wrote it.
        input: SHA-256 of the input's pixels, hexadecimal.
        question: what is asked; "prediction" and "survey" have no layer, only "gradcam" and "survey" have a target.
        layer: dotted name; "" is the model itself.
        call: which call of the layer, from 0.
        target: class index whose logit is explained; `TOP` for the model's own first class.
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
