"""What the steps between two looks were given: the loss, and numbers of the person's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hookscope.hooks.results.feeds import Given

MOST = 10_000  # steps of which each number is kept; of more the first, and the newest
MOST_NAMES = 50
TOGETHER = 50_000  # numbers of one line


class Between:
    """Keeps them until somebody takes them. What lies on a device is read then, so that no step waits for it."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, Any]] = []
        self._numbers: dict[str, list[tuple[int, Any]]] = {}

    def keep(self, step: int, loss: Any, numbers: Mapping[str, Any]) -> float | None:
        """What a step was given.

        Returns:
            the loss, where it costs nothing to have it now; None where it lies on a device, or there is none.

        Raises:
            TypeError: the loss is no number. What else is none is left out.
        """
        for name, value in numbers.items():
            kept = _kept(value)
            if kept is not None and (name in self._numbers or len(self._numbers) < MOST_NAMES):
                _append(self._numbers.setdefault(str(name), []), step, kept)
        if loss is None:
            return None
        kept = _kept(loss)
        if kept is None:
            raise TypeError(type(loss).__name__)
        _append(self._losses, step, kept)
        return None if isinstance(kept, Tensor) else kept

    def take(self, most: int = MOST) -> Given:
        """Everything that was kept since the last time.

        Arguments:
            most: steps of each number, evenly chosen where there are more; fewer of each where there are many numbers.
        """
        losses, self._losses = self._losses, []
        numbers, self._numbers = self._numbers, {}
        most = max(min(most, TOGETHER // (len(numbers) + 1)), 2)
        return Given(_read(losses, most), {name: _read(rows, most) for name, rows in numbers.items()})


def _kept(value: Any) -> Any:
    """A number, or a copy of the tensor that holds one on a device; None of what is no number."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or value.is_complex():
            return None
        return float(value.detach()) if value.device.type == "cpu" else value.detach().clone()
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _append(rows: list[tuple[int, Any]], step: int, kept: Any) -> None:
    if len(rows) >= MOST:
        rows.pop()
    rows.append((step, kept))


def _read(rows: list[tuple[int, Any]], most: int) -> tuple[tuple[int, float], ...]:
    """At most so many of them as numbers, the first and the last among them."""
    if len(rows) > most:
        rows = [rows[round(place * (len(rows) - 1) / (most - 1))] for place in range(most)]
    return tuple((step, _number(kept)) for step, kept in rows)


def _number(kept: Any) -> float:
    try:
        return float(kept)
    except RuntimeError:  # the device is gone
        return math.nan
