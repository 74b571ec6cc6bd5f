"""Pieces of work timed against each other: in turns, so that a drift of the machine meets all, and as ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Milliseconds of every piece of work, one per round.

    Attributes:
        wall: by the clock. own: of processor time in the thread that works, which other programs disturb less.
    """

    wall: dict[str, list[float]]
    own: dict[str, list[float]]

    def ratio(self, name: str, base: str) -> str:
        """How many times longer one takes than another: by the clock and, in brackets, by processor time."""
        wall, own = (median_ratio(taken[name], taken[base]) for taken in (self.wall, self.own))
        return f"{times(wall)} ({times(own)})"


def in_turns(works: Mapping[str, Work], repeats: int) -> Times:
    """Do every piece of work once per round, each round in another order, after a round that is not counted."""
    names = list(works)
    taken = Times({name: [] for name in names}, {name: [] for name in names})
    for number in range(repeats + 1):
        order = names[number % len(names) :] + names[: number % len(names)]
        for name in order:
            clock, own = time.perf_counter(), time.thread_time()
            works[name]()
            clock, own = time.perf_counter() - clock, time.thread_time() - own
            if number:
                taken.wall[name].append(clock * 1000)
                taken.own[name].append(own * 1000)
    return taken


def median(values: Sequence[float]) -> float:
    """The middle of some measurements; NaN of none."""
    return statistics.median(values) if values else float("nan")


def median_ratio(values: Sequence[float], per: Sequence[float]) -> float:
    """The median of ratios, each of two measurements of the same round, so that a drift of the machine cancels."""
    return median([value / other for value, other in zip(values, per, strict=True)])


def milliseconds(value: float) -> str:
    """A time for a table, e.g. "4.2 ms", "183 ms", "12.4 s"; "–" for none."""
    if value != value:
        return "–"
    if abs(value) >= 9_950:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if abs(value) < 9.95 else f"{value:,.0f} ms"


def times(value: float) -> str:
    """A ratio for a table, e.g. "1.05×", "23×"; "–" for none."""
    if value != value:
        return "–"
    return f"{value:.2f}×" if value < 9.95 else f"{value:,.0f}×"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its numbers to the right."""
    rules = ["---", *["---:"] * (len(columns) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, rules, *rows))
