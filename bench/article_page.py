"""A person at the article's page, who clicks the same layers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from playwright.sync_api import Browser, Error, Page, TimeoutError

from bench.browser import PATIENCE_SECONDS, Drawn, another, timed_click, watched_page
from bench.walls import WALLS, Wall

HEATMAPS = "the article's way: one heatmap per channel"
MONTAGE = "the article's way: one px.imshow of all channels"
SAMPLES_AT_MOST = 3  # of a figure that takes many seconds


def open_article(browser: Browser, url: str) -> Page:
    """The page, ready for clicks."""
    page = watched_page(browser)
    page.goto(url)
    page.wait_for_selector(".js-plotly-plot .main-svg", state="attached", timeout=PATIENCE_SECONDS * 1000)
    return page


def show(page: Page, wall: Wall, style: str, seconds: float = PATIENCE_SECONDS) -> Drawn:
    """Click the button of a wall and a style, "heatmaps" or "montage"."""
    name = f"{wall.layer} {style}"
    expected = {"kind": "figure", "name": name, "heatmaps": wall.channels if style == "heatmaps" else 1}
    return timed_click(page, page.get_by_role("button", name=name, exact=True), expected, seconds=seconds)


def article_round(page: Page) -> Iterator[tuple[str, Wall, Drawn]]:
    """Every wall as a montage, and the smallest one as heatmaps."""
    yield HEATMAPS, WALLS[0], show(page, WALLS[0], "heatmaps")
    for wall in WALLS:
        yield MONTAGE, wall, show(page, wall, "montage")


def large_heatmaps(browser: Browser, url: str, wall: Wall, repeats: int, seconds: float) -> list[Drawn]:
    """Heatmaps that may take minutes, in a browser of their own, which can be ended in the middle; [] if given up."""
    found: list[Drawn] = []
    own = another(browser)
    try:
        page = open_article(own, url)
        left = seconds
        while len(found) < min(SAMPLES_AT_MOST, repeats) and left > 0:
            found.append(show(page, wall, "heatmaps", left if not found else seconds))
            left -= found[-1].milliseconds / 1000
    except TimeoutError:
        pass
    finally:
        try:
            own.close()
        except Error:  # it was ended while it drew
            pass
    return found


def means(page: Page) -> np.ndarray:
    """The mean of every heatmap on the page: float64 (channel,)."""
    script = """() => document.querySelector(".js-plotly-plot").data.map(({z}) => {
      const values = z.flat(); return values.reduce((sum, each) => sum + each, 0) / values.length; })"""
    return np.array(page.evaluate(script))
