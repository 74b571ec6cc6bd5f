"""What is usual for a model over a set of pictures, and how far other pictures are from that.

usual = hs.Baseline.fit(model, training_pictures)
scores = usual.score(model, pictures)
scores.distance_p, scores.energy_p, scores.layers_p     # how probable each is by chance
usual.layers[scores.first(0)]                           # the first layer that makes picture 0 an outlier
usual.save("line-4.json")
"""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.collecting import Collector, Patterns
from hookscope.hooks.datasets.collectors import answers, features
from hookscope.hooks.datasets.labelled import read_batch
from hookscope.hooks.datasets.profiles import profiles
from hookscope.hooks.datasets.sweeping import sweep
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.fingerprint import fingerprint
from hookscope.hooks.layers.penultimate import penultimate
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.baseline_files import read_baseline, save_baseline
from hookscope.hooks.results.baseline_scores import BaselineScores
from hookscope.hooks.results.baselines import BaselineNumbers, baseline_of
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.sweeps import Sweep


class Baseline(BaselineNumbers):
    """What is known of a baseline's pictures, against which others are held; see `fit`."""

    @classmethod
    def fit(
        cls,
        model: nn.Module,
        loader: Iterable[Any],
        layers: Patterns = None,
        *,
        k: int | None = None,
        features_of: str | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Baseline:
        """Look at every picture of a set that is as it should be.

        Arguments:
            loader: batches, as `sweep` takes them.
            layers: at which a picture may be unlike the others, as `layers.names.select` takes them; by default every
                module without children.
            k: which neighbour's distance counts; by default half the root of the number of pictures, 1 to 50.
            features_of: the layer whose channels' means are compared; by default the last one before the head.
            progress: as `sweep` has it.

        Raises:
            HooksError: there are fewer than 8 pictures, or as `sweep` says.
        """
        begun = _Begun(model, loader)
        if features_of is None and (found := penultimate(begun.described)) is not None:
            features_of = found[0]
        seen = sweep(model, begun, _wanted(layers, features_of), described=begun.described, progress=progress)
        return cls.from_sweep(seen, model, k=k)

    @classmethod
    def from_sweep(cls, found: Sweep, model: nn.Module | None = None, *, k: int | None = None) -> Baseline:
        """A baseline of what a sweep has found, without running the model again.

        Arguments:
            found: asked for `profiles()`, and best for `answers()` and `features(LAYER)`, too.
            model: whose sweep it is; without it, it is not checked that other pictures are shown to the same.
            k: as `fit` has it.

        Raises:
            HooksError: the sweep has kept no numbers of each picture, or there are too few pictures.
        """
        known = baseline_of(found, k)
        named = "" if model is None else fingerprint(model)
        return cls(known.numbers, known.k, named, datetime.date.today().isoformat(), _versions())

    def score(
        self, model: nn.Module, pictures: Tensor | Iterable[Any], own: Sequence[int] | np.ndarray | None = None
    ) -> BaselineScores:
        """How far pictures are from the baseline's; those of the baseline itself by `leave_one_out()`.

        Arguments:
            model: the one that the baseline was fitted on.
            pictures: float (picture, channel, height, width), or one without the first axis; or batches, as `sweep`
                takes them.
            own: which of the baseline's pictures each is, by number, -1 for none; these are held against the others.

        Raises:
            HooksError: it is another model, or `sweep` refuses the pictures.
        """
        if self.model and self.model != (other := fingerprint(model)):
            raise HooksError(
                f"This baseline was fitted on another model, or on other weights ({self.model[:12]} and not "
                f"{other[:12]}). Fit one on this model."
            )
        if isinstance(pictures, Tensor):
            pictures = [pictures if pictures.ndim == 4 else pictures[None]]
        names = list(dict.fromkeys(layer for layer, _ in self.layers))
        place = self.numbers.feature_place
        return self.score_sweep(sweep(model, pictures, _wanted(names, None if place is None else place[0])), own)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it: JSON at `path`, which a person can read, and beside it `baseline-<hash>.safetensors`.

        Raises:
            HooksError: safetensors is not installed.
        """
        save_baseline(self, path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Baseline:
        """Read what `save` wrote.

        Raises:
            HooksError: a file is missing, damaged or changed, or safetensors is not installed.
        """
        found: Baseline = read_baseline(path, cls)
        return found


def _wanted(layers: Patterns, features_of: str | None) -> list[Collector]:
    return [profiles(layers), answers(), *([] if features_of is None else [features(features_of)])]


class _Begun:
    """A loader whose first batch has been looked at: the model is described by it before the others come."""

    def __init__(self, model: nn.Module, loader: Iterable[Any]) -> None:
        if hasattr(loader, "dataset"):  # by which `sweep` knows how many pictures there are
            self.dataset = loader.dataset
        self._batches = iter(loader)
        self._first = list(itertools.islice(self._batches, 1))
        self.described: tuple[LayerInfo, ...] = ()
        for batch in self._first:
            with inspecting(model) as inner:
                weights = next(itertools.chain(inner.parameters(), inner.buffers()), None)
                picture = read_batch(batch).pictures[:1]
                self.described = describe(inner, picture if weights is None else picture.to(weights.device))

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain(self._first, self._batches)


def _versions() -> dict[str, str]:
    found = {"torch": str(torch.__version__), "numpy": np.__version__}
    try:
        return {"hookscope": importlib.metadata.version("hookscope"), **found}
    except importlib.metadata.PackageNotFoundError:  # in a checkout
        return found
