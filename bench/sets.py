"""A set of pictures: statistics and galleries of every layer against the bare forward passes, and the page's memory."""

from __future__ import annotations

import gc
import itertools
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

import hookscope as hs
from bench import conditions
from bench.application import ROOT, Application, hookscope
from bench.options import Options, say
from bench.report import Table, megabytes
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sets.store import key_of
from hookscope.dashboard.sources.load import LoadedModel, load
from hookscope.hooks.bench.timing import Times, milliseconds, times
from hookscope.hooks.datasets.sweeping import Sweeping

MODEL = "embedded"
SET = "bench"
PIXELS = 400
CHUNK = 100  # pictures that are timed at once, in turns: bare, swept
BATCHES = (8, 32)
FLAT_FROM = 200  # pictures, after which memory is expected to stay
BARE, SWEPT = "bare", "swept"


class Folder(Dataset[Tensor]):
    """The pictures of a folder, prepared for a model."""

    def __init__(self, folder: Path, model: LoadedModel) -> None:
        self.paths = sorted(folder.iterdir())
        self._prepare = model.prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Tensor:
        with Image.open(self.paths[number]) as picture:
            return self._prepare(picture.convert("RGB")).tensor[0]


@dataclass(frozen=True)
class Passed:
    """What sweeping in this process took.

    Attributes:
        taken: seconds of each chunk. early, late: bytes of the process after `FLAT_FROM` pictures, and at the end.
    """

    taken: Times
    early: int
    late: int


def run(options: Options) -> Table:
    """Measure and describe."""
    count = 1000 if options.repeats > 1 else 2 * CHUNK
    model = load(ModelOptions(MODEL), "cpu")
    rows = []
    with tempfile.TemporaryDirectory(prefix="hookscope-bench-") as name:
        folder = Path(name)
        draw(folder, count)
        pictures = Folder(folder, model)
        threads = torch.get_num_threads()
        for used, batch in itertools.product(sorted({1, threads}), BATCHES):
            say(f"sets: {count:,} pictures, {batch} at once, torch's threads: {used}")
            torch.set_num_threads(used)
            passed = measure(model, pictures, batch)
            rows.append(_row(f"`hs.sweep`, batches of {batch}, threads: {used}", passed, count))
        say("sets: the page")
        rows.append(page(folder, count))
    notes = [
        f"{count:,} photographs of {PIXELS} × {PIXELS} pixels, the default model, statistics and galleries of every",
        f"layer, one `DataLoader` for both, {CHUNK} pictures in turns; the ratio is of all the time that each took.",
        "The page is the whole application, which keeps more of each picture and writes down what it finds; its time",
        "is that of the sweep from beginning to end, with nobody clicking. Memory is that of the process, after",
        f"{FLAT_FROM} pictures and at the end.",
        conditions.sentence(["torch", "numba"]),
    ]
    columns = ["", "bare", "swept", "ratio", f"memory after {FLAT_FROM}", "at the end", "change"]
    return Table("sets", columns, rows, notes)


def draw(folder: Path, count: int) -> None:
    """Crops of the built-in photographs, each another one."""
    sources = []
    for path in sorted((ROOT / "assets" / "samples").glob("*.[jp][pn]g")):
        with Image.open(path) as picture:
            sources.append(picture.convert("RGB"))
    dice = np.random.default_rng(0)
    for number in range(count):
        picture = sources[number % len(sources)]
        side = int(min(picture.size) * dice.uniform(0.5, 1))
        left, top = (int(dice.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.crop((left, top, left + side, top + side)).resize((PIXELS, PIXELS))
        crop.save(folder / f"{number:05}.jpg", quality=90)


def measure(model: LoadedModel, pictures: Folder, batch: int) -> Passed:
    """Sweep, and run the bare model over the same pictures in turns."""
    run = Sweeping(model.module, [hs.statistics(), hs.top()], described=model.info.layers)
    process, early = psutil.Process(), 0
    taken = Times({BARE: [], SWEPT: []}, {BARE: [], SWEPT: []})
    for number, first in enumerate(range(0, len(pictures), CHUNK)):
        part = Subset(pictures, range(first, min(first + CHUNK, len(pictures))))

        def bare(part: Subset[Tensor] = part) -> None:
            with torch.inference_mode():
                for given in DataLoader(part, batch):
                    model.module(given)

        def swept(part: Subset[Tensor] = part, first: int = first) -> None:
            for given in DataLoader(part, batch):
                run.add(given, np.arange(first, first + len(given)))
                first += len(given)

        works = [(BARE, bare), (SWEPT, swept)]
        for name, work in works if number % 2 else reversed(works):
            clock, own = time.perf_counter(), time.thread_time()
            work()
            taken.wall[name].append(time.perf_counter() - clock)
            taken.own[name].append(time.thread_time() - own)
        if first + CHUNK == FLAT_FROM:
            gc.collect()
            early = process.memory_info().rss
    return Passed(taken, early, process.memory_info().rss)


def _row(name: str, passed: Passed, count: int) -> list[str]:
    bare, swept = (sum(passed.taken.wall[each]) for each in (BARE, SWEPT))
    each = [f"{milliseconds(1000 * seconds / count)} a picture" for seconds in (bare, swept)]
    return [name, *each, times(swept / bare), *_memory(passed.early, passed.late)]


def _memory(early: int, late: int) -> list[str]:
    return [megabytes(early), megabytes(late), f"{late / early - 1:+.1%}" if early else "–"]


def page(folder: Path, count: int) -> list[str]:
    """Sweep by the application."""
    with hookscope("--model", MODEL, "--images", f"{SET}={folder}") as application:
        application.wait_for_model(MODEL)
        began = time.monotonic()
        _post(application, "start")
        seen = list(_watched(application, count))
        seconds = time.monotonic() - began
    early = next((each for each in seen if each[0] >= FLAT_FROM), seen[-1])
    told = [f"server {megabytes(each[1])}, worker {megabytes(each[2])}" for each in (early, seen[-1])]
    change = ", ".join(f"{seen[-1][place] / early[place] - 1:+.1%}" for place in (1, 2))
    return ["the page", "–", f"{milliseconds(1000 * seconds / count)} a picture", "–", *told, change]


def _watched(application: Application, count: int) -> Iterator[tuple[int, int, int]]:
    """How many pictures were looked at, and the bytes of server and worker, until the sweep is at its end."""
    seen = 0
    while seen < count:
        time.sleep(0.5)
        seen = int(_get(application)["saved"])
        yield seen, *(int(each.memory_info().rss) for each in (application.server, application.worker))


def _address(application: Application, what: str) -> str:
    return f"{application.url}set/{key_of(SET)}/{what}?model={MODEL}"


def _post(application: Application, what: str) -> None:
    urllib.request.urlopen(_address(application, what), data=b"", timeout=30).close()


def _get(application: Application) -> dict[str, Any]:
    with urllib.request.urlopen(_address(application, "progress"), timeout=30) as answer:
        return dict(json.loads(answer.read()))
