"""What watches a training, ours and others': each looks at one step, and tells what it counted of a layer's outputs.

Weights & Biases and NaNsense lie in .venv-oracles, which `make .venv-oracles/installed` makes; what they need besides
is taken from there, too, unless this environment has it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hookscope as hs
from bench.application import ROOT
from hookscope.hooks.results.feeds import bin_edges

BINS = 64  # of a histogram of TensorBoard's, as wandb has them
NEVER = 10**9
Histogram = tuple[np.ndarray, np.ndarray]  # how many in each bin; the edges, one more, infinite where a bin has no end


class Training:
    """A model that learns to tell random pictures apart.

    Arguments:
        pictures: float32 (image, channel, height, width). classes: int64 (image,).
    """

    def __init__(self, model: nn.Module, pictures: Tensor, classes: Tensor) -> None:
        self.model, self._pictures, self._classes = model, pictures, classes
        self.optimiser = torch.optim.SGD(model.parameters(), lr=0.001)

    def step(self, after_backward: Callable[[Tensor], object] = lambda loss: None) -> None:
        """Forward, backward, what is to be done with the gradients, update."""
        loss = nn.functional.cross_entropy(self.model(self._pictures), self._classes)
        loss.backward()
        after_backward(loss)
        self.optimiser.step()
        self.optimiser.zero_grad()


class Watcher:
    """Watches a training.

    Attributes:
        title: of its row. package: that has to be installed, "" for none. same_cost: whether it does as much as the one
            before it, and need not be timed.
    """

    title, package, same_cost = "", "", False

    def __init__(self, training: Training, folder: Path) -> None:
        self.training = training

    def look(self) -> None:
        """A step that it looks at; nothing is left on the model."""
        raise NotImplementedError

    def between(self) -> None:
        """A step between two looks, with whatever it has on the model then."""
        self.training.step()

    def outputs(self, layer: str) -> Histogram | None:
        """What it counted of a layer's outputs at the last look; None where it has nothing of outputs."""
        raise NotImplementedError

    def close(self) -> None:
        """End."""


class Follow(Watcher):
    """Ours."""

    title = "`hs.follow`"

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        given = dict(optimizer=training.optimiser)
        self._path = folder / "feed"
        self._feed = hs.follow(training.model, self._path, every=1, resume=True, **given)
        self._quiet = hs.follow(training.model, folder / "between", every=NEVER, **given)
        with self._quiet:
            self.between()  # step 0, which is looked at
        self._quiet = hs.follow(training.model, folder / "between", every=NEVER, resume=True, **given)
        self._quiet.open()

    def look(self) -> None:
        with self._feed:  # on the model for this step only
            self.training.step(lambda loss: self._feed.step(loss=loss))

    def between(self) -> None:
        self.training.step(lambda loss: self._quiet.step(loss=loss))

    def outputs(self, layer: str) -> Histogram | None:
        feed = hs.read_feed(self._path)
        counts = feed.bins(int(feed.steps[-1]))["a"][layer]
        return counts, np.concatenate([[-np.inf], bin_edges(), [np.inf]])

    def close(self) -> None:
        self._quiet.close()


