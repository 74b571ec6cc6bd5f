"""What the steps between two looks were given: the loss, and numbers of the person's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hookscope.hooks.results.feeds import Given, shorten
from hookscope.hooks.training.telling import NOT_A_NUMBER, TOO_MANY_NAMES

MOST = 10_000  # steps of which each number is kept; of more the first, and the newest
MOST_NAMES = 50
TOGETHER = 50_000  # numbers of one line


class Between:
    """Keeps them until somebody takes them. What lies on a device is read then, so that no step waits for it."""

    def __init__(self) -> None:
        self._losses: list[tuple[int, Any]] = []
        self._numbers: dict[str, list[tuple[int, Any]]] = {}
        self._refused: dict[str, str] = {}  # by name what is said of it

    def keep(self, step: int, loss: Any, numbers: Mapping[str, Any]) -> float | None:
        """What a step was given.

        Returns:
            the loss, where it costs nothing to have it now; None where it lies on a device, or there is none.

        Raises:
            TypeError: the loss is no number. What else is none is left out, and `take_refused` says so.
        """
        for name, value in numbers.items():
            kept = _kept(value)
            if kept is None:
                self._refuse(name, value)
            elif name in self._numbers or len(self._numbers) < MOST_NAMES:
                _append(self._numbers.setdefault(name, []), step, kept)
            else:
                self._refused[""] = TOO_MANY_NAMES.format(most=MOST_NAMES)
        if loss is None:
            return None
        kept = _kept(loss)
        if kept is None:
            raise TypeError(_kind(loss))
        _append(self._losses, step, kept)
        return None if isinstance(kept, Tensor) else kept

    def take_refused(self) -> tuple[str, ...]:
        """What there is to say of numbers that are none; of each name once, of a few."""
        if not self._refused or not any(self._refused.values()):
            return ()
        said = tuple(sentence for sentence in self._refused.values() if sentence)
        self._refused = dict.fromkeys(self._refused, "")
        return said

    def _refuse(self, name: str, value: Any) -> None:
        if value is not None and name not in self._refused and len(self._refused) < MOST_NAMES:
            self._refused[name] = NOT_A_NUMBER.format(name=shorten(name, 100), kind=_kind(value))

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


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


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
