"""Fixtures for every test: the browser that refuses to leave this computer, and a folder for the cache."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from find_chromium import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route

# Sums come out differently with another number of threads, and the worker that a test compares with has one. Set before
# torch is imported, and so for every test, whichever comes first.
os.environ["OMP_NUM_THREADS"] = "1"

# How long playwright waits for what it expects: as `served.until` does. Its own five seconds are too few for a machine
# that does something else for a while.
EXPECT_MS = 60_000

# What a script starts in the background, as CI systems do, ignores SIGINT, and so does all that it starts in turn. The
# programs that are tested here have to hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Chromium asks its maker's servers for updates and the like unless it is told not to; and as root, as in most
# containers, its sandbox cannot start.
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


MOST_KEPT = 256 * 2**20  # bytes that files of tests may add before they are looked through for what can go
_kept = [0]


@pytest.fixture(scope="module", autouse=True)
def give_memory_back() -> Iterator[None]:
    """Hand what models of some files took back to the machine, where the C library can.

    Two test processes that keep it (seven and five gigabytes after two hundred files, most of it free inside the heap)
    leave too little for the workers of the pages, which then take minutes to start. Behind every file it would take a
    minute in all.
    """
    yield
    if sys.platform != "linux" or _resident() - _kept[0] < MOST_KEPT:
        return
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    _kept[0] = _resident()


def _resident() -> int:
    """How much memory this process has, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True)
def every_finding_can_be_sent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the doctor's tests find, the page would get: a number of NumPy's where a plain one belongs is a failure."""
    if not request.module.__name__.startswith("test_doctor"):
        return
    from hookscope.hooks.results.codec import encode
    from hookscope.hooks.results.findings import Finding

    make = Finding.__init__

    def made(self: Finding, *given: Any, **named: Any) -> None:
        make(self, *given, **named)
        encode(self)

    monkeypatch.setattr(Finding, "__init__", made)


# A pattern and no function: playwright would ask that about every request of a page, and wait for this process's
# answer, so that a test which waits without playwright would wait for a page that waits for it.
LEAVES = re.compile(r"^(?!data:|blob:|\w+://(127\.0\.0\.1|localhost)(:\d+)?(/|$))")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium that the browser tests drive."""
    path = find_chromium()
    if not path:
        pytest.fail("There is no Chromium: run `make test`, which installs one, or set CHROMIUM to one's path.")
    return path


@pytest.fixture(scope="session")
def browser(chromium_path: str) -> Iterator[Browser]:
    """One Chromium for the whole run; each test gets a context of its own, which shares nothing."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=EXPECT_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium_path, args=CHROMIUM_FLAGS)
        yield started
        started.close()


class Watch:
    """What went wrong in a browser context that nobody asked for.

    A test that makes an error happen on purpose names a part of its text with `expect`.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.expected: list[str] = []

    def expect(self, part: str) -> None:
        """Errors that contain this text are part of the test."""
        self.expected.append(part)

    def unexpected(self) -> list[str]:
        """The errors that no test asked for."""
        return [text for text in self.problems if not any(part in text for part in self.expected)]

    def follow(self, context: BrowserContext) -> None:
        """Refuse what would leave this computer in a context, and note every error of its pages."""

        def refuse(route: Route, request: Request) -> None:
            self.problems.append(f"a request left this computer: {request.url}")
            route.abort()

        context.route(LEAVES, refuse)

        def note(message: ConsoleMessage) -> None:
            if message.type == "error":
                self.problems.append(message.text)

        context.on("console", note)
        context.on("weberror", lambda error: self.problems.append(str(error.error)))


@pytest.fixture
def watch() -> Watch:
    """The errors that the test's browser pages met; the `page` fixture fails on those left unexpected."""
    return Watch()


@pytest.fixture
def context(browser: Browser, watch: Watch) -> Iterator[BrowserContext]:
    """A fresh browser context that refuses to leave this computer and fails the test on a console error."""
    made = browser.new_context(viewport={"width": 1440, "height": 900})
    watch.follow(made)
    yield made
    made.close()
    assert not watch.unexpected(), "\n".join(watch.unexpected())


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A fresh page; `page.context.new_page()` opens a second tab under the same watch."""
    return context.new_page()
