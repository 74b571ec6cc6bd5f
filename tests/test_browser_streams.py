"""Answers on their way onto a page: each is drawn once and a wall's pictures first; where they break off it asks again.

Later each time, and in the end it says so: it never waits for ever.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Watch
from inline_app import InlineApp, served
from inline_engine import MODEL, InlineEngine
from playwright.sync_api import Page, Route
from served import array, figure, images, row, until
from units import unit_of

from hookscope.dashboard.answers.parts import Part

pytestmark = pytest.mark.browser
VIEW = "?a=sample-coffee&layer=conv"
PLACES = """(all) => all.map((each) => { const { left, top, width, height } = each.getBoundingClientRect();
  const name = each.href ? each.href.baseVal : each.getAttribute("src");
  return [name.split("/").pop(), left, top, width, height]; })"""


class Proxy:
    """Stands between a browser and a server, and may cut streams off after their first message.

    Attributes:
        target: the server's port; another one is another server, as after a restart. port: its own.
        cutting: whether streams are cut. streams: how many were begun.
    """

    def __init__(self, target: int) -> None:
        self.target, self.cutting, self.streams = target, False, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                browser, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    browser.close()
                    continue
                self._open += [browser, server]
                is_stream = threading.Event()
                threading.Thread(target=self._pass, args=(browser, server, is_stream, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, browser, is_stream, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, is_stream: threading.Event, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if asks and b"GET /stream/" in chunk:
                    self.streams += 1
                    is_stream.set()
                sink.sendall(chunk)
                if not asks and self.cutting and is_stream.is_set() and b"event: message" in chunk:
                    break
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let nobody through any more."""
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[InlineApp]:
    made = InlineApp(tmp_path / "first", InlineEngine())
    yield made
    made.close()


@pytest.fixture
def proxy(app: InlineApp) -> Iterator[Proxy]:
    with served(app) as port:
        made = Proxy(port)
        yield made
        made.close()


