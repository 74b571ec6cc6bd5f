"""Attributions as pictures: which colour says what, and where the scale ends."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from hookscope.dashboard.drawing.attribution_pictures import attribution_overlay, attribution_scale


def rgba(values: np.ndarray) -> np.ndarray:
    """The overlay as the browser sees it, uint8 (height, width, 4)."""
    with Image.open(io.BytesIO(attribution_overlay(values).png)) as image:
        return np.asarray(image.convert("RGBA"))


def test_red_speaks_for_blue_against_and_zero_is_clear() -> None:
    drawn = rgba(np.array([[1.0, -1.0, 0.0]]))
    (red, _, blue, opaque), against, nothing = drawn[0]
    assert red > blue and opaque == 255
    assert against[2] > against[0] and against[3] == 255
    assert nothing[3] == 0


def test_what_has_no_sign_goes_from_clear_to_bright() -> None:
    drawn = rgba(np.array([[0.0, 0.5, 1.0]]))
    assert drawn[0, 0, 3] == 0 < drawn[0, 1, 3] < drawn[0, 2, 3] == 255
    assert drawn[0, 2, :3].sum() > drawn[0, 1, :3].sum()


def test_a_few_pixels_far_above_the_others_do_not_hide_them() -> None:
    values = np.ones((100, 100))
    values[0, 0] = 1e6
    assert attribution_scale(values).high == 1
    values = np.zeros((100, 100))
    values[0, 0] = 7  # all the others are 0: then the scale ends at the largest
    assert attribution_scale(values).high == 7


def test_the_scale_in_words() -> None:
    assert attribution_overlay(np.array([[2.0, -2.0]])).text == "±2"
    assert attribution_overlay(np.array([[2.0, 2.0]])).text == "0 … 2"
    assert attribution_overlay(np.zeros((2, 2))).text == "every value is 0"
    assert attribution_overlay(np.full((2, 2), np.nan)).text == "no finite value"


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 3e38, 1e-45])
def test_no_value_stops_the_picture(odd: float) -> None:
    values = np.array([[odd, 0.0], [0.0, 0.0]], np.float32)
    drawn = rgba(values)
    assert drawn.shape == (2, 2, 4)
    assert drawn[0, 0, 3] == 255  # what is no number covers the picture in its own colour
