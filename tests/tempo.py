"""How much longer things may take here and now than on an idle machine of today."""

from __future__ import annotations

import time

NOMINAL_SECONDS = 0.06  # for the loop below, on one core that has nothing else to do


def limit(seconds: float) -> float:
    """A time limit as it is meant, stretched on a machine that is slower, or busy at this moment.

    What is promised to a person ("gone within 2 s") is promised on a machine that is not drowning; a test that fails
    because something else ran beside it says nothing of us.
    """
    return seconds * max(1.0, *(_loop() / NOMINAL_SECONDS for _ in range(3)))


def _loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return time.perf_counter() - began
