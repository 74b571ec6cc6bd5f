"""Whole stories in a browser, with a network that was trained here: where pictures part and why, and its int8 self."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from digits_models import digits, file_of, write_module
from playwright.sync_api import Locator, Page, expect
from served import Application, array, images, open_page, plot_of, until
from torch import Tensor, nn

pytestmark = pytest.mark.browser
MODELS = (
    "--model",
    "float=digits_net:whole",
    "--model",
    "int8=digits_net:int8",
    "--model",
    "rounded=digits_net:rounded",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def module(folder: Path) -> dict[str, Any]:
    return write_module(folder)


@pytest.fixture(scope="module")
def application(folder: Path, module: dict[str, Any]) -> Iterator[Application]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("PYTHONWARNINGS", "ignore")
        started = Application(folder / "cache", *MODELS)
    yield started
    started.stop()


def address_of(page: Page) -> str:
    return str(page.evaluate("location.search"))


def answer(page: Page, side: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"#input-{side}-top button.row").all_inner_texts()]


def brought(page: Page, application: Application, folder: Path, **sides: int) -> None:
    """The first page with digits by their numbers in scikit-learn's set."""
    open_page(page, application.url)
    for side, number in sides.items():
        page.set_input_files(f"#file-{side}", file_of(digits()[0][number], folder / f"{number}.png"))
        until(lambda side=side: len(answer(page, side)) == 5)


def outputs(net: nn.Module, picture: Tensor) -> dict[str, np.ndarray]:
    """Each module's output by torch's own hooks, in order, as the numbers that whole ones stand for."""
    found: dict[str, np.ndarray] = {}

    def keep(name: str, output: Tensor) -> None:
        found[name] = (output.dequantize() if output.is_quantized else output).double().numpy().copy()

    handles = [
        each.register_forward_hook(lambda *args, name=name: keep(name, args[-1]))
        for name, each in net.named_modules()
        if name
    ]
    with torch.no_grad():
        net(picture)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("other", ["int8", "rounded"])
