"""Arrays on the page: which channels are seen, which axis they are, and that only the axes change what is computed."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from own_page import Page, opened, operators_folder, texts
from PIL import Image
from torch.nn import functional

from hookscope.dashboard.asking.questions import ActivationOf, PredictionOf, Unit
from hookscope.dashboard.asking.sides import Preparation, Side
from hookscope.dashboard.engine.base import Preprocessing
from hookscope.dashboard.inputs import colours
from hookscope.dashboard.inputs.axes import decide
from hookscope.dashboard.inputs.rows import Exact
from hookscope.dashboard.sources.preprocessing import PreparationError, Preprocessor
from hookscope.hooks.results.looks import Activation, Prediction

NETS = """
    import torch
    from torch import nn

    def build(channels):
        own = torch.Generator().manual_seed(channels)
        net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        with torch.no_grad():
            for each in net.parameters():
                each.copy_(torch.randn(each.shape, generator=own))
        return net.eval(), {"input_size": 12, "resize": 12, "mean": (0.0,), "std": (1.0,)}

    def four():
        return build(4)

    def three():
        return build(3)
"""
MODELS = ("channels_net:four", "three=channels_net:three")
RANDOM = np.random.default_rng(8)
MANY = RANDOM.integers(0, 256, (4, 12, 12), np.uint8)  # (channel, height, width) for a model of four
DOUBTFUL = RANDOM.integers(0, 65536, (4, 12, 3)).astype(np.uint16)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with (
        operators_folder(tmp_path_factory.mktemp("channels"), channels_net=NETS),
        opened(tmp_path_factory.mktemp("page"), *MODELS) as made,
    ):
        yield made


def given(page: Page, values: np.ndarray) -> str:
    file = io.BytesIO()
    np.save(file, values)
    return page.inputs.receive(io.BytesIO(file.getvalue()), None, "array.npy").key


def by_hand(page: Page, module: str, values: np.ndarray) -> np.ndarray:
    """The logits of a model for (channel, height, width) of 0..1."""
    height, width = values.shape[1:]
    ratio = 12 / min(height, width)
    size = round(height * ratio), round(width * ratio)
    own = torch.from_numpy(values.astype(np.float32))[None]
    own = own if ratio == 1 else functional.interpolate(own, size, mode="bilinear", antialias=True)
    top, left = (size[0] - 12) // 2, (size[1] - 12) // 2
    with torch.no_grad():
        found: np.ndarray = page.net(f"channels_net:{module}")(own[:, :, top : top + 12, left : left + 12])[0].numpy()
    return found


def answered(page: Page, key: str, model: str = MODELS[0], way: str = "", shown: str = "") -> Prediction:
    """What was answered to a picture that has been on the page."""
    digest = page.inputs.get(key).digest  # type: ignore[union-attr]
    found = page.service.value(Unit(Side(model, digest, Preparation.read(way)), PredictionOf(shown)))
    assert isinstance(found, Prediction) and found.scores is not None
    return found


def logits(page: Page, key: str, **how: str) -> np.ndarray:
    scores = answered(page, key, **how).scores
    assert scores is not None
    return scores.logits


def drawn(page: Page, address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.client.get(address).data)).convert("RGB")).astype(int)


def chips(node: Any) -> dict[str, tuple[dict[str, Any], bool]]:
    """What every choice in a tree of elements sets, and whether it is chosen, by its name for readers."""
    if isinstance(node, dict):
        own = {}
        if node.get("data-do") == "set" and "aria-label" in node:
            own = {node["aria-label"]: (json.loads(node["data-value"]), node["aria-pressed"] == "true")}
        return own | chips(list(node.values()))
    found: dict[str, tuple[dict[str, Any], bool]] = {}
    for each in node if isinstance(node, list | tuple) else ():
        found |= chips(each)
    return found


# --- which are seen


def test_other_channels_are_seen_and_nothing_else_changes(page: Page) -> None:
    key = given(page, MANY)
    usual = page.shows(a=key, layers=["0"])
    chosen = page.shows(a=key, layers=["0"], shown_a="3.0.2")
    assert "shown_a=3.0.2" in page.query
    assert "blue: channels 0, 1, 2 of 4" in texts(usual["input-a-reading"]["tree"])
    assert "blue: channels 3, 0, 2 of 4" in texts(chosen["input-a-reading"]["tree"])
    assert (
        np.abs(drawn(page, chosen["input-a-picture"]["src"]) - MANY[[3, 0, 2]].transpose(1, 2, 0)).mean() < 12
    )  # JPEG
    received = page.shows(a=key, shown_a="3.0.2", seen=True)["input-a-picture"]["src"]
    assert np.array_equal(drawn(page, received), MANY[[3, 0, 2]].transpose(1, 2, 0))
    assert np.array_equal(
        drawn(page, page.shows(a=key, seen=True)["input-a-picture"]["src"]), MANY[:3].transpose(1, 2, 0)
    )
    assert usual["input-a-top"] == chosen["input-a-top"]
    np.testing.assert_allclose(logits(page, key), by_hand(page, "four", MANY / 255), atol=1e-5)
    assert np.array_equal(logits(page, key), logits(page, key, shown="3.0.2"))


def test_a_layers_values_are_not_computed_again_for_it(page: Page) -> None:
    """Their unit does not know of it; the prediction's does, and its numbers are the same to the bit."""
    key = given(page, MANY[::-1].copy())
    page.shows(a=key, layers=["0"], shown_a="1.1.3")
    side = Side(page.models[0], page.inputs.get(key).digest)  # type: ignore[union-attr]
    layer = page.service.value(Unit(side, ActivationOf("0")))
    assert isinstance(layer, Activation)
    own = torch.from_numpy(MANY[::-1].copy())[None].float() / 255
    with torch.no_grad():
        np.testing.assert_allclose(layer.values, page.net("channels_net:four")[0](own)[0], atol=1e-5)  # type: ignore[index]
    page.shows(a=key)
    assert np.array_equal(answered(page, key, shown="1.1.3").pixels, MANY[::-1][[1, 1, 3]].transpose(1, 2, 0))
    assert np.array_equal(logits(page, key), logits(page, key, shown="1.1.3"))


