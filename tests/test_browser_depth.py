"""Where do two pictures part: the layer and the channel are a click away, and the address brings the same page back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from served import Application, images, open_page, until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    started = Application(tmp_path_factory.mktemp("hookscope"), "--threads", "1")
    yield started
    started.stop()


def test_from_two_pictures_to_the_layer_and_the_channel_where_they_part(application: Application, page: Page) -> None:
    """Three clicks from two pictures: the tab, the chart, the link in the sentence."""
    open_page(page, application.url + "?a=sample-coffee&b=sample-coffee&prepare_b=bgr")
    page.get_by_role("button", name="Depth").click()
    page.get_by_role("button", name="A against B", exact=True).click()
    sentence = page.locator(".depth-sentence")
    expect(sentence).to_contain_text("of the difference", timeout=120_000)  # the calibration has begun
    measured = re.compile(r"\(\d+ pairs of the samples")  # and is at its end: the sentence stays as it is
    expect(page.locator("#gradients-text")).to_contain_text(measured, timeout=120_000)
    address = str(page.evaluate("location.search"))
    assert "tab=depth" in address and "depth=apart" in address
    layer = sentence.locator("[data-do=layer]").last
    name = layer.inner_text()
    layer.click()
    until(lambda: images(page, "wall") == 3)  # A, B and B - A
    expect(page.locator(".card:not([hidden])").first).to_contain_text(name)
    page.go_back()
    expect(sentence).to_be_visible()
    channel = sentence.locator("[data-do=set]").first
    number = channel.inner_text()
    channel.click()
    expect(page.locator("#detail")).to_contain_text(f"channel {number}")
    page.goto(application.url + address)
    expect(page.locator(".depth-sentence")).to_contain_text("of the difference", timeout=120_000)