def test_a_model_against_its_int8_self_the_first_layer_beyond_tolerance(
    application: Application, page: Page, folder: Path, module: dict[str, Any], other: str
) -> None:
    """In three clicks: the other model, the tab, the chart. The oracle is SQNR by numpy over torch's own hooks."""
    brought(page, application, folder, a=3)
    page.get_by_label("Compare with A's picture in another model").select_option(other)
    page.get_by_role("button", name="Depth").click()
    page.get_by_role("button", name="A against B", exact=True).click()
    sentence = page.locator(".depth-sentence")
    expect(sentence).to_contain_text("Within tolerance up to", timeout=60_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nets = [module[name]()[0] for name in ("whole", other)]
        one, two = (outputs(net, digits()[0][3:4]) for net in nets)
    sqnr, beyond = {}, []
    with np.errstate(divide="ignore"):
        for name, value in one.items():
            apart = np.linalg.norm(value - two[name])
            sqnr[name] = 20 * np.log10(np.linalg.norm(value) / apart)
            if 2 * apart / (np.linalg.norm(value) + np.linalg.norm(two[name])) > 1e-3:
                beyond.append(name)
    first, before = beyond[0], list(one)[list(one).index(beyond[0]) - 1]
    assert first == {"int8": "quant", "rounded": "conv3"}[other]
    assert sentence.locator("[data-do=layer]").all_inner_texts() == [before, first]
    shares = np.square(one[first] - two[first]).sum((0, 2, 3))
    named = [int(text) for text in sentence.locator("[data-do=set]").all_inner_texts()]
    assert named == np.argsort(-shares)[: len(named)].tolist()
    file = page.request.get(str(page.locator("#gradients-text a.save").evaluate("link => link.href"))).text()
    rows = {each["layer"]: each for each in csv.DictReader(io.StringIO(file))}
    for name, expected in sqnr.items():
        assert float(rows[name]["SQNR dB"]) == pytest.approx(expected, abs=1e-2)
    sentence.locator("[data-do=layer]").last.click()
    until(lambda: images(page, "wall") == 3)  # A, B and B - A
    expect(page.locator(".card:not([hidden])").first).to_contain_text(first)


def test_two_pictures_their_first_parting_a_channel_muted_and_the_same_page_again(
    application: Application, page: Page, folder: Path, module: dict[str, Any]
) -> None:
    """The muted answer is that of torch with a hook that zeroes the channel."""
    net = module["whole"]()[0]
    with torch.no_grad():
        unsure = int(net(digits()[0]).softmax(1).amax(1).argmin())  # so that a muted channel moves its shares
    brought(page, application, folder, a=3, b=unsure)
    plain = {side: answer(page, side) for side in "ab"}
    page.get_by_role("button", name="Depth").click()
    page.get_by_role("button", name="A against B", exact=True).click()
    sentence = page.locator(".depth-sentence")
    expect(sentence).to_contain_text("of the difference", timeout=120_000)
    page.get_by_text("distance, 1 is any two pictures").wait_for(timeout=120_000)
    measured = re.compile(r"\(\d+ pairs of the samples")  # to the end: the sentence stays as it is
    expect(page.locator("#gradients-text")).to_contain_text(measured, timeout=120_000)
    channel = sentence.locator("[data-do=set]").first
    number = channel.inner_text()
    layer = sentence.locator("[data-do=layer]").last.inner_text()
    channel.click()
    expect(page.locator("#detail-title")).to_contain_text(f"channel {number}")
    page.locator("#detail-title").click()
    page.keyboard.press("m")  # in B, the other one stays as it is
    until(lambda: f"edits_b={layer}~{number}~0" in address_of(page))

    def mute(_: nn.Module, __: Any, output: Tensor) -> None:
        output[:, int(number)] = 0

    with torch.no_grad(), net.get_submodule(layer).register_forward_hook(mute):
        shares, classes = net(digits()[0][unsure][None]).softmax(1)[0].topk(5)
    right = [f"{label} {share:.3f}" for label, share in zip(classes.tolist(), shares.tolist(), strict=True)]
    assert right != plain["b"]
    until(lambda: answer(page, "b") == right)
    expect(page.locator("#edits")).to_contain_text(f"channel {number} muted")
    muted, address = answer(page, "b"), address_of(page)
    assert answer(page, "a") == plain["a"]
    page.reload()
    until(lambda: answer(page, "b") == muted and answer(page, "a") == plain["a"])
    assert address_of(page) == address
    expect(page.locator("#edits")).to_contain_text(f"channel {number} muted")
    expect(page.locator("#detail-title")).to_contain_text(f"channel {number}")


def shown_layers(page: Page) -> list[str]:
    return re.findall(r"[?&]layer=([^&]+)", address_of(page))


def press(page: Page, button: Locator) -> None:
    """By keyboard alone."""
    button.focus()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")


def test_a_cell_of_the_likeness_and_a_line_of_its_list_open_both_layers(
    application: Application, page: Page, folder: Path
) -> None:
    brought(page, application, folder, a=3)
    page.get_by_label("Compare with A's picture in another model").select_option("int8")
    until(lambda: len(answer(page, "b")) == 5)
    press(page, page.get_by_role("button", name="Likeness of layers"))
    lines = page.locator("#likeness-list button")
    lines.first.wait_for(timeout=60_000)
    keys = until(lambda: (found := plot_of(page, "#likeness-figure")) and found["layout"].get("meta"))
    assert keys["rows"] == keys["columns"] == ["conv1", "conv2", "conv3", "fc"]  # those in int8 too
    text = lines.first.inner_text()
    pair = re.fullmatch(r"A's (\w+) is most like B's (\w+)", text)
    assert pair
    press(page, lines.first)
    until(lambda: shown_layers(page) == list(dict.fromkeys(pair.groups())))
    until(lambda: images(page, "wall") == 3)
    plot = page.locator("#likeness-figure .plot-container .bglayer, #likeness-figure .draglayer .nsewdrag").last
    box = plot.bounding_box()
    assert box is not None
    # the cell of A's third layer and B's second
    plot.hover(position={"x": box["width"] * 1.5 / 4, "y": box["height"] * 2.4 / 4})
    plot.click(position={"x": box["width"] * 1.5 / 4, "y": box["height"] * 2.5 / 4})
    until(lambda: shown_layers(page) == [keys["rows"][2], keys["columns"][1]])
    until(lambda: images(page, "wall", 1) == 3)
    walked_by_keyboard(page, keys, array(plot_of(page, "#likeness-figure")["data"][0]["z"]))


def walked_by_keyboard(page: Page, keys: dict[str, list[str]], values: np.ndarray) -> None:
    """One stop of the tab key, however many pairs there are; the arrow keys go from one to the next."""
    matrix = page.get_by_role("application")
    page.get_by_role("region", name="Likeness of layers").get_by_role("link", name="CSV").focus()
    page.keyboard.press("Tab")
    expect(matrix).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#likeness-list button").first).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(matrix).to_be_focused()
    for key in ("ArrowUp", "ArrowDown", "ArrowRight", "ArrowRight"):  # the first leads nowhere
        page.keyboard.press(key)
    said = f"{keys['rows'][1]} of A and {keys['columns'][2]} of B: CKA {values[1, 2]:.3f}, Procrustes "
    expect(matrix).to_have_attribute("aria-label", re.compile(re.escape(said)))
    box, edge = matrix.locator(".outline").bounding_box(), matrix.bounding_box()
    assert box is not None and edge is not None
    assert edge["x"] < box["x"] < edge["x"] + edge["width"] and edge["y"] < box["y"] < edge["y"] + edge["height"]
    page.keyboard.press("Enter")
    until(lambda: shown_layers(page) == [keys["rows"][1], keys["columns"][2]])


def test_two_models_of_the_table_become_a_and_b(application: Application, page: Page, folder: Path) -> None:
    brought(page, application, folder, a=3)
    press(page, page.get_by_role("button", name="All models on this picture"))
    table = page.locator("#models")
    until(lambda: table.locator("td.classes").count() == 3)
    press(page, table.locator("[data-put=b][data-value=rounded]"))
    until(lambda: "model_b=rounded" in address_of(page) and len(answer(page, "b")) == 5)
    table.locator("[data-put=a][data-value=int8]").click()
    until(lambda: "model=int8" in address_of(page) and len(answer(page, "a")) == 5)
    assert "model_b=rounded" in address_of(page)
    expect(page.get_by_label("Model of A")).to_have_value("int8")
    expect(page.get_by_label("Model of B")).to_have_value("rounded")
    expect(table.locator("[data-put=a][data-value=int8]")).to_be_disabled()
    address = address_of(page)
    page.reload()
    until(lambda: table.locator("td.classes").count() == 3)
    assert address_of(page) == address
