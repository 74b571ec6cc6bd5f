"""What can be asked of a model: units, the questions they ask, and the keys under which answers are kept.

A unit is the smallest thing that is computed once and cached: (model, input, question, layer, call, target, settings).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from hookscope.hooks.methods import INPUTS, MAPS, Rows
from hookscope.hooks.results.codec import register


@dataclass(frozen=True)
class Question:
    """Something that can be asked; the methods of `hooks.methods` are questions under their own names, too.

    Attributes:
        name: in units, and so in the keys of kept answers. title: for people, "the prediction".
        results: the types of its answers, and of what stands in them, that `results.codec` does not know already.
        about_input: whether it is about a whole input; the others are about a layer.
        explained: whether it has a target.
        takes_minutes: its handler yields what it knows so far; quick questions are answered in between.
    """

    name: str
    title: str
    results: tuple[type[Any], ...] = ()
    about_input: bool = False
    explained: bool = True
    takes_minutes: bool = False


class Questions(Rows[Question]):
    """Rows whose answers can be read."""

    def add(self, row: Question) -> None:
        """Offer one more; see `hooks.methods.Rows`."""
        super().add(row)
        for kind in row.results:
            register(kind)


QUESTIONS = Questions(
    Question("prediction", "the prediction", about_input=True, explained=False),
    Question("activation", "the activation", explained=False),
    Question("attention", "the attention", explained=False),
    Question("gradients", "gradients by layer", about_input=True),
    Question("survey", "numbers of every layer", about_input=True),
)


def question_of(name: str) -> Question:
    """The question of a name.

    Raises:
        ValueError: there is none.
    """
    if name in QUESTIONS:
        return QUESTIONS[name]
    if name in MAPS:
        return Question(name, MAPS[name].title)
    if name in INPUTS:
        return Question(name, INPUTS[name].title, about_input=True)
    raise ValueError(f"there is no question {name!r}")


TOP = -1  # the target "whatever class the model itself ranks first"
NO_TARGET = -2  # of a survey that needs no gradient
FIRST_BOX = -3  # a detector's box 0; box 1 is -4, and so on


@dataclass(frozen=True, slots=True)
class Unit:
    """One question about one input.

    Attributes:
        model: the model's spec, as the operator wrote it.
        input: SHA-256 of the input's pixels, hexadecimal.
        question: what is asked, see `question_of`; a survey has a target for gradients only.
        layer: dotted name; "" is the model itself.
        call: which call of the layer, from 0.
        target: class index whose logit is explained; `TOP` for the model's own first class, `box_target(n)` for a
            detector's box n.
        settings: what else the question names, as a text that its handler reads.
    """

    model: str
    input: str
    question: str
    layer: str = ""
    call: int = 0
    target: int = TOP
    settings: str = ""

    def __post_init__(self) -> None:
        question_of(self.question)

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
