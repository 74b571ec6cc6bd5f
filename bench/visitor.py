"""A person at Hookscope's page, who clicks layers one after the other and waits for each answer to be complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from playwright.sync_api import Page

from bench.application import Application, until
from bench.browser import PATIENCE_SECONDS, Drawn, settle, streams, timed_click
from bench.walls import FIRST, WALLS, Wall, photograph
from tests.served import array, figure

UNCACHED = "uncached, in a card that is there"
UNCACHED_NEW = "uncached, in a new card"
CACHED = "cached, in a card that is there"
CACHED_NEW = "cached, in a new card"
FLOOR = "nothing asked: a ready figure and its ready picture"


class Visitor:
    """Drives one page, whose walls show all channels."""

    def __init__(self, page: Page, application: Application) -> None:
        self.page = page
        self.application = application

    def open(self, picture: str, layer: str) -> None:
        """Load the page with one card, and open every branch of its tree."""
        self.page.goto(f"{self.application.url}?a={picture}&count=all&layer={layer}")
        self.page.wait_for_selector("[role=treeitem]", timeout=PATIENCE_SECONDS * 1000)
        self._until("window.hookscope.drawn['card 0 cam'] && !window.bench.open", "for the first card")
        self.page.locator(".hs-fold-all").click()

    def click(self, wall: Wall, card: int) -> Drawn:
        """Click a layer: alone for card 0, as one more, with the Ctrl key, for card 1."""
        before = streams(self.page)
        row = self.page.locator(f'[role=treeitem][data-key="{wall.layer}"]')
        expected = {"kind": "wall", "card": card, "key": wall.layer}
        drawn = timed_click(self.page, row, expected, seconds=PATIENCE_SECONDS, control=card > 0)
        settle(self.page, before)
        return drawn

    def round(self, number: int) -> Iterator[tuple[str, Wall, Drawn]]:
        """Every kind of click on every wall, on two pictures that were never asked about."""
        walls = WALLS[number % len(WALLS) :] + WALLS[: number % len(WALLS)]
        pictures = [self.application.upload(photograph(2 * number + side)) for side in (0, 1)]
        self.open(pictures[0], FIRST)
        for kind in (UNCACHED, CACHED):
            for wall in walls:
                yield kind, wall, self.click(wall, 0)
        for kind in (UNCACHED_NEW, CACHED_NEW):
            for wall in walls:
                self.open(pictures[1], FIRST)
                yield kind, wall, self.click(wall, 1)
        for wall in walls:
            self.open(pictures[1], FIRST)
            yield FLOOR, wall, self.floor(wall)

    def floor(self, wall: Wall) -> Drawn:
        """What no click can be faster than: another ready figure with a ready picture in the first card."""
        names = FIRST, wall.layer
        self.page.evaluate("(name) => window.bench.keep(name)", names[0])
        self.click(wall, 0)
        self.page.evaluate("(name) => window.bench.keep(name)", names[1])
        for name in names:
            self.page.evaluate("(name) => window.bench.offer(name)", name)
            expected = {"kind": "floor", "card": 0, "key": name}
            drawn = timed_click(self.page, self.page.locator("#bench-floor"), expected, seconds=PATIENCE_SECONDS)
        return drawn

    def means(self) -> np.ndarray:
        """The mean of every channel as the first card's wall shows it on hover: float32 (channel,)."""
        drawn: dict[str, Any] = figure(self.page, "wall")["data"][0]
        channels = array(drawn["z"]).ravel()
        numbers = array(drawn["customdata"]).reshape(len(channels), -1)[:, 0]
        there = np.isfinite(channels)
        return numbers[there][np.argsort(channels[there])]

    def _until(self, condition: str, what: str) -> None:
        until(lambda: self.page.evaluate(f"() => Boolean({condition})"), PATIENCE_SECONDS, what)
