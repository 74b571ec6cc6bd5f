"""Walls are ordered by numbers that can be checked by hand."""

import math

import numpy as np
import pytest
import torch

from hookscope.dashboard.drawing.ranking import channel_numbers, difference, distance, mean_map, order
from hookscope.hooks.numbers.reductions import statistics

# channel:      0           1            2           3
A = np.array([[[1, 1]], [[-9, 1]], [[0, 0]], [[2, 4]]], np.float32)
B = np.array([[[1, 1]], [[0, 0]], [[7, 0]], [[2, 4]]], np.float32)


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        ("index", [0, 1, 2, 3]),
        ("strongest", [1, 3, 0, 2]),  # 1, 9, 0, 4
        ("mean", [3, 0, 2, 1]),  # 1, -4, 0, 3
        ("variance", [1, 3, 0, 2]),  # 0, 25, 0, 1: equal ones by index
        ("zeros", [2, 0, 1, 3]),
        ("difference", [0, 1, 2, 3]),  # nothing to compare with
    ],
)
def test_one_input(rank, expected):
    assert order(A, None, rank).tolist() == expected


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        ("strongest", [1, 2, 3, 0]),  # the larger of both: 1, 9, 7, 4
        ("mean", [3, 2, 0, 1]),  # 1, -2, 1.75, 3
        ("zeros", [2, 1, 0, 3]),  # 0, 1/2, 3/4, 0
        ("difference", [1, 2, 0, 3]),  # 0, 5, 3.5, 0
    ],
)
def test_two_inputs(rank, expected):
    assert order(A, B, rank).tolist() == expected


def test_known_numbers_are_used_and_wrong_ones_are_not():
    known = channel_numbers(A) | {"mean": np.array([0.0, 1.0, 2.0, 3.0])}
    assert order(A, None, "mean", known).tolist() == [3, 2, 1, 0]
    assert order(A, None, "mean", {}).tolist() == [3, 0, 2, 1]
    assert order(A, None, "mean", channel_numbers(A[:2])).tolist() == [3, 0, 2, 1]


def test_channels_without_a_finite_value_are_last():
    values = np.array([[[math.nan, math.inf]], [[-5, math.nan]], [[1, 1]]], np.float32)
    assert order(values, None, "mean").tolist() == [2, 1, 0]
    assert order(values, None, "strongest").tolist() == [1, 2, 0]
    assert order(values, values, "difference").tolist() == [1, 2, 0]


def test_channel_numbers_by_hand():
    values = np.array([[[1, 3], [0, math.nan]], [[math.nan, math.nan], [math.inf, -math.inf]]], np.float32)
    numbers = {name: array.tolist() for name, array in channel_numbers(values).items()}
    assert numbers["mean"][0] == pytest.approx(4 / 3)
    assert numbers["std"][0] == pytest.approx(math.sqrt(14 / 9))
    assert (numbers["min"][0], numbers["max"][0], numbers["zeros"][0]) == (0, 3, pytest.approx(1 / 3))
    assert (numbers["nan"], numbers["inf"]) == ([1, 2], [0, 2])
    assert all(math.isnan(numbers[name][1]) for name in ("mean", "std", "min", "max", "zeros"))


def test_channel_numbers_are_the_librarys():
    """One definition of each number, or a wall and its enlarged channel say two things of one channel."""
    odd = [math.nan, 0, math.nan, 0], [0, 0, 0, 0], [1, 0, math.inf, -math.inf], [math.nan] * 4, [1, 2, -3, 0]
    values = np.array(odd, np.float32).reshape(5, 2, 2)
    theirs = statistics(torch.from_numpy(values), 0).channels
    ours = channel_numbers(values)
    assert ours.keys() == theirs.keys() and ours["zeros"][0] == 1
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], err_msg=name)
    assert order(values, None, "zeros").tolist() == order(values, None, "zeros", theirs).tolist() == [0, 1, 2, 4, 3]


def test_channel_numbers_do_not_lose_small_differences_far_from_zero():
    values = np.array([[[10_000.0, 10_001.0]]], np.float32)
    assert channel_numbers(values)["std"].tolist() == [0.5]
    huge = np.full((1, 2, 2), 3e38, np.float32)
    assert channel_numbers(huge)["mean"][0] == pytest.approx(3e38)


def test_the_difference_is_b_minus_a():
    assert difference(A, B).tolist() == [[[0, 0]], [[9, -1]], [[7, 0]], [[0, 0]]]
    assert distance(A, B).tolist() == [0, 5, 3.5, 0]


def test_the_difference_of_what_is_no_number():
    a = np.array([math.inf, math.inf, math.nan, 3e38, 0], np.float32)
    b = np.array([math.inf, 0, 1, -3e38, math.inf], np.float32)
    gap = difference(a, b)
    assert np.isnan(gap[[0, 2]]).all()
    assert gap[1] == -math.inf and gap[4] == math.inf
    assert gap[3] == -np.finfo(np.float32).max, "finite values are a finite distance apart"
    assert math.isnan(distance(a[None, :1], b[None, :1])[0])


def test_the_mean_map_cancels_and_says_so_by_being_zero():
    assert mean_map(np.array([[[1, 2]], [[-1, 4]]], np.float32)).tolist() == [[0, 3]]


def test_no_other_rank_is_taken():
    with pytest.raises(ValueError, match="there is no rank 'best'; choose one of index"):
        order(A, None, "best")
