"""From a click on a layer to its wall on the screen: Hookscope against the article's way, in one run in one browser."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from playwright.sync_api import Browser, Page

from bench import browser, conditions
from bench.application import Application, hookscope, until
from bench.browser import Drawn, timed_click
from bench.options import Options, say
from bench.report import Table, kilobytes, median, milliseconds, times
from bench.walls import FIRST, MODEL, WALLS, Wall, bare_forward, modules_to, photograph, resnet

PATIENCE_SECONDS = 60.0
SUBPLOTS_AT_MOST = 512  # of the article's heatmaps; 2,048 subplots were never drawn to their end

Samples = dict[tuple[str, str], list[Drawn]]  # by (what was clicked, layer)


@dataclass
class Findings:
    """Everything that was measured.

    Attributes:
        drawn: by (what was clicked, layer). bare: milliseconds of the bare forward pass, by layer.
        given_up: the seconds after which the article's heatmaps were given up, by layer.
    """

    drawn: Samples = field(default_factory=lambda: defaultdict(list))
    bare: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    given_up: dict[str, float] = field(default_factory=dict)


def run(options: Options) -> Table:
    """Measure and describe."""
    return table(measure(options))


def measure(options: Options) -> Findings:
    """Click in both pages, in rounds, so that a drift of the machine meets both."""
    findings = Findings()
    say("click: starting Hookscope and the article's page")
    threads = str(torch.get_num_threads())
    model = resnet()
    picture = model.prepare.noise(0)
    with (
        hookscope("--model", MODEL, "--threads", threads) as application,
        Application("-m", "bench.article") as article,
        browser.chromium() as chromium,
    ):
        application.wait_for_model(MODEL)
        visitor = Visitor(browser.watched_page(chromium), application.url)
        other = browser.watched_page(chromium)
        other.goto(article.url)
        other.wait_for_selector("button", timeout=PATIENCE_SECONDS * 1000)
        for number in range(options.repeats + 1):
            say(f"click: round {number + 1} of {options.repeats + 1}" + (", to warm up" if number == 0 else ""))
            found: Samples = defaultdict(list)
            for kind, wall, drawn in [*visitor.round(number), *_article(other, options.give_up_seconds)]:
                found[kind, wall.layer].append(drawn)
            if number == 0:
                _check_same_numbers(visitor.page, other)
                continue
            for key, samples in found.items():
                findings.drawn[key] += samples
            for wall in WALLS:
                findings.bare[wall.layer].append(bare_forward(modules_to(model.module, wall), picture))
        chromium_version = f"Chromium {chromium.version.split('.')[0]}"
        visitor.page.close()
    _large_heatmaps(findings, options)
    findings.version = chromium_version
    return findings
