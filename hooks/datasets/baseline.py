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
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.collecting import Collector, Patterns, Place
from hookscope.hooks.datasets.collectors import answers, features
from hookscope.hooks.datasets.labelled import read_batch
from hookscope.hooks.datasets.profiles import profiles
from hookscope.hooks.datasets.scoring import Scorer
from hookscope.hooks.datasets.sweeping import sweep
from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.fingerprint import fingerprint
from hookscope.hooks.layers.names import select
from hookscope.hooks.layers.penultimate import penultimate
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.results.baseline_files import read_baseline, save_baseline
from hookscope.hooks.results.baseline_scores import BaselineScores
from hookscope.hooks.results.baselines import BaselineNumbers, baseline_of, check_model
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
        return cls(known.numbers, known.k, named, datetime.date.today().isoformat(), versions_now())

    def of(self, model: nn.Module, layers: Patterns = None) -> Baseline:
        """The same baseline with its model, which it keeps: what `score(pictures)` is for where pictures come for ever.

        Arguments:
            layers: which of the baseline's layers are looked at, as `layers.names.select` takes them. By default the
                last of each run of layers whose outputs have the same shape, e.g. after a convolution and a
                normalisation the activation, without the largest: a sixth of all values. The scores say which they are.

        Raises:
            HooksError: it is another model, or has other weights.
        """
        bound = replace(self)
        names = None if layers is None else select(model, layers)
        places = self.layers if names is None else [place for place in self.layers if place[0] in names]
        bound._ask(model, Scorer(model, places, self._collectors, fewer=layers is None))
        vars(bound)["_bound"] = model
        return bound

    def score(
        self,
        model: nn.Module | Tensor | Iterable[Any],
        pictures: Tensor | Iterable[Any] | None = None,
        own: Sequence[int] | np.ndarray | None = None,
    ) -> BaselineScores:
        """How far pictures are from the baseline's; those of the baseline itself by `leave_one_out()`.

        Several threads may score at once; the model runs for one of them at a time. What is found out about a model is
        kept for its next pictures, and the model with it.

        Arguments:
            model: the one that the baseline was fitted on; left out if the baseline has one by `of`.
            pictures: float (picture, channel, height, width), or one without the first axis; or batches, as `sweep`
                takes them.
            own: which of the baseline's pictures each is, by number, -1 for none; these are held against the others.

        Raises:
            HooksError: it is another model, there is none, or `sweep` refuses the pictures.
        """
        shown: nn.Module | None = self._bound if pictures is None else None
        given: Any = model
        if isinstance(model, nn.Module):
            shown, given = model, pictures
        if shown is None:
            raise HooksError(
                "This baseline has no model to show the pictures to. Give it as `score(model, pictures)`, or once: "
                "`usual = hs.Baseline.load(path, model)`, then `usual.score(pictures)`."
            )
        if given is None:
            raise HooksError("There is no picture to score. Give them behind the model: `score(model, pictures)`.")
        scorer = self._scorer
        if scorer is None or scorer.model is not shown:
            scorer = Scorer(shown, self.layers, self._collectors)
        numbers = self._ask(shown, scorer).numbers(given)
        return self._of_layers(numbers.places).score_numbers(numbers, own)

    _bound: ClassVar[nn.Module | None] = None  # of an instance that `of` has made
    _scorer: ClassVar[Scorer | None] = None  # of the model that was asked last
    _fewer: ClassVar[BaselineNumbers | None] = None  # the same baseline at the layers that are looked at

    def _ask(self, model: nn.Module, scorer: Scorer) -> Scorer:
        """What shows pictures to a model, kept for the next ones.

        Raises:
            HooksError: it is not the baseline's.
        """
        if self.model:
            check_model(self.model, scorer.fingerprint())
        vars(self)["_scorer"] = scorer
        return scorer

    def _collectors(self, names: Sequence[str]) -> list[Collector]:
        place = self.numbers.feature_place
        return _wanted(names, None if place is None else place[0])

    def _of_layers(self, places: Sequence[Place]) -> BaselineNumbers:
        """What is known of the baseline's pictures at some of its layers."""
        if set(places) == set(self.layers) or not set(places) <= set(self.layers):
            return self
        fewer = self._fewer
        if fewer is None or set(fewer.layers) != set(places):
            fewer = BaselineNumbers(self.numbers.only(places), self.k, self.model, self.made, self.versions)
            vars(self)["_fewer"] = fewer
        return fewer

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no model."""
        return {name: value for name, value in vars(self).items() if name not in ("_scorer", "_bound", "_fewer")}

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

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module | None = None) -> Baseline:
        """The same, with the model to which pictures are shown: `Baseline.load(path, model).score(pictures)`.

        Arguments:
            model: see `of`, with its default layers; None where `score` will be given it.

        Raises:
            HooksError: as `read` and `of` say.
        """
        found = cls.read(path)
        return found if model is None else found.of(model)


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


def versions_now() -> dict[str, str]:
    """What computes baselines here, by name."""
    found = {"torch": str(torch.__version__), "numpy": np.__version__}
    try:
        return {"hookscope": importlib.metadata.version("hookscope"), **found}
    except importlib.metadata.PackageNotFoundError:  # in a checkout
        return found
