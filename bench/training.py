"""What watching every layer of a training costs, against the bare step."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import resnet18

import hookscope as hs
from bench import conditions
from bench.options import Options, say
from bench.report import Table
from hookscope.hooks.bench.timing import in_turns, median, milliseconds

PIXELS, BATCH, CLASSES = 64, 16, 10
BARE, COPIED, WATCHED = (
    "the bare step",
    "a hook on every leaf that copies its output",
    "`Diagnostics.watch`, every leaf",
)


def run(options: Options) -> Table:
    """Measure and describe."""
    say("training: ResNet-18")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = _rows(options.repeats)
    finally:
        torch.set_num_threads(threads)
    notes = [
        f"A step of ResNet-18 (forward, backward, SGD) at {PIXELS} px and batch {BATCH}, one thread; medians of",
        f"{options.repeats} rounds after a warm-up, ratios by the clock and, in brackets, by processor time.",
        "Watched are moments, extremes, zeros, NaN, Inf and a sketch of the values of every layer, and in how many",
        "images each channel fired.",
        conditions.sentence(["torch"]),
    ]
    return Table("training", ["", "a step", "ratio"], rows, notes)


def _rows(repeats: int) -> list[list[str]]:
    model = resnet18(num_classes=CLASSES)
    pictures, classes = torch.rand(BATCH, 3, PIXELS, PIXELS), torch.randint(0, CLASSES, (BATCH,))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    diagnostics = hs.Diagnostics(model)

    def step() -> None:
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(pictures), classes).backward()
        optimiser.step()

    def copied() -> None:
        leaves = [module for module in model.modules() if not any(True for _ in module.children())]
        kept: list[torch.Tensor] = []
        handles = [
            leaf.register_forward_hook(lambda module, args, output: kept.append(output.detach().clone()))
            for leaf in leaves
        ]
        step()
        for handle in handles:
            handle.remove()

    def watched() -> None:
        with diagnostics.watch(training=True):
            step()

    taken = in_turns({BARE: step, COPIED: copied, WATCHED: watched}, repeats)
    return [[name, milliseconds(median(taken.wall[name])), taken.ratio(name, BARE)] for name in taken.wall]
