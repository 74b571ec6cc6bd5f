"""Shows a model batch after batch for `Baseline.score`, without asking again what stays as it is.

What a model's layers give, how their outputs are read, and whether it is the baseline's model is found out with the
first batch. That the weights are still the same is then told from the counts that torch keeps of writes into each.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.collecting import Collector, Place
from hookscope.hooks.datasets.labelled import read_batches
from hookscope.hooks.datasets.sweeping import Sweeping
from hookscope.hooks.layers.fingerprint import fingerprint
from hookscope.hooks.passes.modes import unwrap
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.picture_numbers import PictureNumbers, numbers_of

MOST = 1 / 6  # of the values of all layers, that are looked at

Wanted = Callable[[Sequence[str]], Sequence[Collector]]


class Scorer:
    """What is known of pictures, batch after batch; several threads may ask at once.

    Arguments:
        model: which is kept. places: the calls of layers that are looked at, in execution order.
        wanted: makes the collectors of a sweep that looks at layers of these names.
        fewer: whether to look at those only that `choose_places` chooses.
    """

    def __init__(self, model: nn.Module, places: Sequence[Place], wanted: Wanted, fewer: bool = False) -> None:
        self.model = model
        self._wanted = wanted
        self._lock = threading.Lock()
        self._places = tuple(places)
        self._fewer = fewer
        self._begun: Sweeping | None = None  # knows the model by its first batch
        self._described: Sequence[LayerInfo] | None = None
        self._several = False  # whether that batch had several pictures
        self._mark: Sequence[object] | None = None
        self._fingerprint = ""

    def fingerprint(self) -> str:
        """The model's, computed anew where a weight or buffer may have been written into.

        What is written through `tensor.data` nobody counts.
        """
        mark = mark_of(self.model)
        with self._lock:
            if mark is None or mark != self._mark:
                self._fingerprint, self._mark = fingerprint(self.model), mark
            return self._fingerprint

    def numbers(self, pictures: Tensor | Iterable[Any]) -> PictureNumbers:
        """What is known of each picture at the layers that are looked at.

        Arguments:
            pictures: as `Baseline.score` takes them.

        Raises:
            HooksError: as `sweep` says.
        """
        if isinstance(pictures, Tensor):
            pictures = [pictures if pictures.ndim == 4 else pictures[None]]
        with self._lock:
            begun, places, known = self._begun, self._places, self._described
        collectors = self._wanted(_names(places))
        run = Sweeping(self.model, collectors, described=known) if begun is None else begun.again(collectors)
        number, most = 0, 0
        for batch in read_batches(pictures):
            count = len(batch.pictures)
            run.add(batch.pictures, np.arange(number, number + count), batch.labels)
            number, most = number + count, max(most, count)
        found = numbers_of(run.found())
        with self._lock:
            self._described = run.described
            if self._begun is None and self._fewer:
                self._places = choose_places(self._places, run.shapes)
            if self._places != places:  # the next ones are looked at there alone
                self._fewer = False
                found = found.only(self._places)
            elif begun is None or (most > 1 and not self._several):
                self._begun, self._several = run, most > 1
            return found.only(self._places)


def _names(places: Sequence[Place]) -> list[str]:
    return list(dict.fromkeys(layer for layer, _ in places))


def choose_places(places: Sequence[Place], shapes: Mapping[Place, Sequence[int]]) -> tuple[Place, ...]:
    """Calls of layers that say the most for the time that they take.

    Of each run of calls that give the same shape the last: after a convolution and a normalisation, the activation. Of
    these not the largest ones, where they would be more than a sixth of all values.

    >>> shapes = {("conv", 0): (8, 6, 6), ("relu", 0): (8, 6, 6), ("pool", 0): (8, 1, 1), ("fc", 0): (9,)}
    >>> choose_places(list(shapes), shapes)
    (('pool', 0), ('fc', 0))
    """
    sizes = {place: math.prod(shapes.get(place, ())) for place in places}
    after: Sequence[Any] = [*(shapes.get(place) for place in places[1:]), None]
    last = [place for place, next_ in zip(places, after, strict=True) if place not in shapes or shapes[place] != next_]
    room = MOST * sum(sizes.values())
    kept: set[Place] = set()
    for place in sorted(last, key=lambda place: sizes[place]):
        room -= sizes[place]
        if room < 0 and kept:
            break
        kept.add(place)
    return tuple(place for place in places if place in kept)


def mark_of(model: nn.Module) -> Sequence[object] | None:
    """Which tensors a model holds, where, and how often each was written into; None where nobody counts."""
    found: list[object] = []
    for module in unwrap(model).modules():
        found.append(id(module))
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is None:
                    continue
                if tensor.is_inference():
                    return None
                plain = tensor.layout == torch.strided and type(tensor) in (Tensor, nn.Parameter)
                found += [name, id(tensor), tensor._version, tensor.data_ptr() if plain else 0]
    return found
