"""A run's numbers over its steps as arrays that grow with it; only the columns that somebody looks at are made."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.results.feeds import PLACES, Look

MOST_LAYERS = 2_000  # that are shown; of a run with more the first
MOST_VALUES = 40_000_000  # of one column
COLUMNS = 6  # that are kept, the last ones that were looked at
OWN = "m"  # the group of a person's own metrics


@dataclass(frozen=True)
class Column:
    """One number of every layer over the steps.

    Attributes:
        steps: int64 (look,), rising. layers: names, in the order in which they ran.
        values: float32 (look, layer), NaN where there is none.
    """

    steps: np.ndarray
    layers: tuple[str, ...]
    values: np.ndarray


class Series:
    """The arrays of one run; not for several threads at once."""

    def __init__(self) -> None:
        self.left_out = 0  # layers beyond `MOST_LAYERS`
        self._count = 0
        self._steps = np.zeros(0, np.int64)
        self._where: dict[str, int] = {}
        self._beyond: set[str] = set()
        self._places: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._columns: OrderedDict[tuple[str, str], tuple[np.ndarray, int]] = OrderedDict()

    def extend(self, looks: Sequence[Look]) -> None:
        """Take what has come since.

        Arguments:
            looks: all of them, those that were there before too.
        """
        new = looks[self._count :]
        if not new:
            return
        self._steps = _grown(self._steps, len(looks))
        for place, look in enumerate(new, self._count):
            self._steps[place] = look.step
            if look.layers not in self._places:
                self._places[look.layers] = self._places_of(look.layers)
        self._count = len(looks)

    @property
    def steps(self) -> np.ndarray:
        """Int64 (look,), rising."""
        return self._steps[: self._count]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of all looks, in the order in which they came."""
        return tuple(self._where)

    def column(self, group: str, name: str, looks: Sequence[Look]) -> Column:
        """One number of every layer, see `feeds.GROUPS`; the group "m" holds a person's own.

        Arguments:
            looks: those that `extend` was given.
        """
        key, width = (group, name), len(self._where)
        if self._count * max(width, 1) > MOST_VALUES:
            kept = MOST_VALUES // max(self._count, 1)
            width = min(width, kept)
        values, filled = self._columns.pop(key, (np.zeros((0, width), np.float32), 0))
        if values.shape[1] != width:
            wider = np.full((len(values), width), np.nan, np.float32)
            shared = min(width, values.shape[1])
            wider[:, :shared] = values[:, :shared]
            values = wider
        values = _grown(values, self._count)
        place = PLACES.get(key, -1)
        for row in range(filled, self._count):
            look = looks[row]
            own = look.own.get(name) if group == OWN else None
            numbers = own if group == OWN else look.numbers[:, place]
            values[row] = np.nan
            if numbers is not None:
                to, of = self._places[look.layers]
                fits = to < width
                values[row, to[fits]] = numbers[of[fits]]
        self._columns[key] = values, self._count
        while len(self._columns) > COLUMNS:
            self._columns.popitem(last=False)
        return Column(self.steps, self.layers[:width], values[: self._count])

    def _places_of(self, layers: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Where these layers stand in a row of a column, and which of them have a place."""
        for layer in layers:
            if layer not in self._where and len(self._where) < MOST_LAYERS:
                self._where[layer] = len(self._where)
            elif layer not in self._where and len(self._beyond) < MOST_LAYERS:
                self._beyond.add(layer)
        self.left_out = len(self._beyond)
        of = [index for index, layer in enumerate(layers) if layer in self._where]
        return np.array([self._where[layers[index]] for index in of], np.int64), np.array(of, np.int64)


def _grown(values: np.ndarray, count: int) -> np.ndarray:
    """An array with room for so many rows; what was handed out before stays as it was."""
    if len(values) >= count:
        return values
    grown = np.full((max(count, 2 * len(values), 64), *values.shape[1:]), np.nan if values.dtype.kind == "f" else 0)
    grown = grown.astype(values.dtype)
    grown[: len(values)] = values
    return grown
