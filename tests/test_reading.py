"""A reading: A and B as maps in one order and on one scale, however little the two may have in common."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from inline_engine import activation_of

from hookscope.dashboard.drawing.scales import Scale
from hookscope.dashboard.page.reading import KEPT, Reading, Readings, Walls, kind_of
from hookscope.dashboard.page.view import MEAN
from hookscope.hooks.results.looks import Activation

# two channels of 1 x 2 values
A = activation_of("conv", np.array([[[1, 3]], [[0, 8]]]))
B = activation_of("conv", np.array([[[2, 2]], [[6, 0]]]))
WALLS = Walls()


def reading(walls: Walls = WALLS, **activations: Activation) -> Reading:
    return Reading(walls, activations)


def test_one_input_has_maps_an_order_and_a_scale_but_no_difference() -> None:
    one = reading(a=A)
    assert one.maps.keys() == {"a"} and np.array_equal(one.maps["a"], A.values)
    assert one.order.tolist() == [0, 1]
    assert one.scale == Scale(0.0, 8.0, "sequential")
    assert not one.comparable and one.difference is None and one.distance is None
    assert np.array_equal(one.channel("a", 1), [[0, 8]])  # type: ignore[arg-type]
    assert np.array_equal(one.channel("a", MEAN), [[0.5, 5.5]])  # type: ignore[arg-type]
    assert one.channel("a", 2) is None and one.channel("b", 0) is None


def test_two_inputs_share_one_scale_and_have_a_difference_of_their_own() -> None:
    both = reading(a=A, b=B)
    assert both.comparable
    assert both.scale == Scale(0.0, 8.0, "sequential")
    assert np.array_equal(both.difference, [[[1, -1]], [[6, -8]]])  # type: ignore[arg-type]
    assert both.distance.tolist() == [1.0, 7.0]  # type: ignore[union-attr]
    assert both.difference_scale == Scale(-8.0, 8.0, "diverging")
    assert both.numbers["b"]["mean"].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("rank", "wanted"),
    [("index", [0, 1]), ("strongest", [1, 0]), ("mean", [1, 0]), ("zeros", [1, 0]), ("difference", [1, 0])],
)
def test_the_order_is_the_views(rank: Any, wanted: list[int]) -> None:
    assert reading(replace(WALLS, rank=rank), a=A, b=B).order.tolist() == wanted


def test_a_scale_per_channel_has_one_more_for_the_mean_map() -> None:
    each = reading(replace(WALLS, scale="channel"), a=A, b=B)
    assert [scale.high for scale in each.scale] == [3.0, 8.0, 5.5]  # type: ignore[union-attr]
    assert [scale.high for scale in each.difference_scale] == [1.0, 8.0, 4.5]  # type: ignore[union-attr]
    assert kind_of(each.scale) == "sequential" and kind_of(each.difference_scale) == "diverging"
    assert kind_of(()) == "sequential"


def test_signed_values_get_diverging_colours_and_a_choice_is_kept() -> None:
    signed = activation_of("conv", A.values - 2)
    assert kind_of(reading(a=signed).scale) == "diverging"
    automatic, grey = reading(a=signed).palette, reading(replace(WALLS, colours="grey"), a=signed).palette
    assert automatic != grey


def test_tokens_are_their_grid_without_the_prefix() -> None:
    values = np.arange(120, dtype=np.float32).reshape(10, 12)
    shown = reading(a=activation_of("tokens", values)).maps["a"]
    assert shown.shape == (12, 3, 3)
    assert np.array_equal(shown[0].ravel(), values[1:, 0])


def test_a_layer_without_maps_has_its_values_in_a_row() -> None:
    vector = activation_of("vector", np.arange(5))
    one = reading(a=vector, b=vector)
    assert one.maps == {} and not one.comparable
    assert one.vectors["b"].tolist() == [0, 1, 2, 3, 4]
    assert reading(a=activation_of("number", np.array(7.0))).vectors["a"].tolist() == [7.0]


def test_sides_of_other_numbers_of_channels_stand_side_by_side_by_index() -> None:
    """Channel 1 of A is no more B's channel 1 than any other: there is no order and no scale per channel of both."""
    other = activation_of("conv", np.arange(6.0).reshape(3, 1, 2))
    for rank in ("index", "strongest", "difference"):
        one = reading(replace(WALLS, rank=rank), a=A, b=other)  # type: ignore[arg-type]
        assert one.maps.keys() == one.numbers.keys() == {"a", "b"} and not (one.comparable or one.aligned)
        assert (one.order_of("a").tolist(), one.order_of("b").tolist()) == ([0, 1], [0, 1, 2])
        assert one.scale_of["a"] is one.scale_of["b"]
    apart = reading(replace(WALLS, scale="channel"), a=A, b=other)
    assert [len(apart.scale_of[side]) for side in "ab"] == [3, 4]  # type: ignore[arg-type]  # and the mean map's
    assert apart.channel("a", 2) is None and apart.channel("b", 2) is not None


