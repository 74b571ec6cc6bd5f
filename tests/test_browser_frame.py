"""The page around the cards as a newcomer meets it: toolbar, first visit, history, dropped files, names, contrast."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CHROMIUM_FLAGS, Watch
from playwright.sync_api import Browser, Page
from served import SAMPLES, Application, images, open_page, plot_of, row, until

from hookscope.dashboard.page import ids
from hookscope.dashboard.panels import toolbar
from hookscope.hooks.methods import MAPS

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

    def fits() -> bool:
        scrolls, room, drawn, wall = page.evaluate(script)
        return bool(scrolls and room < 1440 and drawn == wall)  # without a scroll bar this test says nothing

    until(fits, what="for a wall as wide as its room, beside a scroll bar")
    assert page.locator("main").bounding_box()["width"] == empty["width"]  # type: ignore[index]
    assert rows_of(page, ".toolbar .control") == 1
    page.goto(application.url + CARD)  # a link: the wall is asked for before anything is high enough to scroll
    until(lambda: images(page, "wall") == 1, what="for the wall")
    until(fits, what="for the same")


def test_a_class_and_what_it_is_held_against_need_no_second_line(
    application: Application, page_with_scroll_bar: Page
) -> None:
    page = page_with_scroll_bar
    for more in ("", "&b=sample-chelsea&apart=1"):
        open_page(page, application.url + CARD + "&against=next" + more)
        until(lambda more=more: images(page, "wall") == (3 if more else 1), what="for the wall")
        until(lambda: page.locator("#against").is_visible())
        assert rows_of(page, ".toolbar .control") == 1
        for name in ("target", "against"):
            box = page.locator(f"#{name}").bounding_box()
            assert box is not None and box["width"] > 90  # as wide as a name of some letters
        assert page.get_by_role("textbox", name="scale").count() == 1  # readers hear what it is called


def test_nothing_beside_a_picture_is_cut_in_a_narrow_window(application: Application, page: Page) -> None:
    page.set_viewport_size({"width": 1024, "height": 700})
    open_page(page, application.url + "?a=sample-coffee&b=sample-coffee&prepare_b=bgr,bytes&edits_b=conv_stem~~0.5")
    captions = page.locator(".caption")
    until(lambda: captions.nth(1).locator(".badge").count() == 2 and "→" in captions.nth(1).inner_text())
    script = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"
    assert page.locator(".caption, .caption > span").evaluate_all(script) == []


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
    until(lambda: rows_of(page, ".toolbar .control") == 2)
    assert rows_of(page, ".toolbar .walls .control") == rows_of(page, ".toolbar .maps .control") == 1
    page.get_by_role("button", name="Depth", exact=True).click()
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
    until(lambda: page.locator("#rank").is_visible())  # what is hidden has no room
    for width in (1440, 1024):
        page.set_viewport_size({"width": width, "height": 900})
        until(lambda width=width: page.evaluate("innerWidth") == width)
        options: dict[str, list[str]] = {
            ids.RANK: [text for _, text, _ in toolbar.RANKS],
            ids.SCALE: [text for _, text, _ in toolbar.SCALES],
            ids.COLOURS: [text for _, text in toolbar.COLOURS],
            ids.COUNT: [text for _, text in toolbar.COUNTS],
            ids.MAPS: [row.title for row in MAPS.values()],
            ids.TARGET: [toolbar.TOP1["label"]],
        }
        cut: dict[str, Any] = {id: page.evaluate(script, [id, texts]) for id, texts in options.items()}
        assert not any(cut.values()), (width, cut)


# --- the browser's history


def card_title(page: Page) -> str:
    return page.locator(".card:not([hidden]) h2").first.inner_text()


def query(page: Page) -> str:
    """The address's query, asked of the page itself: playwright learns of it only while it talks to the browser."""
    return str(page.evaluate("location.search"))


@pytest.mark.parametrize("clicks", [["bn2"], ["bn2", "conv_stem"]])
def test_back_shows_what_a_link_opened(application: Application, page: Page, clicks: list[str]) -> None:
    open_page(page, f"{application.url}?model=embedded&a=sample-coffee&layer=conv_head&rank=mean")
    until(lambda: images(page, "wall") == 1)
    opened = query(page)
    for layer in clicks:
        row(page, layer).click()
        until(lambda layer=layer: card_title(page) == layer and f"layer={layer}" in query(page))
    page.locator("#rank").click()
    page.get_by_role("option", name="variance").click()
    until(lambda: "rank=variance" in query(page))
    for layer in [*clicks[-2::-1], "conv_head"]:
        page.go_back()
        until(lambda layer=layer: card_title(page) == layer, what=f"for {layer} again")
    assert query(page) == opened
    until(lambda: page.locator("#rank").input_value() == "mean")
    page.go_forward()
    until(lambda: card_title(page) == clicks[0])
    page.go_back()
    until(lambda: card_title(page) == "conv_head")


# --- more files than boxes, and the address of a share link

