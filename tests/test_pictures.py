"""Every pixel of small sprites, computed by hand."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from hookscope.dashboard.drawing.palettes import INF_COLOUR, LEVELS, NAN_COLOUR, PALETTES, palette_for
from hookscope.dashboard.drawing.pictures import cam_overlay, overlay_sprite, picture_png, sprite
from hookscope.dashboard.drawing.resizing import resize_bilinear
from hookscope.dashboard.drawing.scales import channel_scales, layer_scale


def opened(data):
    return Image.open(io.BytesIO(data))


def levels_of(data):
    return np.asarray(opened(data)).tolist()


def test_every_pixel_of_two_channels():
    maps = np.array([[[0, 2], [4, 8]], [[8, 8], [0, 4]]], np.float32)
    data = sprite(maps, np.array([1, 0]), 2, layer_scale(maps), PALETTES["viridis"])
    image = opened(data)
    assert (image.format, image.mode, image.size) == ("PNG", "P", (4, 4))
    # mean map | channel 1
    # channel 0 | no cell
    assert levels_of(data) == [
        [126, 158, 252, 252],
        [63, 189, 0, 126],
        [0, 63, 253, 253],
        [126, 252, 253, 253],
    ]
    colours = np.asarray(image.convert("RGBA"))
    assert colours[2, 0].tolist() == [0x44, 0x01, 0x54, 255]
    assert colours[0, 2].tolist() == [0xFD, 0xE7, 0x25, 255]
    assert colours[3, 3, 3] == 0, "where there is no cell the page shines through"


def test_signed_maps_keep_zero_in_the_middle():
    maps = np.array([[[-1, 0]], [[3, 0]]], np.float32)
    scale = layer_scale(maps)
    data = sprite(maps, np.array([0, 1]), 3, scale, palette_for(scale.kind))
    assert levels_of(data) == [[168, 126, 84, 126, 252, 126]]
    assert np.asarray(opened(data).convert("RGB"))[0, 1].tolist() == [0xF7] * 3


def test_each_channel_on_its_own_scale_and_the_mean_map_on_its_own():
    maps = np.array([[[1e-6, 0]], [[100, 50]]], np.float32)
    data = sprite(maps, np.array([0, 1]), 3, channel_scales(maps), PALETTES["viridis"])
    assert levels_of(data) == [[252, 126, 252, 0, 252, 126]]


def test_nan_and_inf_have_colours_of_their_own():
    maps = np.array([[[math.nan, 1]], [[0, -math.inf]]], np.float32)
    scale = layer_scale(maps)
    image = np.asarray(opened(sprite(maps, np.array([0, 1]), 3, scale, palette_for(scale.kind))).convert("RGB"))
    assert [tuple(pixel) for pixel in image[0].tolist()] == [
        NAN_COLOUR,
        INF_COLOUR,
        NAN_COLOUR,
        (0xFD, 0xE7, 0x25),
        (0x44, 0x01, 0x54),
        INF_COLOUR,
    ]


def test_cells_are_reduced_by_area_and_never_enlarged():
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, :2, :2] = [[0, 4], [4, 8]]
    maps[0, 3, 3] = 8
    order = np.array([0])
    assert levels_of(sprite(maps, order, 2, layer_scale(maps), PALETTES["grey"], 2)) == [[126, 0] * 2, [0, 63] * 2]
    assert opened(sprite(maps, order, 2, layer_scale(maps), PALETTES["grey"], 50)).size == (8, 4)
    assert opened(sprite(maps, order, 2, layer_scale(maps), PALETTES["grey"], 0.3)).size == (2, 1)
    wide = np.zeros((1, 10, 30), np.float32)
    assert opened(sprite(wide, order, 1, layer_scale(wide), PALETTES["grey"], 15)).size == (15, 10)


def test_the_mean_map_is_of_all_channels_even_if_few_are_shown():
    maps = np.array([[[0]], [[9]], [[0]]], np.float32)
    assert levels_of(sprite(maps, np.array([0]), 2, layer_scale(maps), PALETTES["grey"])) == [[84, 0]]


def test_a_wall_of_2048_channels_weighs_little():
    maps = np.random.default_rng(0).normal(size=(2048, 7, 7)).astype(np.float32)
    data = sprite(maps, np.arange(2048), 46, layer_scale(maps), PALETTES["blue-red"])
    assert len(data) < 105_000


def test_an_overlay_lets_the_picture_through_where_the_map_is_zero():
    maps = np.zeros((1, 2, 2), np.float32)
    maps[0, 0, 0] = 1
    maps[0, 1, 1] = math.nan
    pixels = np.full((64, 64, 3), 100, np.uint8)
    data = overlay_sprite(maps, np.array([0]), 2, layer_scale(maps), PALETTES["viridis"], pixels, 32)
    image = opened(data)
    assert (image.format, image.size) == ("WEBP", (64, 32))
    seen = np.asarray(image)[..., :3].astype(int)
    strongest = np.array([0xFD, 0xE7, 0x25]) * 0.85 + 100 * 0.15
    assert seen[8, 40] == pytest.approx(strongest, abs=6)
    assert seen[8, 56] == pytest.approx([100] * 3, abs=6)
    assert seen[24, 56] == pytest.approx(NAN_COLOUR, abs=6)


def test_an_overlay_shows_the_picture_in_grey_and_leaves_the_rest_transparent():
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, 10:] = (255, 0, 0)
    maps = np.zeros((2, 8, 8), np.float32)
    seen = np.asarray(
        opened(overlay_sprite(maps, np.array([0, 1]), 2, layer_scale(maps), PALETTES["grey"], pixels, 40))
    )
    assert seen.shape == (80, 80, 4)
    assert seen[20, 5, :3].tolist() == pytest.approx([0] * 3, abs=4)
    assert seen[20, 35, :3].tolist() == pytest.approx([76] * 3, abs=4)  # red's luma, 0.299 of 255
    assert seen[60, 60, 3] == 0


def test_cam_is_relu_scaled_resized_and_transparent_at_zero():
    cam = np.array([[-5, 0], [1, 2]], np.float32)
    overlay = cam_overlay(cam, (6, 8))
    image = opened(overlay.png)
    assert (image.size, overlay.peak, overlay.note) == ((8, 6), 2, "")
    heat = resize_bilinear(np.array([[0, 0], [0.5, 1]]), 6, 8)
    assert np.abs(np.asarray(image) - heat * (LEVELS - 1)).max() <= 0.5
    colours = np.asarray(image.convert("RGBA"))
    assert colours[0, 0, 3] == 0
    assert colours[5, 7].tolist() == [*PALETTES["magma"].table[LEVELS - 1].tolist(), 255]


def test_a_cam_with_nothing_to_show_says_so():
    overlay = cam_overlay(np.full((7, 7), -1, np.float32), (20, 20))
    assert overlay.peak == 0
    assert overlay.note == "No position of this layer speaks for the target: the map is zero or negative everywhere."
    assert np.asarray(opened(overlay.png).convert("RGBA"))[..., 3].max() == 0
    broken = cam_overlay(np.array([[math.nan, 1]], np.float32), (2, 2))
    assert broken.note == "1 of 2 values of the map are NaN or Inf and are not drawn."
    assert broken.peak == 1


def test_pictures_as_files():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    data = picture_png(pixels)
    assert np.asarray(opened(data)).tolist() == pixels.tolist()
    assert data.startswith(b"\x89PNG")