@pytest.fixture
def waiting(app: InlineApp, proxy: Proxy, page: Page, watch: Watch) -> Page:
    """A page whose card is being computed, and nothing of it has come; it has asked all that it asks by itself."""
    asked: list[str] = []
    page.on("request", lambda each: asked.append(each.url) if each.url.endswith("/ask") else None)
    for expected in ("ERR_CONNECTION", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE", "RESET"):
        watch.expect(expected)
    page.clock.install()  # so that a minute of waiting is a moment
    page.goto(f"http://127.0.0.1:{proxy.port}/{VIEW}")
    until(lambda: "computing" in page.locator(".card .status").inner_text(), what="for the card that waits")

    until(lambda: row(page, "conv").count(), what="for the tree, which comes when the model is known")
    page.wait_for_timeout(20)  # hands over what has happened in the browser
    assert len(asked) == 1
    return page


def shown(page: Page) -> bool:
    return images(page, "wall") == 1 and "computing" not in page.locator(".card .status").inner_text()


def finish(app: InlineApp, page: Page) -> None:
    """Let the worker answer whatever is asked, until the card is there."""

    def there() -> bool:
        app.engine.work()
        page.clock.fast_forward(500)
        return shown(page) and page.locator("#banner").is_hidden()

    until(there, what="for the card")


def test_what_is_drawn_already_stays_when_the_model_is_known_later(app: InlineApp, proxy: Proxy, page: Page) -> None:
    """A page is drawn once, however late the browser hears which model it is of."""
    app.engine.at_once = True
    page.add_init_script(
        """const { fetch } = window; window.held = [];
        window.fetch = (address, ...more) => new Promise((answer) => {
          const go = () => answer(fetch(address, ...more));
          if (window.held && String(address).includes("state?")) window.held.push(go); else go(); });"""
    )
    page.goto(f"http://127.0.0.1:{proxy.port}/{VIEW}")
    until(lambda: shown(page), what="for the card")
    assert row(page, "conv").count() == 0
    page.evaluate(
        """() => { window.parts = []; const { set } = window.hookscope;
          window.hookscope.set = (id, props) => { window.parts.push(id.type || id); return set(id, props); };
          const { held } = window; window.held = null; held.forEach((go) => go()); }"""
    )
    until(lambda: row(page, "conv").count(), what="for the tree")
    page.wait_for_timeout(300)
    parts, question = page.evaluate("[window.parts, window.hookscope.question]")
    # a spare card is made when the browser has nothing else to do, which may be before or after this
    assert ([part for part in parts if part != "more-cards"], question) == (["model-ready"], 1)


def test_a_page_in_use_is_answered_whatever_others_ask(app: InlineApp, waiting: Page) -> None:
    """They ask with a token of their own each and come for no answer; some even before this page opens its stream."""
    for n in range(2200):
        unit = unit_of(MODEL, f"{n}", "activation", "wide")
        app.service.ask(f"stranger {n}", [Part("p", (unit,), (), lambda _: [])], {})
    finish(app, waiting)


def test_a_slider_that_rests_is_answered_whole_however_long_the_answer_takes(app: InlineApp, waiting: Page) -> None:
    finish(app, waiting)
    asked: list[str] = []
    waiting.on(
        "request", lambda each: asked.append((each.post_data_json or {})["trying"]) if "/ask" in each.url else None
    )
    waiting.evaluate("window.hookscope.tryOut({edits_a: 'conv~~0.5'})")
    until(lambda: waiting.wait_for_timeout(20) or asked, what="for the question of the moved slider")
    waiting.clock.fast_forward(3_000)  # longer than the page waits before it asks for the next place of the slider
    waiting.wait_for_timeout(300)
    assert asked == ["moves"]

    def rests() -> bool:
        app.engine.work()
        waiting.clock.fast_forward(500)
        waiting.wait_for_timeout(20)
        return asked == ["moves", "rests"]

    until(rests, what="for the question of the slider that rests")


def test_a_stream_that_the_server_ends_is_asked_for_again(app: InlineApp, proxy: Proxy, waiting: Page) -> None:
    before = proxy.streams
    for stream in list(app.service._pages.values()):
        app.engine.cancel(stream.slot)
    finish(app, waiting)
    assert proxy.streams > before


def test_a_server_that_was_restarted_meanwhile_is_asked_again(
    app: InlineApp, proxy: Proxy, waiting: Page, tmp_path: Path
) -> None:
    second = InlineApp(tmp_path / "second", InlineEngine())
    with served(second) as port:
        proxy.target = port
        app.service.close()
        for each in list(proxy._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        finish(second, waiting)
        waiting.goto("about:blank")
    second.close()


def test_a_stream_that_is_cut_each_time_is_a_sentence_in_the_end(app: InlineApp, proxy: Proxy, waiting: Page) -> None:
    banner = waiting.locator("#banner")
    proxy.cutting = True
    for each in list(proxy._open):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
    seen = set()

    def given_up() -> bool:
        waiting.clock.fast_forward(2_000)
        seen.add(banner.inner_text())
        return "do not arrive whole" in banner.inner_text()

    until(given_up, what="for the sentence")
    assert any("Trying again" in text for text in seen)
    asked = proxy.streams
    assert 5 <= asked <= 15
    waiting.clock.fast_forward(600_000)
    waiting.clock.run_for(1_000)
    assert proxy.streams == asked  # it asks no more by itself
    proxy.cutting = False
    waiting.get_by_role("button", name="Ask again").click()
    finish(app, waiting)


def test_a_stream_that_a_newer_question_replaced_was_not_lost(app: InlineApp, proxy: Proxy, waiting: Page) -> None:
    """The server ends it before the answer to the newer question has reached the page."""
    asks: list[str] = []

    def late(route: Route) -> None:
        asks.append(route.request.url)
        answer = route.fetch()
        time.sleep(0.5)  # long after the old stream's end has come
        route.fulfill(response=answer)

    waiting.route("**/ask", late)
    banners = waiting.evaluate_handle(
        """() => { const seen = []; const banner = document.getElementById("banner");
          new MutationObserver(() => { if (!banner.hidden) seen.push(banner.textContent); })
            .observe(banner, { attributes: true, childList: true });
          return seen; }"""
    )
    row(waiting, "wide").click()
    until(lambda: waiting.locator(".card h2").first.inner_text() == "wide", what="for the other layer's card")
    waiting.clock.fast_forward(30_000)
    waiting.wait_for_timeout(300)
    assert len(asks) == 1 and banners.json_value() == []
    finish(app, waiting)


def test_a_walls_pictures_are_there_before_its_figure_and_where_it_draws_them(
    app: InlineApp, proxy: Proxy, page: Page
) -> None:
    app.engine.at_once = True
    page.goto(f"http://127.0.0.1:{proxy.port}/{VIEW}&b=sample-chelsea&count=all")
    until(lambda: images(page, "wall") == 3, what="for the first layer's wall")
    page.evaluate(
        """() => { const { set } = window.hookscope;
          window.hookscope.set = (id, props) => (props.figure ? false : set(id, props)); // as before a card is mounted
          window.release = () => { window.hookscope.set = set; }; }"""
    )
    early = page.locator(".early img")
    row(page, "wide").click()
    until(lambda: early.count() == 3, what="for the pictures")
    until(lambda: page.locator(".card h2").first.inner_text() == "wide", what="for the texts")
    assert page.locator(".card .histogram.outdated").count() == 1  # it is still the other layer's
    places = early.evaluate_all(PLACES)
    page.evaluate("window.release()")
    until(lambda: early.count() == 0, what="for the figure")

    def there() -> list[list[Any]]:
        found = page.locator(".card:not([hidden]) .wall .imagelayer image").evaluate_all(PLACES)
        return found if [name for name, *_ in found] == [name for name, *_ in places] else []

    drawn = until(there, what="for the same pictures in the figure")
    for (_, *expected), (_, *found) in zip(drawn, places, strict=True):
        assert found == pytest.approx(expected, abs=1)
    until(lambda: page.locator(".outdated").count() == 0, what="for the histogram")


def test_pictures_of_a_figure_that_is_not_drawn_any_more_go(app: InlineApp, proxy: Proxy, page: Page) -> None:
    """A newer question comes between a wall's pictures and its figure; the first layer is shown as it was."""
    app.engine.at_once = True
    page.goto(f"http://127.0.0.1:{proxy.port}/{VIEW}")
    until(lambda: images(page, "wall") == 1, what="for the first layer's wall")
    whole = array(figure(page, "wall")["data"][0]["z"]).shape
    page.evaluate(
        """() => { const { set } = window.hookscope;
          window.hookscope.set = (id, props) => (props.figure ? false : set(id, props));
          window.release = () => { window.hookscope.set = set; }; }"""
    )
    row(page, "wide").click()
    until(lambda: page.locator(".early img").count() == 1, what="for the pictures")
    page.evaluate("window.release(); window.hookscope.choose({ layers: ['conv'] })")
    until(lambda: page.locator(".early").count() == 0)
    until(lambda: page.locator(".card h2").first.inner_text() == "conv" and images(page, "wall") == 1)
    until(lambda: page.locator(".outdated").count() == 0, what="for the histogram")
    assert array(figure(page, "wall")["data"][0]["z"]).shape == whole
