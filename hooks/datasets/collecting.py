"""How something is collected of every batch of a sweep, and how pictures are drawn from all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from hookscope.hooks.datasets.layer_batch import LayerBatch
from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.looks.outputs import Answered
from hookscope.hooks.numbers.rows import NOBODY
from hookscope.hooks.results.sweeps import drawn_at

Place = tuple[str, int]  # a layer and its call
Patterns = Pattern | Iterable[Pattern] | None


class Collector(Protocol):
    """Collects something of every batch; used for one sweep.

    Attributes:
        layers: which layers it looks at, as `layers.names.select` takes them; None for all without children, () for
            none.
    """

    layers: Patterns

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """A batch begins: its pictures' numbers, and their labels, -1 where there is none; int64 (picture,), both."""

    def look(self, batch: LayerBatch) -> None:
        """One of the chosen layers has returned."""

    def end(self, answered: Answered) -> None:
        """The model has answered the batch."""

    def found(self) -> Mapping[str, Any]:
        """What was found so far, as fields of a `Sweep`; what it holds is not changed afterwards."""


class OfLayers:
    """A collector that looks at layers alone."""

    def __init__(self, layers: Patterns) -> None:
        self.layers = layers

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """Nothing is to be done."""

    def end(self, answered: Answered) -> None:
        """Nothing is to be done."""


class Drawing:
    """Draws pictures as they come: those whose numbers are mixed to the lowest, whatever the batches are."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pictures = np.full(size, NOBODY, np.int64)  # which picture each row is of
        self._order = np.full(size, np.iinfo(np.uint64).max, np.uint64)
        self.new: list[tuple[int, int]] = []  # of the batch: (its row there, its row here)

    def begin(self, pictures: np.ndarray) -> None:
        """Draw of a batch."""
        kept: dict[int, int] = {}  # row here -> row in the batch; a later one of the batch may replace an earlier one
        for index, (number, order) in enumerate(zip(pictures, drawn_at(pictures), strict=True)):
            row = int(self._order.argmax()) if self.size else 0
            if self.size and order < self._order[row]:
                self._order[row], self.pictures[row] = order, number
                kept[row] = index
        self.new = [(index, row) for row, index in kept.items()]

    def rows(self, present: np.ndarray) -> np.ndarray:
        """The rows, in the order of drawing, that hold a picture which `present` (row,) says a layer has seen."""
        there = np.flatnonzero(present == self.pictures)
        there = there[self.pictures[there] != NOBODY]
        return there[np.argsort(self._order[there], kind="stable")]
