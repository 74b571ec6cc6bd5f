"""What is painted on a picture, to the pixel, and what a network is given of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from hookscope.dashboard.asking.sides import OWN_WAY, Preparation, Side
from hookscope.dashboard.inputs.fills import paint
from hookscope.dashboard.inputs.painting import MOST_SHAPES, read_painting, say_painting, shapes_of
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.sources.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from hookscope.dashboard.sources.presets import plain

HEIGHT, WIDTH = 20, 30
RANDOM = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def painted(text: str, pixels: np.ndarray = RANDOM) -> np.ndarray:
    return np.asarray(paint(Image.fromarray(pixels), None, text)[0])


def changed(text: str) -> np.ndarray:
    """(row, column) of what differs."""
    return np.argwhere((painted(text) != RANDOM).any(2))


def test_a_box_covers_both_its_corners_and_nothing_else() -> None:
    found = painted("box.00ff80.4.3.9.7")
    expected = RANDOM.copy()
    expected[3:8, 4:10] = (0, 255, 128)
    assert np.array_equal(found, expected)
    assert np.array_equal(painted("box.00ff80.9.7.4.3"), expected)
    assert changed("box.ff0000.5.6.5.6").tolist() == [[6, 5]]  # one pixel


def test_a_stroke_covers_what_a_brush_would() -> None:
    assert changed("stroke.00ff00.1.2.5.6.5").tolist() == [[5, x] for x in range(2, 7)]
    found = {tuple(each) for each in changed("stroke.00ff00.5.10.10.20.10")}
    for y, x in np.ndindex(HEIGHT, WIDTH):
        distance = np.hypot(max(10 - x, 0, x - 20), y - 10)
        assert ((y, x) in found) if distance < 2 else ((y, x) not in found) if distance > 3.1 else True
    assert len(changed("stroke.00ff00.3.10.10.10.10")) >= 5  # a dab


def test_what_lies_beside_the_picture_changes_nothing() -> None:
    assert len(changed("box.00ff00.100.100.200.200")) == 0
    assert len(changed("stroke.00ff00.9.100.100.200.200")) == 0
    assert changed(f"box.00ff00.0.0.{WIDTH + 50}.{HEIGHT + 50}").shape == (WIDTH * HEIGHT, 2)


def test_grey_mean_and_noise_by_hand() -> None:
    assert np.unique(painted("box.grey.4.3.9.7")[3:8, 4:10]).tolist() == [128]
    means = np.rint(RANDOM.reshape(-1, 3).astype(np.float64).mean(0))
    assert (painted("box.mean.4.3.9.7")[3:8, 4:10] == means).all()
    noise = painted(f"box.noise.0.0.{WIDTH - 1}.{HEIGHT - 1}")
    assert np.array_equal(painted("box.noise.4.3.9.7")[3:8, 4:10], noise[3:8, 4:10])  # the same at the same place
    assert 90 < noise.mean() < 165 and noise.std() > 60


def test_blur_is_three_means_over_a_square_of_the_picture_itself() -> None:
    large = np.random.default_rng(4).integers(0, 256, (60, 72, 3), np.uint8)
    expected = large.astype(np.float64)
    reach = 60 // 24
    for _ in range(3):
        padded = np.full((60 + 2 * reach, 72 + 2 * reach, 3), np.nan)
        padded[reach:-reach, reach:-reach] = expected
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1), (0, 1))
        expected = np.nanmean(windows, axis=(3, 4))
    found = painted("box.ff0000.0.0.71.59~box.blur.30.20.45.35", large)  # what lies below is not blurred into it
    assert np.abs(found[20:36, 30:46] - expected[20:36, 30:46]).max() <= 0.5


def test_shapes_cover_those_before_them() -> None:
    found = painted("box.ff0000.0.0.9.9~box.0000ff.5.5.14.14")
    assert found[4, 4].tolist() == [255, 0, 0] and found[7, 7].tolist() == [0, 0, 255]


@pytest.mark.parametrize("type_", ["<u2", "<f4"])
def test_what_a_picture_only_stands_for_is_painted_in_its_own_range(type_: str) -> None:
    values = (np.random.default_rng(5).random((HEIGHT, WIDTH, 5)) * 1000).astype(type_)
    exact = Exact(values, -200.0, 1000.0) if type_ == "<f4" else Exact(values, 0.0, 1000.0)
    _, found = paint(Image.fromarray(RANDOM), exact, "box.grey.4.3.9.7~box.mean.12.3.15.7~box.ffffff.20.3.22.7")
    assert found is not None and found.values.dtype == values.dtype and (found.low, found.high) == (exact.low, 1000)
    assert np.unique(found.values[3:8, 4:10]).tolist() == [(exact.low + exact.high) / 2]
    assert np.allclose(found.values[3:8, 12:16], values.reshape(-1, 5).astype(np.float64).mean(0), atol=0.5)
    assert np.unique(found.values[3:8, 20:23]).tolist() == [1000]
    untouched = np.ones((HEIGHT, WIDTH), bool)
    untouched[3:8, [*range(4, 10), *range(12, 16), *range(20, 23)]] = False
    assert np.array_equal(found.values[untouched], values[untouched])


def test_every_frame_of_a_clip_is_painted() -> None:
    frames = np.random.default_rng(6).integers(0, 256, (HEIGHT, WIDTH, 12), np.uint8)
    _, found = paint(Image.fromarray(frames[..., :3]), Exact(frames, 0.0, 255.0, frames=4), "box.ff8000.1.1.2.2")
    assert found is not None and found.values[1, 1].tolist() == [255, 128, 0] * 4


@pytest.mark.parametrize(
    "text",
    [
        *(None, 7, "", "nonsense", "box.grey.1.2.3", "box.grey.1.2.3.4.5.6", "box.pink.1.2.3.4"),
        *("stroke.grey.0.1.2.3.4", "stroke.grey.5.1.2.3", "box.grey.1.2.3.-4", "box.grey.1.2.3.999999"),
        *("box..1.2.3.4", "box.GREY.1.2.3.4"),
    ],
)
def test_nonsense_paints_nothing(text: object) -> None:
    assert read_painting(text) == ""


def test_a_painting_is_a_part_of_how_a_picture_is_prepared() -> None:
    text = "box.grey.1.2.3.4~stroke.ff00aa.5.1.2.3.4"
    found = Preparation.read(f"bgr,{text},padded")
    assert found.painted == text and Preparation.read(found.write()) == found
    assert found.text == "blue, green, red, black around, not cropped, 1 box, 1 stroke painted on it"
    assert "painted" in found.changed and Preparation().painted == OWN_WAY
    assert len(shapes_of("~".join(["box.grey.1.2.3.4"] * 60))) <= MOST_SHAPES and say_painting("box") == ""
    side = Side("net", "one", found, second="two")
    assert side.of_second.input == "two" and side.of_second.preparation == Preparation.read("bgr,padded")


def test_a_network_is_given_the_painted_picture_prepared_as_ever() -> None:
    way = plain((16, 16), 16, "bilinear", IMAGENET_MEAN, IMAGENET_STD)
    given = way.otherwise(Preparation(painted="box.ff0000.4.3.9.7"))(Image.fromarray(RANDOM))
    by_hand = RANDOM.copy()
    by_hand[3:8, 4:10] = (255, 0, 0)
    assert torch.equal(given.tensor, way(Image.fromarray(by_hand)).tensor)
    assert not torch.equal(given.tensor, way(Image.fromarray(RANDOM)).tensor)
