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
    "share": "How much of the explained number the channel speaks for: activation x gradient, summed over positions.",
    "effect": "The measured change of the explained number with the channel muted (0): negative, if it speaks for it.",
    "estimate": "Taylor's estimate of that change, from one gradient for all channels.",
    "smirnov": "Kolmogorov-Smirnov, 0 to 1: how far A's and B's distributions are apart, wherever the values stand.",
    "wasserstein": "How far A's values have to move on average to be distributed as B's, wherever they stand.",
    "back": "What comes back of A's answer with this channel of A alone in B's run, a share; empty if not measured.",
    "back_estimate": "The same as a gradient estimates it.",
    "rank": "The channel's place on the wall in the order chosen above it.",
    "channel": "The channel's index, as the weights have it.",
}
_NAMES = {"nan": "NaN", "inf": "Inf", "share": "for the class", "effect": "effect", "estimate": "estimated effect"}
_SMALL = (
    " params.value != 0 && (params.value > -0.0001 && params.value < 0.0001"
    " || params.value >= 1e6 || params.value <= -1e6) ? d3.format('.2~e')(params.value) :"
)
# a side that has not so many channels has no value
_ODD = "params.value === null ? 'NaN' : params.value == null ? '' :"
_PER_CHANNEL = ("mean", "std", "min", "max", "zeros", "nan", "inf")
_TOLD = ("share", "effect", "estimate")  # of which there are some under a rank that is told by the model
_FIELDS = (
    "channel",
    "rank",
    *(f"{label}_{key}" for label in "AB" for key in (*_TOLD, *_PER_CHANNEL)),
    *("difference", "wasserstein", "smirnov", "back", "back_estimate"),
)
SORTS = frozenset(f"{field}.{way}" for field in _FIELDS for way in ("asc", "desc"))  # what a person may have chosen


def statistics_rows(statistics: Sequence[Statistics], labels: Sequence[str] = ("A", "B")) -> list[dict[str, str]]:
    """A layer's numbers, one row per statistic: {"key", "name", "help", and under each label its text}."""
    rows = []
    for key, name, explanation in _entries():
        texts = {label: _text(key, _value(one, key)) for one, label in zip(statistics, labels, strict=False)}
        rows.append({"key": key, "name": name, "help": explanation} | texts)
    return rows


def channel_columns(
    labels: Sequence[str] = ("A",), told: Sequence[str] = (), *, restored: bool = False, sort: str = ""
) -> list[dict[str, Any]]:
    """ag-grid column definitions for `channel_rows`, with a tooltip per statistic; "context" is its format (d3's).

    Arguments:
        told: which of "share", "effect" and "estimate" there are; they come first. restored: whether there is what
            comes back. sort: one of `SORTS`, "" for none.
    """
    columns = [_column("channel", "channel", "channel", "d"), _column("rank", "rank", "rank", "d")]
    for label in labels:
        for key in (*told, *_PER_CHANNEL):
            name = f"{label} {_NAMES.get(key, key)}" if len(labels) > 1 else _NAMES.get(key, key)
            columns.append(
                _column(f"{label}_{key}", name, key, {"zeros": ".1%", "nan": "d", "inf": "d"}.get(key, ".4~g"))
            )
    if len(labels) > 1:
        columns.append(_column("difference", "mean |A − B|", "difference", ".4~g"))
        columns.append(_column("wasserstein", "Wasserstein", "wasserstein", ".4~g"))
        columns.append(_column("smirnov", "KS", "smirnov", ".4~g"))
    if restored:
        columns.append(_column("back", "A in B", "back", ".1%"))
        columns.append(_column("back_estimate", "A in B, estimate", "back_estimate", ".1%"))
    field, _, way = sort.partition(".")
    return [{**column, "sort": way if column["field"] == field else None} for column in columns]


def in_order(rows: list[dict[str, float | int | None]], sort: str = "") -> list[dict[str, float | int | None]]:
    """The rows as the page's table has them: by rank, or by the column that a person has sorted by; NaN is smallest.

    Arguments:
        sort: one of `SORTS`; "", or a column that is not there, for none.
    """
    ranked = sorted(rows, key=lambda row: row["rank"] or 0)
    field, _, way = sort.partition(".")
    if not any(field in row for row in rows):
        return ranked

    def key(row: dict[str, float | int | None]) -> tuple[bool, float]:
        value = row.get(field)
        return value is not None, value or 0

    return sorted(ranked, key=key, reverse=way == "desc")


def _column(field: str, name: str, key: str, number: str) -> dict[str, Any]:
    return number_column(field, name, HELP[key], number)


def number_column(field: str, name: str, help_text: str, number: str) -> dict[str, Any]:
    """The ag-grid definition of a column of numbers, written by d3's format `number`."""
    return {
        "field": field,
        "headerName": name,
        "headerTooltip": help_text,
        "type": "rightAligned",
        "context": number,
        # d3 writes small and large numbers out, which a column has no room for: one must not lose its end unseen
        "valueFormatter": {"function": f"{_ODD}{_SMALL if 'g' in number else ''} d3.format('{number}')(params.value)"},
    }


