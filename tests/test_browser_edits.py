"""Mute and boost in a browser: a channel muted by key and by slider, the answer that changes, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from served import Application, images, open_page, until

pytestmark = pytest.mark.browser
START = "?a=sample-coffee&layer=blocks.4.0&detail=blocks.4.0&channel=5"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hookscope")


@pytest.fixture(scope="module")
def application(cache: Path) -> Iterator[Application]:
    started = Application(cache, "--model", "embedded")
    yield started
    started.stop()


def address_of(page: Page) -> str:
    return str(page.evaluate("location.search"))


def answer(page: Page, side: str) -> list[str]:
    return page.locator(f"#input-{side}-top button.row").all_inner_texts()


def opened(page: Page, application: Application, query: str) -> None:
    open_page(page, application.url + query)
    until(lambda: len(answer(page, "a")) == 5 and images(page, "wall") > 0)


def pictures(page: Page, selector: str) -> list[str]:
    """The addresses of the pictures that are shown."""
    return list(page.locator(selector).evaluate_all("(all) => all.map((each) => each.href.baseVal)"))


def bytes_of(page: Page, folder: Path) -> int:
    """What the kept answers take, once none comes any more."""
    before, now = -1, _bytes_of(folder)
    while now != before:
        page.wait_for_timeout(1000)  # not asleep: a page's request goes on only while playwright is spoken to
        before, now = now, _bytes_of(folder)
    return now


def _bytes_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("answers/**/*") if file.is_file())


def test_a_channel_is_muted_beside_the_plain_picture_and_given_back(application: Application, page: Page) -> None:
    opened(page, application, START)
    plain = answer(page, "a")
    expect(page.locator("#edits")).to_be_hidden()
    page.get_by_text("compare with B, the same").click()
    until(lambda: answer(page, "b") == plain)
    page.locator("#detail .gain input").nth(1).press("ArrowLeft")  # a slider moved by the keyboard is released at once
    until(lambda: "edits_b=blocks.4.0~~0.95" in address_of(page))
    scaled = until(lambda: len(found := answer(page, "b")) == 5 and found != plain and found)
    page.locator("#detail-title").click()
    page.keyboard.press("m")  # and a key that mutes the channel
    until(lambda: "edits_b=blocks.4.0~~0.95~blocks.4.0~5~0" in address_of(page))
    until(lambda: len(answer(page, "b")) == 5 and answer(page, "b") not in (plain, scaled))
    assert answer(page, "a") == plain
    expect(page.locator("#edits")).to_contain_text(re.compile("the same.*blocks.4.0 × 0.95.*channel 5 muted"))
    expect(page.locator(".card:not([hidden]) .notes")).to_contain_text("B edited")
    expect(page.locator("#detail-answer")).to_contain_text(re.compile(r"espresso 0\.\d+ → 0\.\d+"))
    muted, address = answer(page, "b"), address_of(page)
    page.reload()
    until(lambda: answer(page, "b") == muted and answer(page, "a") == plain)
    assert address_of(page) == address
    expect(page.locator("#detail .gain input").first).to_have_value("0")
    page.locator("#edits").get_by_role("button", name="channel 5").click()
    until(lambda: "edits_b=blocks.4.0~~0.95&" in address_of(page))
    page.get_by_role("button", name="undo all").click()
    until(lambda: "edits" not in address_of(page) and answer(page, "b") == plain)
    expect(page.locator("#edits")).to_be_hidden()
    page.go_back()
    until(lambda: "edits_b=blocks.4.0~~0.95&" in address_of(page))
    expect(page.locator("#edits")).to_contain_text("× 0.95")


def test_a_dragged_slider_is_answered_and_only_what_is_released_is_kept(
    application: Application, page: Page, cache: Path
) -> None:
    opened(page, application, START)
    plain = answer(page, "a")
    graphs = {"the enlarged map": "#detail-figure .heatmaplayer image", "the card's": ".cam .imagelayer image"}
    until(lambda: all(pictures(page, graph) for graph in graphs.values()))
    begun = {name: pictures(page, graph) for name, graph in graphs.items()}
    address, entries, size = address_of(page), page.evaluate("history.length"), bytes_of(page, cache)
    box = page.locator("#detail .gain input").nth(1).bounding_box()
    assert box is not None
    left, middle = box["x"], box["y"] + box["height"] / 2
    page.mouse.move(left + box["width"] / 2, middle)
    page.mouse.down()
    seen = {tuple(plain)}
    for share in (0.45, 0.35, 0.3, 0.2):
        page.mouse.move(left + box["width"] * share, middle)
        until(lambda: len(answer(page, "a")) == 5 and tuple(answer(page, "a")) not in seen)
        seen.add(tuple(answer(page, "a")))
    expect(page.locator("#edits")).to_contain_text("blocks.4.0 ×")
    for name, graph in graphs.items():  # the enlarged map at once, the card's once the slider rests
        until(lambda name=name, graph=graph: pictures(page, graph) != begun[name], what=name)
    expect(page.locator("#detail-histogram")).to_have_class(re.compile("outdated"))
    page.mouse.move(left + box["width"] / 2, middle)  # back to where it was, and released there: nothing has changed
    page.mouse.up()
    for name, graph in graphs.items():
        until(lambda name=name, graph=graph: pictures(page, graph) == begun[name], what=name)
    expect(page.locator("#detail-histogram")).not_to_have_class(re.compile("outdated"))
    until(lambda: answer(page, "a") == plain)
    assert "edits" not in address_of(page) and page.evaluate("history.length") == entries
    expect(page.locator("#edits")).to_be_hidden()
    box = page.locator("#detail .gain input").nth(1).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    until(lambda: len(answer(page, "a")) == 5 and answer(page, "a") != plain)
    assert address_of(page) == address and page.evaluate("history.length") == entries and bytes_of(page, cache) == size
    page.mouse.up()
    until(lambda: "edits_a=blocks.4.0~~" in address_of(page))
    assert page.evaluate("history.length") == entries + 1
    page.get_by_text("A plain, B the same with edits").click()
    until(lambda: answer(page, "a") == plain and len(answer(page, "b")) == 5)
    assert "edits_b=blocks.4.0~~" in address_of(page) and "edits_a" not in address_of(page)


def test_in_a_low_window_the_enlarged_channel_leaves_the_wall_in_sight(application: Application, page: Page) -> None:
    page.set_viewport_size({"width": 1024, "height": 700})
    opened(page, application, START)
    panel, fold = page.locator("#detail"), page.get_by_role("button", name="Fold")
    until(lambda: figure_height(page) > 0)

    def is_lower_than(most: float) -> bool:
        box = panel.bounding_box()
        return box is not None and box["y"] + box["height"] <= 701 and box["height"] < most

    expect(page.locator("#detail-numbers")).to_be_visible()
    until(lambda: 0 < figure_height(page) < 170 and is_lower_than(250))  # in a window of 900 it takes 320
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(page.locator("#detail-figure")).to_be_hidden()
    until(lambda: is_lower_than(90))
    page.locator("#detail .gain input").first.press("ArrowLeft")  # what it is folded for
    until(lambda: "edits_a=blocks.4.0~5~0.95" in address_of(page))
    expect(page.locator("#detail-answer")).to_contain_text(re.compile(r"espresso 0\.\d+ → 0\.\d+"))
    fold.click()
    expect(page.locator("#detail-figure")).to_be_visible()
    until(lambda: 0 < figure_height(page) < 170)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.reload()
    until(lambda: figure_height(page) > 200)


def figure_height(page: Page) -> float:
    """Of the enlarged channel as Plotly has drawn it; 0 while it has not."""
    script = "() => document.querySelector('#detail-figure .js-plotly-plot')?._fullLayout?.height || 0"
    drawn = "() => document.querySelectorAll('#detail-figure .heatmaplayer image').length"
    return float(page.evaluate(script)) if page.evaluate(drawn) else 0.0
