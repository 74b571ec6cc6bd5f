"""Two sets of inputs compared by what each layer made of them: how far the distributions part, ranked.

Per channel: the Fréchet distance of two normal distributions with the channel's means and standard deviations,
sqrt((m2 - m1)^2 + (s2 - s1)^2) (Dowson and Landau, "The Fréchet Distance between Multivariate Normal Distributions",
1982; with independent channels it is what FID uses), divided by the layer's standard deviation over both sets so that
layers can be ranked together; and the standardised mean difference (Cohen, 1988; pooled as in Austin, 2009). Over all
of a layer's values: Wasserstein-1 and the Jensen-Shannon divergence, which also see what means and deviations do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results import sketches
from hookscope.hooks.results.looks import Statistics
from hookscope.hooks.results.merging import merge
from hookscope.hooks.results.summaries import LayerShift, LayerSummary


def compare(first: Sequence[LayerSummary], second: Sequence[LayerSummary]) -> tuple[LayerShift, ...]:
    """How far two sets of inputs part at each layer call, the furthest first.

    Arguments:
        first, second: `Diagnostics.summaries()` of two objects that watched the same layers of the same model.

    Raises:
        HooksError: there is no layer call that both have.
    """
    others = {(summary.layer, summary.call): summary for summary in second}
    pairs = [(one, others[one.layer, one.call]) for one in first if (one.layer, one.call) in others]
    if not pairs:
        raise HooksError(
            "The two sets have no layer in common, so there is nothing to compare. Collect both with the same layers "
            "of the same model, each over at least one batch."
        )
    shifts = [_shift(one, other) for one, other in pairs]
    return tuple(sorted(shifts, key=lambda shift: -np.nan_to_num(shift.distance, nan=np.inf)))


def ranked_channels(shift: LayerShift) -> np.ndarray:
    """Int64 (channel,): the channels of one layer, the one that parts furthest first."""
    return np.argsort(-np.nan_to_num(shift.channel_distance, nan=-1.0), kind="stable")


def _shift(first: LayerSummary, second: LayerSummary) -> LayerShift:
    one, other = _columns(first.statistics), _columns(second.statistics)
    if one["mean"].shape != other["mean"].shape:
        raise HooksError(
            f"Layer {first.layer!r} has {one['mean'].size} channels in the first set and {other['mean'].size} in the "
            "second. Compare inputs of one size, or leave the layer out."
        )
    difference = other["mean"] - one["mean"]
    scale = merge(first.statistics, second.statistics).std
    pooled = np.sqrt((one["std"] ** 2 + other["std"] ** 2) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = np.where(pooled > 0, difference / pooled, np.nan)
    distance = _over(np.hypot(difference, other["std"] - one["std"]), scale)
    seen = distance[np.isfinite(distance)]
    return LayerShift(
        layer=first.layer,
        call=first.call,
        distance=float(np.sqrt(np.mean(seen**2))) if seen.size else float("nan"),
        wasserstein=float(_over(np.array(_wasserstein(first, second)), scale)),
        divergence=sketches.divergence(first.sketch, second.sketch),
        channel_distance=distance,
        channel_difference=standardised,
    )


def _columns(statistics: Statistics) -> dict[str, np.ndarray]:
    if statistics.channels:
        return statistics.channels
    return {"mean": np.array([statistics.mean]), "std": np.array([statistics.std])}


def _over(distance: np.ndarray, scale: float) -> np.ndarray:
    """In standard deviations of the layer; if all its values are the same number in both sets, nothing parts."""
    return distance / scale if scale != 0 else distance * 0


def _wasserstein(first: LayerSummary, second: LayerSummary) -> float:
    if not first.sketch.counts.size or not second.sketch.counts.size:
        return float("nan")
    both = [sketches.cumulative(part.sketch, part.statistics.min, part.statistics.max) for part in (first, second)]
    return sketches.wasserstein(both[0], both[1])
