"""The real application for tests: `app.py` in a process of its own, and small waits that need no eval in the page."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "assets" / "samples"


class Application:
    """A running Hookscope on a free port of this computer."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        port = [] if "--port" in arguments else ["--port", "0"]
        one = [] if "--threads" in arguments else ["--threads", "1"]  # as the process that its numbers are compared in
        command = [sys.executable, "app.py", *port, "--cache-dir", str(folder), *one, *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            _, errors = self.process.communicate(timeout=10)
            raise AssertionError(f"the application did not start: {line}{errors}")
        self.url = found[0]

    def stop(self) -> float:
        """End it as Ctrl+C would; returns how long that took, in seconds."""
        started = time.monotonic()
        self.process.terminate()
        self.process.communicate(timeout=20)
        return time.monotonic() - started


def until(ready: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    """Wait until something is true (the page's content policy forbids playwright's own waiting for functions)."""
    deadline = time.monotonic() + seconds
    while True:
        value = ready()
        if value:
            return value
        if time.monotonic() > deadline and time.monotonic() > deadline + _grace(seconds):
            raise AssertionError(f"waited {seconds:.0f} s in vain {what}")
        time.sleep(0.02)


def _grace(seconds: float) -> float:
    """What a slow or busy machine is given beyond a limit."""
    from tempo import limit  # not for the benchmarks, which read figures by this module from elsewhere

    return limit(seconds) - seconds


def open_page(page: Page, url: str) -> None:
    """Open the page and wait until the model's tree is there."""
    from playwright.sync_api import TimeoutError

    page.goto(url)
    try:
        page.wait_for_selector("[role=treeitem]", timeout=120_000)
    except TimeoutError as error:
        raise AssertionError(f"No tree came; the page says: {page.inner_text('body')[:2000]!r}") from error


def settle(page: Page) -> None:
    """Wait until everything that the page asks for is on it."""

    def shows_all() -> bool:
        with page.expect_response(re.compile("/ask$")) as asked:
            page.evaluate("hookscope.askAgain()")
        return not asked.value.json()["stream"]  # in which what the page does not show yet would come

    until(shows_all, what="for all of the page")


def export(page: Page, place: Path) -> None:
    """Save the page as one file, as a person does; its link is drawn last, and until then leads to what was before."""
    settle(page)
    with page.expect_download() as saving:
        page.click("#export-view")
    saving.value.save_as(place)


def figure(page: Page, kind: str, card: int = 0) -> Any:
    """What a card's graph draws: Plotly's data and layout as the browser holds them."""
    return plot_of(page, f'[id=\'{{"card":{card},"type":"card-{kind}"}}\']')


def plot_of(page: Page, selector: str) -> Any:
    """The data and layout of the plot in an element; None if there is none."""
    script = """(selector) => {
      const plot = document.querySelector(selector)?.querySelector(".js-plotly-plot");
      return plot && plot.data ? JSON.stringify({data: plot.data, layout: plot.layout}) : null; }"""
    text = page.evaluate(script, selector)
    return json.loads(text) if text else None


def array(packed: Any) -> np.ndarray:
    """An array of a figure, which travels as base64."""
    values = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])
    return values.reshape([int(n) for n in str(packed["shape"]).split(",")]) if "shape" in packed else values


def images(page: Page, kind: str, card: int = 0) -> int:
    """How many pictures a card's graph has loaded and drawn."""
    script = """([kind, card]) => document.getElementById(JSON.stringify({card: card, type: "card-" + kind}))
      ?.querySelectorAll(".imagelayer image").length || 0"""
    return page.evaluate(script, [kind, card])


def top5(page: Page, side: str) -> dict[str, float]:
    """The classes and shares that an input's box shows; empty while it waits."""
    script = """(id) => [...document.querySelectorAll(`#${id} button.row`)].map((row) =>
      [row.querySelector(".class").textContent, Number(row.querySelector(".mono").textContent)])"""
    return dict(page.evaluate(script, f"input-{side}-top"))


def row(page: Page, key: str) -> Any:
    """The tree's row of a layer."""
    return page.locator(f'[role=treeitem][data-key="{key}"]')
