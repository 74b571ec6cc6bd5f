"""One class against another on the page: maps in two colours, attributions, gradients, the tree; A and B apart."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_page import NET, Page, array, opened, operators_folder, texts
from PIL import Image

from hookscope.dashboard.drawing.against_pictures import NOTHING, against_overlay, net_map
from hookscope.dashboard.page.view import View
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.results.targets import Against


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with operators_folder(tmp_path_factory.mktemp("against"), two_net=NET) as path:
        yield path


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("page"), "two_net:make") as made:
        yield made


def hovered(shown: dict[str, Any], place: int = 0) -> np.ndarray:
    traces = [trace for trace in shown["card-cam 0"]["figure"]["data"] if trace["type"] == "heatmap"]
    return array(traces[place]["z"])


def test_a_card_shows_both_classes_each_in_its_colour(page: Page) -> None:
    net = page.net("two_net:make")
    with torch.no_grad():
        first, second, _ = (int(index) for index in net(page.tensor)[0].argsort(descending=True))
    shown = page.shows(layers=["0"], against="next")
    assert "against=next" in page.query and "apart" not in page.query
    right = layer_map(net, page.tensor, "0", Against(first, second)).values
    np.testing.assert_allclose(hovered(shown), right, rtol=1e-4, atol=1e-6)
    caption = texts(shown["card-cam-text 0"])
    assert f"class {first} against" in caption and f"class {second}" in caption and "±" in caption
    assert "What speaks for each" not in caption  # Grad-CAM's map is that itself
    turned = page.shows(layers=["0"], target=str(second), against=str(first))
    np.testing.assert_allclose(hovered(turned), -right, rtol=1e-4, atol=1e-6)
    layercam = page.shows(layers=["0"], against="next", maps="layercam")
    found = layer_map(net, page.tensor, "0", Against(first, second), "layercam")
    net_of_both = found.values.clip(0) - found.opposite.clip(0)
    np.testing.assert_allclose(hovered(layercam), net_of_both, rtol=1e-4, atol=1e-6)
    assert "What speaks for each, less what speaks for the other" in texts(layercam["card-cam-text 0"])
    assert "against" not in texts(page.shows(layers=["0"])["card-cam-text 0"])  # off unless it is chosen


def test_attributions_gradients_and_the_tree_follow(page: Page) -> None:
    name = "class 0 against class 2"
    shown = page.shows(target="0", against="2", attributions=True, metric="gradient")
    assert texts(shown["attributions"]).count(f"Here that is {name}.") == 3
    assert f"“{name}” in A" in texts(shown["tree"])
    gradients = texts(page.shows(target="0", against="2", tab="gradients")["gradients-text"])
    assert name in gradients and "logit difference" in gradients


def test_what_cannot_be_is_a_sentence_where_the_map_would_be(page: Page) -> None:
    assert "Class 1 is held against itself" in texts(page.shows(layers=["0"], target="1", against="1"))
    page.shows(layers=["0"], against="7")
    assert "against" not in page.query  # the model has no such class
    assert View.from_query("against=nonsense").against is None and View.from_query("target=5").against is None


def test_rows_say_which_is_held_against_which(page: Page) -> None:
    rows = str(page.shows(target="1", against="2")["input-a-top"])
    assert rows.count("row chosen") == 1 and rows.count("row against") == 1
    assert "With Shift, what is explained is held against it." in rows


def test_a_and_b_explain_each_its_own_where_somebody_wants_it(page: Page) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    other = page.inputs.receive(io.BytesIO(buffer.getvalue()), None, "other.png").key
    chosen = {"b": other, "layers": ["0"], "target": "0", "target_b": "2", "against_b": "1"}
    together = page.shows(**chosen)
    assert "own class" in texts(together["apart"]) and not together["whose"]["tree"]
    assert "against" not in texts(together["card-cam-text 0"])
    apart = page.shows(**chosen, apart=True, side="b")
    assert "A's class" in texts(apart["apart"]) and str(apart["whose"]).count("'look'") == 2
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    net = page.net("two_net:make")
    np.testing.assert_allclose(hovered(apart), layer_map(net, page.tensor, "0", 0).values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        hovered(apart, 1), layer_map(net, tensor, "0", Against(2, 1)).values, rtol=1e-4, atol=1e-6
    )
    saved = next(value for key, value in apart.items() if key == "export-view")["href"]
    file = page.client.get(saved).get_data(as_text=True)
    assert "explained: class 0 and class 2 against class 1" in file


# --- the picture


def test_each_colour_is_what_speaks_for_one_of_them() -> None:
    values, opposite = np.array([[2.0, -1.0], [0.0, 3.0]]), np.array([[-2.0, 1.0], [0.0, 3.0]])
    net = net_map(values, opposite)
    assert net.tolist() == [[2.0, -1.0], [0.0, 0.0]]
    overlay = against_overlay(net, (2, 2))
    red, blue, nothing, _ = np.array(Image.open(io.BytesIO(overlay.png)).convert("RGBA")).reshape(4, 4)
    assert overlay.limit == 2 and not overlay.note
    assert red[0] > red[2] and red[3] == 255 and blue[2] > blue[0] and 0 < blue[3] < 255 and nothing[3] == 0


def test_a_map_without_a_difference_or_with_broken_values_says_so() -> None:
    assert against_overlay(np.zeros((2, 2)), (4, 4)).note == NOTHING
    broken = against_overlay(np.array([[np.nan, 1.0]]), (4, 4))
    assert broken.limit == 1 and broken.note.startswith("1 of 2 values")