DROP = """([side, names, bytes]) => {
  const transfer = new DataTransfer();
  for (const name of names) transfer.items.add(new File([new Uint8Array(bytes)], name));
  const place = side ? document.getElementById(`input-${side}-box`) : document.querySelector("main");
  for (const kind of ["dragover", "drop"]) {
    place.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
  }
}"""


TWO = "were taken; two pictures can be compared, A and B. The tab Pictures takes all of them."


@pytest.mark.parametrize(
    ("before", "side", "number", "after", "sentence"),
    [
        ("", "", 200, ("0.png", "1.png"), "Two of 200 " + TWO),
        ("", "b", 3, ("1.png", "0.png"), "Two of 3 " + TWO),
        ("?a=sample-coffee", "b", 2, ("coffee.png", "0.png"), "One of 2 was taken; what A shows already stays."),
        ("?b=sample-coffee", "a", 2, ("0.png", "coffee.png"), "One of 2 was taken; what B shows already stays."),
        ("?a=sample-coffee", "", 3, ("coffee.png", "0.png"), "One of 3 was taken; what A shows already stays."),
        ("?a=sample-coffee&b=sample-rocket", "b", 1, ("coffee.png", "0.png"), ""),
        ("?a=sample-coffee&b=sample-rocket", "", 2, ("0.png", "1.png"), ""),
    ],
)
def test_files_beyond_the_boxes_are_told_and_replace_nothing(
    application: Application,
    page: Page,
    before: str,
    side: str,
    number: int,
    after: tuple[str, str],
    sentence: str,
) -> None:
    open_page(page, application.url + before)

    def name(which: str) -> str:
        found = page.locator(f"#input-{which}-full:not([hidden]) .file-name")
        return found.inner_text() if found.count() else ""

    until(lambda: sum(bool(name(which)) for which in "ab") == before.count("=sample"))
    picture = (SAMPLES / "chelsea.png").read_bytes()
    page.evaluate(DROP, [side, [f"{n}.png" for n in range(number)], list(picture)])
    until(lambda: (name("a"), name("b")) == after, what=f"for {after}")
    told = page.locator(".input .told:visible")
    if sentence:
        until(lambda: told.count() == 1 and told.inner_text() == sentence)
        page.locator("[data-do=remove-input][data-value=b]").click()
        page.locator("[data-sample=rocket][data-side=b]").click()
        until(lambda: name("b") == "rocket.jpg")
    until(lambda: told.count() == 0)


def test_what_is_no_picture_is_named_and_the_next_file_takes_its_place(
    application: Application, page: Page, watch: Watch
) -> None:
    watch.expect("422")
    open_page(page, application.url + "?a=sample-coffee")
    until(lambda: page.locator("#input-a-full .file-name").count())
    with_bytes = """([names, picture]) => {
      const transfer = new DataTransfer();
      for (const name of names) {
        const data = name.endsWith(".jpg") ? new Uint8Array(picture) : new TextEncoder().encode("no picture");
        transfer.items.add(new File([data], name));
      }
      const box = document.getElementById("input-b-box");
      box.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }"""
    picture = list((SAMPLES / "rocket.jpg").read_bytes())
    page.evaluate(with_bytes, [["notes.txt", "bad.png", "one.jpg", "two.jpg"], picture])
    until(lambda: page.locator("#input-b-full:not([hidden]) .file-name").inner_text() == "one.jpg")
    told, refused = page.locator(".input .told:visible"), page.locator("#input-b-box .refused:visible")
    until(lambda: told.count() and told.inner_text() == "One of 4 was taken; what A shows already stays.")
    assert refused.inner_text().startswith("notes.txt: ") and " bad.png: " in refused.inner_text()
    page.evaluate(with_bytes, [[f"{n}.txt" for n in range(20)], []])
    until(lambda: told.inner_text() == "None of 20 was taken.")
    assert page.locator("#input-b-full .file-name").inner_text() == "one.jpg"


def test_a_link_that_works_on_this_computer_only_says_so(application: Application, page: Page) -> None:
    open_page(page, application.url + CARD)
    page.locator("#share").click()
    until(lambda: page.locator("#share-link input").count() == 1)
    until(lambda: "works only on this computer" in page.locator("#share-link").inner_text(), what="for what it says")
    text = page.locator("#share-link").inner_text()
    assert "export the page" in text
    assert "Whoever has" not in text
    hosts = {"localhost": True, "app.localhost": True, "127.0.0.1": True, "127.1.2.3": True, "[::1]": True}
    hosts |= {
        "192.168.1.7": False,
        "vision.example.org": False,
        "127.example.org": False,
        "localhost.example.org": False,
    }
    assert page.evaluate("(hosts) => hosts.map(window.hookscope.isLocal)", list(hosts)) == list(hosts.values())


# --- a model that cannot be loaded


