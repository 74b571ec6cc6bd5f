"""What following a training costs: a step that is looked at, and the mean of fifty steps, beside other watchers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import resnet50

import hookscope as hs
from bench import conditions
from bench.options import QUICK, Options, say
from bench.report import Table
from hookscope.hooks.bench.timing import in_turns, median, median_ratio, milliseconds

PIXELS, BATCH, EVERY = 224, 8, 50
BARE, FOLLOWED = "the bare step", "`hs.follow`, a step that is looked at"
BETWEEN = "`hs.follow`, a step between two looks"
TENSORBOARD = "TensorBoard, `add_histogram` of every weight, gradient and output"
WANDB = '`wandb.watch(log="all")`, offline'


def run(options: Options) -> Table:
    """Measure and describe."""
    say("feed: ResNet-50")
    threads, folder = torch.get_num_threads(), Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    try:
        rows = _rows(1 if options is QUICK else min(options.repeats, 5), 32 if options is QUICK else PIXELS, folder)
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)
    installed = [name for name in ("tensorboard", "wandb") if importlib.util.find_spec(name) is not None]
    notes = [
        f"A step of ResNet-50 (forward, backward, SGD) at {PIXELS} px and batch {BATCH}, one thread; medians of",
        "rounds in turns after a warm-up, ratios by the clock and, in brackets, by processor time. The last column",
        f"is what one such step in {EVERY} adds to their mean. `hs.follow` writes numbers of 158 layers' outputs,",
        "gradients, weights and updates, and 211 bins of each; the others count 64 bins of weights and gradients,",
        "TensorBoard here of outputs, too. wandb stands here where it is installed.",
        conditions.sentence(["torch", *installed]),
    ]
    return Table("feed", ["", "a step", "ratio", f"every {EVERY} steps"], rows, notes)


def _rows(repeats: int, pixels: int, folder: Path) -> list[list[str]]:
    model = resnet50(num_classes=100)
    pictures, classes = torch.rand(BATCH, 3, pixels, pixels), torch.randint(0, 100, (BATCH,))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.001)

    def step(watched: Callable[[torch.Tensor], object] = lambda loss: None) -> None:
        loss = nn.functional.cross_entropy(model(pictures), classes)
        loss.backward()
        watched(loss)
        optimiser.step()
        optimiser.zero_grad()

    feeds: list[Any] = []

    def followed() -> None:
        """Every look is written into the same feed, which is on the model for its own step only."""
        if not feeds:
            feeds.append(hs.follow(model, folder / "feed", every=1, optimizer=optimiser, resume=True))
        feeds[0].open()
        step(lambda loss: feeds[0].step(loss=loss))
        feeds[0].close()

    between = hs.follow(model, folder / "between", every=10**9, optimizer=optimiser)
    between.open()
    step(lambda loss: between.step(loss=loss))
    works = {BARE: step, BETWEEN: lambda: step(lambda loss: between.step(loss=loss)), FOLLOWED: followed}
    if importlib.util.find_spec("tensorboard") is not None:
        works[TENSORBOARD] = _tensorboard(model, step, folder)
    if importlib.util.find_spec("wandb") is not None:
        works[WANDB] = _wandb(model, step, folder)
    taken = in_turns(works, repeats)
    between.close()
    return [_row(name, taken) for name in taken.wall]


def _row(name: str, taken: Any) -> list[str]:
    own = median(taken.wall[name])
    added = (median_ratio(taken.wall[name], taken.wall[BARE]) - 1) / EVERY
    share = "" if name in (BARE, BETWEEN) else f"{added:.1%}"
    return [name, milliseconds(own), taken.ratio(name, BARE), share]


def _tensorboard(model: nn.Module, step: Callable[..., None], folder: Path) -> Callable[[], None]:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(folder / "tensorboard"))
    leaves = {name: each for name, each in model.named_modules() if not any(True for _ in each.children())}

    def write(loss: torch.Tensor) -> None:
        for name, weight in model.named_parameters():
            writer.add_histogram(f"weights/{name}", weight, bins=64)
            writer.add_histogram(f"gradients/{name}", weight.grad, bins=64)

    def work() -> None:
        handles = [
            leaf.register_forward_hook(
                lambda module, args, output, name=name: writer.add_histogram(f"outputs/{name}", output, bins=64)
            )
            for name, leaf in leaves.items()
        ]
        step(write)
        writer.flush()
        for handle in handles:
            handle.remove()

    return work


def _wandb(model: nn.Module, step: Callable[..., None], folder: Path) -> Callable[[], None]:
    os.environ["WANDB_MODE"] = "offline"
    wandb: Any = importlib.import_module("wandb")
    run = wandb.init(dir=str(folder), settings=wandb.Settings(silent=True))

    def work() -> None:
        run.watch(model, log="all", log_freq=1)
        step()
        run.log({"step": 1})
        run.unwatch(model)

    return work
