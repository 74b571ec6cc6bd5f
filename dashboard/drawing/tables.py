"""Statistics as rows for the page's tables and as CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hookscope.dashboard.drawing.numbers import format_count, format_number, format_share
from hookscope.dashboard.drawing.ranking import Numbers
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Statistics

HELP = {
    "count": "How many values the layer produced for this input.",
    "mean": "The average of the finite values; positive and negative values cancel.",
    "std": "The standard deviation: how far the values lie from their mean, as the root of the mean square.",
    "min": "The smallest finite value.",
    "max": "The largest finite value.",
    "zeros": "The share of the finite values that are exactly 0, as a ReLU leaves them; a value near 0 does not count.",
    "nan": "How many values are NaN (not a number); they are left out of every other number.",
    "inf": "How many values are infinite; they are left out of every other number.",
    "difference": "The mean of |A - B| over the channel's positions: how differently the two inputs excite it.",
    "rank": "The channel's place on the wall in the order chosen above it.",
    "channel": "The channel's index, as the weights have it.",
}
_NAMES = {"nan": "NaN", "inf": "Inf"}
_PER_CHANNEL = ("mean", "std", "min", "max", "zeros", "nan", "inf")


def statistics_rows(statistics: Sequence[Statistics], labels: Sequence[str] = ("A", "B")) -> list[dict[str, str]]:
    """A layer's numbers, one row per statistic: {"key", "name", "help", and under each label its text}."""
    rows = []
    for key, name, explanation in _entries():
        texts = {label: _text(key, _value(one, key)) for one, label in zip(statistics, labels, strict=False)}
        rows.append({"key": key, "name": name, "help": explanation} | texts)
    return rows


def channel_columns(labels: Sequence[str] = ("A",)) -> list[dict[str, Any]]:
    """ag-grid column definitions for `channel_rows`, with a tooltip per statistic; "context" is its format (d3's)."""
    columns = [_column("channel", "channel", "channel", "d"), _column("rank", "rank", "rank", "d")]
    for label in labels:
        for key in _PER_CHANNEL:
            name = f"{label} {_NAMES.get(key, key)}" if len(labels) > 1 else _NAMES.get(key, key)
            columns.append(
                _column(f"{label}_{key}", name, key, {"zeros": ".1%", "nan": "d", "inf": "d"}.get(key, ".4~g"))
            )
    if len(labels) > 1:
        columns.append(_column("difference", "mean |A − B|", "difference", ".4~g"))
    return columns


def _column(field: str, name: str, key: str, number: str) -> dict[str, Any]:
    return {
        "field": field,
        "headerName": name,
        "headerTooltip": HELP[key],
        "type": "rightAligned",
        "context": number,
        "valueFormatter": {"function": f"params.value == null ? 'NaN' : d3.format('{number}')(params.value)"},
    }


def cell_text(column: dict[str, Any], row: dict[str, float | int | None]) -> str:
    """A cell of `channel_rows` as the page's table writes it."""
    value = row.get(column["field"])
    return "NaN" if value is None else format(value, column["context"].replace("~", ""))


def channel_rows(
    numbers: Sequence[Numbers],
    order: np.ndarray,
    distance: np.ndarray | None = None,
    labels: Sequence[str] = ("A", "B"),
) -> list[dict[str, float | int | None]]:
    """One row per channel, by index: {"channel", "rank" (from 1), "A_mean", "A_std", ..., "B_mean", ..., "difference"}.

    Numbers have six significant digits, which is what a table of 2,048 rows needs; NaN is None.

    Arguments:
        numbers: per-channel numbers of A, or of A and B (`Statistics.channels` or `ranking.channel_numbers`).
        order: all channels in the wall's order. distance: mean |A - B| by channel.
    """
    ranks = _ranks(order)
    rows: list[dict[str, float | int | None]] = [
        {"channel": index, "rank": int(rank)} for index, rank in enumerate(ranks)
    ]
    for one, label in zip(numbers, labels, strict=False):
        for key in _PER_CHANNEL:
            for row, value in zip(rows, one[key].tolist(), strict=True):
                row[f"{label}_{key}"] = int(value) if key in ("nan", "inf") else _short(value)
    if distance is not None:
        for row, value in zip(rows, distance.tolist(), strict=True):
            row["difference"] = _short(value)
    return rows


def channel_csv(
    numbers: Sequence[Numbers],
    order: np.ndarray,
    distance: np.ndarray | None = None,
    labels: Sequence[str] = ("A", "B"),
) -> str:
    """The same numbers as a CSV file, in full precision."""
    header = ["channel", "rank"]
    columns: list[list[Any]] = [list(range(len(order))), _ranks(order).tolist()]
    for one, label in zip(numbers, labels, strict=False):
        for key in _PER_CHANNEL:
            header.append(f"{label} {_NAMES.get(key, key)}")
            columns.append([int(value) if key in ("nan", "inf") else value for value in one[key].tolist()])
    if distance is not None:
        header.append("mean |A - B|")
        columns.append(distance.tolist())
    return _csv(header, [list(row) for row in zip(*columns, strict=True)])


def layer_csv(layer: str, call: int, statistics: Sequence[Statistics], labels: Sequence[str] = ("A", "B")) -> str:
    """A layer's numbers as a CSV file in full precision: layer, call, input, statistic, value."""
    rows = []
    for one, label in zip(statistics, labels, strict=False):
        rows += [[layer, call, label, name, _value(one, key)] for key, name, _ in _entries()]
    return _csv(["layer", "call", "input", "statistic", "value"], rows)


def _entries() -> list[tuple[str, str, str]]:
    """(key, name, explanation) of every statistic of a layer, in the order of the table."""
    entries = [(key, _NAMES.get(key, key), HELP[key]) for key in ("mean", "std", "min", "max", "zeros")]
    for index, level in enumerate(QUANTILE_LEVELS):
        name = f"{level * 100:.0f} %"
        text = (
            "The median: half of the finite values are smaller."
            if level == 0.5
            else f"{name} of the finite values are smaller."
        )
        entries.append((f"quantile{index}", name, text))
    return entries + [(key, _NAMES.get(key, key), HELP[key]) for key in ("nan", "inf", "count")]


def _value(statistics: Statistics, key: str) -> float | int:
    if key.startswith("quantile"):
        index = int(key.removeprefix("quantile"))
        return float(statistics.quantiles[index]) if index < len(statistics.quantiles) else math.nan
    value: float | int = getattr(statistics, key)
    return value


def _text(key: str, value: float | int) -> str:
    if key == "zeros":
        return format_share(value)
    return format_count(value) if key in ("nan", "inf", "count") else format_number(value)


def _ranks(order: np.ndarray) -> np.ndarray:
    """The place of each channel in the order, from 1."""
    ranks = np.empty(len(order), int)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_cell(text) for text in header])
    writer.writerows([_cell(item) for item in row] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    """A value as a spreadsheet may read it: text that it would run as a formula is quoted."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
