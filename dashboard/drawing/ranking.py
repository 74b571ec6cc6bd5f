"""The order in which a wall shows its channels, and the per-channel numbers that it is made from.

All numbers are of the finite values, in float64; a channel without a finite value ranks last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np

from hookscope.dashboard.drawing import ranking
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Statistics

Rank = Literal["index", "strongest", "mean", "variance", "zeros", "difference", "class", "effect", "back"]
RANKS: tuple[Rank, ...] = get_args(Rank)

TOLD: tuple[Rank, ...] = ("class", "effect", "back")  # which the values alone do not tell

Numbers = Mapping[str, np.ndarray]


def order(
    values_a: np.ndarray,
    values_b: np.ndarray | None,
    rank: str,
    numbers_a: Numbers | None = None,
    numbers_b: Numbers | None = None,
) -> np.ndarray:
    """The channels' indices as a wall shows them, int64 (channel,): largest first, equal ones by index.

    Arguments:
        values_a, values_b: float (channel, ...) of the inputs A and B; B is None without a second input.
        rank: one of `RANKS`; "difference" without B is "index", and so are those that are `TOLD` by the model.
        numbers_a, numbers_b: the per-channel numbers, where they are known (`Statistics.channels` or
            `channel_numbers`); ignored if they are of another number of channels.

    Raises:
        ValueError: no rank has that name.
    """
    if rank not in RANKS:
        raise ValueError(f"there is no rank {rank!r}; choose one of {', '.join(RANKS)}")
    if rank in ("index", *TOLD) or (rank == "difference" and values_b is None):
        return np.arange(len(values_a))
    if rank == "difference" and values_b is not None:
        key = distance(values_a, values_b)
    else:
        pairs = [(values_a, numbers_a)] + ([(values_b, numbers_b)] if values_b is not None else [])
        keys = [_key(values, numbers, rank) for values, numbers in pairs]
        key = np.maximum.reduce(keys) if rank == "strongest" else np.mean(keys, axis=0)
    key = np.where(np.isnan(key), -np.inf, key)
    return np.argsort(-key, kind="stable")


def _key(values: np.ndarray, numbers: Numbers | None, rank: str) -> np.ndarray:
    if numbers is None or any(
        len(numbers.get(name, ())) != len(values) for name in ("mean", "std", "min", "max", "zeros")
    ):
        numbers = channel_numbers(values)
    if rank == "strongest":
        return np.maximum(np.abs(numbers["min"]), np.abs(numbers["max"]))
    if rank == "variance":
        return np.square(numbers["std"])
    return np.asarray(numbers[rank])


def channel_numbers(values: np.ndarray) -> dict[str, np.ndarray]:
    """Per-channel numbers as `Statistics.channels` has them: float64 (channel,) under "mean", "std", "min", "max",
    "zeros", "nan" and "inf".

    Arguments:
        values: float (channel, ...).
    """
    rows = values.reshape(len(values), -1)
    nan = np.isnan(rows).sum(axis=1)
    inf = np.isinf(rows).sum(axis=1)
    finite = np.isfinite(rows)
    kept = finite.sum(axis=1)
    known = kept > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        zeros = (rows == 0).sum(axis=1) / kept
        clean = np.where(finite, rows, 0).astype(np.float64)
        mean = np.where(known, clean.sum(axis=1) / kept, np.nan)
        centred = np.where(finite, clean - mean[:, None], 0)
        std = np.where(known, np.sqrt(np.square(centred).sum(axis=1) / kept), np.nan)
    low = np.where(finite, rows, np.inf).min(axis=1, initial=np.inf)
    high = np.where(finite, rows, -np.inf).max(axis=1, initial=-np.inf)
    numbers = {"mean": mean, "std": std, "min": np.where(known, low, np.nan), "max": np.where(known, high, np.nan)}
    numbers |= {"zeros": zeros, "nan": nan, "inf": inf}
    return {name: array.astype(np.float64) for name, array in numbers.items()}


def distance(values_a: np.ndarray, values_b: np.ndarray) -> np.ndarray:
    """The mean |A - B| of each channel, float64 (channel,), over the places where both are finite.

    Arguments:
        values_a, values_b: float (channel, ...) of the same shape.
    """
    gap = np.abs(difference(values_a, values_b)).reshape(len(values_a), -1)
    finite = np.isfinite(gap)
    kept = finite.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(finite, gap, 0).sum(axis=1, dtype=np.float64) / kept)


def difference(values_a: np.ndarray, values_b: np.ndarray) -> np.ndarray:
    """B - A, float32 of the same shape; where a side is NaN or both are the same infinity it is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.subtract(values_b, values_a, dtype=np.float32)
    overflown = np.isinf(gap) & np.isfinite(values_a) & np.isfinite(values_b)
    if overflown.any():  # two values at opposite ends of float32: as far apart as float32 can say, not infinitely far
        gap[overflown] = np.copysign(np.finfo(np.float32).max, gap[overflown])
    return gap


def mean_map(maps: np.ndarray) -> np.ndarray:
    """The mean over all channels, float32 (height, width), summed in float64; positive and negative channels cancel."""
    with np.errstate(invalid="ignore"):
        return maps.mean(axis=0, dtype=np.float64).astype(np.float32)


def map_statistics(values: np.ndarray) -> Statistics:
    """The counts of one map, float (height, width), that a histogram of its values quotes; it makes its own bins."""
    one = {name: float(array[0]) for name, array in ranking.channel_numbers(values[None]).items()}
    return Statistics(
        count=values.size,
        mean=one["mean"],
        std=one["std"],
        min=one["min"],
        max=one["max"],
        zeros=one["zeros"],
        nan=int(one["nan"]),
        inf=int(one["inf"]),
        quantiles=np.full(len(QUANTILE_LEVELS), np.nan),
        histogram=np.zeros(0, np.int64),
        edges=np.zeros(0),
    )