def test_a_model_that_cannot_be_loaded_is_told_once_and_not_waited_for(tmp_path: Path, page: Page) -> None:
    started = Application(tmp_path, "--model", "torchvision:resnet5")
    try:
        page.goto(started.url + "?a=sample-coffee")
        sentence = "torchvision has no model 'resnet5'. Did you mean torchvision:resnet18 or torchvision:resnet34"
        until(lambda: sentence in page.locator("#banner").inner_text())
        until(lambda: "could not be loaded" in page.locator("#guide").inner_text())
        until(lambda: "could not be loaded" in page.locator(".hs-tree-empty").inner_text())

        def is_told_once() -> bool:
            text = page.locator("body").inner_text()
            return text.count(sentence) == 1 and "is being loaded" not in text and "has loaded" not in text

        until(is_told_once)
        until(lambda: page.locator("#input-a-top .waiting").count() == 0)
        page.get_by_role("button", name="Depth", exact=True).click()
        until(lambda: "could not be loaded" in page.locator("#gradients-text").inner_text())
        with page.expect_response(re.compile(r"/open\?")) as tried:
            page.get_by_role("button", name="Try again").click()
        assert tried.value.ok
        until(lambda: sentence in page.locator("#banner").inner_text())
    finally:
        page.goto("about:blank")  # before the server goes, which the page would tell of
        started.process.terminate()
        _, errors = started.process.communicate(timeout=20)
    assert f"torchvision:resnet5 is not there: {sentence}" in errors


# --- the first visit


def test_a_first_visit_says_what_this_is_and_shows_something_by_one_click(application: Application, page: Page) -> None:
    open_page(page, application.url)
    offer = page.get_by_role("button", name="Look into it: coffee at conv_head")
    until(offer.is_visible)
    assert "shows what every layer" in page.locator("#guide .purpose").inner_text()
    assert page.evaluate("[localStorage.length, sessionStorage.length, hookscope.view().a]") == [0, 0, ""]
    offer.click()
    until(lambda: images(page, "wall") == 1 and card_title(page) == "conv_head")
    until(lambda: page.locator("#guide").is_hidden())
    page.go_back()
    until(offer.is_visible)
    page.get_by_role("button", name="Which layers does the gradient reach?").click()
    until(lambda: (found := plot_of(page, "#gradients")) and len(found["data"]) == 3)
    page.go_back()
    page.get_by_role("button", name="Is something wrong with it?").click()
    until(lambda: "rules" in page.locator("#findings-state").inner_text())
    assert not page.locator("#guide").is_visible()
    page.go_back()
    page.get_by_role("button", name="Why this class?").click()
    until(lambda: page.locator("#attributions .heat").count() >= 1 and images(page, "cam") == 2)
    page.locator("#cancel-work").click()
    open_page(page, application.url + "?layer=conv_head")  # a state: what is missing is a picture
    until(lambda: "First a picture" in page.locator("#guide").inner_text())


# --- names, contrast, size

PALE = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = ([r, g, b, a = 1], ground) => [r, g, b].map((one, i) => one * a + ground[i] * (1 - a));
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === undefined || own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest("svg, script, style, :disabled")) continue;
    const style = getComputedStyle(element);
    const below = ground(element);
    const [a, b] = [light(over(parse(style.color), below)), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio >= 4.5 && parseFloat(style.fontSize) >= 12) continue;
    found.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}, ${style.fontSize}`);
  }
  return [...new Set(found)];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_text_is_pale_or_small(application: Application, page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    open_page(page, application.url)
    until(lambda: page.locator("#guide .start").is_visible())
    assert page.evaluate(PALE) == []
    page.evaluate("document.querySelector('#guide .link').style.color = '#5f7f9f'")  # a shade that is too near to both
    assert len(page.evaluate(PALE)) == 1
    open_page(page, application.url + CARD + "&b=sample-chelsea&target=967&metric=zeros")
    until(lambda: images(page, "wall") == 3 and images(page, "cam") == 4 and page.locator(".hs-bar i").count() > 9)
    assert page.evaluate(PALE) == []


def test_names_title_skip_link_and_a_narrow_window(application: Application, page: Page) -> None:
    open_page(page, application.url + CARD)
    until(lambda: images(page, "wall") == 1)
    assert page.title() == "coffee.png · EfficientNet-Lite0 · Hookscope"
    assert page.get_by_role("slider", name="Opacity of the map").count() == 1
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("[document.activeElement.id, location.hash]") == ["main", ""]
    narrow, wide = (page.locator(f"#input-{side}-box").bounding_box()["width"] for side in "ba")  # type: ignore[index]
    assert narrow < wide / 2  # an empty box beside a full one
    page.set_viewport_size({"width": 720, "height": 450})  # 200 % zoom of 1440 by 900
    until(lambda: page.evaluate("document.documentElement.scrollWidth <= innerWidth"))
    out = """() => [...document.querySelectorAll(".header *, .toolbar *, .card-head, .links *")]
      .filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth + 1).length"""
    assert page.evaluate(out) == 0
