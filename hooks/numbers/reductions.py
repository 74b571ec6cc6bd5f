"""A tensor reduced to numbers, fast enough to be done inside a hook.

Nothing is summed in less than float64, because float32 sums drift and half sums overflow. Counts are integers:
`torch.histc` stops counting at 2^24 per bin (at 2,048 in half precision) and drops NaN silently. One sorted copy gives
exact quantiles and bins (0.8 M values: 3 ms with numpy's vectorised sort; `torch.quantile` 21 ms, `np.quantile` 16);
counting into 64 bins takes a third of that, and quantiles read from the bins are then approximate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.numbers import compiled, elsewhere
from hookscope.hooks.numbers.moments import CHANNELS, PIECE, SPREAD, Scratch, Total, of_the_finite, reduced
from hookscope.hooks.results.looks import HISTOGRAM_BINS, QUANTILE_LEVELS, Statistics
from hookscope.hooks.results.sketches import histogram_edges

_Shape = tuple[np.ndarray, np.ndarray, np.ndarray]  # quantiles, histogram, edges
Distribution = bool | Literal["approximate"]
LONG = 20_000  # values, from which on counting them is faster than sorting them
BELOW_ONE = 1 - 1e-6  # so that the largest value still falls into the last bin when it is computed in float32


def statistics(
    tensor: Tensor, channel_axis: int | None, *, distribution: Distribution = True, scratch: Scratch | None = None
) -> Statistics:
    """The numbers of one tensor, as `results.looks.Statistics` documents them.

    Arguments:
        tensor: any shape, dtype and device; complex values count by their magnitude.
        channel_axis: which axis holds the channels; None if there is none.
        distribution: whether to compute quantiles and histogram: True for exact ones, from a sorted copy;
            "approximate" for a histogram whose bins may be off by a rounding at their edges, and quantiles read from
            it (exact ones on an accelerator); False for none: they are NaN and empty.
        scratch: memory to work in, for who reduces many tensors.
    """
    return statistics_later(tensor, channel_axis, distribution=distribution, scratch=scratch)()


def statistics_later(
    tensor: Tensor, channel_axis: int | None, *, distribution: Distribution = True, scratch: Scratch | None = None
) -> Callable[[], Statistics]:
    """The same, as what gives them when it is called: nothing waits before for what an accelerator computes.

    They are those of the tensor as it is now, whatever is written into it afterwards; only they are kept of it.
    """
    values = real(tensor)
    if channel_axis is None:
        rows = values.reshape(1, -1)
    else:
        count = values.shape[channel_axis]
        # contiguous, because reducing along a strided axis costs more than the copy
        rows = values.movedim(channel_axis, 0).reshape(count, values.numel() // max(count, 1)).contiguous()
    if elsewhere.lies_there(rows) and 0 < rows.numel() <= elsewhere.LARGEST:
        return _elsewhere(rows, channel_axis is not None, bool(distribution))
    scratch = scratch or Scratch()
    total, channels = reduced(rows, scratch)
    shape = _unknown()
    if distribution == "approximate":
        shape = _approximate(rows, total, scratch)
    elif distribution:
        shape = _exact(rows, total)
    numbers = _together(
        rows.numel(), total, {} if channel_axis is None else channels, shape, distribution == "approximate"
    )
    return lambda: numbers


def _elsewhere(rows: Tensor, channels: bool, distribution: bool) -> Callable[[], Statistics]:
    """On an accelerator, where a sort costs as little as counting, so that quantiles are always exact."""
    reading, count = elsewhere.reduce(rows, distribution), rows.numel()

    def read() -> Statistics:
        found = reading()
        moments = of_the_finite(found)
        total = moments.total()
        by_name = moments.channels() if channels else {}
        return _together(count, total, by_name, _shape(found, total), approximate=False)

    return read


def _shape(found: elsewhere.Found, total: Total) -> _Shape:
    """Quantiles, histogram and edges of what a device found."""
    if found.neighbours is None or found.below is None:
        return _unknown()
    if np.isnan(total.min):
        return _nothing()
    edges, count = histogram_edges(total.min, total.max), int(found.count.sum())
    below = found.below if total.min < total.max else np.where(total.min < edges[1:-1], count, 0)
    histogram = np.diff(below, prepend=0, append=count).astype(np.int64)
    where = np.array(QUANTILE_LEVELS) * (count - 1)
    lower, upper = found.neighbours
    return lower + (upper - lower) * (where - np.floor(where)), histogram, edges


def _together(
    count: int, total: Total, channels: dict[str, np.ndarray], shape: _Shape, approximate: bool
) -> Statistics:
    quantiles, histogram, edges = shape
    return Statistics(
        count=count,
        mean=total.mean,
        std=total.std,
        min=total.min,
        max=total.max,
        zeros=total.zeros,
        nan=total.nan,
        inf=total.inf,
        quantiles=quantiles,
        histogram=histogram,
        edges=edges,
        channels=channels,
        approximate=approximate,
    )


def by_image(values: Tensor) -> tuple[Statistics, np.ndarray] | None:
    """A batch's numbers without quantiles and histogram, and each channel's largest magnitude in each image.

    Arguments:
        values: (image, channel, ...), real.

    Returns:
        the second float64 (image, channel); nothing where the compiled loops cannot tell, and the way is that of
        `statistics`.
    """
    if values.ndim < 3 or not values.numel() or not compiled.usable(values):
        return None
    found = compiled.by_image(values.flatten(2), SPREAD)
    if found is None:
        return None
    channels, whole, largest = found
    mean, std, least, most, zeros, *_ = whole.tolist()
    total, by_name = Total(mean, std, least, most, zeros, 0, 0), dict(zip(CHANNELS, channels.T, strict=True))
    return _together(values.numel(), total, by_name, _unknown(), approximate=False), largest


def real(tensor: Tensor) -> Tensor:
    """The tensor's values as float32 or float64, whichever holds them exactly (integers from 2^53 on do not fit).

    Raises:
        ModelNotSupported: the tensor has no values (meta device).
    """
    tensor = tensor.detach()
    if tensor.dtype == torch.float32 and tensor.layout == torch.strided and tensor.device.type in ("cpu", "cuda"):
        return tensor
    if tensor.is_meta:
        raise ModelNotSupported(
            "The model is on the meta device: its activations have shapes and no values. Load its weights first."
        )
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = tensor.abs()
    if tensor.device.type == "mps":
        tensor = tensor.cpu()  # no float64 there
    if tensor.dtype == torch.float64 or tensor.dtype in (torch.int32, torch.int64, torch.uint32, torch.uint64):
        return tensor.to(torch.float64)
    return tensor.to(torch.float32)


def _exact(rows: Tensor, total: Total) -> _Shape:
    """Quantiles, histogram and edges of the finite values; `total` tells their extremes."""
    if np.isnan(total.min):
        return _nothing()
    values = _finite(rows, total)
    edges = histogram_edges(total.min, total.max)
    where = np.array(QUANTILE_LEVELS) * (len(values) - 1)
    low = np.floor(where).astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    if len(values) >= LONG and compiled.usable(values):
        array = values.numpy()
        ranks, place = np.unique(np.concatenate([low, high]), return_inverse=True)
        lower, upper = np.split(compiled.ranked(array, ranks)[place], 2)
        histogram = compiled.histogram(array, edges, _at_least(edges, array.dtype))
    else:
        ordered = np.sort(values.cpu().numpy())
        below = np.searchsorted(ordered, _at_least(edges[1:-1], ordered.dtype), "left")
        histogram = np.diff(below, prepend=0, append=ordered.size).astype(np.int64)
        lower, upper = ordered[low].astype(np.float64), ordered[high].astype(np.float64)
    return lower + (upper - lower) * (where - low), histogram, edges


def _finite(rows: Tensor, total: Total) -> Tensor:
    """All finite values (value,)."""
    values = rows.reshape(-1)
    return values[values.isfinite()] if total.nan or total.inf else values


def _approximate(rows: Tensor, total: Total, scratch: Scratch) -> _Shape:
    """Quantiles, histogram and edges of the finite values, by counting; `total` tells their extremes."""
    least, most = total.min, total.max
    if np.isnan(least):
        return _nothing()
    values = _finite(rows, total)
    edges = histogram_edges(least, most)
    if least == most:
        counts = np.zeros(HISTOGRAM_BINS, np.int64)
        counts[HISTOGRAM_BINS // 2] = len(values)
        return np.full(len(QUANTILE_LEVELS), least), counts, edges
    if compiled.usable(values):
        counts = compiled.histogram(values.numpy(), edges, _at_least(edges, np.dtype(np.float32)))
    else:
        counts = _counts(values, edges, scratch)
    return _quantiles_of(counts, edges, least, most), counts, edges


def _counts(values: Tensor, edges: np.ndarray, scratch: Scratch) -> np.ndarray:
    """How many values lie in each bin, by torch: within a rounding of an edge it may be the bin on its other side."""
    scale = HISTOGRAM_BINS * BELOW_ONE / (edges[-1] - edges[0])
    # float32 where its range and its digits suffice
    narrow = values.dtype == torch.float32 and 1e-6 * abs(edges[0] + edges[-1]) < edges[-1] - edges[0] < 1e38
    dtype = torch.float32 if narrow else torch.float64
    histogram = torch.zeros(HISTOGRAM_BINS, dtype=torch.int64, device=values.device)
    for piece in values.split(PIECE):
        place = torch.sub(piece, edges[0], out=scratch.take(piece.shape, dtype, values.device)).mul_(scale)
        # int32: counting by int64 indices is several times slower
        histogram += torch.bincount(
            scratch.take(piece.shape, torch.int32, values.device).copy_(place), minlength=HISTOGRAM_BINS
        )
    counts: np.ndarray = histogram.cpu().numpy()
    return counts


def _quantiles_of(histogram: np.ndarray, edges: np.ndarray, least: float, most: float) -> np.ndarray:
    """Quantiles as if the values of each bin lay evenly in it: no further off than a bin is wide."""
    upto = np.cumsum(histogram)
    rank = np.array(QUANTILE_LEVELS) * (upto[-1] - 1)
    place = np.searchsorted(upto, rank, "right")
    inside = (rank - (upto[place] - histogram[place]) + 0.5) / histogram[place]
    return np.clip(edges[place] + inside * (edges[1] - edges[0]), least, most)


def _unknown() -> _Shape:
    """Of values of which nobody asked for them."""
    return np.full(len(QUANTILE_LEVELS), np.nan), np.zeros(0, np.int64), np.zeros(0)


def _nothing() -> _Shape:
    """Where no value is finite."""
    return (
        np.full(len(QUANTILE_LEVELS), np.nan),
        np.zeros(HISTOGRAM_BINS, np.int64),
        np.full(HISTOGRAM_BINS + 1, np.nan),
    )


def _at_least(edges: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The smallest number of that dtype not below each edge, so that comparing in float32 is as good as in float64."""
    near = edges.astype(dtype)
    return np.where(near < edges, np.nextafter(near, np.array(np.inf, dtype)), near)
