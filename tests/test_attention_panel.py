"""A card's attention: the right row of the right head, on the picture where it lies there, and its numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import INFO, InlineEngine, answer_to, attention_of
from PIL import Image
from playwright.sync_api import BrowserContext, expect
from served import Application, open_page
from test_panels import Desk, all_drawn, text
from units import of, what_of

from hookscope.dashboard.asking.answers import Failure
from hookscope.dashboard.asking.questions import AttentionOf
from hookscope.dashboard.drawing.attention_pictures import MARK, SIDE_PX, attention_picture
from hookscope.dashboard.panels.order import parts
from hookscope.hooks.results import attending
from hookscope.hooks.results.looks import AttentionMaps, Prediction

RNG = np.random.default_rng(0)
SQUARE = attention_of("tokens", RNG.random((2, 10, 10)), (3, 3), 1)
PLAIN = attention_of("tokens", RNG.random((2, 12, 12)), (3, 4))
WINDOWS = attention_of("tokens", RNG.random((4, 2, 9, 9)), (3, 3))
UNKNOWN = attention_of("tokens", RNG.random((2, 5, 7)), None)
CLASS = attention_of("tokens", RNG.random((2, 1, 10)), (3, 3), 1, rollout=False)
POOLED = attention_of("tokens", RNG.random((2, 12, 4)), (2, 2), rollout=False)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    app = InlineApp(tmp_path_factory.mktemp("attention"), InlineEngine())
    yield Desk(app)
    app.close()


def section(desk: Desk, result: Any = None, layer: str = "tokens", **view: Any) -> dict[str, Any]:
    """The properties of a card's attention, and its text, once everything is answered."""
    scene = desk.scene(layers=(layer,), **view)
    results = dict.fromkeys(scene.of_layer(AttentionOf, layer).values(), result) if result is not None else {}
    shown = all_drawn(desk, scene, results)["card-attention 0"]
    return {**shown, "text": " ".join(text(node) for node in shown["tree"])}


def images(node: Any) -> list[str]:
    """The addresses of the pictures in a tree of plain elements, in order."""
    if isinstance(node, list) and node and node[0] == "img":
        return [node[1]["src"]]
    return [source for child in node for source in images(child)] if isinstance(node, list) else []


# which row


@pytest.mark.parametrize(
    ("maps", "patch", "index", "words", "place"),
    [
        (SQUARE, -1, 0, "the class token", None),
        (SQUARE, 5, 6, "the patch in row 1, column 2, counted from 0", (1, 2)),
        (SQUARE, 9, 0, "the class token", None),  # chosen on a larger grid
        (PLAIN, -1, 6, "the patch in row 1, column 2, counted from 0", (1, 2)),
        (PLAIN, 11, 11, "the patch in row 2, column 3, counted from 0", (2, 3)),
        (WINDOWS, -1, 4, "the position in row 1, column 1, counted from 0", (1, 1)),
        (UNKNOWN, 3, 0, "query 1 of 5", None),
        (CLASS, 5, 0, "the class token", None),
        (POOLED, 3, 0, "query 1 of 12", None),
    ],
)
def test_the_query_that_looks(maps: AttentionMaps, patch: int, index: int, words: str, place: Any) -> None:
    assert attending.query_of(maps, patch) == attending.Query(index, words, place)


def test_what_each_position_is_given() -> None:
    head = attending.shares_of(SQUARE, "1", 6)
    assert head is not None and np.array_equal(head.ravel(), SQUARE.weights[1, 6, 1:])
    mean = attending.shares_of(SQUARE, attending.MEAN, 0)
    assert mean is not None and np.allclose(mean.ravel(), SQUARE.weights[:, 0, 1:].mean(0))
    assert SQUARE.rollout is not None
    total = attending.shares_of(SQUARE, attending.ROLLOUT, 2)
    assert total is not None and np.array_equal(total.ravel(), SQUARE.rollout[2, 1:])
    window = attending.shares_of(WINDOWS, "0", 4)
    assert window is not None and np.allclose(window.ravel(), WINDOWS.weights[:, 0, 4].mean(0))
    assert attending.shares_of(UNKNOWN, "0", 0) is None and attending.shares_of(WINDOWS, attending.ROLLOUT, 0) is None


