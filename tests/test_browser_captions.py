"""Captions that a person types on the page, are compared with the picture, and are explained."""

from __future__ import annotations

from collections.abc import Iterator

import hugging_face_folders as folders
import pytest
from playwright.sync_api import Page, expect
from served import Application, open_page, until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    place = tmp_path_factory.mktemp("captions")
    folders.write(place, (folders.clip, folders.siglip))
    named = [argument for name in ("clip", "siglip") for argument in ("--model", f"{name}=hf:{place / name}")]
    started = Application(place / "cache", "--threads", "1", *named)
    yield started
    started.stop()


def rows(page: Page, side: str) -> list[str]:
    return [text.split("\n")[0] for text in page.locator(f"#input-{side}-top button.row").all_inner_texts()]


def shares(page: Page, side: str) -> dict[str, float]:
    texts = [text.split("\n") for text in page.locator(f"#input-{side}-top button.row").all_inner_texts()]
    return {each[0]: float(each[-1]) for each in texts}


def test_captions_are_typed_compared_explained_and_kept_in_the_address(application: Application, page: Page) -> None:
    layer = "model.vision_model.encoder.layers.0"
    open_page(page, f"{application.url}?model=clip&a=sample-coffee&layer={layer}")
    typed = page.locator("[data-captions=a]")
    expect(typed).to_be_visible(timeout=60_000)
    expect(page.locator("#input-a-reading")).to_contain_text("No caption is typed")
    typed.fill("a red cat\n\n <img src=x onerror=alert(1)>  \na red cat")
    page.locator("[data-compare=a]").click()
    until(lambda: sorted(rows(page, "a")) == ["<img src=x onerror=alert(1)>", "a red cat"])
    assert sum(shares(page, "a").values()) == pytest.approx(1, abs=0.002)
    expect(typed).to_have_value("a red cat\n<img src=x onerror=alert(1)>")
    page.locator("#input-a-top button.row", has_text="a red cat").click()
    expect(page.locator(".card .cam-caption .class").first).to_have_text("caption: a red cat", timeout=60_000)
    until(lambda: "target=0" in page.evaluate("location.search"))
    assert "captions=a+red+cat%0A" in page.evaluate("location.search")
    # others, of which none is chosen yet; and back
    typed.fill("a dog")
    typed.press("Control+Enter")
    until(lambda: rows(page, "a") == ["a dog"])
    until(lambda: "target" not in page.evaluate("location.search"))
    page.go_back()
    until(lambda: len(rows(page, "a")) == 2)
    page.reload()
    expect(typed).to_have_value("a red cat\n<img src=x onerror=alert(1)>", timeout=60_000)


def test_each_model_has_captions_of_its_own(application: Application, page: Page) -> None:
    texts = "captions=a+cat%0Aa+dog&captions_b=a+dog%0Aa+red+dog%0Aa+cat"
    open_page(page, f"{application.url}?model=clip&model_b=siglip&a=sample-coffee&b=sample-coffee&{texts}")
    until(lambda: len(rows(page, "a")) == 2 and len(rows(page, "b")) == 3)
    expect(page.locator("#input-b-reading")).to_contain_text("each is a yes or no of its own (sigmoid)")
    before = shares(page, "a"), shares(page, "b")
    page.locator("[data-do=swap]").click()
    until(lambda: len(rows(page, "a")) == 3 and len(rows(page, "b")) == 2)
    until(lambda: (shares(page, "b"), shares(page, "a")) == before)
    page.locator("[data-captions=b]").fill("")
    page.locator("[data-compare=b]").click()
    expect(page.locator("#input-b-reading")).to_contain_text("No caption is typed")
