"""What a model's answer is read as, seen and changed by a person on the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import pytest
from conftest import Watch
from PIL import Image
from playwright.sync_api import Page, expect
from served import Application, open_page, until

pytestmark = pytest.mark.browser
MODELS = ("yes_or_no", "heads", "face", "depth", "ends_in_softmax", "layers_of_pixels", "siamese")

ROOM = ("--models-limit-mb", "1200")  # for two of the models at once


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    named = [argument for name in MODELS for argument in ("--model", f"{name}=tests.brought_models:{name}")]
    started = Application(tmp_path_factory.mktemp("hookscope"), "--threads", "1", *ROOM, *named)
    yield started
    started.stop()


def rows(page: Page, side: str = "a") -> list[str]:
    return [" ".join(text.split()) for text in page.locator(f"#input-{side}-top button.row").all_inner_texts()]


def chip(page: Page, text: str, side: str = "a") -> None:
    page.locator(f"#input-{side}-reading .chip", has_text=re.compile(f"^{text}")).click()


def test_one_number_is_shown_as_it_is_and_one_click_reads_it_as_a_yes_or_no(
    application: Application, page: Page
) -> None:
    open_page(page, f"{application.url}?model=yes_or_no&a=sample-coffee&layer=act")
    until(lambda: len(rows(page)) == 1 and rows(page)[0].startswith("defect -"))
    reading = page.locator("#input-a-reading")
    expect(reading).to_contain_text("assumed")
    expect(reading).to_contain_text("one output is a number of its own")
    expect(page.locator("#target")).to_have_value("top class")
    chip(page, "sigmoid")
    until(lambda: rows(page) == ["defect 0.119"])
    expect(reading).not_to_contain_text("assumed")
    assert "reading=sigmoid" in page.evaluate("location.search")
    page.go_back()
    until(lambda: len(rows(page)) == 1 and rows(page)[0].startswith("defect -"))


def test_another_output_is_chosen_and_explained_by_its_name(application: Application, page: Page) -> None:
    open_page(page, f"{application.url}?model=heads&a=sample-coffee&layer=act&target=2")
    until(lambda: len(rows(page)) == 3)
    expect(page.locator(".card .cam-caption .class").first).to_have_text("sad")
    chip(page, "age")
    until(lambda: len(rows(page)) == 1 and rows(page)[0].startswith("age 3"))
    expect(page.locator(".card .cam-caption .class").first).to_have_text("age")
    assert "target" not in page.evaluate("location.search")  # there is no class 2 any more
    page.locator("#target").click()
    expect(page.locator(".mantine-Select-option:visible")).to_have_text(["top class", "age"])
    page.keyboard.press("Escape")
    chip(page, "emotion")
    until(lambda: len(rows(page)) == 3)


def test_each_side_is_read_in_its_own_way_and_keeps_it_when_they_are_swapped(
    application: Application, page: Page
) -> None:
    open_page(
        page, f"{application.url}?model=heads&reading=:age&a=sample-coffee&b=sample-coffee&model_b=ends_in_softmax"
    )
    until(lambda: len(rows(page)) == 1 and rows(page, "b") == ["good 0.900", "bad 0.100"])
    expect(page.locator("#input-b-reading")).to_contain_text("what is explained is the number before it")
    page.get_by_role("button", name="swap A, B").click()
    until(lambda: rows(page) == ["good 0.900", "bad 0.100"] and len(rows(page, "b")) == 1)
    assert "reading_b=:age" in page.evaluate("location.search")


@pytest.mark.parametrize(
    ("model", "text"),
    [("face", "An embedding of 32 numbers"), ("depth", "The model answers a tensor of 1 x 64 x 64 numbers")],
)
def test_what_has_no_classes_says_so_and_has_the_networks_view(
    application: Application, page: Page, model: str, text: str
) -> None:
    open_page(page, f"{application.url}?model={model}&a=sample-coffee")
    expect(page.locator("#input-a-top")).to_contain_text(text, timeout=60_000)
    expect(page.locator("#input-a-caption")).to_contain_text("600×400 → 64×64")
    expect(page.locator("#input-a-crop")).to_be_visible()
    whole = page.locator("#input-a-picture").get_attribute("src")
    page.locator("#input-a-seen").click()
    until(lambda: page.locator("#input-a-picture").get_attribute("src") != whole)


def test_a_second_picture_is_chosen_turned_round_and_taken_back(
    application: Application, page: Page, watch: Watch
) -> None:
    watch.expect("422")
    open_page(page, f"{application.url}?model=siamese&a=sample-coffee&layer=conv:1&overlay=1")
    place = page.locator("#input-a-second")
    expect(place).to_contain_text("right is the same as left until you choose another")
    alone = until(lambda: rows(page))
    place.locator("[data-sample=chelsea]").click()
    expect(place).to_contain_text("chelsea.png")
    both = until(lambda: len(found := rows(page)) == len(alone) and found != alone and found)
    expect(page.locator(".card-head").first).to_contain_text("sees right only")
    place.get_by_text("turn round").click()
    expect(place).to_contain_text("coffee.png")
    until(lambda: rows(page) not in ([], both))
    assert "a=sample-chelsea&second_a=sample-coffee" in page.evaluate("location.search")
    place.get_by_text("the same as the first").click()
    expect(place).to_contain_text("is the same as")
    page.locator("#file-second_a").set_input_files({"name": "own.png", "mimeType": "image/png", "buffer": png()})
    expect(place).to_contain_text("own.png 20×30")
    page.locator("#file-second_a").set_input_files({"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.locator("#input-a-full .refused")).to_contain_text("picture")
    expect(place).to_contain_text("own.png")  # what stood there stays
    page.locator("#input-a-full [data-do=remove-input]").click()
    expect(page.locator("#input-a-empty")).to_be_visible()
    until(lambda: "second_a" not in page.evaluate("location.search"))


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def test_a_click_on_a_region_explains_its_class(application: Application, page: Page) -> None:
    open_page(page, f"{application.url}?model=layers_of_pixels&a=sample-coffee")
    until(lambda: len(rows(page)) == 2)
    expect(page.locator("#input-a-top .threshold")).to_contain_text("sigmoid is above 0.5, its logit above 0")
    drawn = page.locator("#input-a-boxes .segments")
    rows_of, columns = map(int, drawn.get_attribute("data-grid").split(","))  # type: ignore[union-attr]
    cells: list[int] = []
    for run in drawn.get_attribute("data-cells").split(","):  # type: ignore[union-attr]
        index, count = map(int, run.split(":"))
        cells += [index] * count
    assert len(cells) == rows_of * columns and {*cells} == {-1, 0, 1}
    box = drawn.bounding_box()
    assert box is not None

    def click(index: int) -> None:
        """The middle of a position that has the same class all around."""
        inner = [
            at
            for at, found in enumerate(cells)
            if 2 * columns < at < len(cells) - 2 * columns and 2 < at % columns < columns - 3
            if all(cells[at + down * columns + right] == index for down in (-1, 0, 1) for right in (-1, 0, 1))
        ]
        row, column = divmod(inner[len(inner) // 2], columns)
        x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows_of * box["height"]
        drawn.click(position={"x": x, "y": y})

    chosen = page.locator("#input-a-top button.row.chosen")
    for index in (0, 1):
        click(index)
        expect(chosen).to_contain_text(f"class {index}")
        until(lambda index=index: f"target={index}" in page.evaluate("location.search"))  # type: ignore[misc]
    click(-1)  # of no class
    expect(chosen).to_contain_text("class 1")
    click(1)
    expect(chosen).to_have_count(0)
    drawn.focus()
    page.keyboard.press("Enter")  # points nowhere
    assert page.evaluate("hookscope.view().target") == "" and "target" not in page.evaluate("location.search")
