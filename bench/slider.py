"""From a slider's change to the changed answer on the screen, beside the forward pass of what follows the layer."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import psutil
import torch
from playwright.sync_api import Page

from bench import conditions
from bench.application import Application, hookscope, until
from bench.browser import PATIENCE_SECONDS, chromium, version, watched_page
from bench.options import Options, say
from bench.report import Table
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.hooks.bench.timing import median, milliseconds

DRAG = Path(__file__).with_name("drag.js")
MODEL = "embedded"
LAYERS = {"blocks.2.0": 5, "blocks.4.0": 5, "blocks.6.0": 5}  # and the channel that is enlarged
PICTURE = "sample-coffee"
STEPS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45)
PAUSE_SECONDS = 0.03  # between two moves of a hand that does not stop


@dataclass(frozen=True)
class Painted:
    """Something that a change brought onto the screen; times in milliseconds of the page's clock.

    Attributes:
        kind: "answer", "channel" (the enlarged one), "map" (a card's).
        changed: when the slider moved. asked, answered: the question leaves the page, and its answer is there.
        streamed, told: the stream is opened, and the part comes out of it. put: its properties are set.
        at: it is on the screen.
    """

    kind: str
    value: float
    changed: float
    asked: float
    answered: float
    streamed: float
    told: float
    put: float
    at: float

    @property
    def after(self) -> float:
        """Milliseconds from the change to the screen."""
        return self.at - self.changed


@dataclass
class Findings:
    """Everything that was measured.

    Attributes:
        tail, whole: milliseconds of the forward pass behind each layer, and of the whole.
        steps: what single steps brought, by layer. drags: what each drag without a stop brought.
        processor: milliseconds that server and worker took for a step, by layer.
    """

    chromium: str = ""
    tail: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    whole: list[float] = field(default_factory=list)
    steps: dict[str, list[Painted]] = field(default_factory=lambda: defaultdict(list))
    drags: dict[str, list[list[Painted]]] = field(default_factory=lambda: defaultdict(list))
    processor: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def after(self, layer: str, kind: str) -> float:
        """The median from a change to the screen, of single steps; NaN of none."""
        return median([each.after for each in self.steps[layer] if each.kind == kind])

    def between(self, layer: str, kind: str = "answer") -> float:
        """The median between two on the screen, of drags without a stop; NaN of none."""
        found = []
        for drag in self.drags[layer]:
            times = [each.at for each in drag if each.kind == kind]
            found += [later - earlier for earlier, later in pairwise(times)]
        return median(found)

    def age(self, layer: str) -> float:
        """The median age of an answer when it is painted, of drags without a stop."""
        return median([each.after for drag in self.drags[layer] for each in drag if each.kind == "answer"])


def run(options: Options) -> Table:
    """Measure and describe."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the worker has it: two would wait for each other beside a browser and a server
    try:
        found = measure(options)
    finally:
        torch.set_num_threads(threads)
    say(course(found))
    return table(found)


def measure(options: Options) -> Findings:
    """Drag in rounds, each layer in turn, with the bare forward passes between them."""
    found = Findings()
    say("slider: starting Hookscope")
    model = load(ModelOptions(MODEL), "cpu")
    picture = model.prepare.noise(0)
    layers = list(LAYERS) if options.repeats > 1 else list(LAYERS)[:1]
    with hookscope("--model", MODEL, "--threads", "1") as application, chromium() as browser:
        found.chromium = version(browser)
        application.wait_for_model(MODEL)
        page = watched_page(browser)
        page.context.add_init_script(path=DRAG)
        for number in range(options.repeats + 1):
            say(f"slider: round {number} of {options.repeats}" if number else "slider: a round to warm up")
            for layer in layers:
                tail, whole = forward(model, layer, picture)
                steps, processor = single_steps(page, application, layer)
                drag = without_a_stop(page)
                if number:
                    found.tail[layer].append(tail)
                    found.whole.append(whole)
                    found.steps[layer] += steps
                    found.drags[layer].append(drag)
                    found.processor[layer].append(processor)
    return found


def forward(model: LoadedModel, layer: str, picture: torch.Tensor, passes: int = 8) -> tuple[float, float]:
    """Milliseconds of what follows a layer, and of the whole, the medians of some passes."""
    tails, wholes, ended = [], [], [0.0]
    handle = model.module.get_submodule(layer).register_forward_hook(
        lambda *_: ended.__setitem__(0, time.perf_counter())
    )
    try:
        with torch.inference_mode():
            for _ in range(passes):
                began = time.perf_counter()
                model.module(picture)
                end = time.perf_counter()
                tails.append((end - ended[0]) * 1000)
                wholes.append((end - began) * 1000)
    finally:
        handle.remove()
    return median(tails), median(wholes)


def single_steps(page: Page, application: Application, layer: str) -> tuple[list[Painted], tuple[float, float]]:
    """Hold the slider of the whole layer and move it step by step, each when the one before was answered."""
    page.goto(f"{application.url}?a={PICTURE}&layer={layer}&detail={layer}&channel={LAYERS[layer]}")
    page.wait_for_selector("[role=treeitem]", timeout=PATIENCE_SECONDS * 1000)
    until(lambda: page.evaluate("Boolean(window.hookscope.drawn['card 0 cam'])"), PATIENCE_SECONDS, "for the card")
    page.wait_for_timeout(600)
    page.evaluate("window.bench.drag()")
    before = [_seconds(each) for each in (application.server, application.worker)]
    _grasp(page)
    for count, share in enumerate(STEPS, 1):
        _move(page, share)
        until(lambda count=count: len(_of("channel", dragged(page))) >= count, PATIENCE_SECONDS, "for the channel")
        page.wait_for_timeout(120)
    took = [
        (_seconds(each) - begun) * 1000 / len(STEPS)
        for each, begun in zip((application.server, application.worker), before, strict=True)
    ]
    until(lambda: _of("map", dragged(page)), PATIENCE_SECONDS, "for the card's map, now that the slider rests")
    return dragged(page), (took[0], took[1])


def without_a_stop(page: Page) -> list[Painted]:
    """Go on with the slider that is held: to and fro, faster than it is answered; then release it."""
    page.evaluate("window.bench.drag()")
    for share in (*STEPS[::-1], *STEPS, *STEPS[::-1], *STEPS):
        _move(page, share)
        page.wait_for_timeout(PAUSE_SECONDS * 1000)
    page.wait_for_timeout(400)
    found = dragged(page)
    page.mouse.up()
    return found


def dragged(page: Page) -> list[Painted]:
    """What was painted since `bench.drag`."""
    return [Painted(**each) for each in json.loads(page.evaluate("window.bench.dragged()"))["painted"]]


def _of(kind: str, painted: list[Painted]) -> list[Painted]:
    return [each for each in painted if each.kind == kind]


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _box(page: Page) -> tuple[float, float, float]:
    box = page.locator("#detail .gain input").nth(1).bounding_box()
    assert box is not None
    return box["x"], box["width"], box["y"] + box["height"] / 2


def _grasp(page: Page) -> None:
    left, width, middle = _box(page)
    page.mouse.move(left + width / 2, middle)
    page.mouse.down()


def _move(page: Page, gain: float) -> None:
    left, width, middle = _box(page)
    page.mouse.move(left + 8 + (width - 16) * gain / 2, middle)


def table(found: Findings) -> Table:
    """One column per layer."""
    layers = list(found.steps)

    def row(text: str, cell: Iterator[float]) -> list[str]:
        return [text, *map(milliseconds, cell)]

    rows = [
        row("the forward pass of what follows the layer", (median(found.tail[layer]) for layer in layers)),
        row("**a step → the answer is painted**", (found.after(layer, "answer") for layer in layers)),
        row("… beyond that forward pass", (found.after(x, "answer") - median(found.tail[x]) for x in layers)),
        row("a step → the enlarged channel is painted", (found.after(layer, "channel") for layer in layers)),
        row("held still → the card's map is painted", (found.after(layer, "map") for layer in layers)),
        row("dragged without a stop: between two answers", (found.between(layer) for layer in layers)),
        row("… the age of an answer when it is painted", (found.age(layer) for layer in layers)),
    ]
    notes = [
        f"The default model, whose whole forward pass took {milliseconds(median(found.whole))} in the same run; the",
        "gain of the whole layer in steps of 0.05, from the slider's event to the second animation frame after the",
        "answer was set, timed inside the page; medians. One thread of torch each.",
        conditions.sentence(["torch", "dash", "plotly"], found.chromium),
    ]
    return Table("slider", ["", *(f"`{layer}`" for layer in layers)], rows, notes)


def course(found: Findings) -> str:
    """Where the time of a step goes, for whoever wants to make it shorter."""
    lines = ["slider: where the time goes, medians in ms since the change"]
    names = ("asked", "answered", "streamed", "told", "put", "at")
    for layer, steps in found.steps.items():
        for kind in ("answer", "channel", "map"):
            chosen = _of(kind, steps)
            parts = ", ".join(
                f"{name} {median([getattr(each, name) - each.changed for each in chosen]):.0f}" for name in names
            )
            lines.append(f"  {layer}, {kind} ({len(chosen)}): {parts}")
        server, worker = (median([each[place] for each in found.processor[layer]]) for place in (0, 1))
        lines.append(f"  {layer}: processor time a step: server {server:.0f}, worker {worker:.0f}")
    return "\n".join(lines)