# what the card says


def test_a_layer_with_attention(desk: Desk) -> None:
    shown = section(desk, SQUARE)
    assert shown["hidden"] is False
    for words in (
        "from the class token",
        f"{SQUARE.entropy.mean():.2f} of at most ln 10 = 2.30 nats",
        "mean",
        "rollout",
    ):
        assert words in shown["text"]
    for head, entropy in enumerate(SQUARE.entropy):
        assert f"head {head} {entropy:.2f}" in " ".join(shown["text"].split())
    given = SQUARE.weights[:, 0, 0].mean()
    assert f"{100 * given:.3g} %" in shown["text"].replace("\u202f", " ") and "not on the picture" in shown["text"]
    assert len(images(shown["tree"])) == 4  # mean, two heads, rollout


def test_the_picture_is_of_the_chosen_patch_and_head(desk: Desk) -> None:
    scene = desk.scene(layers=("tokens",), patch=5)
    addresses = images(section(desk, SQUARE, patch=5)["tree"])
    prediction = answer_to(of(scene, "a", "prediction"))
    assert isinstance(prediction, Prediction)
    shares = SQUARE.weights[1, 6, 1:].reshape(3, 3)
    item = desk.gallery.get(addresses[2].rpartition("/")[2])
    assert item is not None and item.data == attention_picture(shares, prediction.pixels, (1, 2))
    assert set(addresses).isdisjoint(images(section(desk, SQUARE)["tree"]))


def test_windows_are_not_laid_over_the_picture(desk: Desk) -> None:
    shown = section(desk, WINDOWS)
    assert "mean over 4 windows of 3 × 3 positions, which are not laid out as the picture is" in shown["text"]
    addresses = images(shown["tree"])
    item = desk.gallery.get(addresses[1].rpartition("/")[2])
    shares = WINDOWS.weights[:, 0, 4].mean(0).reshape(3, 3)
    assert item is not None and item.data == attention_picture(shares, None, (1, 1)) and len(addresses) == 3


def test_without_a_grid_there_are_numbers_and_a_sentence(desk: Desk) -> None:
    shown = section(desk, UNKNOWN)
    assert "is not known" in shown["text"] and images(shown["tree"]) == []
    assert all(f"head {head}: {value:.2f}" in shown["text"] for head, value in enumerate(UNKNOWN.entropy))


def test_who_looks_is_said_where_it_is_not_the_patches_that_are_seen(desk: Desk) -> None:
    shown = section(desk, CLASS, patch=5)
    assert "from the class token, which alone looks here" in shown["text"] and "click a patch" not in shown["text"]
    assert len(images(shown["tree"])) == 3
    shown = section(desk, POOLED, patch=3)
    assert "from query 1 of 12, at 4 positions" in shown["text"] and "click a patch" not in shown["text"]


def test_a_failure_stands_where_the_maps_would(desk: Desk) -> None:
    shown = section(desk, Failure("The model failed while computing the attention: no room."))
    assert "no room" in shown["text"] and "Try again" in shown["text"]


def test_other_layers_have_no_such_section_and_are_not_asked(desk: Desk) -> None:
    assert section(desk, layer="conv")["hidden"] is True
    asked = {unit for part in parts(desk.scene(layers=("conv", "tokens")), 2, "/") for unit in part.units}
    assert [unit.layer for unit in asked if what_of(unit) == "attention"] == ["tokens"]


def test_another_patch_draws_the_attention_anew_and_nothing_else(desk: Desk) -> None:
    def signatures(patch: int) -> dict[str, str]:
        scene = desk.scene(INFO, layers=("conv", "tokens"), patch=patch)
        return {part.name: part.signature() for part in parts(scene, 2, "/")}

    before, after = signatures(-1), signatures(3)
    assert {name for name in after if after[name] != before[name]} == {"card 1 attention", "export"}


