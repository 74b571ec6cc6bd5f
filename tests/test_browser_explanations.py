"""Gradients, maps and attributions as a person meets them: the real application, the real model, a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page
from served import SAMPLES, Application, array, figure, images, open_page, plot_of, row, until

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.hooks.causes.effects import effects
from hookscope.hooks.causes.shares import channel_shares
from hookscope.hooks.looks.cam import layer_map
from hookscope.hooks.results.targets import Against

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    started = Application(tmp_path_factory.mktemp("hookscope"), "--threads", "1")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def oracle() -> LoadedModel:
    """The same weights in this process."""
    return load(ModelOptions("embedded"), "cpu")


def tensor_of(oracle: LoadedModel, picture: str) -> torch.Tensor:
    with Image.open(SAMPLES / picture) as image:
        return oracle.prepare(image.convert("RGB")).tensor


def numbers(values: object) -> np.ndarray:
    """A trace's array, packed or plain."""
    return array(values) if isinstance(values, dict) else np.array(values)


def test_gradients_along_the_depth_and_from_a_box_to_its_layer(
    application: Application, page: Page, oracle: LoadedModel
) -> None:
    open_page(page, f"{application.url}?a=sample-coffee&b=sample-chelsea&target=967")
    row(page, "blocks.6").click()
    until(lambda: images(page, "cam") == 4, what="for the card")
    page.get_by_role("button", name="Depth", exact=True).click()
    plot = until(lambda: (found := plot_of(page, "#gradients")) and len(found["data"]) == 6 and found)
    assert page.locator(".cards").is_hidden() and "tab=depth" in page.url
    # the page's own style sheet leaves Plotly's elements alone
    framed = page.locator("#gradients path.box").first.evaluate("(path) => getComputedStyle(path).outlineStyle")
    assert framed == "none"
    keys = plot["layout"]["meta"]["keys"]
    assert keys[0] == "conv_stem" and keys[-1] == "classifier" and len(keys) == 99

    # the gradient at a batch norm's output, by zeros that are added to it
    zeros: list[torch.Tensor] = []

    def add(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        zeros.append(torch.zeros_like(output, requires_grad=True))
        return output + zeros[-1]

    handle = oracle.module.get_submodule("blocks.4.0.bn2").register_forward_hook(add)
    (slope,) = torch.autograd.grad(oracle.module(tensor_of(oracle, "coffee.png"))[0, 967], zeros)
    handle.remove()
    place = keys.index("blocks.4.0.bn2")
    assert numbers(plot["data"][2]["y"])[place] == pytest.approx(float(slope.norm()), rel=1e-4)
    assert numbers(plot["data"][0]["median"])[place] == pytest.approx(float(slope.abs().median()), rel=1e-2)

    area = page.locator("#gradients .nsewdrag").first
    low, high = plot["layout"]["xaxis"]["range"]
    rows = plot["layout"]["yaxis"]["range"]
    share = (np.log10(numbers(plot["data"][1]["y"])[place]) - rows[0]) / (rows[1] - rows[0])
    across = (numbers(plot["data"][1]["x"])[place] - low) / (high - low)

    def place_now() -> dict[str, float]:
        box = area.bounding_box()
        return {"x": box["width"] * across, "y": box["height"] * (1 - share)}

    def is_pointed_at() -> bool:
        area.hover(position=place_now())
        return "blocks.4.0.bn2" in page.locator("#gradients .hoverlayer").text_content()

    until(is_pointed_at)
    area.click(position=place_now())
    until(lambda: page.locator(".card:not([hidden]) h2").first.inner_text() == "blocks.4.0.bn2")
    assert page.locator(".gradient-side").is_hidden() and "tab=" not in page.url
    until(lambda: images(page, "wall") == 3, what="for the wall at its full width")
    until(lambda: page.locator(".card .wall").first.bounding_box()["width"] > 600)
    page.go_back()
    until(lambda: page.locator(".gradient-side").is_visible())


def test_another_map_leaves_the_wall_alone(application: Application, page: Page, oracle: LoadedModel) -> None:
    open_page(page, f"{application.url}?a=sample-coffee&layer=blocks.6")
    until(lambda: images(page, "cam") == 2 and images(page, "wall") == 1)
    page.evaluate(
        """() => { window.parts = []; const note = window.hookscope.set;
          window.hookscope.set = (id, props) => { window.parts.push(id.type || id); return note(id, props); }; }"""
    )
    page.locator("#maps").click()
    page.get_by_role("option", name="LayerCAM").click()
    until(lambda: page.locator(".cards .cam-head span").first.inner_text() == "LayerCAM")
    expected = layer_map(oracle.module, tensor_of(oracle, "coffee.png"), "blocks.6", None, "layercam").values
    near = 1e-4 * np.abs(expected).max()
    until(lambda: np.allclose(array(figure(page, "cam")["data"][0]["z"]), expected, atol=near))
    assert "card-wall" not in page.evaluate("window.parts") and "maps=layercam" in page.url


def test_attributions_open_fill_and_are_cancelled(application: Application, page: Page) -> None:
    open_page(page, f"{application.url}?a=sample-rocket")
    until(lambda: page.locator("#input-a-top button.row").count() == 5)
    fold = page.get_by_role("button", name="Attributions of the input")
    assert fold.get_attribute("aria-expanded") == "false" and page.locator("#attributions").is_hidden()
    fold.click()
    until(lambda: page.locator("#attributions .heat").count() >= 1, what="for the saliency")
    until(lambda: fold.get_attribute("aria-expanded") == "true")
    assert "attributions=1" in page.url
    until(lambda: "of 226 pictures" in page.locator("#worker-text").inner_text(), what="for the occlusion to run")
    page.locator("#cancel-work").click()
    until(lambda: "Stopped before it was computed" in page.locator("#attributions").inner_text())
    until(lambda: page.locator("#attributions .heat").count() == 2)
    until(lambda: page.locator("#worker-text").inner_text() == "Ready.")


@pytest.mark.parametrize(
    ("query", "shown", "not_shown"),
    [
        ("&tab=gradients&layer=conv_head", "Gradients by layer", "Save"),
        ("&attributions=1", "Integrated gradients", "Gradients by layer"),
        ("", "espresso", "Attributions of the input"),
    ],
)
def test_the_exported_page_is_about_what_is_shown(
    application: Application, browser: Browser, page: Page, tmp_path: Path, query: str, shown: str, not_shown: str
) -> None:
    open_page(page, f"{application.url}?a=sample-coffee{query}")
    until(lambda: page.locator("#input-a-top button.row").count() == 5)
    if "gradients" in query:
        until(lambda: (found := plot_of(page, "#gradients")) and len(found["data"]) == 3)
    if "attributions" in query:
        until(lambda: page.locator("#attributions .heat").count() >= 2)
    address = page.locator("#export-view[href]").evaluate("link => link.href")
    saved = tmp_path / "view.html"
    saved.write_bytes(page.context.request.get(address).body())
    elsewhere = browser.new_context(offline=True)
    offline = elsewhere.new_page()
    offline.goto(saved.as_uri())
    text = offline.locator("body").inner_text()
    assert shown in text and not_shown not in text
    if "gradients" in query:
        until(lambda: offline.locator(".gradients path.box").count() > 90)
    elsewhere.close()


def test_why_espresso_and_not_cup(application: Application, page: Page, oracle: LoadedModel) -> None:
    """From the start page: one click to the runner-up, which is cup; typed, it is any other class; and the way back."""
    open_page(page, application.url)
    page.get_by_role("button", name="Why not the next?").click()
    caption = page.locator(".cam-text .class")
    until(
        lambda: caption.count() and caption.inner_text().split() == ["espresso", "against", "cup"], what="for the map"
    )
    until(lambda: page.locator("#against").input_value() == "runner-up")
    assert "against=next" in page.url
    espresso, cup = (oracle.info.classes.index(name) for name in ("espresso", "cup"))
    key = str(page.evaluate("hookscope.view().layers[0]"))
    right = layer_map(oracle.module, tensor_of(oracle, "coffee.png"), key, Against(espresso, cup)).values

    def heat() -> list[dict[str, Any]]:
        drawn = figure(page, "cam")
        return [each for each in drawn["data"] if each["type"] == "heatmap"] if drawn else []

    (trace,) = until(heat, what="for the map, which is drawn after its caption")
    np.testing.assert_allclose(numbers(trace["z"]).reshape(right.shape), right, rtol=1e-3, atol=1e-4)
    page.locator("#against").click()
    page.keyboard.type("consomme")
    page.get_by_role("option", name="consomme", exact=True).click()
    until(lambda: caption.inner_text().split() == ["espresso", "against", "consomme"], what="for the other class")
    page.locator("#input-a-top button.row", has_text="cup").first.click(modifiers=["Shift"])
    until(lambda: caption.inner_text().split() == ["espresso", "against", "cup"], what="for the row")
    page.reload()
    until(
        lambda: caption.count() and caption.inner_text().split() == ["espresso", "against", "cup"],
        what="after a reload",
    )
    page.locator("#against").click()
    page.get_by_role("option", name="nothing").click()
    until(lambda: caption.inner_text() == "espresso", what="for the class alone")
    until(lambda: page.get_by_role("button", name="against another").is_visible())
    assert page.locator("#against").is_hidden()


def test_a_wall_is_ranked_by_what_its_channels_do_to_the_class(
    application: Application, page: Page, oracle: LoadedModel
) -> None:
    open_page(page, f"{application.url}?a=sample-coffee&layer=blocks.6&table=1")
    until(lambda: images(page, "wall") == 1)
    given = tensor_of(oracle, "coffee.png")
    ((_, _, shares),) = channel_shares(oracle.module, given, [("blocks.6", 0)], None, oracle.info.layers)
    best = int(shares.values.argmax())

    def first() -> int:
        return int(array(figure(page, "wall")["data"][0]["z"]).ravel()[1])

    def topmost() -> str:
        return page.locator(".card .ag-row[row-index='0'] .ag-cell[col-id='channel']").first.inner_text()

    page.locator("#rank").click()
    page.get_by_role("option", name="for the class").click()
    until(lambda: first() == best and topmost() == str(best), what="for the order and the table")
    page.locator("#rank").click()
    page.get_by_role("option", name="measured effect").click()
    until(lambda: "320 of 320 measured in" in page.locator(".card .ranked").inner_text(), 90, what="for all channels")
    assert "rank=effect" in page.url and "Spearman" in page.locator(".card .ranked").inner_text()
    found = effects(oracle.module, given, "blocks.6", layers=oracle.info.layers)
    until(lambda: first() == int(found.strongest(1)[0]) and topmost() == str(first()))
