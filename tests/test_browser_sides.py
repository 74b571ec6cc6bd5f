"""A and B in models of their own and prepared otherwise, chosen with mouse and keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect
from served import Application, images, open_page, row, until

pytestmark = pytest.mark.browser
LITE, OTHER = "EfficientNet-Lite0", "torchvision:mobilenet_v3_small@random"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    started = Application(
        tmp_path_factory.mktemp("hookscope"),
        *("--threads", "1", "--model", "embedded", "--model", OTHER, "--model", "again=embedded"),
    )
    yield started
    started.stop()


def address_of(page: Page) -> str:
    return str(page.evaluate("location.search"))


def tops(page: Page, side: str) -> list[str]:
    return [text.split("\n")[0] for text in page.locator(f"#input-{side}-top button.row").all_inner_texts()]


def test_from_the_first_page_to_the_same_picture_in_two_models(application: Application, page: Page) -> None:
    """Three clicks: the sample, another model for B, a layer of its."""
    open_page(page, application.url)
    same = page.get_by_label("Compare with A's picture in another model")
    expect(same).to_be_disabled()  # there is no A yet
    page.locator("[data-sample=coffee][data-side=a]").click()
    until(lambda: len(tops(page, "a")) == 5)
    same.select_option(OTHER)
    expect(page.locator("#input-b-caption .badge.warn")).to_be_visible(timeout=60_000)  # random weights
    until(lambda: len(tops(page, "b")) == 5)
    assert tops(page, "a")[0] == "espresso" and tops(page, "b") != tops(page, "a")
    expect(page.locator("#model-letter")).to_have_text("B")
    expect(page.locator("#model-select")).to_have_value(re.compile("mobilenet_v3_small"))
    until(lambda: row(page, "features").count() == 1)
    row(page, "features").click()
    until(lambda: images(page, "wall") == 2)
    expect(page.locator(".card:not([hidden]) .notes")).to_contain_text(re.compile(r"A: .*, by depth and stride"))
    assert f"model_b={OTHER.replace('@', '%40')}" in address_of(page) and "side=b" in address_of(page)
    page.locator("#input-a-picture").click()  # the side that is clicked is the one that header and tree are about
    expect(page.locator("#model-letter")).to_have_text("A")
    until(lambda: row(page, "conv_stem").count() == 1)
    expect(page.locator("#model-select")).to_have_value(LITE)
    page.go_back()
    expect(page.locator("#model-letter")).to_have_text("B")
    address = address_of(page)
    page.reload()
    until(lambda: len(tops(page, "a")) == len(tops(page, "b")) == 5)
    assert address_of(page) == address


MOST_CLICKS = 4


@pytest.fixture
def clicks(page: Page) -> Iterator[list[str]]:
    """What was clicked on the page, each menu's option too; a browser's own list is two: opened, and chosen from."""
    told: list[str] = []
    page.expose_function("told", lambda text: told.extend(text.split("|")))
    page.add_init_script(
        """addEventListener("click", (e) => e.isTrusted && !e.target.closest("select") && told("click"), true);
        addEventListener("change", (e) => e.target.matches("select") && told("open|choose"), true);"""
    )
    yield told
    assert 0 < len(told) <= MOST_CLICKS, told


def test_why_this_class_and_not_the_next_is_a_click(application: Application, page: Page, clicks: list[str]) -> None:
    open_page(page, application.url)
    page.get_by_role("button", name="Why not the next?").click()
    caption = page.locator(".card:not([hidden]) .cam-caption")
    expect(caption).to_contain_text(re.compile("espresso against.*cup"))


def test_which_layer_and_which_of_its_channels_speak_for_the_class(
    application: Application, page: Page, clicks: list[str]
) -> None:
    open_page(page, application.url)
    page.get_by_role("button", name=re.compile("^Look into it")).click()
    until(lambda: images(page, "wall") == 1)
    expect(page.locator("[role=treeitem][aria-selected=true]")).to_have_attribute("title", re.compile("Recommended"))
    page.locator("#rank").click()
    page.get_by_role("option", name="measured effect").click()
    line = page.locator(".card:not([hidden]) .ranked")
    expect(line).to_contain_text("1,280 of 1,280 measured", timeout=120_000)
    expect(line).to_contain_text("Taylor's estimate agrees")
    expect(line.get_by_role("button", name="what if they go")).to_be_visible()


def test_where_two_pictures_part_is_a_click(application: Application, page: Page, clicks: list[str]) -> None:
    """And of two samples of one's own choice the most clicks that there may be."""
    open_page(page, application.url)
    page.get_by_role("button", name="Where do two pictures part?").click()
    sentence = page.locator(".depth-sentence")
    expect(sentence).to_contain_text(re.compile("The same up to .*; from .* on, .* of the difference"), timeout=120_000)
    until(lambda: tops(page, "a")[:1] == ["missile"] and tops(page, "b")[:1] == ["drilling platform"])