def test_every_channel_can_be_chosen_for_every_colour(page: Page) -> None:
    every = chips(page.shows(a=given(page, MANY), shown_a="3.0.2")["input-a-prepared"]["tree"])
    found = {name: each for name, each in every.items() if name.startswith("See")}
    assert {name for name, (_, pressed) in found.items() if pressed} == {
        "See channel 3 as red",
        "See channel 0 as green",
        "See channel 2 as blue",
    }
    assert found["See channel 1 as green"] == ({"shown_a": "3.1.2"}, False)
    assert found["See channel 0 as red"] == ({"shown_a": "0.0.2"}, False) and len(found) == 12
    assert chips(page.shows()["input-a-prepared"]["tree"]) == {}  # of a photograph


@pytest.mark.parametrize("text", ["3.0", "3.0.2.1", "9.0.1", "a.b.c", "-1.0.0", "3,0,2", "٣.0.1"])
def test_what_names_no_channels_leaves_the_usual_ones(page: Page, text: str) -> None:
    shown = page.shows(a=given(page, MANY), shown_a=text)
    assert "channels 0, 1, 2 of 4" in texts(shown["input-a-reading"]["tree"])


def test_floats_are_seen_between_their_smallest_and_largest_value() -> None:
    values = RANDOM.normal(size=(40, 50, 5)).astype(np.float32)
    picture = np.concatenate([np.asarray(band) for _, band in colours.bands(Exact(values, 0, 1), (4, 4, 1))])
    right = (values[:, :, [4, 4, 1]] - values.min()) / (values.max() - values.min()) * 255
    np.testing.assert_allclose(picture, right, atol=0.51)
    assert Image.open(io.BytesIO(colours.preview(Exact(values.repeat(40, 0), 0, 1), (0, 1, 2)))).size == (20, 640)