class TensorBoard(Watcher):
    """A histogram of every weight, gradient and output, the outputs written by a hook while they are made."""

    title, package = "TensorBoard, `add_histogram` of every output in its hook, weight and gradient", "tensorboard"
    later = False

    def __init__(self, training: Training, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        super().__init__(training, folder)
        self._path = folder / type(self).__name__
        self._writer: Any = SummaryWriter(str(self._path))
        self._kept: dict[str, Tensor] = {}

    def look(self) -> None:
        handles = [
            module.register_forward_hook(lambda module, args, output, name=name: self._take(name, output))
            for name, module in self.training.model.named_modules()
            if not any(True for _ in module.children())
        ]
        self.training.step(self._write)
        for handle in handles:
            handle.remove()
        self._kept.clear()

    def _take(self, name: str, output: Tensor) -> None:
        if self.later:
            self._kept[name] = output.detach()
        else:
            self._writer.add_histogram(f"outputs/{name}", output, bins=BINS)

    def _write(self, loss: Tensor) -> None:
        for name, output in self._kept.items():
            self._writer.add_histogram(f"outputs/{name}", output, bins=BINS)
        for name, weight in self.training.model.named_parameters():
            self._writer.add_histogram(f"weights/{name}", weight, bins=BINS)
            self._writer.add_histogram(f"gradients/{name}", weight.grad, bins=BINS)
        self._writer.flush()

    def outputs(self, layer: str) -> Histogram | None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(self._path), {"histograms": 0}).Reload().Histograms(f"outputs/{layer}")[-1]
        counts, ends = found.histogram_value.bucket, found.histogram_value.bucket_limit
        return np.array(counts), np.array([-np.inf, *ends[:-1], np.inf])

    def close(self) -> None:
        self._writer.close()


class TensorBoardLater(TensorBoard):
    """The same of outputs that a hook keeps, written when the step is done."""

    title = "TensorBoard, the same of outputs that a hook keeps, when the step is done"
    later = same_cost = True


class Wandb(Watcher):
    """Weights & Biases, without a network."""

    title, package = '`wandb.watch(log="all")`, offline', "wandb"

    def __init__(self, training: Training, folder: Path) -> None:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
        wandb: Any = importlib.import_module("wandb")
        super().__init__(training, folder)
        self._run: Any = wandb.init(dir=str(folder), settings=wandb.Settings(silent=True))

    def look(self) -> None:
        self._step(1)

    def between(self) -> None:
        self._step(NEVER)

    def _step(self, every: int) -> None:
        self._run.watch(self.training.model, log="all", log_freq=every)
        self.training.step()
        self._run.log({"step": 1})
        self._run.unwatch(self.training.model)

    def outputs(self, layer: str) -> Histogram | None:
        names = [name for name in dict(self._run.summary) if not name.startswith(("gradients/", "parameters/", "_"))]
        assert names == ["step"], names  # of outputs it has nothing
        return None

    def close(self) -> None:
        self._run.finish()


class NaNsense(Watcher):
    """NaNsense without its page, which trains on as in its mode "detach"; statistics are switched on for a look."""

    title, package = 'NaNsense, statistics of all layers (scope "all")', "nansense"

    def __init__(self, training: Training, folder: Path) -> None:
        nansense: Any = importlib.import_module("nansense")
        super().__init__(training, folder)
        self._edges = nansense.watch.histogram_edges()
        self._session: Any = nansense.start(training.model, optimizer=training.optimiser)
        self._session.detach()
        self._session.set_debug_settings(enabled=False)
        self._session.set_update_frequency(unit="epoch", n=NEVER)

    def look(self) -> None:
        self._session.set_stats_scope("all")
        self._step()
        self._session.set_stats_scope("none")

    def between(self) -> None:
        self._step()

    def _step(self) -> None:
        with self._session.batch(phase="train", epoch=0):
            self.training.step()

    def outputs(self, layer: str) -> Histogram | None:
        found = self._session.watch_snapshot().stats[layer, "train", 0].activations
        return np.array(found.hist), np.array([-np.inf, *self._edges[1:-1], np.inf])

    def close(self) -> None:
        self._session.close()


WATCHERS: tuple[type[Watcher], ...] = (Follow, TensorBoard, TensorBoardLater, Wandb, NaNsense)


@contextlib.contextmanager
def oracles() -> Iterator[None]:
    """Have what .venv-oracles holds at hand, behind what is here."""
    found = [str(place) for place in (ROOT / ".venv-oracles").glob("lib/python*/site-packages")]
    sys.path.extend(found)
    try:
        yield
    finally:
        for place in found:
            sys.path.remove(place)


def version_of(package: str) -> str:
    """Of an installed package; "" if there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
