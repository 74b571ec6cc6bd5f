"""How far A and B are apart at every layer, and what comes back at a network's blocks, in its forward passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from torch import nn

from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import load
from hookscope.hooks.bench.timing import median, milliseconds
from hookscope.hooks.causes.parting import parting
from hookscope.hooks.causes.restoring import restore

RESNET = "torchvision:resnet50@random"
MODELS = {"ResNet-50": RESNET, "the default model": "embedded"}
BLOCKS = tuple(f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), 1) for block in range(count))
PROFILES = 9  # at least, of a model
TARGETS = 285, 281


def run(options: Options) -> Table:
    """Measure and describe."""
    rounds = max(options.repeats, PROFILES) if options.repeats > 1 else 1
    rows = []
    for title, spec in MODELS.items():
        say(f"parting: {title}")
        model = load(ModelOptions(spec), "cpu")
        a, b = model.prepare.noise(0), model.prepare.noise(1)
        layers = model.info.layers

        def apart(model: nn.Module = model.module, sides: tuple[torch.Tensor, ...] = (a, b)) -> Iterator[None]:
            parting(model, *sides, layers=layers, distributions="none")  # noqa: B023
            yield

        (ratios,), bare = measured(apart, lambda model=model, a=a: model.module(a), rounds)
        rows.append([f"{title}: A against B at every layer, per side", _forwards(ratios, 2), milliseconds(bare)])
        if spec != RESNET:
            continue

        def restored(model: nn.Module = model.module, sides: tuple[torch.Tensor, ...] = (a, b)) -> Iterator[None]:
            one, other = TARGETS
            steps = restore(model, *sides, BLOCKS, target=one, target_b=other, layers=layers, strongest=0)  # noqa: B023
            next(steps)
            yield
            for _ in steps:
                pass
            yield

        say(f"parting: {title}, what comes back")
        (before, exact), bare = measured(restored, lambda model=model, a=a: model.module(a), min(rounds, 5))
        title = f"{title}: what comes back at its {len(BLOCKS)} blocks"
        rows.append([f"{title}: both sides, the gradient and all estimates", _forwards(before, 1), milliseconds(bare)])
        rows.append([f"{title}: the exact values", _forwards(exact, 1), milliseconds(bare)])
    notes = [
        "One picture a side, random weights of ResNet-50. In forward passes of the same model, timed before and after",
        f"each measurement, the medians of at least {PROFILES} rounds, of what comes back of 5.",
        conditions.sentence(["torch"]),
    ]
    return Table("parting", ["", "forward passes", "one pass"], rows, notes)


def measured(
    steps: Callable[[], Iterator[None]], bare: Callable[[], object], rounds: int
) -> tuple[list[list[float]], float]:
    """Of each step its times in bare passes, round by round; and the median milliseconds of a bare pass."""
    for _ in steps():  # to warm up
        pass
    found: list[list[float]] = []
    passes = []
    for _ in range(rounds):
        first, times = _pass(bare), []
        walk, began = steps(), time.perf_counter()
        for _ in walk:
            times.append(time.perf_counter() - began)
            began = time.perf_counter()
        passes.append((first + _pass(bare)) / 2)
        found.append([each / passes[-1] for each in times])
    return [list(step) for step in zip(*found, strict=True)], median(passes) * 1000


def _pass(bare: Callable[[], object], passes: int = 4) -> float:
    """Seconds of a bare pass, the median of some."""
    taken = []
    with torch.inference_mode():
        for _ in range(passes):
            began = time.perf_counter()
            bare()
            taken.append(time.perf_counter() - began)
    return median(taken)


def _forwards(ratios: list[float], sides: int) -> str:
    return f"{median(ratios) / sides:.2f}"
