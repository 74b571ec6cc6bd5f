"""What a benchmark found, as a Markdown table, and its way into a document."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hookscope.hooks.bench.timing import table

END = "<!-- /bench -->"


@dataclass(frozen=True)
class Table:
    """One topic's findings.

    Attributes:
        name: the topic, as the command line and the document's markers spell it.
        columns: what heads them; the first column names the rows.
        rows: as many texts each as there are columns.
        notes: sentences that a reader needs to understand the numbers.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table, numbers to the right, and the notes below it as a paragraph."""
        notes = ["", " ".join(self.notes)] if self.notes else []
        return "\n".join([table(self.columns, self.rows), *notes])


def missing_markers(text: str, names: Iterable[str]) -> list[str]:
    """The topics whose markers `<!-- bench:NAME -->` ... `<!-- /bench -->` a text lacks."""
    return [name for name in names if not _between(name).search(text)]


def with_tables(text: str, tables: Iterable[Table]) -> str:
    """A text with what stands between the tables' markers replaced."""
    for found in tables:
        filled = f"{_begin(found.name)}\n\n{found.markdown()}\n\n{END}"
        text = _between(found.name).sub(lambda _, filled=filled: filled, text, count=1)
    return text


def write(document: Path, tables: Sequence[Table]) -> None:
    """Put the tables between their markers in a file that has them all."""
    document.write_text(with_tables(document.read_text(encoding="utf-8"), tables), encoding="utf-8")


def _begin(name: str) -> str:
    return f"<!-- bench:{name} -->"


def _between(name: str) -> re.Pattern[str]:
    # up to the next end, and not beyond another topic's beginning
    return re.compile(rf"{re.escape(_begin(name))}(?:(?!<!-- bench:).)*?{re.escape(END)}", re.DOTALL)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of the measurements do not exceed; NaN of none."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else float("nan")


def slope(values: Sequence[float]) -> float:
    """How much values rise per step: the least-squares line through them."""
    if len(values) < 2:
        return float("nan")
    return statistics.linear_regression(range(len(values)), values).slope


def seconds(value: float) -> str:
    """A time for a table, e.g. "0.43 s"; "–" for none."""
    return "–" if value != value else f"{value:.2f} s"


def kilobytes(count: float) -> str:
    """A size for a table, in units of 1,000 bytes, e.g. "3.4 KB", "1,204 KB"; "–" for none."""
    if count != count:
        return "–"
    return f"{count / 1000:.1f} KB" if count < 9_950 else f"{count / 1000:,.0f} KB"


def megabytes(count: float) -> str:
    """A size for a table, in units of 1,000,000 bytes, e.g. "412 MB"."""
    return "–" if count != count else f"{count / 1e6:,.0f} MB"
