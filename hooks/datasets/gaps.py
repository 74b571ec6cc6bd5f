"""Where a model sees a gap between two sets of pictures: training and deployment, one camera and another.

first, second = (hs.sweep(model, loader, [hs.gap()]) for loader in loaders)
gaps = hs.gap(first, second)                 # one per layer, in execution order
beginning(gaps)                              # the first from which on the sets are apart
"""

from __future__ import annotations

from typing import overload

from hookscope.hooks.datasets.collecting import Collector, Patterns
from hookscope.hooks.datasets.collectors import SampleCollector
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.gaps import LayerGap, gaps_between
from hookscope.hooks.results.sweeps import Sweep


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
        return gaps_between(first, second, permutations)
    if second is not None:
        raise HooksError("A gap lies between two sets. Give two sweeps: gap(first, second).")
    return SampleCollector(first, drawn)
