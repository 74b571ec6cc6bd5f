"""The page around the cards as a newcomer meets it: toolbar, first visit, history, dropped files, names, contrast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import CHROMIUM_FLAGS, Watch
from playwright.sync_api import Browser, Page
from served import Application, images, open_page, row, until

from dashboard import ids
from dashboard.panels import toolbar

pytestmark = pytest.mark.browser
CARD = "?a=sample-coffee&layer=conv_head"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    started = Application(tmp_path_factory.mktemp("hookscope"), "--threads", "1")
    yield started
    started.stop()


@pytest.fixture
def page_with_scroll_bar(browser: Browser, chromium_path: str, watch: Watch) -> Iterator[Page]:
    """A page whose scroll bar takes room, as on most desktops; playwright hides it."""
    hidden = ["--hide-scrollbars"]
    started = browser.browser_type.launch(
        executable_path=chromium_path, args=CHROMIUM_FLAGS, ignore_default_args=hidden
    )
    context = started.new_context(viewport={"width": 1440, "height": 900})
    watch.follow(context)
    yield context.new_page()
    started.close()
    assert not watch.unexpected()


def rows_of(page: Page, selector: str) -> int:
    """On how many lines the visible elements stand that a selector finds."""
    script = """(all) => new Set(all.filter((one) => one.checkVisibility()).map((one) => {
      const box = one.getBoundingClientRect(); return Math.round((box.top + box.bottom) / 2); })).size"""
    return int(page.locator(selector).evaluate_all(script))


# --- the toolbar and the scroll bar


def test_nothing_is_cut_or_jumps_when_the_scroll_bar_comes(
    application: Application, page_with_scroll_bar: Page
) -> None:
    page = page_with_scroll_bar
    open_page(page, application.url + "?a=sample-coffee")
    empty = page.locator("main").bounding_box()
    row(page, "conv_head").click()
    until(lambda: images(page, "wall") == 1, what="for the wall")
    script = """() => [
      document.documentElement.scrollHeight > innerHeight,
      document.documentElement.clientWidth,
      document.querySelector("#cards .js-plotly-plot")._fullLayout.width,
      document.querySelector(".wall").clientWidth]"""
    scrolls, room, drawn, wall = page.evaluate(script)
    assert scrolls and room < 1440, "without a scroll bar this test says nothing"
    assert drawn == wall
    assert page.locator("main").bounding_box()["width"] == empty["width"]  # type: ignore[index]
    assert rows_of(page, ".toolbar .control") == 1
    page.goto(application.url + CARD)  # a link: the wall is asked for before anything is high enough to scroll
    until(lambda: images(page, "wall") == 1, what="for the wall")
    _, _, drawn, wall = page.evaluate(script)
    assert drawn == wall


def test_the_toolbar_comes_with_the_first_card_and_goes_with_the_last(application: Application, page: Page) -> None:
    open_page(page, application.url)
    assert page.locator(".toolbar .control:visible").count() == 0
    page.locator("[data-sample=coffee][data-side=a]").click()
    until(lambda: page.locator("#input-a-top button.row").count() == 5)
    assert page.locator(".toolbar .control:visible").count() == 0
    row(page, "conv_head").click()
    until(lambda: images(page, "wall") == 1)
    assert page.locator(".toolbar .control:visible").count() == 9
    assert rows_of(page, ".toolbar .control") == 1
    page.set_viewport_size({"width": 1024, "height": 900})
    assert rows_of(page, ".toolbar .walls .control") == rows_of(page, ".toolbar .maps .control") == 1
    assert rows_of(page, ".toolbar .control") == 2
    page.get_by_role("button", name="Gradients", exact=True).click()
    until(lambda: page.locator(".toolbar .control:visible").count() == 1)  # which class is explained counts there too
    assert page.locator("#target").is_visible()
    page.get_by_role("button", name="Layers", exact=True).click()
    page.get_by_role("button", name="Close this card").click()
    until(lambda: page.locator(".toolbar .control:visible").count() == 0)
    page.get_by_role("button", name="Attributions of the input").click()  # their class and opacity are chosen here
    until(lambda: page.locator(".toolbar .control:visible").count() == 2)


def test_no_choice_of_a_select_box_is_cut(application: Application, page: Page) -> None:
    open_page(page, application.url + CARD)
    script = """([id, texts]) => {
      const box = document.getElementById(id), style = getComputedStyle(box);
      const pen = document.createElement("canvas").getContext("2d");
      pen.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
      const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
      return texts.filter((text) => pen.measureText(text).width > room); }"""
    for width in (1440, 1024):
        page.set_viewport_size({"width": width, "height": 900})
        options: dict[str, list[str]] = {
            ids.RANK: [text for _, text, _ in toolbar.RANKS],
            ids.SCALE: [text for _, text, _ in toolbar.SCALES],
            ids.COLOURS: [text for _, text in toolbar.COLOURS],
            ids.COUNT: [text for _, text in toolbar.COUNTS],
            ids.MAPS: [text for _, text, _ in toolbar.MAPS],
            ids.TARGET: [toolbar.TOP1["label"]],
        }
        cut: dict[str, Any] = {id: page.evaluate(script, [id, texts]) for id, texts in options.items()}
        assert not any(cut.values()), (width, cut)
