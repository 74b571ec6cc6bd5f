"""Feature maps from every layout, and the sentence where there are none."""

import numpy as np
import pytest

from hookscope.hooks.results.looks import Activation, Call, Statistics
from hookscope.hooks.results.maps import maps, reason_no_maps, why_no_maps

NOTHING = Statistics(0, 0, 0, 0, 0, 0, 0, 0, np.empty(0), np.empty(0), np.empty(0))


def activation(values: np.ndarray, axes: tuple[str, ...], grid=None, prefix=0) -> Activation:
    return Activation("layer", 0, values, axes, NOTHING, grid=grid, prefix_tokens=prefix)


PICTURE = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)  # channel, height, width


def test_every_layout_gives_the_same_maps():
    tokens = np.moveaxis(PICTURE, 0, -1).reshape(12, 2)
    with_prefix = np.concatenate([np.full((2, 2), -1, np.float32), tokens])
    for found in (
        activation(PICTURE, ("channel", "height", "width")),
        activation(PICTURE[None], ("image", "channel", "height", "width")),
        activation(np.moveaxis(PICTURE, 0, -1), ("height", "width", "channel")),
        activation(tokens, ("token", "channel"), (3, 4)),
        activation(with_prefix, ("token", "channel"), (3, 4), 2),
        activation(with_prefix[:, None], ("token", "image", "channel"), (3, 4), 2),
    ):
        assert reason_no_maps(found) == ""
        np.testing.assert_array_equal(maps(found), PICTURE)


def test_maps_of_a_picture_are_a_view():
    assert np.shares_memory(maps(activation(PICTURE, ("channel", "height", "width"))), PICTURE)


@pytest.mark.parametrize(
    "shape, axes, grid, reason",
    [
        ((), (), None, "single number"),
        ((5,), ("feature",), None, "one number per feature"),
        ((8, 1, 1), ("channel", "height", "width"), None, "one position only"),
        ((8, 0, 2), ("channel", "height", "width"), None, "empty"),
        ((3, 8, 2, 2), ("image", "channel", "height", "width"), None, "3 images"),
        ((64, 49, 8), ("window", "token", "channel"), None, "windows"),
        ((50, 8), ("token", "channel"), None, "not known"),
        ((50, 8), ("token", "channel"), (7, 8), "50 tokens do not fill the 7 x 8 grid"),
        ((2, 3, 4), ("axis", "axis", "axis"), None, "is not known"),
        ((1, 2, 3, 4), ("image", "axis", "height", "width"), None, "is not known"),
        ((9, 8, 2, 2), ("axis", "channel", "height", "width"), None, "is not known"),
    ],
)
def test_no_maps_and_why(shape, axes, grid, reason):
    found = activation(np.zeros(shape, np.float32), axes, grid)
    assert maps(found) is None
    assert reason in reason_no_maps(found)


def test_a_call_of_the_recorded_run_says_it_before_there_are_values():
    assert why_no_maps(Call((1, 8, 4, 4), ("image", "channel", "height", "width"), 0), (1, 8, 4, 4)) == ""
    assert "feature" in why_no_maps(Call((1, 8), ("image", "feature"), 0), (1, 8))
    assert "list of tokens" in why_no_maps(Call((1, 50, 8), ("image", "token", "channel"), 0), (1, 50, 8))
