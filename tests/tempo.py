"""How much longer things may take here and now than on an idle machine of today."""

from __future__ import annotations

import os
import time

NOMINAL_SECONDS = 0.06  # for the loop below, on one core that has nothing else to do
PAUSE_SECONDS = 0.3  # that Python's collection of all objects takes in a process that has torch and its models


def limit(seconds: float) -> float:
    """A time limit as it is meant, stretched on a machine that is slower, or busy at this moment.

    What is promised to a person ("gone within 2 s") is promised on a machine that is not drowning; a test that fails
    because something else ran beside it says nothing of us. A worker steps back behind everything that runs, so how
    many programs wait for a core counts too, and a test process of many objects stops now and then to collect them.
    """
    slower = max(_loop() / NOMINAL_SECONDS for _ in range(3))
    return seconds * max(1.0, slower, _waiting()) + PAUSE_SECONDS


def shared_limit(seconds: float) -> float:
    """`limit` for what takes a core for seconds (an import of torch, a crowd): at least one share per test process."""
    return max(limit(seconds), seconds * int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def _waiting() -> float:
    """How many programs there are for each core, over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 1.0


def _loop() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return time.perf_counter() - began
