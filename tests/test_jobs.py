"""Questions: the library's methods under their own names, a title for each, and a key that tells them apart."""

from __future__ import annotations

from dataclasses import replace

from hookscope.dashboard.asking.questions import QUESTIONS as OTHERS
from hookscope.dashboard.asking.questions import Unit, question_of
from hookscope.dashboard.engine.queue import Batch
from hookscope.dashboard.engine.supervisor import describe
from hookscope.dashboard.worker.handlers import HANDLERS, handler_of, input_attributions, layer_maps
from hookscope.hooks.methods import INPUTS, MAPS

QUESTIONS = (*OTHERS, *MAPS, *INPUTS)


def test_every_question_has_a_title_and_something_that_answers_it() -> None:
    assert len(QUESTIONS) == len({question_of(question).title for question in QUESTIONS})
    assert set(HANDLERS) == set(OTHERS) and not set(OTHERS) & {*MAPS, *INPUTS} and not {*MAPS} & {*INPUTS}
    assert {handler_of(question) for question in MAPS} == {layer_maps}
    assert {handler_of(question) for question in INPUTS} == {input_attributions}


def test_the_same_unit_with_another_question_is_another_answer() -> None:
    unit = Unit("m", "digest", "gradcam", "conv", 0, 3)
    keys = {replace(unit, question=question).key("f") for question in QUESTIONS}
    assert len(keys) == len(QUESTIONS)


def test_what_a_batch_computes_in_words() -> None:
    def said(question: str, *layers: str) -> str:
        units = tuple(Unit("m", "digest", question, layer) for layer in layers or ("",))
        return describe(Batch(1, units, lambda _: b""))

    assert said("prediction") == "the prediction" and said("gradients") == "gradients by layer"
    assert said("activation", "conv") == "conv" and said("activation", "a", "b") == "2 layers"
    assert said("scorecam", "conv") == "Score-CAM of conv" and said("layercam", "a", "b") == "LayerCAM of 2 layers"
    assert said("activation", "") == "the whole model" and said("occlusion") == "occlusion"