def test_the_exported_page_says_what_was_seen_and_how_it_was_read(page: Page) -> None:
    shown = page.shows(a=given(page, DOUBTFUL), shown_a="3.0.2")
    text = page.client.get(shown["export-view"]["href"]).get_data(as_text=True)
    assert "A axes: channel, height, width, by the model&#x27;s channels" in text
    assert "A seen as red, green, blue: channels 3, 0, 2 of 4" in text


# --- which axis they are


@pytest.mark.parametrize(
    ("shape", "wants", "axes"),
    [
        ((4, 12, 3), 4, "channels-first"),
        ((4, 12, 3), 3, "channels-last"),
        ((4, 12, 4), 4, None),
        ((4, 12, 3), 5, None),
        ((3, 5, 3), 3, None),
        ((1, 8, 8), 3, "channels-first"),
        ((8, 8, 1), 1, "channels-last"),
        ((3, 8, 1), 3, "channels-first"),
        ((3, 8, 1), 1, "channels-last"),
        ((3, 8, 5), 1, "channels-first"),
        ((1, 8, 3), 4, None),
    ],
)
def test_the_models_channels_tell_what_the_axes_are(shape: tuple[int, ...], wants: int, axes: str | None) -> None:
    assert decide(shape, wants) == axes
    assert decide(shape, wants, "channels-first") == "channels-first"


def test_each_model_reads_a_doubtful_array_by_its_own_channels(page: Page) -> None:
    key = given(page, DOUBTFUL)
    first = page.shows(a=key)
    last = page.shows(a=key, model="three")
    right = by_hand(page, "four", DOUBTFUL / 65535), by_hand(page, "three", DOUBTFUL.transpose(2, 0, 1) / 65535)
    np.testing.assert_allclose(logits(page, key), right[0], atol=1e-5)
    np.testing.assert_allclose(logits(page, key, model="three"), right[1], atol=1e-5)
    for shown, axes, size in ((first, "channel, height, width", "3×12"), (last, "height, width, channel", "12×4")):
        caption = texts(shown["input-a-caption"]["tree"])
        assert size in caption and f"Axes: {axes}, by the model's channels." in texts(shown["input-a-reading"]["tree"])
    picture = drawn(page, first["input-a-picture"]["src"])
    assert picture.shape == (12, 3, 3) and np.abs(picture - DOUBTFUL[:3].transpose(1, 2, 0) / 257).mean() < 25
    assert drawn(page, last["input-a-picture"]["src"]).shape == (4, 12, 3)


def test_what_no_count_tells_is_asked_and_the_address_keeps_the_answer(page: Page) -> None:
    values = RANDOM.integers(0, 256, (4, 12, 4), np.uint8)
    key = given(page, values)
    shown = page.shows(a=key)
    said = texts(shown["input-a-top"]["tree"])
    assert "The channels of this array of 4 x 12 x 4 may be its first axis or its last" in said
    asked = chips(shown["input-a-reading"]["tree"])
    assert {name: values["prepare_a"] for name, (values, _) in asked.items()} == {
        "Read its axes as channel, height, width": "channels-first",
        "Read its axes as height, width, channel": "channels-last",
    }
    for way, own in (("channels-first", values), ("channels-last", values.transpose(2, 0, 1))):
        shown = page.shows(a=key, prepare_a=way)
        assert f"prepare_a={way}" in page.query
        np.testing.assert_allclose(logits(page, key, way=way), by_hand(page, "four", own / 255), atol=1e-5)
        found = chips(shown["input-a-prepared"]["tree"])
        assert [name for name, (_, pressed) in found.items() if pressed and "axes" in name] == [
            f"Read its axes as {'channel, height, width' if way == 'channels-first' else 'height, width, channel'}"
        ]
    assert "used range spread, height, width, channel" in texts(
        page.shows(a=key, prepare_a="spread,channels-last")["input-a-caption"]["tree"]
    )


