"""Resizing keeps means, and is torch's where it says so."""

import math

import numpy as np
import pytest
import torch

from hookscope.dashboard.drawing.resizing import nearest, reduce_by_area, resize_bilinear


def test_blocks_become_their_means():
    maps = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    assert reduce_by_area(maps, 2, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert reduce_by_area(maps, 4, 4) is maps


def test_sizes_that_do_not_divide_are_weighted_by_the_area_they_cover():
    maps = np.array([[[3, 6, 9]]], np.float32)
    # two values over three: the left one covers 3 whole and half of 6
    assert reduce_by_area(maps, 1, 2)[0, 0].tolist() == pytest.approx([(3 + 6 / 2) / 1.5, (9 + 6 / 2) / 1.5])
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 13, 29)).astype(np.float32)
    assert reduce_by_area(maps, 5, 7).mean((1, 2)) == pytest.approx(maps.mean((1, 2)), abs=1e-6)


def test_nan_and_inf_stay_where_they_are():
    maps = np.ones((1, 4, 4), np.float32)
    maps[0, 0, 0], maps[0, 0, 3], maps[0, 3, 0] = math.nan, math.inf, -math.inf
    small = reduce_by_area(maps, 2, 2)[0]
    assert math.isnan(small[0, 0])
    assert small[0, 1] == math.inf
    assert small[1, 0] == -math.inf
    assert small[1, 1] == 1


def test_values_near_the_end_of_float32_do_not_become_infinite():
    top = np.finfo(np.float32).max
    assert reduce_by_area(np.full((1, 7, 7), top, np.float32), 3, 3) == pytest.approx(top)


@pytest.mark.parametrize("old", [(1, 1), (7, 7), (4, 9), (14, 14)])
@pytest.mark.parametrize("new", [(224, 224), (50, 31), (7, 7), (3, 3)])
def test_bilinear_is_torchs(old, new):
    values = np.random.default_rng(1).normal(size=old)  # float64, in which torch rounds its own weights less
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], new, mode="bilinear", align_corners=False
    )
    assert resize_bilinear(values, *new) == pytest.approx(expected[0, 0].numpy(), abs=1e-12)


def test_nearest_takes_the_value_under_the_middle():
    assert nearest(2, 4).tolist() == [0, 0, 1, 1]
    assert nearest(3, 3).tolist() == [0, 1, 2]
    assert nearest(3, 2).tolist() == [0, 2]
    assert nearest(1, 3).tolist() == [0, 0, 0]
