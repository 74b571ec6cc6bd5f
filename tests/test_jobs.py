"""Questions: the library's methods under their own names, a title for each, and a key that tells them apart."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from hookscope.dashboard.asking.questions import (
    ABOUT_INPUT,
    TITLES,
    WITHOUT_TARGET,
    InputQuestion,
    MapQuestion,
    Question,
    Unit,
)
from hookscope.dashboard.engine.queue import Batch
from hookscope.dashboard.engine.supervisor import describe
from hookscope.dashboard.panels.attributions import HELP
from hookscope.dashboard.panels.card.cam import HELP as MAP_HELP
from hookscope.dashboard.panels.toolbar import MAPS
from hookscope.dashboard.worker.handlers import HANDLERS
from hookscope.hooks.results.looks import INPUT_METHODS, MAP_METHODS

QUESTIONS = {name for part in get_args(Question) for name in (get_args(part) or (part,))}


def test_the_methods_have_the_librarys_names() -> None:
    assert get_args(MapQuestion) == MAP_METHODS and get_args(InputQuestion) == INPUT_METHODS
    assert {name for name, _, _ in MAPS} == set(MAP_METHODS) == set(MAP_HELP)
    assert set(HELP) == set(INPUT_METHODS)


def test_every_question_has_a_title_and_a_handler() -> None:
    assert set(TITLES) == set(HANDLERS) == QUESTIONS
    assert set(WITHOUT_TARGET) | set(ABOUT_INPUT) <= QUESTIONS
    assert all(text == TITLES[name] for name, text, _ in MAPS)


def test_the_same_unit_with_another_question_is_another_answer() -> None:
    unit = Unit("m", "digest", "gradcam", "conv", 0, 3)
    keys = {replace(unit, question=question).key("f") for question in QUESTIONS}
    assert len(keys) == len(QUESTIONS)


def test_what_a_batch_computes_in_words() -> None:
    def said(question: Question, *layers: str) -> str:
        units = tuple(Unit("m", "digest", question, layer) for layer in layers or ("",))
        return describe(Batch(1, units, lambda _: b""))

    assert said("prediction") == "the prediction" and said("gradients") == "gradients by layer"
    assert said("activation", "conv") == "conv" and said("activation", "a", "b") == "2 layers"
    assert said("scorecam", "conv") == "Score-CAM of conv" and said("layercam", "a", "b") == "LayerCAM of 2 layers"
    assert said("activation", "") == "the whole model" and said("occlusion") == "occlusion"
