"""What following a training costs beside other watchers, and whether each shows a convolution's own values."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models import resnet50, squeezenet1_1

from bench import conditions
from bench.options import QUICK, Options, say
from bench.report import Table
from bench.watchers import WATCHERS, Histogram, Training, Watcher, oracles, version_of
from hookscope.hooks.bench.timing import Times, in_turns, median, median_ratio, milliseconds

PIXELS, BATCH, EVERY, ROUNDS = 224, 8, 50, 5
TRUTH_PIXELS = 64
SAME = 0.002  # the share of the values that two histograms may have in other bins
BARE, BETWEEN = "the bare step", ", a step between two looks"


def run(options: Options) -> Table:
    """Measure and describe."""
    threads, folder = torch.get_num_threads(), Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    try:
        with oracles():
            there = [each for each in WATCHERS if not each.package or version_of(each.package)]
            say("feed: SqueezeNet, the values of convolutions")
            shown = {kind.title: _shown(kind, folder) for kind in there}
            say("feed: ResNet-50")
            quick = options is QUICK
            taken = _taken(there, 1 if quick else min(options.repeats, ROUNDS), 32 if quick else PIXELS, folder)
            versions = conditions.sentence(["torch", *dict.fromkeys(each.package for each in there if each.package)])
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(folder, ignore_errors=True)
    rows = [[BARE, milliseconds(median(taken.wall[BARE])), "1.00× (1.00×)", "", "", ""]]
    for kind in WATCHERS:
        rows.append(
            _row(kind, taken, shown[kind.title])
            if kind in there
            else [kind.title, *["–"] * 4, "not installed: `make .venv-oracles/installed`"]
        )
    columns = ["", "a step that is looked at", "ratio", f"added, every {EVERY} steps", "a step between two, ratio"]
    return Table("feed", [*columns, "shows a convolution's own values"], rows, [*_notes(), versions])


def _notes() -> list[str]:
    return [
        f"A step of ResNet-50 (forward, backward, SGD) at {PIXELS} px and batch {BATCH}, one thread; medians of",
        f"{ROUNDS} rounds in turns after a warm-up, ratios by the clock and, in brackets, by processor time. The",
        f"fourth column is what one such step in {EVERY} adds to their mean. `hs.follow` writes numbers of 158 layers'",
        "outputs, gradients, weights and updates, and 211 bins of each; TensorBoard 64 bins of each;",
        "wandb 64 bins of weights and gradients, whose hooks are on the model between two looks, too; NaNsense counts",
        "211 bins of each operation's output and of its gradient, 16 channels one by one with the parts of pictures at",
        "which each is largest, and weights once an epoch, kept in memory; its checks and its page were off. The last",
        "column is of SqueezeNet 1.1 in training, whose 26 convolutions each have an in-place ReLU behind them: the",
        "histogram of each, beside that of a copy of the network, of the same weights, whose ReLU is not in place.",
    ]


# --- what a step costs


def _taken(kinds: list[type[Watcher]], repeats: int, pixels: int, folder: Path) -> Times:
    torch.manual_seed(0)
    pictures, classes = torch.rand(BATCH, 3, pixels, pixels), torch.randint(0, 100, (BATCH,))
    training = Training(resnet50(num_classes=100), pictures, classes)
    watchers = [kind(training, _made(folder / "cost" / kind.__name__)) for kind in kinds if not kind.same_cost]
    # a step that does not count: the bare one should not come right behind a look, whose memory is still being freed
    works: dict[str, Callable[[], Any]] = {"settle": training.step, BARE: training.step}
    works |= {each.title + BETWEEN: each.between for each in watchers if type(each).between is not Watcher.between}
    works |= {each.title: each.look for each in watchers}
    taken = in_turns(works, repeats)
    for watcher in watchers:
        watcher.close()
    return taken


def _row(kind: type[Watcher], taken: Times, shown: str) -> list[str]:
    title = kind.title
    if title not in taken.wall:
        return [title, *["as above"] * 4, shown]
    added = (median_ratio(taken.wall[title], taken.wall[BARE]) - 1) / EVERY
    between = title + BETWEEN
    beside = taken.ratio(between, BARE) if between in taken.wall else "nothing is there"
    return [title, milliseconds(median(taken.wall[title])), taken.ratio(title, BARE), f"{added:.1%}", beside, shown]


# --- what it shows


def _shown(kind: type[Watcher], folder: Path) -> str:
    """Whether a watcher's histograms of convolutions before an in-place ReLU are of their own values, in words."""
    torch.manual_seed(0)
    model = squeezenet1_1(num_classes=10, dropout=0.0)
    pictures, classes = torch.rand(BATCH, 3, TRUTH_PIXELS, TRUTH_PIXELS), torch.randint(0, 10, (BATCH,))
    watcher = kind(Training(model, pictures, classes), _made(folder / "truth" / kind.__name__))
    true = _true(model, pictures)
    watcher.look()
    found = {layer: watcher.outputs(layer) for layer in true}
    watcher.close()
    return verdict(found, true)


def _true(model: nn.Module, pictures: torch.Tensor) -> dict[str, np.ndarray]:
    """What each convolution before an in-place ReLU computes, float32, by a copy whose ReLU is not in place."""
    other = copy.deepcopy(model)
    found: dict[str, np.ndarray] = {}
    for name, module in other.named_modules():
        if isinstance(module, nn.ReLU):
            assert module.inplace
            module.inplace = False
        elif isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda module, args, output, name=name: found.update({name: output.detach().numpy().copy()})
            )
    other(pictures)
    return found


def verdict(found: dict[str, Histogram | None], true: dict[str, np.ndarray]) -> str:
    """In words, what histograms of layers are of: the layers' own values, or those after a ReLU.

    Arguments:
        found: by layer; None where there is none. true: the layers' own values.
    """
    own = after = 0
    for layer, values in true.items():
        histogram = found[layer]
        if histogram is not None:
            own += apart(histogram, values) < SAME
            after += apart(histogram, np.maximum(values, 0)) < SAME
    if not any(histogram is not None for histogram in found.values()):
        return "nothing of outputs"
    if own == len(true) and not after:
        return f"yes ({own} of {len(true)})"
    if after == len(true) and not own:
        return f"**no**: values after the ReLU ({after} of {len(true)})"
    return f"of {own} of {len(true)}; of {after} the values after the ReLU"


def apart(histogram: Histogram, values: np.ndarray) -> float:
    """The share of values that a histogram has in other bins than they are in, 0..1."""
    counts, edges = histogram
    right, _ = np.histogram(values.astype(np.float64), edges)
    total = max(counts.sum(), right.sum())
    return float(np.abs(counts - right).sum() / 2 / total)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
