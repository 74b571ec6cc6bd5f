"""From a click on a layer to its wall on the screen: Hookscope against the article's way, in one run in one browser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from playwright.sync_api import Page

from bench import conditions
from bench.application import Application, hookscope
from bench.article_page import HEATMAPS, MONTAGE, article_round, large_heatmaps, means, open_article, show
from bench.browser import Drawn, chromium, version, watched_page
from bench.options import Options, say
from bench.report import Table, kilobytes
from bench.visitor import CACHED, CACHED_NEW, FLOOR, UNCACHED, UNCACHED_NEW, Visitor
from bench.walls import MODEL, WALLS, Wall, bare_forward, modules_to, resnet
from hookscope.hooks.bench.timing import median, milliseconds, times

SUBPLOTS_AT_MOST = 512  # nobody has waited for the end of 2,048 subplots


@dataclass
class Findings:
    """Everything that was measured.

    Attributes:
        drawn: by (what was clicked, layer). bare: milliseconds of the bare forward pass, by layer.
        gave_up: seconds after which the article's heatmaps were given up, by layer.
    """

    chromium: str = ""
    drawn: dict[tuple[str, str], list[Drawn]] = field(default_factory=lambda: defaultdict(list))
    bare: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    gave_up: dict[str, float] = field(default_factory=dict)

    def middle(self, kind: str, wall: Wall, what: Callable[[Drawn], float] = lambda drawn: drawn.milliseconds) -> float:
        """The median of something about a kind of click; NaN if it was not measured."""
        return median([what(drawn) for drawn in self.drawn.get((kind, wall.layer), [])])


def run(options: Options) -> Table:
    """Measure and describe."""
    found = measure(options)
    say(course(found))
    return table(found, options)


def measure(options: Options) -> Findings:
    """Click in both pages, in rounds, so that a drift of the machine meets both."""
    found = Findings()
    say("click: starting Hookscope and the article's page")
    model = resnet()
    picture = model.prepare.noise(0)
    with (
        hookscope("--model", MODEL, "--threads", str(torch.get_num_threads())) as application,
        Application("-m", "bench.article") as article,
        chromium() as browser,
    ):
        found.chromium = version(browser)
        application.wait_for_model(MODEL)
        visitor = Visitor(watched_page(browser), application)
        other = open_article(browser, article.url)
        _check_that_both_show_the_same(visitor, other)
        for number in range(options.repeats + 1):
            say(f"click: round {number} of {options.repeats}" if number else "click: a round to warm up")
            for kind, wall, drawn in [*visitor.round(number), *article_round(other)]:
                if number:
                    found.drawn[kind, wall.layer].append(drawn)
            for wall in WALLS:
                found.bare[wall.layer].append(bare_forward(modules_to(model.module, wall), picture))
        visitor.page.close()
        other.close()
        for wall in WALLS[1:]:
            if wall.channels <= SUBPLOTS_AT_MOST:
                say(f"click: {wall.channels} heatmaps, for at most {options.give_up_seconds:.0f} s")
                samples = large_heatmaps(browser, article.url, wall, options.repeats, options.give_up_seconds)
                found.drawn[HEATMAPS, wall.layer] += samples
                if not samples:
                    found.gave_up[wall.layer] = options.give_up_seconds
    return found


def _check_that_both_show_the_same(visitor: Visitor, other: Page) -> None:
    """A faster picture of other numbers would prove nothing."""
    wall = WALLS[0]
    visitor.open("sample-coffee", wall.layer)
    show(other, wall, "heatmaps")
    ours, theirs = visitor.means(), means(other)
    if not np.allclose(ours, theirs, atol=1e-5):
        raise RuntimeError(f"Hookscope and the article's page show different numbers of {wall.layer}.")


def table(found: Findings, options: Options) -> Table:
    """One column per wall."""

    def row(text: str, cell: Callable[[Wall], str]) -> list[str]:
        return [text, *map(cell, WALLS)]

    def time_of(kind: str) -> Callable[[Wall], str]:
        return lambda wall: milliseconds(found.middle(kind, wall))

    def shown(kind: str) -> Callable[[Wall], str]:
        return lambda wall: milliseconds(found.middle(kind, wall, lambda drawn: drawn.shown))

    def floors(kind: str) -> Callable[[Wall], str]:
        def cell(wall: Wall) -> str:
            forward = median(found.bare[wall.layer]) if kind in (UNCACHED, UNCACHED_NEW) else 0.0
            return times((found.middle(kind, wall, lambda drawn: drawn.shown) - forward) / found.middle(FLOOR, wall))

        return cell

    def ratio(kind: str) -> Callable[[Wall], str]:
        return lambda wall: times(found.middle(kind, wall) / found.middle(UNCACHED, wall))

    def size(kind: str) -> Callable[[Wall], str]:
        return lambda wall: kilobytes(found.middle(kind, wall, lambda drawn: drawn.answer_bytes + drawn.picture_bytes))

    def heatmaps(wall: Wall) -> str:
        if wall.layer in found.gave_up:
            return f"gave up after {found.gave_up[wall.layer]:.0f} s"
        return milliseconds(found.middle(HEATMAPS, wall)) if wall.channels <= SUBPLOTS_AT_MOST else "not tried"

    rows = [
        row("the bare forward pass to that layer", lambda wall: milliseconds(median(found.bare[wall.layer]))),
        row(f"the floor, {FLOOR}", time_of(FLOOR)),
        row(f"**Hookscope**, {UNCACHED}: shown", shown(UNCACHED)),
        row("… beyond the bare forward pass, in floors", floors(UNCACHED)),
        row("… usable", time_of(UNCACHED)),
        row(f"**Hookscope**, {UNCACHED_NEW}: shown", shown(UNCACHED_NEW)),
        row("… beyond the bare forward pass, in floors", floors(UNCACHED_NEW)),
        row("… usable", time_of(UNCACHED_NEW)),
        row(f"**Hookscope**, {CACHED}: shown", shown(CACHED)),
        row("… in floors", floors(CACHED)),
        row("… usable", time_of(CACHED)),
        row(f"**Hookscope**, {CACHED_NEW}: shown", shown(CACHED_NEW)),
        row("… in floors", floors(CACHED_NEW)),
        row("… usable", time_of(CACHED_NEW)),
        row(HEATMAPS, heatmaps),
        row("… against Hookscope, uncached", ratio(HEATMAPS)),
        row(MONTAGE, time_of(MONTAGE)),
        row("… against Hookscope, uncached", ratio(MONTAGE)),
        row("on the wire: Hookscope, the whole card and its picture", size(UNCACHED)),
        row("on the wire: one heatmap per channel", size(HEATMAPS)),
        row("on the wire: one px.imshow of all channels", size(MONTAGE)),
    ]
    notes = [
        "From the mouse button to the second animation frame after the wall's pictures were there (shown), and after",
        "its figure was, which answers the pointer (usable), timed inside the page;",
        f"medians of {options.repeats} after a warm-up, of up to 3 for more than 64 heatmaps.",
        "ResNet-50, random weights, all channels shown, one picture.",
        "The article's page has the model in the server's process, sends no Grad-CAM, histogram or numbers, and has no",
        "cache.",
        conditions.sentence(["torch", "dash", "plotly"], found.chromium),
    ]
    return Table("click", ["click → drawn", *(wall.text for wall in WALLS)], rows, notes)


def course(found: Findings) -> str:
    """Where the time of Hookscope's clicks goes, for whoever wants to make them faster."""
    steps: dict[str, Callable[[Drawn], float]] = {
        "question leaves": lambda drawn: drawn.asked,
        "answered": lambda drawn: drawn.answered,
        "stream opened": lambda drawn: drawn.streamed,
        "figure arrives": lambda drawn: drawn.told,
        "shown": lambda drawn: drawn.shown,
        "picture loaded": lambda drawn: drawn.loaded,
        "usable": lambda drawn: drawn.milliseconds,
    }
    lines = ["click: where the time goes, medians in ms since the click"]
    for kind in (UNCACHED, UNCACHED_NEW, CACHED, CACHED_NEW):
        for wall in WALLS:
            course = ", ".join(f"{step} {found.middle(kind, wall, what):.0f}" for step, what in steps.items())
            lines.append(f"  {wall.channels:>4} channels, {kind}: {course}")
    return "\n".join(lines)
