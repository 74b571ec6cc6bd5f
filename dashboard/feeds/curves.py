"""What a run has one number of at a step, for all its layers together: the loss, learning rates, a person's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.results.feeds import Given, Look

LOSS, RATE, SCALE, OWN = "loss", "lr", "scale", "s."  # OWN stands before the name of a number of the person's own
MOST_GROUPS = 50  # of learning rates


@dataclass(frozen=True)
class Curve:
    """One thing over the steps.

    Attributes:
        steps: int64 (step,), rising, those of which it is known.
        values: float64 (step, line): a line for each group of the optimiser, and one of everything else.
    """

    steps: np.ndarray
    values: np.ndarray


class Curves:
    """Those of one run, which grow with it; not for several threads at once."""

    def __init__(self) -> None:
        self._count = 0
        self._known: dict[str, dict[int, float]] = {}
        self._rates: list[tuple[int, tuple[float, ...]]] = []

    def extend(self, looks: Sequence[Look]) -> None:
        """Take what has come since.

        Arguments:
            looks: all of them, those that were there before too.
        """
        for look in looks[self._count :]:
            _add(self._known, look.given)
            if not math.isnan(look.scale):
                self._known.setdefault(SCALE, {})[look.step] = look.scale
            if look.rates:
                self._rates.append((look.step, look.rates[:MOST_GROUPS]))
        self._count = len(looks)

    def keys(self, after: Iterable[Given] = ()) -> tuple[str, ...]:
        """What there is: "loss", "lr", "scale", and "s." before the name of a number of the person's own.

        Arguments:
            after: what steps behind the last look were given.
        """
        known = {key: list(values.values()) for key, values in self._all(after).items()}
        found = [key for key, values in known.items() if not np.isnan(values).all()]
        first = [key for key in (LOSS, RATE, SCALE) if key in found or (key == RATE and self._rates)]
        return (*first, *(key for key in found if key.startswith(OWN)))

    def curve(self, key: str, after: Iterable[Given] = ()) -> Curve:
        """One of them; without steps where there is none. See `keys`."""
        if key == RATE:
            values = np.full((len(self._rates), max((len(each) for _, each in self._rates), default=1)), np.nan)
            for row, (_, each) in zip(values, self._rates, strict=True):
                row[: len(each)] = each
            return Curve(np.array([step for step, _ in self._rates], np.int64), values)
        known = self._all(after).get(key, {})
        steps = sorted(known)
        return Curve(np.array(steps, np.int64), np.array([[known[step]] for step in steps]).reshape(-1, 1))

    def _all(self, after: Iterable[Given]) -> dict[str, dict[int, float]]:
        found = self._known
        for given in after:
            if found is self._known:
                found = {key: dict(values) for key, values in found.items()}
            _add(found, given)
        return found


def _add(known: dict[str, dict[int, float]], given: Given) -> None:
    for key, rows in ((LOSS, given.losses), *((OWN + name, rows) for name, rows in given.numbers.items())):
        if rows:
            known.setdefault(key, {}).update(rows)
