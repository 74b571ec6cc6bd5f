"""A run's numbers as a table: a row for each step that was looked at, a column for each layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.feeds.store import Followed

ROWS = 500  # that are written at once


def numbers_csv(run: Followed, group: str, name: str) -> Iterator[str]:
    """One number of every layer, a part of the text at a time; empty where there is none.

    Arguments:
        group, name: see `feeds.GROUPS`.
    """
    found = run.kept.column(group, name)
    losses = dict(zip(*(each.tolist() for each in run.kept.losses()), strict=True))
    yield csv_of(["step", "loss", *found.layers], [])
    for start in range(0, len(found.steps), ROWS):
        rows = []
        for step, values in zip(
            found.steps[start : start + ROWS].tolist(), found.values[start : start + ROWS], strict=True
        ):
            loss = losses.get(step)
            rows.append([step, *map(_cell, [np.nan if loss is None else loss, *values.tolist()])])
        yield csv_of([], rows).removeprefix("\n")


def _cell(value: float) -> float | str:
    return "" if value != value else float(f"{value:.6g}")
