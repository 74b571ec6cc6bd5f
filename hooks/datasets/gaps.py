"""Where a model sees a gap between two sets of pictures: training and deployment, one camera and another.

first, second = (hs.sweep(model, loader, [hs.gap()]) for loader in loaders)
gaps = hs.gap(first, second)                 # one per layer, in execution order
beginning(gaps)                              # the first from which on the sets are apart
"""

from __future__ import annotations

from typing import overload

import numpy as np

from hookscope.hooks.datasets.collecting import Collector, Patterns
from hookscope.hooks.datasets.collectors import SampleCollector
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.gaps import LayerGap, discrepancy
from hookscope.hooks.results.sweeps import LayerFeatures, Sweep

FEWEST = 8  # pictures of each set: with fewer there is no telling


@overload
def gap(first: Patterns = None, second: None = None, *, drawn: int = 128) -> Collector: ...
@overload
def gap(first: Sweep, second: Sweep, *, permutations: int = 500) -> tuple[LayerGap, ...]: ...
def gap(
    first: Patterns | Sweep = None, second: Sweep | None = None, *, drawn: int = 128, permutations: int = 500
) -> Collector | tuple[LayerGap, ...]:
    """How far two sets are apart at each layer; or, without sets, what a sweep has to collect for that.

    The channels' means of each picture are compared, of up to `drawn` pictures of each set.

    Arguments:
        first, second: two sweeps of the same model, each asked for `gap()`. To collect: which layers, as
            `layers.names.select` takes them; by default every module without children.
        drawn: how many pictures are drawn of each set; 4 bytes for each of them and each channel are kept.
        permutations: by which the probability is found; it is at least 1 / (1 + permutations).

    Returns:
        One per call of a layer that both have, in execution order; or what `sweep` takes.

    Raises:
        HooksError: the two have no layer in common, or fewer than 8 pictures each, or were not asked for this.
    """
    if isinstance(first, Sweep):
        if not isinstance(second, Sweep):
            raise HooksError("A gap lies between two sets. Give two sweeps: gap(first, second).")
        return _gaps(first, second, permutations)
    if second is not None:
        raise HooksError("A gap lies between two sets. Give two sweeps: gap(first, second).")
    return SampleCollector(first, drawn)


def _gaps(first: Sweep, second: Sweep, permutations: int) -> tuple[LayerGap, ...]:
    others = {(part.layer, part.call): part for part in second.sample}
    pairs = [(part, others[part.layer, part.call]) for part in first.sample if (part.layer, part.call) in others]
    if not pairs:
        raise HooksError(
            "The two sweeps have no layer in common whose features they kept. Ask both for `gap()`, with the same "
            "layers of the same model."
        )
    fewest = min(min(len(one.pictures), len(other.pictures)) for one, other in pairs)
    if fewest < FEWEST:
        raise HooksError(
            f"One of the two sets has {fewest} pictures, and with fewer than {FEWEST} nothing can be said of a gap. "
            "Add pictures to it."
        )
    return tuple(_gap(one, other, permutations) for one, other in pairs)


def _gap(first: LayerFeatures, second: LayerFeatures, permutations: int) -> LayerGap:
    one, other = first.values.astype(np.float64), second.values.astype(np.float64)
    if one.shape[1] != other.shape[1]:
        raise HooksError(
            f"Layer {first.layer!r} has {one.shape[1]} channels in the first sweep and {other.shape[1]} in the second. "
            "Compare sweeps of one model."
        )
    one, other = (np.where(np.isfinite(each), each, 0) for each in (one, other))  # -inf stands for a map of NaN alone
    channels = _frechet(one, other)
    mmd, p = discrepancy(one, other, permutations)
    effect = float(np.sqrt(np.mean(channels**2))) if channels.size else 0.0
    return LayerGap(first.layer, first.call, mmd, p, effect, channels, (len(one), len(other)))


def _frechet(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each channel, in its deviation over both sets."""
    apart = np.hypot(one.mean(0) - other.mean(0), one.std(0) - other.std(0))
    weights = np.array([len(one), len(other)]) / (len(one) + len(other))
    between = weights[0] * weights[1] * (one.mean(0) - other.mean(0)) ** 2
    spread = np.sqrt(weights[0] * one.var(0) + weights[1] * other.var(0) + between)
    return np.divide(apart, spread, out=np.zeros_like(apart), where=spread > 0)
