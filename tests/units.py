"""Units in few words: what the tests of the engine, the worker and the page ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import Image

from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import (
    QUESTIONS,
    ActivationOf,
    AttentionOf,
    ClassMap,
    EffectsOf,
    GradientsOf,
    GramsOf,
    InputMap,
    PredictionOf,
    SharesOf,
    SurveyOf,
    Unit,
    WeightsOf,
)
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.asking.targets import Target, write_target
from hookscope.dashboard.inputs import rows
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.methods import INPUTS, MAPS
from hookscope.hooks.results.codec import decode
from hookscope.hooks.results.targets import OWN, Box, Class

EXPLAINED: dict[str, Any] = {"shares": SharesOf, "effects": EffectsOf}
NAMES = {PredictionOf: "prediction", ActivationOf: "activation", AttentionOf: "attention", GradientsOf: "gradients"}


def unit_of(
    model: str, image: str, what: str, layer: str = "", call: int = 0, target: Target | int | None = OWN
) -> Unit:
    """A question by the name of what is asked, or of its method, about an image in a model."""
    return Unit(Side(model, image), question_of(what, layer, call, target))


def question_of(what: str, layer: str = "", call: int = 0, target: Target | int | None = OWN) -> Any:
    """The question alone; a class may be given by its index, and of a survey None is no target."""
    aim = Class(target) if isinstance(target, int) else target
    if what == "survey":
        return SurveyOf(aim)
    assert aim is not None
    if what == "likeness":
        return GramsOf(("one", "other"))
    if what == "weights":
        return WeightsOf(layer)
    if what in EXPLAINED:
        return EXPLAINED[what](layer, call, aim)
    if what in MAPS:
        return ClassMap(layer, call, what, aim)
    if what in INPUTS:
        return InputMap(what, aim)
    if what == "gradients":
        return GradientsOf(aim)
    kinds: dict[str, Any] = {name: kind for kind, name in NAMES.items()}
    return PredictionOf() if what == "prediction" else kinds[what](layer, call)


def what_of(asked: Unit) -> str:
    """The name by which `unit_of` makes such a question."""
    return getattr(asked.question, "method", NAMES.get(type(asked.question), "survey"))


def answer_of(data: bytes) -> Any:
    """An answer of any question."""
    return decode(data, *(kind for row in QUESTIONS.values() for kind in row.results))


def but(unit: Unit, **values: Any) -> Unit:
    """A unit with other values of some fields, its side's or its question's."""
    of_side = {name: value for name, value in values.items() if name in ("model", "input", "preparation")}
    of_question = {name: value for name, value in values.items() if name not in of_side}
    return Unit(replace(unit.side, **of_side), replace(unit.question, **of_question))


def box(number: int) -> str:
    """A detector's box as a target, as an address holds it."""
    return write_target(Box(number))


def of(scene: Scene, side: str, what: str, key: str = "") -> Unit:
    """What a scene asks about one of its sides, by the name of what is asked."""
    layer, call = parse_key(key)
    return Unit(scene.side(side), question_of(what, layer, call, scene.target(side)))


def rows_of(image: Image.Image) -> bytes:
    """A picture as the server sends it to a worker."""
    return rows.head(*image.size) + image.convert("RGB").tobytes()