# the picture


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_the_largest_share_is_the_brightest_patch_and_nothing_is_the_picture_itself() -> None:
    shares = np.zeros((2, 3))
    shares[1, 2] = 0.01
    pixels = np.full((100, 150, 3), 80, np.uint8)
    picture = decoded(attention_picture(shares, pixels, None))
    assert picture.shape == (SIDE_PX * 2 // 3, SIDE_PX, 3)
    block = SIDE_PX // 3
    assert abs(picture[10 : block - 10, 10 : block - 10] - 80).max() <= 3
    assert picture[block + 10 :, 2 * block + 10 :].mean() > 180


def test_the_query_is_outlined() -> None:
    picture = decoded(attention_picture(np.zeros((3, 3)), None, (1, 0)))
    third = SIDE_PX // 3
    bright = picture.max(-1) > 60  # WebP blurs a line of one pixel
    rows, columns = bright.any(1).nonzero()[0], bright.any(0).nonzero()[0]
    assert abs(rows[[0, -1]] - [third, 2 * third - 1]).max() <= 2 and abs(columns[[0, -1]] - [0, third - 1]).max() <= 2
    assert not bright[third + 5 : 2 * third - 5, 5 : third - 5].any()  # an outline
    assert picture[third : 2 * third, 0].mean(0).argmin() == np.argmin(MARK)
    assert decoded(attention_picture(np.zeros((3, 3)), None, None)).max() < 20


def test_a_map_of_zeros_and_a_picture_of_one_row_do_not_stop_it() -> None:
    row = np.zeros((1, 400, 3), np.uint8)
    assert decoded(attention_picture(np.zeros((1, 1)), row, (0, 0))).shape == (1, SIDE_PX, 3)


# the page


@pytest.mark.browser
def test_a_click_on_a_patch_looks_from_there(context: BrowserContext, tmp_path: Path) -> None:
    application = Application(tmp_path, "--model", "timm:vit_tiny_patch16_224")
    try:
        page = context.new_page()
        open_page(page, application.url + "?a=sample-chelsea&layer=blocks.2.attn&layer=blocks.2/add")
        cells = page.locator(".slot:first-child .attention .cell img")
        expect(cells).to_have_count(5, timeout=60_000)  # mean, three heads, rollout
        line = page.locator(".slot:first-child .attention .line")
        expect(line).to_contain_text("from the class token")
        box = cells.first.bounding_box()
        assert box is not None
        cells.first.click(position={"x": box["width"] * 6.5 / 14, "y": box["height"] * 8.5 / 14})
        expect(line).to_contain_text("from the patch in row 8, column 6,")
        assert f"patch={8 * 14 + 6}" in page.url
        page.keyboard.press("ArrowUp")  # the map that was clicked has the keys
        expect(line).to_contain_text("from the patch in row 7, column 6,")
        page.keyboard.press("ArrowDown")
        expect(line).to_contain_text("from the patch in row 8, column 6,")
        page.reload()
        expect(line).to_contain_text("from the patch in row 8, column 6,", timeout=60_000)
        page.locator(".attention [data-value='-1']").click()
        expect(line).to_contain_text("from the class token")
        # the sum in the same block is a layer like any other: a wall, numbers, Grad-CAM, and no attention
        other = page.locator(".slot:nth-child(2)")
        expect(other.locator(".statistics")).to_contain_text("mean")
        expect(other.locator(".cam-text")).to_contain_text("logits per position", timeout=60_000)
        expect(other.locator(".attention")).to_be_hidden()
        assert page.locator("[data-key='blocks.2/add']").get_attribute("class").split() == [
            "hs-tree-row",
            "hs-operation",
        ]
        page.goto("about:blank")
    finally:
        application.stop()
