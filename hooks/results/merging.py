"""The numbers of two sets of values as those of both together, exact and without the values.

Source for means and variances: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
Sample Variances", 1979: a variance is that within the parts and that between their means, so nothing is subtracted from
anything of its own size.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hookscope.hooks.results import sketches
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Statistics
from hookscope.hooks.results.summaries import LayerSummary, Sketch


def complete(summary: LayerSummary) -> LayerSummary:
    """A summary with the quantiles and the histogram of its sketch."""
    return dataclasses.replace(summary, statistics=with_distribution(summary.statistics, summary.sketch))


def merge_summaries(first: LayerSummary, second: LayerSummary) -> LayerSummary:
    """Two summaries of the same layer call as one, whose quantiles and histogram are left empty (`complete`).

    Raises:
        ValueError: the two do not count the same thing: another layer, another number of channels, another threshold.
    """
    same = ("layer", "call", "of", "threshold")
    if any(getattr(first, name) != getattr(second, name) for name in same) or first.fired.shape != second.fired.shape:
        raise ValueError(
            f"Layer {first.layer!r} (call {first.call}, {first.of}, {first.fired.size} channels) and {second.layer!r} "
            f"(call {second.call}, {second.of}, {second.fired.size} channels) cannot be merged: they are not the same."
        )
    return dataclasses.replace(
        first,
        inputs=first.inputs + second.inputs,
        statistics=merge(first.statistics, second.statistics),
        sketch=sketches.merge(first.sketch, second.sketch),
        fired=first.fired + second.fired,
        norm=float(np.hypot(first.norm, second.norm)),
    )


def merge(first: Statistics, second: Statistics) -> Statistics:
    """The statistics of both sets of values together; quantiles and histogram are left empty (`with_distribution`)."""
    total = _merge(_whole(first), _whole(second))
    channels: dict[str, np.ndarray] = {}
    if first.channels and second.channels:
        merged = _merge(_channels(first), _channels(second))
        channels = {name: merged[name] for name in ("mean", "std", "min", "max", "zeros", "nan", "inf")}
    return Statistics(
        count=first.count + second.count,
        mean=float(total["mean"][0]),
        std=float(total["std"][0]),
        min=float(total["min"][0]),
        max=float(total["max"][0]),
        zeros=float(total["zeros"][0]),
        nan=first.nan + second.nan,
        inf=first.inf + second.inf,
        quantiles=np.full(len(QUANTILE_LEVELS), np.nan),
        histogram=np.zeros(0, np.int64),
        edges=np.zeros(0),
        channels=channels,
    )


def with_distribution(statistics: Statistics, sketch: Sketch) -> Statistics:
    """The same numbers with quantiles and histogram read from a sketch of the values."""
    histogram, edges = sketches.histogram(sketch, statistics.min, statistics.max)
    levels = np.array(QUANTILE_LEVELS)
    quantiles = sketches.quantiles(sketch, levels, statistics.min, statistics.max)
    return dataclasses.replace(statistics, quantiles=quantiles, histogram=histogram, edges=edges, approximate=True)


def _whole(statistics: Statistics) -> dict[str, np.ndarray]:
    names = ("mean", "std", "min", "max", "zeros", "nan", "inf")
    columns = {name: np.array([getattr(statistics, name)], np.float64) for name in names}
    return {**columns, "size": np.array([statistics.count], np.float64)}


def _channels(statistics: Statistics) -> dict[str, np.ndarray]:
    """Every channel of a tensor has the same number of values."""
    channels = len(statistics.channels["mean"])
    size = statistics.count // max(channels, 1)
    return {**statistics.channels, "size": np.full(channels, size, np.float64)}


def _merge(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns of numbers, row by row; a part without finite values has NaN there and weighs nothing."""
    finite = [part["size"] - part["nan"] - part["inf"] for part in (first, second)]
    total = finite[0] + finite[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(total > 0, finite[1] / total, np.nan)  # the second part's

    def weighted(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (1 - share) * np.where(finite[0] > 0, one, 0) + share * np.where(finite[1] > 0, other, 0)

    apart = np.where((finite[0] > 0) & (finite[1] > 0), first["mean"] - second["mean"], 0)
    within = weighted(first["std"] ** 2, second["std"] ** 2)
    return {
        "mean": weighted(first["mean"], second["mean"]),
        "std": np.sqrt(within + share * (1 - share) * apart**2),
        "min": np.fmin(first["min"], second["min"]),
        "max": np.fmax(first["max"], second["max"]),
        "zeros": weighted(first["zeros"], second["zeros"]),
        "nan": first["nan"] + second["nan"],
        "inf": first["inf"] + second["inf"],
    }