def test_maps_of_another_size_stand_side_by_side_without_a_difference() -> None:
    other = activation_of("conv", np.ones((2, 4, 4)))
    for rank in ("index", "strongest", "mean", "variance", "zeros", "difference"):
        one = reading(replace(WALLS, rank=rank), a=A, b=other)  # type: ignore[arg-type]
        assert one.maps.keys() == {"a", "b"} and not one.comparable
        assert sorted(one.order.tolist()) == [0, 1]
        assert one.scale == Scale(0.0, 8.0, "sequential")


def test_if_only_one_side_has_maps_it_is_drawn_alone() -> None:
    flat = activation_of("conv", np.ones(5), axes=("feature",))
    for sides in ({"a": A, "b": flat}, {"a": flat, "b": A}):
        one = reading(**sides)
        assert len(one.maps) == 1 and one.order.tolist() == [0, 1] and not one.comparable


def test_per_channel_numbers_are_those_of_the_statistics_where_there_are_some() -> None:
    """They were made before the values became float32, so they are the exact ones."""
    exact = replace(A.statistics, channels={**A.statistics.channels, "mean": np.array([7.0, 9.0])})
    assert reading(a=replace(A, statistics=exact)).numbers["a"]["mean"].tolist() == [7.0, 9.0]
    bare = replace(A.statistics, channels={})
    assert reading(a=replace(A, statistics=bare)).numbers["a"]["mean"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 3e38])
def test_a_layer_of_one_odd_value_has_an_order_and_a_scale(value: float) -> None:
    odd = activation_of("conv", np.full((2, 1, 2), value, np.float32))
    for walls in (WALLS, Walls(rank="strongest", scale="channel"), Walls(rank="difference")):
        one = reading(walls, a=odd, b=A)
        assert sorted(one.order.tolist()) == [0, 1]
        assert one.palette and one.scale and one.difference_scale


# --- the newest readings


def test_the_same_question_is_the_same_reading() -> None:
    readings = Readings()
    first = readings.get(WALLS, {"a": A, "b": B})
    assert readings.get(replace(WALLS, overlay=True, count="64", table=True), {"a": A, "b": B}) is first
    for walls in (Walls(rank="mean"), Walls(scale="channel"), Walls(colours="grey")):
        assert readings.get(walls, {"a": A, "b": B}) is not first
    assert readings.get(WALLS, {"a": A}) is not first
    assert readings.get(WALLS, {"a": B, "b": A}) is not first
    assert readings.get(WALLS, {"a": replace(A), "b": B}) is not first  # equal, but another answer


def test_only_the_newest_readings_are_kept() -> None:
    readings = Readings()
    activations = [activation_of("conv", np.full((2, 1, 2), n)) for n in range(KEPT + 3)]
    first = readings.get(WALLS, {"a": activations[0]})
    gone = weakref.ref(readings.get(WALLS, {"a": activations[1]}))
    for each in activations[2:]:
        readings.get(WALLS, {"a": each})
        assert readings.get(WALLS, {"a": activations[0]}) is first  # used all the time
    gc.collect()
    assert gone() is None
    assert len(readings._kept) == KEPT


def test_a_reading_never_answers_for_values_that_took_the_place_of_others_in_memory() -> None:
    """Readings are found by the identity of arrays, which is only safe as long as they hold them."""
    readings = Readings()
    for n in range(200):
        values = activation_of("conv", np.full((2, 1, 2), n))
        assert readings.get(WALLS, {"a": values}).maps["a"][0, 0, 0] == n
        del values


def test_many_threads_get_the_readings_that_they_asked_for() -> None:
    readings = Readings()
    activations = [activation_of("conv", np.full((2, 1, 2), n)) for n in range(20)]
    wrong: list[int] = []

    def ask(offset: int) -> None:
        for n in range(300):
            number = (n * 3 + offset) % 20
            if readings.get(WALLS, {"a": activations[number]}).maps["a"][0, 0, 0] != number:
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(readings._kept) == KEPT
