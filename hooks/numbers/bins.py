"""Counts a tensor's values into the 211 bins of a feed (`results.feeds.bin_edges`), exactly."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.numbers import compiled
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.results.feeds import BINS, to_bins
from hookscope.hooks.results.sketches import INFINITE, SHIFT, SIGN

PIECE = 1 << 24  # values: counts of more are not exact as float32


def bins_later(tensor: Tensor) -> Callable[[], np.ndarray]:
    """Count a tensor's finite values as they are now; float64 is rounded to float32, complex ones count by magnitude.

    Returns:
        what gives int64 (bin,) when it is called; nothing waits before for what an accelerator computes.
    """
    values = real(tensor).to(torch.float32).reshape(-1).contiguous()
    if compiled.usable(values):
        counted = compiled.by_bits(values.numpy(), 32 - SHIFT)
        found = to_bins(counted[:SIGN], counted[SIGN:])
        return lambda: found
    return _by_table(values)


def _by_table(values: Tensor) -> Callable[[], np.ndarray]:
    """Without compiled loops, or elsewhere: a table gives the bin of the first bits, and bins are counted.

    Not by `bincount`, which has the processor wait for an accelerator.
    """
    table, total = _table(values.device), torch.zeros(BINS, dtype=torch.float64, device=values.device)
    for piece in values.split(PIECE):
        places = table[(piece.view(torch.int32) >> SHIFT) & (2 * SIGN - 1)]
        total += torch.histc(places, BINS, -0.5, BINS - 0.5)

    def read() -> np.ndarray:
        counts: np.ndarray = total.cpu().numpy().astype(np.int64)
        return counts

    return read


@functools.cache
def _table(device: torch.device) -> Tensor:
    """Float32 (first bits,): the bin of each, on a device; of what is not finite a number outside of all bins."""
    found = np.full(2 * SIGN, -10.0, np.float32)
    ends = np.cumsum(to_bins(np.ones(SIGN, np.int64), np.ones(SIGN, np.int64)))  # keys up to the end of each bin
    order = np.concatenate([np.arange(SIGN + INFINITE - 1, SIGN - 1, -1), np.arange(INFINITE)])
    found[order] = np.searchsorted(ends, np.arange(len(order)), "right")
    with torch.inference_mode(False):
        return torch.from_numpy(found).to(device)