def test_where_two_pictures_of_ones_own_choice_part(application: Application, page: Page, clicks: list[str]) -> None:
    open_page(page, application.url)
    page.locator("[data-sample=coffee][data-side=a]").click()
    page.locator("[data-sample=chelsea][data-side=b]").click()
    page.get_by_role("button", name="Depth", exact=True).click()
    page.get_by_role("button", name="A against B", exact=True).click()
    expect(page.locator(".depth-sentence")).to_contain_text("They part at the first layer, conv_stem", timeout=120_000)


def test_two_models_on_one_picture(application: Application, page: Page, clicks: list[str]) -> None:
    open_page(page, application.url)
    page.locator("[data-sample=coffee][data-side=a]").click()
    page.get_by_label("Compare with A's picture in another model").select_option(OTHER)
    until(lambda: len(tops(page, "a")) == len(tops(page, "b")) == 5)


def test_the_headers_model_is_that_of_the_side_that_is_clicked_and_layers_stay(
    application: Application, page: Page
) -> None:
    open_page(page, application.url + "?a=sample-coffee&b=sample-coffee&model_b=again&layer=conv_head&side=b")
    until(lambda: images(page, "wall") == 3)  # A, B and B - A
    page.get_by_label("Model of B").select_option("embedded")
    until(lambda: "model_b" not in address_of(page))
    until(lambda: images(page, "wall") == 3)
    page.get_by_label("Model of A").select_option(OTHER)
    until(lambda: "model_b=embedded" in address_of(page) and "layer=conv_head" in address_of(page))
    expect(page.locator("#model-letter")).to_have_text("A")
    expect(page.locator(".card:not([hidden]) .notes")).to_contain_text(
        re.compile(r"A: features.*, by depth and stride"), timeout=60_000
    )
    page.get_by_role("button", name="swap A, B").click()
    until(lambda: f"model_b={OTHER.replace('@', '%40')}" in address_of(page))
    until(lambda: tops(page, "a")[:1] == ["espresso"])
    expect(page.locator(".card:not([hidden]) .notes")).to_contain_text(
        re.compile(r"B: features.*, by depth and stride"), timeout=60_000
    )
    before = page.locator(".card:not([hidden]) .notes .mono").inner_text()
    page.get_by_label("The layer before").click()
    expect(page.locator(".card:not([hidden]) .notes")).to_contain_text("chosen")
    assert page.locator(".card:not([hidden]) .notes .mono").inner_text() != before and "matched=" in address_of(page)
    page.go_back()
    expect(page.locator(".card:not([hidden]) .notes .mono")).to_have_text(before)
    page.locator("#input-b-full").get_by_role("button", name="remove").click()
    until(lambda: "model_b" not in address_of(page) and "side" not in address_of(page))
    until(lambda: row(page, "conv_head").count() == 1)


def test_a_layer_that_the_chosen_model_lacks_goes_and_those_it_has_stay(application: Application, page: Page) -> None:
    open_page(page, application.url + "?a=sample-coffee&layer=conv_head&layer=(model)")
    until(lambda: images(page, "wall") == 1)
    page.get_by_label("Model of A").select_option(OTHER)
    until(lambda: "conv_head" not in address_of(page) and "layer=(model)" in address_of(page), 60)
    expect(page.locator(".card:not([hidden])")).to_have_count(1)
    page.go_back()
    until(lambda: "conv_head" in address_of(page))
    until(lambda: images(page, "wall") == 1)


