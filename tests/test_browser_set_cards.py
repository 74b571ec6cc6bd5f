"""What a set says in cards and in the tree, in a browser: from a dead channel to the pictures of one that is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from digits_models import digits, file_of, write_module
from playwright.sync_api import Page, expect
from served import Application, open_page, row, until

pytestmark = pytest.mark.browser
COUNT, DEAD = 110, 5
PLANTED = f"""
    from digits_net import HOW, plain


    def planted():
        net = plain()
        net.conv2.weight.data[{DEAD}], net.conv2.bias.data[{DEAD}] = 0, -1.0
        return net, HOW
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    folder: Path = tmp_path_factory.mktemp("digits")
    write_module(folder)
    (folder / "planted_net.py").write_text("\n".join(line[4:] for line in PLANTED.splitlines()))
    pictures, _ = digits()
    (folder / "set").mkdir()
    for number in range(COUNT):
        file_of(pictures[number], folder / "set" / f"{number:03}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        offered = ("--model", "digits=planted_net:planted", "--images", f"line 4={folder / 'set'}")
        started = Application(folder / "cache", *offered)
        yield started
        started.stop()


def colour_by(page: Page, name: str) -> None:
    page.click("#metric")
    page.click(f"[role=option]:has-text('{name}')")


def test_from_the_tree_to_the_pictures_of_one_channel(page: Page, application: Application) -> None:
    open_page(page, application.url)
    colour_by(page, "dead over the set")
    line = page.locator("#metric-text")
    expect(line).to_have_text("Choose a set of pictures first: in Pictures")
    line.locator("button").click()
    page.click(".set-choice button:has-text('line 4')")
    expect(line).to_have_text("line 4 has not been looked through. Look through it")
    line.locator("button").click()
    whole = f"over line 4: bars from 0 to 10 %; {COUNT} pictures"
    expect(line).to_have_text(whole, timeout=60_000)
    page.click("nav.tabs button:has-text('Layers')")
    expect(line).to_have_text(whole)  # the set stays chosen

    page.click("button.sample >> nth=0")
    page.click("text=next worst")
    expect(page.locator(".hs-tree")).to_contain_text("dead over the set line 4: 6.2 %")
    row(page, "relu2").click()
    block = page.locator(".over-set").first
    expect(block).to_contain_text(f"over the set line 4 ({COUNT} pictures)")
    expect(block).to_contain_text(f"1 of 16 channels never fired: {DEAD}")
    block.locator(".name-link").first.click()
    beside = page.locator(".detail-set")
    expect(page.locator("#detail-title")).to_contain_text(f"channel {DEAD}")
    expect(beside).to_contain_text("never fired")
    expect(beside.locator(".crop-cell")).to_have_count(0)

    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-title")).to_contain_text(f"channel {DEAD + 1}")
    expect(beside.locator(".crop-cell")).to_have_count(9)
    expect(beside).to_contain_text("5 × 5 pixels")
    beside.locator("button:has-text('median')").click()
    expect(beside.locator(".crop-cell")).to_have_count(3)
    cell = beside.locator(".crop-cell").first
    until(lambda: cell.locator("img").evaluate("image => image.naturalWidth > 0"))
    cell.hover()
    around = page.locator(".around-crop")
    expect(around).to_contain_text(".png: ")
    expect(around.locator(".frame-mark")).to_have_count(1)

    def is_framed() -> bool:
        picture, inside = around.locator("img").bounding_box(), around.locator(".frame-mark").bounding_box()
        return bool(picture and inside and 0 < inside["width"] < picture["width"] / 2)

    until(is_framed, what="for the picture, which is loaded then")
    page.mouse.move(5, 5)
    expect(around).to_have_count(0)


def test_the_wall_turns_and_turns_back(page: Page, application: Application) -> None:
    open_page(page, application.url)
    page.click("nav.tabs button:has-text('Pictures')")
    page.click(".set-choice button:has-text('line 4')")
    expect(page.locator("#set-state .sweep-line")).to_contain_text(f"{COUNT} of {COUNT}", timeout=60_000)
    page.click("nav.tabs button:has-text('Layers')")
    page.click("button.sample >> nth=0")
    row(page, "relu2").click()
    wall = page.locator(".card .wall").first
    expect(wall).to_be_visible()
    page.click(".flip button:has-text('what they look for')")
    cells = page.locator(".flip-cells .crop-cell")
    expect(cells).to_have_count(16)
    expect(wall).to_be_hidden()
    expect(cells.nth(DEAD)).to_contain_text("never fired")
    cells.nth(2).click()
    expect(page.locator("#detail-title")).to_contain_text("channel 2")
    page.reload()
    expect(cells).to_have_count(16, timeout=60_000)
    expect(page.locator(".detail-set .crop-cell")).to_have_count(9)
    page.click(".flip button:has-text('maps')")
    expect(wall).to_be_visible()
    until(lambda: (wall.locator(".js-plotly-plot").bounding_box() or {}).get("width", 0) > 300)
    page.go_back()
    expect(cells).to_have_count(16)

    page.locator(".detail-set .crop-cell").first.click()  # its picture becomes A
    expect(page.locator("#input-a-caption, .input.a .file-name").first).to_contain_text(".png", timeout=60_000)
    expect(page.locator(".detail-set .crop-cell")).to_have_count(9)
