"""Values land on the levels that the printed range promises."""

import math
import warnings

import numpy as np
import pytest

from hookscope.dashboard.drawing.palettes import INF_LEVEL, LEVELS, MIDDLE_LEVEL, NAN_LEVEL
from hookscope.dashboard.drawing.scales import (
    Scale,
    channel_scales,
    difference_scale,
    difference_scales,
    layer_scale,
    levels,
    scale_text,
)


def row(*values, dtype=np.float32):
    return np.array(values, dtype).reshape(1, 1, -1)


def drawn(*values, scale, dtype=np.float32):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return levels(row(*values, dtype=dtype), scale)[0, 0].tolist()


def test_signed_values_are_symmetric_and_zero_is_the_middle():
    scale = layer_scale(row(-1, 3))
    assert scale == Scale(-3, 3, "diverging")
    assert drawn(-3, -1, 0, 1, 3, scale=scale) == [0, 84, 126, 168, 252]


def test_positive_values_start_at_zero():
    scale = layer_scale(row(5, 10))
    assert scale == Scale(0, 10, "sequential")
    assert drawn(0, 5, 10, scale=scale) == [0, 126, 252]


def test_a_and_b_share_one_scale():
    assert layer_scale(row(1, 2), row(0, 8)) == Scale(0, 8, "sequential")
    assert layer_scale(row(1, 2), row(-8, 0)) == Scale(-8, 8, "diverging")
    assert layer_scale(row(1, 2), None) == Scale(0, 2, "sequential")


def test_levels_are_rounded_and_nowhere_more_than_half_a_level_off():
    ramp = np.linspace(0, 7, 100_001, dtype=np.float32).reshape(1, 1, -1)
    exact = ramp.astype(np.float64) / 7 * (LEVELS - 1)
    assert np.abs(levels(ramp, Scale(0, 7, "sequential")) - exact).max() <= 0.5 + 1e-4
    signed = ramp - np.float32(3.5)
    exact = signed.astype(np.float64) / 3.5 * MIDDLE_LEVEL + MIDDLE_LEVEL
    assert np.abs(levels(signed, Scale(-3.5, 3.5, "diverging")) - exact).max() <= 0.5 + 1e-4


def test_constant_values():
    assert layer_scale(row(0, 0)).text == "every value is 0"
    assert drawn(0, 0, scale=layer_scale(row(0, 0))) == [0, 0]
    assert drawn(4, 4, scale=layer_scale(row(4, 4))) == [252, 252]
    assert drawn(-4, -4, scale=layer_scale(row(-4, -4))) == [0, 0]
    assert drawn(0, 0, scale=difference_scale(row(0, 0))) == [126, 126]


def test_nothing_to_scale():
    for empty in (np.zeros((0, 2, 2), np.float32), row(math.nan, math.inf)):
        scale = layer_scale(empty)
        assert math.isnan(scale.low) and math.isnan(scale.high)
        assert scale.text == "no finite value"
    assert drawn(math.nan, math.inf, scale=layer_scale(row(math.nan))) == [NAN_LEVEL, INF_LEVEL]
    assert layer_scale().text == "no finite value"
    assert levels(np.zeros((0, 2, 2), np.float32), layer_scale()).shape == (0, 2, 2)


def test_nan_and_inf_do_not_move_the_others():
    values = (math.nan, math.inf, -math.inf, -1, 0, 2)
    scale = layer_scale(row(*values))
    assert scale == Scale(-2, 2, "diverging")
    assert drawn(*values, scale=scale) == [NAN_LEVEL, INF_LEVEL, INF_LEVEL, 63, 126, 252]


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-45, 1e-9, 1e30, 3.4e38, 1.7e308])
def test_ranges_at_the_ends_of_floating_point(size):
    scale = layer_scale(row(-size, size, dtype=np.float64))
    assert drawn(-size, 0, size, scale=scale, dtype=np.float64) == [0, 126, 252]
    if 1e-46 < size < 3.5e38:
        scale = layer_scale(row(-size, size))
        assert drawn(-size, 0, size, scale=scale) == [0, 126, 252]


def test_values_outside_the_scale_take_its_ends():
    assert drawn(-5, 0, 5, 500, scale=Scale(0, 2, "sequential")) == [0, 0, 252, 252]
    assert drawn(1, scale=Scale(0, 0, "sequential")) == [0]


def test_per_channel_scales_end_with_the_mean_map():
    a = np.array([[[1e-6, 0]], [[100, 50]]], np.float32)
    scales = channel_scales(a)
    assert [scale.high for scale in scales] == pytest.approx([1e-6, 100, 50], rel=1e-6)
    assert levels(a, scales[:-1]).tolist() == [[[252, 0]], [[252, 126]]]
    assert scale_text(scales) == "each channel its own: 0 … 1e-06 to 0 … 100"


def test_per_channel_scales_are_shared_by_a_and_b_and_of_one_kind():
    a = np.array([[[1, 2]], [[-1, 0]]], np.float32)
    b = np.array([[[4, 0]], [[0, 0]]], np.float32)
    kinds = [(scale.low, scale.high, scale.kind) for scale in channel_scales(a, b)]
    assert kinds == [(-4, 4, "diverging"), (-1, 1, "diverging"), (-2, 2, "diverging")]
    assert scale_text(channel_scales(a, b)) == "each channel its own: ±1 to ±4"
    assert channel_scales() == ()


def test_the_difference_has_its_own_symmetric_scale():
    assert difference_scale(row(0.5, 0.25)) == Scale(-0.5, 0.5, "diverging")
    assert difference_scale(np.zeros((0, 1, 1), np.float32)).text == "no finite value"
    assert [scale.high for scale in difference_scales(np.array([[[1.0]], [[-3.0]]]))] == [1, 3, 1]


def test_the_range_is_printed():
    assert scale_text(Scale(-30.8113, 30.8113, "diverging")) == "-30.81 … 30.81"
    assert scale_text(Scale(0, 1e-300, "sequential")) == "0 … 1e-300"
    assert scale_text(()) == "no finite value"