def test_b_prepared_otherwise_by_keyboard_and_what_it_is_called(application: Application, page: Page) -> None:
    open_page(page, application.url + "?a=sample-coffee&layer=conv_stem")
    until(lambda: images(page, "wall") == 1)
    page.get_by_label("Compare with A's picture prepared otherwise").select_option("bgr")
    until(lambda: images(page, "wall") == 3)
    assert "b=sample-coffee" in address_of(page) and "prepare_b=bgr" in address_of(page)
    expect(page.locator("#input-b-caption")).to_contain_text("blue, green, red")
    expect(page.locator(".card:not([hidden]) .notes")).to_contain_text("B prepared: blue, green, red")
    first = page.locator("#input-b-top .mono").first.inner_text()
    summary = page.locator("#input-b-full .prepare summary")
    summary.focus()
    page.keyboard.press("Enter")
    values = page.locator("[data-prepare=b][data-aspect=values]")
    expect(page.locator("[data-prepare=b][data-aspect=channels]")).to_have_value("bgr")
    values.focus()
    values.select_option("bytes")
    until(lambda: "prepare_b=bytes%2Cbgr" in address_of(page))
    until(lambda: page.locator("#input-b-top .mono").first.inner_text() != first)
    assert values.is_visible()  # the menu stays for a second choice
    for aspect in ("values", "channels"):
        page.locator(f"[data-prepare=b][data-aspect={aspect}]").select_option("own")
    until(lambda: "prepare_b" not in address_of(page))
    until(lambda: tops(page, "b") == tops(page, "a"))


def shares(page: Page, side: str) -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"#input-{side}-top button.row").all_inner_texts()]


def settled(page: Page) -> list[str]:
    """B's answer once it stays: while something is dragged it follows."""
    while True:
        found = until(lambda: len(tops(page, "b")) == 5 and shares(page, "b"))
        page.wait_for_timeout(1000)
        if found == shares(page, "b"):
            return list(found)


def test_what_is_painted_on_a_makes_b_moves_and_stays_in_the_address(application: Application, page: Page) -> None:
    open_page(page, f"{application.url}?a=sample-coffee&layer=conv_head")
    until(lambda: len(tops(page, "a")) == 5)
    page.get_by_role("button", name="paint on it").click()
    picture = page.locator("#paper img")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.05)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5, steps=3)
    page.mouse.up()
    expect(page.locator("#input-b-caption")).to_contain_text("1 box painted on it")
    until(lambda: re.search(r"prepare_b=box\.grey\.\d+\.\d+\.\d+\.\d+", address_of(page)))
    first, before = settled(page), address_of(page)
    assert first != shares(page, "a")
    page.locator("#paper-box").focus()
    page.keyboard.press("ArrowDown")
    until(lambda: address_of(page) != before)
    moved, address = until(lambda: now if (now := settled(page)) != first else None), address_of(page)
    page.reload()
    until(lambda: shares(page, "b") == moved and address_of(page) == address)
    expect(picture).to_be_visible()
    page.locator("#painted").get_by_label("Take box 1 away").click()
    expect(page.locator("#input-b-empty")).to_be_visible()  # nothing is left of which B would differ
    page.locator("#paper-box").press("Enter")
    until(lambda: len(tops(page, "b")) == 5)
    plain = shares(page, "a")
    page.locator("[data-do=swap]").click()  # now A is the painted one
    until(lambda: shares(page, "b") == plain and shares(page, "a") not in ([], plain))


def test_numbers_in_the_tables_are_written_shortly_and_weights_unfold(application: Application, page: Page) -> None:
    open_page(page, application.url + "?a=sample-coffee&layer=conv_stem&table=1")
    until(lambda: images(page, "wall") == 1)
    cells = page.locator('[id=\'{"card":0,"type":"card-grid"}\'] .ag-cell')
    expect(cells.first).to_be_visible()
    short = re.compile(r"−?[\d.]{1,10}(e[−-]?\d+)?%?")

    def are_short(cells: Locator) -> bool:
        texts = cells.all_inner_texts()
        return bool(texts) and all(map(short.fullmatch, texts))

    until(lambda: are_short(cells))  # a cell is there before its number is
    page.get_by_role("button", name="Weights").focus()
    page.keyboard.press("Enter")
    weights = page.locator('[id=\'{"card":0,"type":"card-weights"}\']')
    expect(weights).to_contain_text("weight, 32 × 3 × 3 × 3")
    expect(weights.locator("img")).to_have_js_property("complete", True)
    assert "weights=1" in address_of(page)
    rows = page.locator('[id=\'{"card":0,"type":"card-weights-grid"}\'] .ag-cell')
    expect(rows.first).to_be_visible()
    until(lambda: are_short(rows))
    page.get_by_role("button", name="Weights").click()
    expect(weights.locator("img")).to_have_count(0)
