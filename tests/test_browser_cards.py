"""What is inside cards and inputs, by mouse and by keyboard: a real page and browser, and a model of eight layers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from inline_app import InlineApp, served
from inline_engine import DETECTOR, MODEL, InlineEngine, answer_to
from playwright.sync_api import Page, expect
from served import open_page, until
from units import box, what_of

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.panels.card.attention import LARGE_PX
from hookscope.hooks.results.looks import Detections, Prediction

pytestmark = pytest.mark.browser
# of the picture of 600 x 400: box 1 holds the smaller box 0, and 2 lies aside; 20 more, worse, are not drawn at first
BOXES = np.array([[200, 100, 300, 200], [100, 50, 500, 350], [20, 300, 80, 390]], np.float32)
MANY = np.tile(np.array([[520, 10, 590, 60]], np.float32), (20, 1))


def answer(unit: Unit) -> Any:
    """As the made-up model, with boxes on its pictures."""
    if what_of(unit) != "prediction":
        return answer_to(unit)
    found = Detections(
        np.concatenate([BOXES, MANY]), np.array([0, 1, 1] + [3] * 20), np.linspace(0.9, 0.1, 23, dtype=np.float32)
    )
    return Prediction(None, np.zeros((40, 60, 3), np.uint8), (0.0, 0.0, 600.0, 400.0), 3.0, found)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = InlineEngine(at_once=True, answer=answer)
    engine.infos = {MODEL: DETECTOR}
    app = InlineApp(tmp_path_factory.mktemp("detector"), engine)
    with served(app) as port:
        yield f"http://127.0.0.1:{port}/"
    app.close()


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = InlineApp(tmp_path_factory.mktemp("cards"), InlineEngine(at_once=True))
    with served(app) as port:
        yield f"http://127.0.0.1:{port}/"
    app.close()


def test_a_click_enlarges_the_map_of_both_pictures_with_its_scale(cards: str, page: Page) -> None:
    open_page(page, f"{cards}?a=sample-coffee&b=sample-chelsea&layer=conv")
    expect(page.locator(".cam-scale .gradient")).to_have_count(2)
    page.locator(".cam .nsewdrag").first.click()
    dialog = page.get_by_role("dialog", name="Grad-CAM, enlarged")
    expect(dialog).to_be_visible()
    expect(dialog.locator("figure")).to_have_count(2)
    for side in (0, 1):  # the picture, and its heat over it
        images = dialog.locator("figure").nth(side).locator("img")
        expect(images).to_have_count(2)
        for each in (0, 1):
            expect(images.nth(each)).to_have_js_property("complete", True)  # before, it has no height
        sizes = [images.nth(each).bounding_box() for each in (0, 1)]
        assert sizes[0] == sizes[1] and sizes[0] is not None and sizes[0]["width"] > 300
        expect(dialog.locator("figcaption").nth(side)).to_contain_text("logits per position")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    button = page.locator(".card:not([hidden])").get_by_role("button", name="enlarge", exact=True)
    button.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Close").press("Enter")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()


def test_a_row_of_the_table_enlarges_its_channel_by_mouse_and_by_key(cards: str, page: Page) -> None:
    open_page(page, f"{cards}?a=sample-coffee&layer=conv&table=1&rank=strongest")
    rows = page.locator(".channel-table .ag-center-cols-container .ag-row")
    expect(rows).to_have_count(8)
    first = rows.first.get_attribute("row-id")
    rows.first.locator("[col-id=rank]").click()
    title = page.locator(".detail-title")
    expect(title).to_contain_text(f"channel {first}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(title).not_to_contain_text(f"channel {first}")
    second = page.locator(".channel-table .ag-center-cols-container [row-index='1']").get_attribute("row-id")
    expect(title).to_contain_text(f"channel {second}")


def test_a_column_that_the_table_is_sorted_by_stays_so_and_stands_in_its_file(cards: str, page: Page) -> None:
    open_page(page, f"{cards}?a=sample-coffee&layer=conv&table=1&rank=strongest")
    rows = page.locator(".channel-table .ag-center-cols-container .ag-row")
    expect(rows).to_have_count(8)
    link = page.get_by_role("link", name="this table as CSV")

    def listed() -> list[str]:
        places = "(all) => all.map((row) => [Number(row.getAttribute('row-index')), row.getAttribute('row-id')])"
        return [channel for _, channel in sorted(rows.evaluate_all(places))]

    def saved() -> list[str]:
        address = page.url.split("?")[0].rstrip("/") + str(link.get_attribute("href"))
        return [line.split(",")[0] for line in page.request.get(address).text().splitlines()[1:]]

    before = listed()
    seen = [before, before[::-1]]
    until(lambda: saved() == before)
    head = page.locator(".channel-table .ag-header-cell[col-id=A_mean] .ag-header-cell-label")
    for way in ("asc", "desc"):
        head.click()
        expect(page).to_have_url(re.compile(f"sort=A_mean.{way}"))
        until(lambda: (now := listed()) not in seen and saved() == now == listed())
        seen.append(order := listed())
    page.reload()
    expect(rows).to_have_count(8)
    until(lambda: listed() == order == saved())
    sorted_by = str(link.get_attribute("href"))
    page.locator("#rank").click()
    page.get_by_role("option", name="mean", exact=True).click()
    expect(page).to_have_url(re.compile("^(?!.*sort=).*rank=mean"))  # the table follows what was chosen last
    expect(link).not_to_have_attribute("href", sorted_by)
    until(lambda: saved() == listed())


def test_one_head_is_enlarged_by_its_caption_and_the_arrow_keys_walk_to_the_next(cards: str, page: Page) -> None:
    open_page(page, f"{cards}?a=sample-coffee&layer=tokens&patch=5")
    card = page.locator(".card:not([hidden])")
    expect(card.locator(".cell-name")).to_have_count(4)  # mean, two heads, rollout
    expect(card.locator(".attention-room")).to_be_hidden()
    expect(card.locator(".wall")).to_be_visible()
    attention, wall = card.locator(".attention").bounding_box(), card.locator(".wall").bounding_box()
    assert attention is not None and wall is not None and attention["y"] < wall["y"]
    expect(card.locator(".attention .line").first).to_contain_text("row 1, column 2, counted from 0")
    card.get_by_role("button", name="Enlarge head 0").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_have_attribute("aria-label", re.compile("^head 0"))
    sharp = dialog.locator("img")
    expect(sharp).to_have_js_property("naturalWidth", LARGE_PX)
    before = sharp.get_attribute("src")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_have_attribute("aria-label", re.compile("^head 1"))
    expect(sharp).not_to_have_attribute("src", before or "")
    page.keyboard.press("ArrowLeft")
    expect(sharp).to_have_attribute("src", before or "")
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    expect(dialog).to_have_attribute("aria-label", re.compile("^mean"))
    assert page.evaluate("hookscope.view().patch") == 5 and "patch=5" in page.url  # the keys were the dialog's alone
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_a_row_and_its_rectangle_light_each_other_and_either_explains_the_box(detector: str, page: Page) -> None:
    open_page(page, f"{detector}?a=sample-coffee")
    row = page.locator("#input-a-top [data-box='2']")
    rectangle = page.locator("#input-a-boxes [data-box='2']")
    expect(row.locator(".number")).to_have_text("2")
    row.hover()
    expect(page.locator(".lit")).to_have_count(2)
    expect(rectangle).to_contain_class("lit")
    page.locator("#input-a-boxes [data-box='0']").hover()  # which lies on box 1
    expect(page.locator("#input-a-top .lit .number")).to_have_text("0")
    page.mouse.move(5, 5)
    expect(page.locator(".lit")).to_have_count(0)
    row.focus()  # by keyboard
    expect(rectangle).to_contain_class("lit")
    rectangle.click()
    expect(row).to_contain_class("chosen")
    expect(page.locator("#target")).to_have_value("box 2")
    assert f"target={box(2)}" in page.url


def test_a_box_that_is_not_drawn_shows_while_its_row_is_pointed_at(detector: str, page: Page) -> None:
    open_page(page, f"{detector}?a=sample-coffee")
    hidden = page.locator("#input-a-boxes [data-box='12']")
    expect(hidden).to_be_hidden()
    page.locator("#input-a-top [data-box='12']").focus()
    expect(hidden).to_be_visible()
    page.locator("#input-a-boxes [data-box='1'] .number").hover()
    expect(hidden).to_be_hidden()
    lit = page.locator("#input-a-top .lit")
    expect(lit).to_have_attribute("data-box", "1")
    expect(lit).to_be_in_viewport()  # the list has scrolled back to it
