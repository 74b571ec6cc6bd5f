"""Parts: when a region has to be drawn again, and what it reads out of the answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from units import but, unit_of

from hookscope.dashboard.answers.parts import Part, failures, result_of
from hookscope.dashboard.asking.answers import Answer, Failure
from hookscope.dashboard.asking.sides import Preparation

UNIT = unit_of("m", "digest", "activation", "conv")
OTHER = but(UNIT, layer="fc")
PART = Part("card 0", (UNIT, OTHER), ("conv", 3, None), lambda _: [])


@pytest.mark.parametrize(
    "changed",
    [
        replace(PART, name="card 1"),
        replace(PART, units=(UNIT,)),
        replace(PART, units=(OTHER, UNIT)),
        replace(PART, units=()),
        replace(PART, shows=("conv", 3)),
        replace(PART, shows=("conv", "3", None)),
        replace(PART, shows=("conv", 3, False)),
        replace(PART, shows=()),
        *(
            replace(PART, units=(but(UNIT, **{name: value}), OTHER))
            for name, value in (
                ("model", "n"),
                ("input", "digest2"),
                ("layer", "conv2"),
                ("call", 1),
            )
        ),
        replace(PART, units=(unit_of("m", "digest", "gradcam", "conv"), OTHER)),
        replace(PART, units=(unit_of("m", "digest", "gradcam", "conv", 0, 5), OTHER)),
        replace(PART, units=(but(UNIT, preparation=Preparation(channels="bgr")), OTHER)),
    ],
)
def test_whatever_a_region_shows_is_in_its_signature(changed: Part) -> None:
    assert changed.signature() != PART.signature()


def test_a_signature_is_the_same_for_the_same_region_and_does_not_depend_on_how_it_is_drawn() -> None:
    same = Part("card 0", [UNIT, replace(OTHER)], ("conv", 3, None), lambda _: [("other", {})], error="x", eager=False)
    assert same.signature() == PART.signature()
    assert len(PART.signature()) == 24 and PART.signature().isalnum()


def test_values_cannot_slide_from_one_field_into_the_next() -> None:
    first, second = (Part("p", (), shows, lambda _: []) for shows in (("ab", "c"), ("a", "bc")))
    assert first.signature() != second.signature()
    assert replace(PART, name="a", shows=("b",)).signature() != replace(PART, name="ab", shows=()).signature()


def test_a_region_is_complete_when_each_unit_is_answered_in_whatever_way() -> None:
    assert not PART.complete({}) and not PART.complete({UNIT: Answer(1)})
    assert PART.complete({UNIT: Answer(1), OTHER: Answer(Failure("no"))})
    assert replace(PART, units=()).complete({})


def test_a_result_is_given_only_as_what_it_is() -> None:
    answers = {UNIT: Answer("text"), OTHER: Answer(Failure("It failed."))}
    assert result_of(answers, UNIT, str) == "text"
    assert result_of(answers, UNIT, int) is None
    assert result_of(answers, OTHER, str) is None
    assert result_of(answers, None, str) is None
    assert result_of({}, UNIT, str) is None


def test_each_reason_is_said_once_in_the_order_of_the_units() -> None:
    third, fourth = but(UNIT, layer="c"), but(UNIT, layer="d")
    answers = {
        fourth: Answer(Failure("second")),
        UNIT: Answer(Failure("first")),
        OTHER: Answer(Failure("first")),
        third: Answer(5),
    }
    assert failures(answers, (UNIT, third, OTHER, fourth)) == [Failure("first"), Failure("second")]
    assert failures(answers, (third,)) == [] and failures({}, (UNIT,)) == []
