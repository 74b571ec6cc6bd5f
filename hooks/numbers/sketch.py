"""Counts a tensor's values into the fixed bins of `results.sketches`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.numbers import compiled
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.results.sketches import INFINITE, SHIFT, SIGN
from hookscope.hooks.results.summaries import Sketch


def sketch(tensor: Tensor) -> Sketch:
    """Count a tensor's finite values; float64 is rounded to float32, complex values count by their magnitude."""
    values = real(tensor).to(torch.float32).reshape(-1).contiguous()
    if compiled.usable(values):
        counted = compiled.by_bits(values.numpy(), 32 - SHIFT)
    else:
        # an int32 index: counting by int64 takes seven times as long
        places = (values.view(torch.int32) >> SHIFT) & (2 * SIGN - 1)
        counted = torch.bincount(places, minlength=2 * SIGN).cpu().numpy()
    positive, negative = counted[:INFINITE], counted[SIGN : SIGN + INFINITE].copy()
    everything = np.concatenate([negative[:0:-1], positive])
    everything[INFINITE - 1] += negative[0]  # -0 is 0
    keys = np.flatnonzero(everything)
    return Sketch((keys - (INFINITE - 1)).astype(np.int32), everything[keys].astype(np.int64))
