"""Questions: a title for each, something that answers it, a key that tells them apart, and what one run answers."""

from __future__ import annotations

import dataclasses

import pytest
from units import EXPLAINED, NAMES, question_of, unit_of

from hookscope.dashboard.asking.questions import QUESTIONS, ClassMap, InputMap, SurveyOf, Unit, question
from hookscope.dashboard.asking.sides import Preparation, Side
from hookscope.dashboard.asking.targets import read_target, write_target
from hookscope.dashboard.engine.queue import Batch
from hookscope.dashboard.engine.supervisor import describe
from hookscope.dashboard.worker.handlers import HANDLERS
from hookscope.hooks.methods import INPUTS, MAPS
from hookscope.hooks.results.targets import OWN, Box, Class

ASKED = [*NAMES.values(), *MAPS, *INPUTS, "survey", "weights", "likeness", *EXPLAINED]
OF_SEVERAL = {"PartingOf", "CalibrationOf", "RestoredOf", "RestoredPartsOf"}  # sides or pictures; see test_depth.py
OF_SETS = {"SweepOf", "FieldOf", "PrunableOf", "PruningOf", "CheckUpOf"}  # see test_set_sweeps.py


def test_every_question_has_a_title_and_something_that_answers_it() -> None:
    assert len({unit_of("m", "digest", each).title for each in ASKED}) == len(ASKED)
    asked = {type(question_of(each)).__name__ for each in ASKED}
    assert set(HANDLERS) == set(QUESTIONS) == asked | OF_SEVERAL | OF_SETS
    assert all(row.results for row in QUESTIONS.values())


def test_whatever_may_change_an_answer_is_in_its_key_and_the_models_name_is_not() -> None:
    units = [unit_of("m", "digest", each, "conv", 0, 3) for each in ASKED]
    units += [
        unit_of("m", "digest", "gradcam", *more) for more in (("conv", 1, 3), ("relu", 0, 3), ("conv", 0, Box(3)))
    ]
    units += [unit_of("m", "digest", "gradcam", "conv"), unit_of("m", "other", "gradcam", "conv")]
    units += [unit_of("m", "digest", "survey", target=None)]
    units += [Unit(Side("m", "digest", Preparation(channels=each)), units[0].question) for each in ("bgr", "grey")]
    assert len({each.key("f") for each in units}) == len(units) == len(set(units))
    named = dataclasses.replace(units[0], side=dataclasses.replace(units[0].side, model="another name"))
    assert named != units[0] and named.key("f") == units[0].key("f") != units[0].key("g")


def test_one_run_answers_what_differs_in_nothing_but_layer_and_call() -> None:
    first = unit_of("m", "digest", "gradcam", "conv", 0, 3)
    assert first.alike(unit_of("m", "digest", "gradcam", "relu", 1, 3))
    for other in (
        unit_of("m", "digest", "gradcam", "conv", 0, 4),
        unit_of("m", "digest", "layercam", "conv", 0, 3),
        unit_of("m", "digest", "activation", "conv"),
        unit_of("m", "other", "gradcam", "conv", 0, 3),
        Unit(Side("m", "digest", Preparation(size="squeezed")), first.question),
    ):
        assert not first.alike(other)


def test_a_question_by_an_unknown_method_or_under_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(ValueError, match="no method 'exec'"):
        ClassMap("conv", 0, "exec")
    with pytest.raises(ValueError, match="no method 'gradcam'"):
        InputMap("gradcam")
    with pytest.raises(ValueError, match="called 'SurveyOf' already"):
        question("again", int)(SurveyOf)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("0", Class(0)),
        ("999999", Class(999_999)),
        (285, Class(285)),
        ("box:0", Box(0)),
        ("box:9999", Box(9999)),
        ("box:3:left", Box(3, "left")),
        ("box:3:bottom", Box(3, "bottom")),
        ("box:3:middle", OWN),
        ("box:3:mask", Box(3, "mask")),
        ("box:3:keypoint:16", Box(3, "keypoint", 16)),
        *((bad, OWN) for bad in ("box:3:keypoint", "box:3:keypoint:", "box:3:keypoint:-1", "box:3:mask:1", "3:mask")),
        ("3:left", OWN),
        ("-3", Box(0)),  # as earlier versions wrote it
        (-5, Box(2)),
        *(
            (bad, OWN)
            for bad in ("", "top", None, "-1", "-2", "-99999", "box:10000", "box:", "1000000", "٣", "1.5", True)
        ),
    ],
)
def test_a_target_is_read_as_it_is_written(text: object, target: object) -> None:
    found = read_target(text)
    assert found == target and read_target(write_target(found)) == found


def test_a_preparation_is_read_as_it_is_written() -> None:
    for text in ("", "bgr", "bytes,grey", "twice,bgr,squeezed,nearest"):
        assert Preparation.read(text).write() == text
    assert Preparation.read("bgr,grey,own,nonsense").write() == "grey"
    assert Preparation.read(None) == Preparation.read(["bgr"]) == Preparation()
    assert Preparation.read("squeezed,bytes").text == "0 to 255, squeezed, not cropped"


def test_what_a_batch_computes_in_words() -> None:
    def said(question: str, *layers: str) -> str:
        units = tuple(unit_of("m", "digest", question, layer) for layer in layers or ("",))
        return describe(Batch(1, units, lambda _: b""))

    assert said("prediction") == "the prediction" and said("gradients") == "gradients by layer"
    assert said("activation", "conv") == "conv" and said("activation", "a", "b") == "2 layers"
    assert said("scorecam", "conv") == "Score-CAM of conv" and said("layercam", "a", "b") == "LayerCAM of 2 layers"
    assert said("activation", "") == "the whole model" and said("occlusion") == "occlusion"
