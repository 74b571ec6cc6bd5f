"""What is inside cards and inputs, by mouse and by keyboard: a real page and browser, and a model of eight layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from inline_app import InlineApp, served
from inline_engine import INFO, MODEL, InlineEngine, answer_to
from playwright.sync_api import Page, expect
from served import open_page

from dashboard.jobs import Unit, box_target
from hooks.results import Detections, Prediction

pytestmark = pytest.mark.browser
# of the picture of 600 x 400: box 1 holds the smaller box 0, and 2 lies aside; 20 more, worse, are not drawn at first
BOXES = np.array([[200, 100, 300, 200], [100, 50, 500, 350], [20, 300, 80, 390]], np.float32)
MANY = np.tile(np.array([[520, 10, 590, 60]], np.float32), (20, 1))


def answer(unit: Unit) -> Any:
    """As the made-up model, with boxes on its pictures."""
    if unit.question != "prediction":
        return answer_to(unit)
    found = Detections(
        np.concatenate([BOXES, MANY]), np.array([0, 1, 1] + [3] * 20), np.linspace(0.9, 0.1, 23, dtype=np.float32)
    )
    return Prediction(np.empty(0, np.float32), np.zeros((40, 60, 3), np.uint8), (0.0, 0.0, 600.0, 400.0), 3.0, found)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = InlineEngine(at_once=True, answer=answer)
    engine.infos = {MODEL: replace(INFO, kind="detector")}
    app = InlineApp(tmp_path_factory.mktemp("detector"), engine)
    with served(app) as port:
        yield f"http://127.0.0.1:{port}/"
    app.close()


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
    assert f"target={box_target(2)}" in page.url


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
