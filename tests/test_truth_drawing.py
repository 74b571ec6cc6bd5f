"""Values drawn as pixels: the usual min-max picture is wrong here, shown beside ours (docs/truth.md, 11)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hookscope.dashboard.drawing.palettes import INF_LEVEL, LEVELS, MIDDLE_LEVEL, NAN_LEVEL
from hookscope.dashboard.drawing.ranking import mean_map, order
from hookscope.dashboard.drawing.scales import Scales, channel_scales, layer_scale, levels, scale_text


def usual(values: np.ndarray) -> np.ndarray:
    """0..255 from the least to the largest value, as tutorials draw a channel."""
    with np.errstate(all="ignore"):
        shares = (values - values.min()) / (values.max() - values.min())
        return np.where(np.isnan(shares), 0, shares * 255).astype(np.uint8)  # NaN as uint8 is 0 on most processors


def ours(values: np.ndarray, scale: Scales | None = None) -> list[int]:
    """The levels, 0..252, of a row of values."""
    maps = values.reshape(1, 1, -1)
    return levels(maps, layer_scale(maps) if scale is None else scale).ravel().tolist()


def row(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_constant_channel_is_drawn_as_what_it_is() -> None:
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan((row(4, 4) - 4) / (row(4, 4).max() - 4)).all()
    assert usual(row(4, 4)).tolist() == usual(row(0, 0)).tolist() == [0, 0]  # 4 and 0 look the same
    assert ours(row(4, 4)) == [252, 252] and ours(row(0, 0)) == [0, 0]


def test_values_beyond_the_scale_take_its_end_and_do_not_wrap() -> None:
    beyond = row(300, -1)
    assert beyond.astype(np.int64).astype(np.uint8).tolist() == [44, 255]
    assert ours(beyond, layer_scale(row(0, 255))) == [252, 0]


def test_levels_are_rounded_and_not_cut_off() -> None:
    ramp = np.linspace(0, 1, 100_001, dtype=np.float32)
    cut = usual(ramp).astype(float)
    assert (cut == 255).mean() < 2e-5 and np.abs(cut - ramp.astype(np.float64) * 255).max() > 0.99
    drawn = np.array(ours(ramp), float)
    assert np.abs(drawn - ramp.astype(np.float64) * (LEVELS - 1)).max() < 0.5 + 1e-4
    assert (drawn == LEVELS - 1).mean() == pytest.approx(0.5 / (LEVELS - 1), rel=0.01)


def test_one_nan_or_inf_does_not_blank_the_others() -> None:
    assert usual(row(math.nan, 1, 2)).tolist() == usual(row(math.inf, 1, 2)).tolist() == [0, 0, 0]
    assert ours(row(math.nan, 1, 2)) == [NAN_LEVEL, 126, 252]
    assert ours(row(math.inf, 1, 2)) == [INF_LEVEL, 126, 252]


def test_a_scale_per_channel_says_its_ranges_and_one_for_all_keeps_their_sizes() -> None:
    maps = np.array([[[0, 1e-6]], [[0, 1e2]]], np.float32)
    assert usual(maps[0]).tolist() == usual(maps[1]).tolist() == [[0, 255]]  # a hundred million times as large
    assert levels(maps, layer_scale(maps)).tolist() == [[[0, 0]], [[0, 252]]]
    assert scale_text(channel_scales(maps)) == "each channel its own: 0 … 1e-06 to 0 … 100"


def test_zero_has_one_place_whatever_the_signed_range() -> None:
    assert usual(row(-1, 0, 3))[1] == 63 and usual(row(-3, 0, 1))[1] == 191
    assert ours(row(-1, 0, 3))[1] == ours(row(-3, 0, 1))[1] == MIDDLE_LEVEL


def test_channels_that_cancel_in_the_mean_map_are_there_one_by_one() -> None:
    maps = np.array([[[5.0, 5.0]], [[-5.0, -5.0]], [[0.0, 1.0]]], np.float32)
    assert np.abs(mean_map(maps)).max() < 0.5  # that is the mean: a wall shows it as one cell of several
    assert levels(maps, layer_scale(maps))[:2, 0].tolist() == [[252, 252], [0, 0]]
    assert order(maps, None, "strongest").tolist() == [0, 1, 2]


def test_a_small_range_is_as_bright_as_a_large_one() -> None:
    tiny = np.array([0, 1e-9], np.float64)
    guarded = (tiny - tiny.min()) / (tiny.max() - tiny.min() + 1e-8)
    assert guarded[1] == pytest.approx(1 / 11)  # "+ 1e-8" against 0 / 0 darkens it to 9 %
    assert ours(tiny) == [0, 252]


def test_the_width_of_a_range_does_not_overflow() -> None:
    for values in (row(-3e38, 0, 3e38), np.array([-60_000, 0, 60_000], np.float16)):
        with np.errstate(over="ignore"):
            assert np.isinf(values.max() - values.min())
        assert usual(values).tolist() == [0, 0, 0]
        assert ours(values.astype(np.float32)) == [0, 126, 252]
