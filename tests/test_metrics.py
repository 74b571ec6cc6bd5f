"""A survey as bars: lengths, scales and words, by hand."""

import math

import pytest

from hookscope.dashboard.drawing.metrics import SHORTEST, bars, scale_text, texts, worst_first
from hookscope.hooks.methods import METRICS
from hookscope.hooks.results.summaries import Survey, SurveyedCall


def survey(*values: float, calls: int = 1) -> Survey:
    """Layers "a", "b" and so on, with every number the same; each is called so many times, ten times larger each."""
    return Survey(
        tuple(
            SurveyedCall(name, call, dict.fromkeys(METRICS, value * 10**call))
            for name, value in zip("abcdefgh", values, strict=False)
            for call in range(calls)
        ),
        -1,
    )


def test_shares_are_drawn_from_nothing_to_all():
    found = survey(0.0, 0.25, 1.0, math.nan)
    assert bars(found, METRICS["zeros"], ["d", "c", "b", "a", ""]) == [None, 1.0, 0.25, 0.0, None]
    assert scale_text(found, METRICS["zeros"]) == "bars from 0 to 100 %"
    assert texts(found, METRICS["dead"], ["b", "d", "x"], "A") == [
        "silent channels of A: 25.0 %",
        "silent channels of A: none",
        "",
    ]


def test_entropy_is_drawn_against_the_most_that_the_bins_can_hold():
    assert bars(survey(3.0, 6.0), METRICS["entropy"], ["a", "b"]) == [0.5, 1.0]
    assert scale_text(survey(3.0), METRICS["entropy"]) == "bars from 0 to 6 bits"
    assert texts(survey(3.0), METRICS["entropy"], ["a"], "B") == ["entropy of B: 3 bits"]


def test_magnitudes_are_drawn_logarithmically_between_the_models_own():
    found = survey(0.01, 1.0, 100.0, 0.0)
    low, middle, high, nothing = bars(found, METRICS["magnitude"], list("abcd"))
    assert (low, middle, high, nothing) == pytest.approx((SHORTEST, (1 + SHORTEST) / 2, 1.0, 0.0))
    assert scale_text(found, METRICS["gradient"]) == "bars from 0.01 to 100, logarithmic"


@pytest.mark.parametrize(
    "values, said",
    [((), "no layer has this number"), ((math.nan,), "no layer has this number"), ((0.0, 0.0), "every value is 0")],
)
def test_nothing_to_draw_is_said(values, said):
    found = survey(*values)
    assert scale_text(found, METRICS["magnitude"]) == said
    assert all(not length for length in bars(found, METRICS["magnitude"], list("ab")))


def test_one_value_and_infinite_ones_have_bars():
    assert bars(survey(2.0), METRICS["magnitude"], ["a"]) == [1.0]
    assert bars(survey(2.0, math.inf), METRICS["gradient"], ["a", "b"]) == [1.0, 1.0]


def test_a_reused_layer_shows_its_first_call_and_says_the_others():
    found = survey(0.5, calls=6)
    assert texts(found, METRICS["magnitude"], ["a"], "A") == ["activation magnitude of A: 0.5, 5, 50, 500, …"]
    assert scale_text(found, METRICS["magnitude"]) == "bars from 0.5 to 0.5, logarithmic"


def test_what_is_worst_comes_first_and_what_only_repeats_a_childs_number_is_left_out():
    found = survey(0.25, 1.0, math.nan, 0.0, 1.0, calls=2)
    nodes = [{"name": name, "children": int(name == "b")} for name in ("", *"abcde", "x")]
    assert worst_first(found, METRICS["zeros"], nodes) == ([5, 1, 4], 1)  # e at 100 %, a, d; only first calls count
    assert worst_first(found, METRICS["magnitude"], nodes) == ([4, 1, 5], 1)  # d is 0
    assert worst_first(survey(0.5), METRICS["dead"], nodes) == ([1], 0)
    assert worst_first(survey(math.inf, 1.0, calls=1), METRICS["gradient"], nodes[:2]) == ([1], 0)
    assert worst_first(survey(), METRICS["dead"], nodes) == ([], 0)
