"""How a wall is laid out, and what of a picture the network saw."""

import pytest

from hookscope.dashboard.drawing.geometry import crop_overlay_style, wall_geometry


@pytest.mark.parametrize("count", [1, 2, 3, 24, 32, 63, 64, 320, 672, 2048])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (56, 56), (14, 28), (28, 14), (224, 224)])
@pytest.mark.parametrize("panel_px", [220, 380, 1100])
@pytest.mark.parametrize("show", ["auto", "64", "all"])
def test_walls_hold_what_they_say_they_show(count, size, panel_px, show):
    wall = wall_geometry(count, *size, panel_px, 400, show)
    assert wall.columns * (wall.rows - 1) < wall.shown + 1 <= wall.columns * wall.rows
    assert wall.shown == {"auto": wall.shown, "64": min(64, count), "all": count}[show]
    assert wall.cell_px * wall.columns == pytest.approx(panel_px)
    assert wall.height_px == pytest.approx(wall.rows * wall.cell_px * size[0] / size[1], abs=1)
    shorter = wall.cell_px * min(1, size[0] / size[1])
    assert shorter >= 8 - 1e-9
    if show == "auto":
        assert wall.height_px <= 401
        assert shorter >= 28 - 1e-9
        assert wall.shown >= 1
    elif wall.height_px > 401:
        assert shorter < 16, "only many small cells may make a wall higher than asked"


def test_the_text_says_how_many():
    assert wall_geometry(512, 14, 14, 260, 260).text == "80 of 512 channels"
    assert wall_geometry(1, 14, 14, 260, 260).text == "1 of 1 channel"


def test_a_wall_is_filled_with_the_largest_cells_that_fit():
    wall = wall_geometry(24, 56, 56, 300, 300)
    assert (wall.columns, wall.rows, wall.cell_px, wall.height_px) == (5, 5, 60, 300)


def test_the_crop_is_drawn_in_per_cent_of_the_original():
    style = crop_overlay_style((100, 0, 500, 400), (600, 400))
    assert style == {"left": "16.667%", "top": "0.000%", "width": "66.667%", "height": "100.000%"}
    beyond = crop_overlay_style((-50, -10, 700, 410), (600, 400))
    assert beyond == {"left": "0.000%", "top": "0.000%", "width": "100.000%", "height": "100.000%"}
