"""Mean, spread, extremes and counts of the rows of a matrix: exact, and at about the speed of reading it.

Values go through one float64 buffer, a piece at a time that stays in the processor's cache, where they are summed and
their squares too. A product of two float32 values is exact in float64, so the variance is the mean square less the
squared mean wherever these two are not almost equal; where they are (a small spread about a large mean), the row is
read a second time about its mean. `torch.var_mean`, which never cancels, is five times slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.numbers import compiled, elsewhere

PIECE = 1 << 17  # values; 1 MB as float64. Of 2^14 to 2^20 the fastest.
SHORT = 128  # values in a row, below which extremes are faster from a transposed copy
CHANNELS = ("mean", "std", "min", "max", "zeros", "nan", "inf")  # of `results.looks.Statistics.channels`
SPREAD = 1e-4  # of the mean square: a variance above it has lost no more than four of sixteen digits

Channels = dict[str, np.ndarray]


class Scratch:
    """Memory for the pieces, used again from call to call: asking for it anew costs as much as the arithmetic."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[torch.dtype, str], Tensor] = {}

    def take(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        """An uninitialised tensor that holds good until the next one of this dtype is taken."""
        key, count = (dtype, str(device)), shape.numel()
        if key not in self._buffers or self._buffers[key].numel() < count:
            # not an inference tensor, because the next call may come outside inference mode
            with torch.inference_mode(False):
                self._buffers[key] = torch.empty(count, dtype=dtype, device=device)
        return self._buffers[key][:count].view(shape)


@dataclass(frozen=True)
class Moments:
    """Numbers per row, float64 and int64 (row,), of the row's finite values.

    Attributes:
        finite: how many those are. mean, variance, min, max: NaN where there are none.
        zeros: how many are exactly 0. nan, inf: how many of the row's values are NaN or infinite.
    """

    finite: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    min: np.ndarray
    max: np.ndarray
    zeros: np.ndarray
    nan: np.ndarray
    inf: np.ndarray

    def channels(self) -> dict[str, np.ndarray]:
        """By the names in CHANNELS."""
        share = np.full(len(self.zeros), np.nan)
        np.divide(self.zeros, self.finite, out=share, where=self.finite > 0)
        columns = (
            self.mean,
            np.sqrt(self.variance),
            self.min,
            self.max,
            share,
            self.nan.astype(np.float64),
            self.inf.astype(np.float64),
        )
        return dict(zip(CHANNELS, columns, strict=True))

    def total(self) -> Total:
        """The numbers of all rows together."""
        nan, inf = int(self.nan.sum()), int(self.inf.sum())
        some = self.finite > 0
        finite = int(self.finite.sum())
        if not finite:
            return Total(math.nan, math.nan, math.nan, math.nan, math.nan, nan, inf)
        weights = self.finite[some] / finite
        mean = float(weights @ self.mean[some])
        # the variance within the rows and between their means: no cancellation
        variance = float(weights @ (self.variance[some] + (self.mean[some] - mean) ** 2))
        return Total(
            mean,
            math.sqrt(variance),
            float(self.min[some].min()),
            float(self.max[some].max()),
            int(self.zeros.sum()) / finite,
            nan,
            inf,
        )


@dataclass(frozen=True)
class Total:
    """Numbers of a whole tensor; `zeros` is a share of the finite values, 0..1."""

    mean: float
    std: float
    min: float
    max: float
    zeros: float
    nan: int
    inf: int


def reduced(rows: Tensor, scratch: Scratch) -> tuple[Total, Channels]:
    """Reduce a contiguous float32 or float64 (row, value) tensor: all of it, and each row, by the names in CHANNELS."""
    found = moments(rows, scratch) if not rows.numel() or not compiled.usable(rows) else _compiled(rows)
    return found if isinstance(found, tuple) else (found.total(), found.channels())


def moments(rows: Tensor, scratch: Scratch) -> Moments:
    """Reduce each row without compiled loops."""
    count = rows.shape[0]
    if not rows.numel():
        nothing, unknown = np.zeros(count, np.int64), np.full(count, np.nan)
        return Moments(nothing, unknown, unknown, unknown, unknown, nothing, nothing, nothing)
    with np.errstate(over="ignore", invalid="ignore"):
        return _moments(rows, scratch)


def _moments(rows: Tensor, scratch: Scratch) -> Moments:
    count, size = rows.shape
    sums, squares, zeros = np.zeros(count), np.zeros(count), np.zeros(count, np.int64)
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    height, width = max(1, PIECE // size), min(size, PIECE)
    for top in range(0, count, height):
        here = slice(top, top + height)
        for left in range(0, size, width):
            piece = rows[here, left : left + width]
            wide = scratch.take(piece.shape, torch.float64, rows.device).copy_(piece)
            sums[here] += _numpy(wide.sum(1))
            squares[here] += _numpy(torch.linalg.vector_norm(wide, dim=1)) ** 2
            low, high = _extremes(piece, scratch)
            least[here] = np.minimum(least[here], low)
            most[here] = np.maximum(most[here], high)
            if not least[here].min() > 0 or not most[here].max() < 0:
                zeros[here] += _zeros(piece, scratch)
    return _settled(rows, sums, squares, least, most, zeros)


def _compiled(rows: Tensor) -> Moments | tuple[Total, Channels]:
    found = compiled.moments(rows, SPREAD)
    if found is None:
        with np.errstate(invalid="ignore"):
            return _of_the_finite(rows)
    each, whole = found
    if whole is not None:
        mean, std, least, most, zeros, *_ = whole.tolist()
        return Total(mean, std, least, most, zeros, 0, 0), dict(zip(CHANNELS, each.T, strict=True))
    mean, variance, least, most, zeros, *_ = each.T
    return _about_the_mean(rows, mean, variance, least, most, zeros.astype(np.int64))


def _settled(
    rows: Tensor, sums: np.ndarray, squares: np.ndarray, least: np.ndarray, most: np.ndarray, zeros: np.ndarray
) -> Moments:
    """The numbers of rows by their sums, each of which is looked at again where those do not tell."""
    size = rows.shape[1]
    if not np.isfinite(sums).all():  # float64 sums of finite float32 values do not overflow
        return _of_the_finite(rows)
    constant = least == most
    mean = np.where(constant, least, sums / size)
    variance = np.where(constant, 0.0, squares / size - mean**2)
    return _about_the_mean(rows, mean, variance, least, most, zeros)


def _about_the_mean(
    rows: Tensor, mean: np.ndarray, variance: np.ndarray, least: np.ndarray, most: np.ndarray, zeros: np.ndarray
) -> Moments:
    """Rows without NaN and infinities, those read again whose variance has lost digits."""
    count, size = rows.shape
    for row in np.flatnonzero((least < most) & ~(variance > SPREAD * (variance + mean**2))):
        variance[row] = _variance_about(rows[row], float(mean[row]))
    none = np.zeros(count, np.int64)
    return Moments(np.full(count, size, np.int64), mean, variance, least, most, zeros, none, none)


def _variance_about(values: Tensor, mean: float) -> float:
    """The variance of one row, read a second time."""
    return float(torch.linalg.vector_norm(values.double() - mean)) ** 2 / values.numel()


def of_the_finite(found: elsewhere.Found) -> Moments:
    """What was found of rows of which some value may be NaN or infinite."""
    none = found.count == 0
    least, most = (np.where(none, np.nan, each) for each in (found.least, found.most))
    infinite = found.size - found.count - found.nan
    return Moments(found.count, found.mean, found.variance, least, most, found.zeros, found.nan, infinite)


def _of_the_finite(rows: Tensor) -> Moments:
    """The slow way, for rows of which some value is NaN or infinite."""
    return of_the_finite(elsewhere.reduce(rows, distribution=False)())


def _extremes(piece: Tensor, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest value of each row."""
    if piece.shape[1] >= SHORT:
        return _numpy(piece.amin(1)), _numpy(piece.amax(1))
    turned = scratch.take(torch.Size((piece.shape[1], piece.shape[0])), piece.dtype, piece.device).copy_(piece.T)
    return _numpy(turned.amin(0)), _numpy(turned.amax(0))


def _zeros(piece: Tensor, scratch: Scratch) -> np.ndarray | int:
    """How many values of each row are exactly 0; plainly 0 if none is."""
    if piece.device.type != "cpu":
        return _numpy((piece == 0).sum(1))
    # whether there is any: numpy compares five times faster than torch here, and counts all of them at once
    flags = scratch.take(piece.shape, torch.bool, piece.device).numpy()
    np.equal(piece.numpy(), 0, out=flags)
    if not np.count_nonzero(flags):
        return 0
    # per row by a product with ones, exact because no row of a piece has 2^24 values: four times faster than any sum
    equal = torch.eq(piece, 0, out=scratch.take(piece.shape, torch.float32, piece.device))
    counts: np.ndarray = torch.mv(equal, equal.new_ones(piece.shape[1])).numpy().astype(np.int64)
    return counts


def _numpy(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.cpu().numpy()
    return array.astype(np.float64) if array.dtype.kind == "f" else array
