"""A run's numbers as tables: of every layer at the steps that were looked at, and what all steps were given."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.feeds.curves import LOSS, OWN
from hookscope.dashboard.feeds.store import Followed

ROWS = 500  # that are written at once


def numbers_csv(run: Followed, group: str, name: str) -> Iterator[str]:
    """One number of every layer, a part of the text at a time; empty where there is none.

    Arguments:
        group, name: see `feeds.GROUPS`.
    """
    found = run.kept.column(group, name)
    loss_curve = run.kept.curve(LOSS)
    losses = dict(zip(loss_curve.steps.tolist(), loss_curve.values[:, 0].tolist(), strict=True))
    yield csv_of(["step", "loss", *found.layers], [])
    for start in range(0, len(found.steps), ROWS):
        rows = []
        for step, values in zip(
            found.steps[start : start + ROWS].tolist(), found.values[start : start + ROWS], strict=True
        ):
            loss = losses.get(step)
            rows.append([step, *map(_cell, [np.nan if loss is None else loss, *values.tolist()])])
        yield csv_of([], rows).removeprefix("\n")


def curves_csv(run: Followed) -> str:
    """The loss, learning rates, scale and own numbers; a row for each step of which one is known, empty where not."""
    keys = run.kept.curves()
    curves = {key: run.kept.curve(key) for key in keys}
    names = [name for key in keys for name in _names(key, curves[key].values.shape[1])]
    rows: dict[int, list[float | str]] = {}
    place = 0
    for key in keys:
        curve = curves[key]
        width = curve.values.shape[1]
        for step, values in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            rows.setdefault(step, [""] * len(names))[place : place + width] = map(_exact, values)
        place += width
    return csv_of(["step", *names], [[step, *rows[step]] for step in sorted(rows)])


def _names(key: str, count: int) -> list[str]:
    name = key.removeprefix(OWN)
    return [name] if count == 1 else [f"{name} {number + 1}" for number in range(count)]


def _exact(value: float) -> float | str:
    return float(f"{value:.8g}") if math.isfinite(value) else str(value)


def _cell(value: float) -> float | str:
    return "" if value != value else float(f"{value:.6g}")
