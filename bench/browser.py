"""A headless Chromium, and clicks in it that are timed inside the page, from the click to the frame that answers it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

from bench.application import until
from tests.find_chromium import find_chromium

WATCH = Path(__file__).with_name("watch.js")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Drawn:
    """One answered click; times in milliseconds since the click.

    Attributes:
        milliseconds: to the second animation frame after everything was there: the page can be used.
        shown: to the second animation frame after the wall's pictures were, which may be before that.
        asked, answered: the question leaves the page, and its answer (of Hookscope: where the stream is) is there.
        streamed, told: the stream is opened, and the figure comes out of it. loaded: the picture is there.
        answer_bytes, picture_bytes: what came over the wire: the message with the figure, and the picture.
    """

    milliseconds: float
    shown: float
    loaded: float
    asked: float = 0.0
    told: float = 0.0
    answer_bytes: int = 0
    answered: float = 0.0
    streamed: float = 0.0
    picture_bytes: int = 0

    @classmethod
    def read(cls, text: str) -> Drawn:
        """Read what watch.js logs."""
        values: dict[str, Any] = json.loads(text)
        sizes = {"answer_bytes": values.pop("answerBytes", 0), "picture_bytes": values.pop("pictureBytes", 0)}
        return cls(**values, **sizes)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A started Chromium.

    Raises:
        RuntimeError: there is none.
    """
    path = find_chromium()
    if not path:
        raise RuntimeError("There is no Chromium: run `make bench`, which installs one, or set CHROMIUM to one's path.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            with contextlib.suppress(Error):  # given up on in the middle of a drawing, it may be gone already
                browser.close()


def another(browser: Browser) -> Browser:
    """One more Chromium, which can be ended without the first."""
    return browser.browser_type.launch(executable_path=find_chromium(), args=FLAGS)


def version(browser: Browser) -> str:
    """For example "Chromium 140"."""
    return f"Chromium {browser.version.split('.')[0]}"


def watched_page(browser: Browser) -> Page:
    """A page that can be timed, in a context of its own."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_init_script(path=WATCH)
    return context.new_page()


def timed_click(
    page: Page, target: Locator, expected: dict[str, Any], *, seconds: float, control: bool = False
) -> Drawn:
    """Click, and wait until the page says that what is expected is drawn.

    Arguments:
        expected: for `bench.expect` in watch.js.
        control: whether the Ctrl key is held.

    Raises:
        playwright.sync_api.TimeoutError: it was not drawn in that time.
    """
    page.evaluate("(expected) => window.bench.expect(expected)", expected)
    target.scroll_into_view_if_needed()
    # Waiting for a line on the console costs the page nothing; the driver keeps the time, so a blocked page ends too.
    with page.expect_console_message(lambda line: line.text.startswith("bench "), timeout=seconds * 1000) as message:
        target.click(modifiers=["Control"] if control else [], timeout=seconds * 1000)
    return Drawn.read(message.value.text.removeprefix("bench "))


def settle(page: Page, streams: int) -> None:
    """Wait until more than so many answers have begun, and the last of them is complete."""
    script = "(streams) => window.bench.streams > streams && !window.bench.open"
    until(lambda: page.evaluate(script, streams), PATIENCE_SECONDS, "for the page's answers")


def streams(page: Page) -> int:
    """How many answers the page has begun to receive."""
    return int(page.evaluate("window.bench.streams"))
