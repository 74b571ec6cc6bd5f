"""The browser fixtures themselves: a request to the outside, a console error and a script error are all noticed."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Watch
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PAGES = {
    "/quiet": "<title>quiet</title><img src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>",
    "/outside": "<img src='https://192.0.2.1/picture.png'>",
    "/console": "<script>console.error('said on purpose')</script>",
    "/script": "<script>throw new Error('thrown on purpose')</script>",
}


class Handler(BaseHTTPRequestHandler):
    """Answers with one of the pages above."""

    def do_GET(self) -> None:
        text = PAGES.get(self.path)
        self.send_response(200 if text else 204)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html>" + text.encode() if text else b"")

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    """A small server on this computer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/outside", "a request left this computer: https://192.0.2.1/picture.png"),
        ("/console", "said on purpose"),
        ("/script", "thrown on purpose"),
    ],
)
def test_a_problem_of_the_page_is_noticed(page: Page, watch: Watch, address: str, path: str, text: str) -> None:
    page.goto(address + path)
    assert [problem for problem in watch.unexpected() if text in problem]
    watch.expect(text)
    watch.expect("ERR_FAILED")  # what the console says of the refused picture
    assert not watch.unexpected()


def test_a_quiet_page_and_its_second_tab_pass(page: Page, watch: Watch, address: str) -> None:
    page.goto(address + "/quiet")
    second = page.context.new_page()
    second.goto(address + "/quiet")
    assert page.title() == second.title() == "quiet" and not watch.problems
    second.goto(address + "/console")
    assert watch.unexpected() == ["said on purpose"]
    watch.expect("on purpose")


def test_children_hear_a_signal_that_the_script_around_the_tests_ignores() -> None:
    child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    script = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = [sys.executable, "-c", {child!r}]
print(subprocess.run(child, capture_output=True, text=True).stdout.strip())
import conftest
print(subprocess.run(child, capture_output=True, text=True).stdout.strip())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["False", "True"]
