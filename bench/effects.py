"""Effects of all channels of a layer against one forward pass for each of them."""

from __future__ import annotations

import time

import torch

from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.sources.load import load
from hookscope.hooks.bench.timing import median, times
from hookscope.hooks.causes.effects import effects

MODEL, TITLE = "torchvision:resnet50@random", "ResNet-50"
LAYERS = {"layer2": 2.6, "layer3": 7.0, "layer4": 200.0}  # what a bare hook reached, without estimate and checks
TARGET = 285
MOST_REPEATS = 3  # of a layer: the slowest takes 200 forward passes


def run(options: Options) -> Table:
    """Measure and describe."""
    model = load(ModelOptions(MODEL), "cpu")
    picture, layers = model.prepare.noise(0), model.info.layers
    names = list(LAYERS) if options.repeats > 1 else ["layer4"]
    rows = []
    for name in names:
        say(f"effects: {TITLE}, {name}")
        ratios, seconds, found = [], [], None
        for _ in range(min(options.repeats, MOST_REPEATS)):
            bare = _bare(model.module, picture)
            began = time.perf_counter()
            found = effects(model.module, picture, name, TARGET, layers=layers)
            seconds.append(time.perf_counter() - began)
            bare = (bare + _bare(model.module, picture)) / 2  # before and after, so that a drift meets both
            ratios.append(bare * len(found.measured) / seconds[-1])
        assert found is not None
        rows.append(
            [f"`{name}`", f"{len(found.measured):,}", f"{median(seconds):.1f} s", times(median(ratios)), found.how]
        )
    notes = [
        f"{TITLE}, one picture of 224 × 224, random weights: the estimate, the checks and all channels measured,",
        f"against one bare forward pass for each, timed before and after; medians of at most {MOST_REPEATS} rounds.",
        conditions.sentence(["torch"]),
    ]
    return Table("effects", ["layer", "channels", "took", "times faster", "how"], rows, notes)


def _bare(module: torch.nn.Module, picture: torch.Tensor, passes: int = 6) -> float:
    """Seconds of a forward pass, the median of some."""
    taken = []
    with torch.inference_mode():
        for _ in range(passes):
            began = time.perf_counter()
            module(picture)
            taken.append(time.perf_counter() - began)
    return median(taken)