def test_the_axes_of_an_array_that_can_be_read_in_one_way_are_no_choice(page: Page) -> None:
    key = given(page, MANY.repeat(2, 1).repeat(2, 2))
    chosen, shown = page.shows(a=key, prepare_a="channels-last"), page.shows(a=key)
    caption = texts(shown["input-a-caption"]["tree"])
    assert "4 x 24 x 24 uint8 as channel, height, width, 0 to 255 of 255 used" in caption
    assert "Axes:" not in texts(shown["input-a-reading"]["tree"])
    assert texts(chosen["input-a-caption"]["tree"]) == caption  # nothing is prepared otherwise


# --- where a model takes no such channels


def preprocessor(channels: int, **more: Any) -> Preprocessor:
    info = Preprocessing(0, (0, 0), "bilinear", (0.0,) * channels, (1.0,) * channels, channels=channels)
    return Preprocessor((), info, **more)


def test_grey_of_a_picture_of_more_than_8_bits_is_in_all_three_channels() -> None:
    values = RANDOM.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    shown = Image.fromarray((values >> 8).astype(np.uint8))
    grey = preprocessor(3).otherwise(Preparation(channels="grey"))
    tensor = grey(shown, Exact(values, 0, 65535)).tensor[0]
    right = (values / 65535) @ [0.299, 0.587, 0.114]
    for channel in tensor:
        np.testing.assert_allclose(channel, right, atol=1e-5)
    one = grey(shown, Exact(values[:, :, :1], 0, 65535)).tensor[0]
    np.testing.assert_allclose(one, np.repeat(values[None, :, :, 0] / 65535, 3, 0), atol=1e-5)


def test_seven_channels_have_other_values_and_no_colours() -> None:
    seven = preprocessor(7)
    exact = Exact(RANDOM.random((20, 30, 7), np.float32), 0, 1)
    shown = Image.new("RGB", (30, 20))
    tensor = seven.otherwise(Preparation(values="symmetric"))(shown, exact).tensor[0]
    np.testing.assert_allclose(tensor, exact.values.transpose(2, 0, 1) * 2 - 1, atol=1e-6)
    for preparation, sentence in (
        (Preparation(channels="bgr"), "7 channels, which are no colours"),
        (Preparation(channels="grey"), "7 channels, which are no colours"),
        (Preparation(values="imagenet"), "7 channels, and ImageNet's pictures have three"),
    ):
        with pytest.raises(PreparationError, match=sentence):
            seven.otherwise(preparation)


def test_a_processor_of_pictures_gets_no_first_three_of_seven_and_no_stretched_floats() -> None:
    def rest(picture: Image.Image) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        return np.asarray(picture).transpose(2, 0, 1).astype(np.float32) / 255, (0.0, 0.0, 30.0, 20.0)

    prepare, shown = preprocessor(3, rest=rest), Image.new("RGB", (30, 20))
    values = RANDOM.random((20, 30, 3), np.float32)
    np.testing.assert_allclose(
        prepare(shown, Exact(values, 0, 1)).tensor[0], values.transpose(2, 0, 1), atol=0.51 / 255
    )
    with pytest.raises(PreparationError, match="wants 3 channels, and this picture has 7"):
        prepare(shown, Exact(RANDOM.random((20, 30, 7), np.float32), 0, 1))
    far = Exact(values * 5 - 2, 0, 1)
    with pytest.raises(PreparationError, match=r"takes pictures of 8 bits, and this array's values go from -1\.9"):
        prepare(shown, far)
    spread = prepare.otherwise(Preparation(levels="spread"))(shown, far).tensor[0]
    low, high = values.min(), values.max()
    np.testing.assert_allclose(spread, (values.transpose(2, 0, 1) - low) / (high - low), atol=0.51 / 255)
