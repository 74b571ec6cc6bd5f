"""Colours stand where they are said to stand."""

import numpy as np
import pytest

from hookscope.dashboard.drawing.palettes import (
    BLANK_LEVEL,
    CHOICES,
    DIFFERENCE,
    INF_LEVEL,
    LEVELS,
    MIDDLE_LEVEL,
    NAN_LEVEL,
    PALETTES,
    overlay_opacity,
    palette_for,
)


def test_the_ends_and_the_middle_are_the_anchors():
    assert PALETTES["viridis"].table[0].tolist() == [0x44, 0x01, 0x54]
    assert PALETTES["viridis"].table[LEVELS - 1].tolist() == [0xFD, 0xE7, 0x25]
    assert PALETTES["grey"].table[[0, MIDDLE_LEVEL, LEVELS - 1]].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    blue_red = PALETTES["blue-red"].table
    assert blue_red[MIDDLE_LEVEL].tolist() == [0xF7] * 3
    assert blue_red[0, 2] > blue_red[0, 0], "negative is blue"
    assert blue_red[LEVELS - 1, 0] > blue_red[LEVELS - 1, 2], "positive is red"
    assert DIFFERENCE.table[MIDDLE_LEVEL].tolist() == [0xF7] * 3


def test_the_middle_level_has_as_many_levels_below_as_above():
    assert MIDDLE_LEVEL == LEVELS - 1 - MIDDLE_LEVEL
    assert len({LEVELS, BLANK_LEVEL + 0, NAN_LEVEL, INF_LEVEL}) == 3, "blank is the first level behind the colours"


@pytest.mark.parametrize("palette", PALETTES.values(), ids=lambda palette: palette.name)
def test_no_number_has_the_colour_of_nan_or_inf(palette):
    colours = palette.table[:LEVELS].astype(int)
    for level in (NAN_LEVEL, INF_LEVEL):
        distance = np.abs(colours - palette.table[level].astype(int)).sum(axis=1).min()
        assert distance > 100


def test_auto_follows_the_sign_of_the_values():
    assert palette_for("sequential").name == "viridis"
    assert palette_for("diverging").name == "blue-red"
    assert palette_for("diverging", "magma") is PALETTES["magma"]


def test_a_diverging_palette_on_positive_values_starts_at_its_neutral_colour():
    half = palette_for("sequential", "blue-red")
    whole = PALETTES["blue-red"]
    assert not half.diverging
    assert half.table[0].tolist() == whole.table[MIDDLE_LEVEL].tolist()
    assert half.table[LEVELS - 1].tolist() == whole.table[LEVELS - 1].tolist()
    assert half.table[NAN_LEVEL].tolist() == whole.table[NAN_LEVEL].tolist()


def test_an_unknown_palette_is_a_sentence_with_the_choices():
    with pytest.raises(ValueError, match="there is no palette 'jet'; choose one of auto, viridis"):
        palette_for("sequential", "jet")
    assert CHOICES[0] == "auto"


def test_colours_for_the_page():
    assert PALETTES["grey"].css(3) == "linear-gradient(to right, #000000, #808080, #ffffff)"
    assert PALETTES["grey"].colorscale(2) == [(0.0, "#000000"), (1.0, "#ffffff")]
    assert PALETTES["grey"].overlay_colorscale("diverging", 0.5, 3) == [
        (0.0, "rgba(0,0,0,0.500)"),
        (0.5, "rgba(128,128,128,0.000)"),
        (1.0, "rgba(255,255,255,0.500)"),
    ]


def test_zero_is_transparent_over_a_picture_and_nan_is_not():
    assert overlay_opacity("sequential")[[0, 63, LEVELS - 1, NAN_LEVEL, INF_LEVEL]].tolist() == [0, 0.5, 1, 1, 1]
    assert overlay_opacity("diverging")[[0, MIDDLE_LEVEL, LEVELS - 1, NAN_LEVEL]].tolist() == [1, 0, 1, 1]