def cell_text(column: dict[str, Any], row: dict[str, float | int | None]) -> str:
    """A cell of `channel_rows` as the page's table writes it."""
    if column["field"] not in row:
        return ""
    value = row[column["field"]]
    return "NaN" if value is None else format(value, column["context"].replace("~", ""))


def channel_rows(
    numbers: Sequence[Numbers],
    order: np.ndarray,
    distance: np.ndarray | None = None,
    labels: Sequence[str] = ("A", "B"),
    distributions: tuple[np.ndarray, np.ndarray] | None = None,
    restored: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[dict[str, float | int | None]]:
    """One row per channel, by index: {"channel", "rank" (from 1), "A_mean", "A_std", ..., "B_mean", ..., "difference"}.

    Numbers have six significant digits, which is what a table of 2,048 rows needs; NaN is None. Where A and B have not
    as many channels, the rows of one lack numbers.

    Arguments:
        numbers: per-channel numbers of A, or of A and B (`Statistics.channels` or `ranking.channel_numbers`).
        order: all channels in the wall's order. distance: mean |A - B| by channel.
        distributions: Wasserstein and Kolmogorov-Smirnov distance by channel.
        restored: what comes back with each channel of A in B, measured, NaN where it is not, and estimated.
    """
    ranks = _ranks(order)
    rows: list[dict[str, float | int | None]] = [
        {"channel": index, "rank": int(rank)} for index, rank in enumerate(ranks)
    ]
    for one, label in zip(numbers, labels, strict=False):
        for key in (*told_of([one]), *_PER_CHANNEL):
            for row, value in zip(rows, one[key].tolist(), strict=False):
                row[f"{label}_{key}"] = int(value) if key in ("nan", "inf") else short(value)
    if distance is not None:
        for row, value in zip(rows, distance.tolist(), strict=True):
            row["difference"] = short(value)
    more = (*(distributions or (None, None)), *(restored or (None, None)))
    for name, of_channels in zip(("wasserstein", "smirnov", "back", "back_estimate"), more, strict=True):
        if of_channels is None:
            continue
        for row, value in zip(rows, of_channels.tolist(), strict=True):
            row[name] = short(value)
    return rows


def channel_csv(
    numbers: Sequence[Numbers],
    order: np.ndarray,
    distance: np.ndarray | None = None,
    labels: Sequence[str] = ("A", "B"),
    distributions: tuple[np.ndarray, np.ndarray] | None = None,
    restored: tuple[np.ndarray, np.ndarray] | None = None,
    listed: Sequence[int] = (),
) -> str:
    """The same numbers as a CSV file, in full precision.

    Arguments:
        listed: all channels in the order of the lines; that of the wall if none is given.
    """
    header = ["channel", "rank"]
    columns: list[list[Any]] = [list(range(len(order))), _ranks(order).tolist()]
    for one, label in zip(numbers, labels, strict=False):
        for key in (*told_of([one]), *_PER_CHANNEL):
            header.append(f"{label} {_NAMES.get(key, key)}")
            values = [int(value) if key in ("nan", "inf") else value for value in one[key].tolist()]
            columns.append([*values, *[""] * (len(order) - len(values))])
    if distance is not None:
        header.append("mean |A - B|")
        columns.append(distance.tolist())
    more = (*(distributions or (None, None)), *(restored or (None, None)))
    for name, of_channels in zip(("Wasserstein", "KS", "A in B", "A in B estimated"), more, strict=True):
        if of_channels is not None:
            header.append(name)
            columns.append(of_channels.tolist())
    lines = [list(row) for row in zip(*columns, strict=True)]
    return csv_of(header, [lines[channel] for channel in listed or order.tolist()])


def told_of(numbers: Sequence[Numbers]) -> list[str]:
    """Which numbers of channels there are that the model had to tell."""
    return [key for key in _TOLD if any(key in one for one in numbers)]


def layer_csv(layer: str, call: int, statistics: Sequence[Statistics], labels: Sequence[str] = ("A", "B")) -> str:
    """A layer's numbers as a CSV file in full precision: layer, call, input, statistic, value."""
    rows = []
    for one, label in zip(statistics, labels, strict=False):
        rows += [[layer, call, label, name, _value(one, key)] for key, name, _ in _entries()]
    return csv_of(["layer", "call", "input", "statistic", "value"], rows)


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


def short(value: float) -> float | None:
    """A cell's number in six significant digits; None, which is written as NaN, for one that is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def csv_of(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_cell(text) for text in header])
    writer.writerows([_cell(item) for item in row] for row in rows)
    return file.getvalue()


def _cell(value: Any) -> Any:
    """A value as a spreadsheet may read it: text that it would run as a formula is quoted."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
