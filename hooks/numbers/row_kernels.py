"""Loops over the rows of a batch, a row for each channel of each picture, compiled by numba as those of `kernels` are.

One reading of a layer's output gives its moments, extremes and zeros; what a sweep keeps of them (totals, the strongest
pictures) is then kept by loops over rows, and no longer over values.

The extremes are found without a comparison of floats, which has to mind NaN and takes them one by one: read as whole
numbers, positive floats rise with their value and negative ones fall. So the largest signed number is the largest
positive float, the largest unsigned number the negative float that is furthest from 0, and the least unsigned number
what is nearest to 0 among the positive ones, or among the negative ones where there are no others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hookscope.hooks.numbers.kernels import QUICK, compile_for

RUN = 2048  # values that are summed in float32 before the sum is taken up in float64
NEAR = 100.0  # squared deviations, by which the first value may be away from the mean for its sums to be right to 1e-5
SMALL, LARGE = 1e-15, 1e15  # of a row's range and values: beyond them squares leave float32


@compile_for(
    "boolean(float32[:, ::1], int32[:, ::1], uint32[:, ::1], int32[:, ::1], float32[:, ::1], float64[:, ::1])", QUICK
)
def each_row(
    rows: np.ndarray, signed: np.ndarray, unsigned: np.ndarray, ends: np.ndarray, floats: np.ndarray, found: np.ndarray
) -> bool:
    """Of each row the mean, the variance, the least, the largest, and the number of zeros; whether all are finite.

    Sums are of what is left of a value without the row's first one: so the digits of a small spread about a large mean
    are kept. They are right to a millionth of the deviation; where they would not be, the row is read again in float64.

    Arguments:
        rows: (row, value). signed, unsigned: the same memory as whole numbers.
        ends: (row, 2), to work in. floats: the same as float32. found: (row, 5), to write into.
    """
    size = rows.shape[1]
    finite = True
    for row in range(rows.shape[0]):
        pivot = rows[row, 0]
        total = squares = zeros = 0.0
        most, furthest, nearest = np.int32(-0x80000000), np.uint32(0), np.uint32(0xFFFFFFFF)
        for start in range(0, size, RUN):
            values = rows[row, start : start + RUN]
            whole, bits = signed[row, start : start + RUN], unsigned[row, start : start + RUN]
            part: Any = np.float32(0)
            part_squares: Any = np.float32(0)
            part_zeros: Any = np.float32(0)
            high, far, near = np.int32(-0x80000000), np.uint32(0), np.uint32(0xFFFFFFFF)
            for index in range(values.size):
                value = values[index]
                away = value - pivot
                part += away
                part_squares += away * away
                part_zeros += np.float32(1) if value == np.float32(0) else np.float32(0)
                high = max(high, whole[index])
                far = max(far, bits[index])
                near = min(near, bits[index])
            total += part
            squares += part_squares
            zeros += part_zeros
            most, furthest, nearest = max(most, high), max(furthest, far), min(nearest, near)
        below, above = furthest >= np.uint32(0x80000000), nearest < np.uint32(0x80000000)
        ends[row, 0] = np.int32(furthest) if below else np.int32(nearest)
        ends[row, 1] = most if above else np.int32(nearest)
        least, largest = np.float64(floats[row, 0]) + 0.0, np.float64(floats[row, 1]) + 0.0
        away = total / size
        mean, variance = pivot + away, squares / size - away * away
        right = total + squares < np.inf and away * away <= NEAR * variance
        right = right and largest - least > SMALL and max(-least, largest) < LARGE
        if not right:  # read again: the values are too far apart or too small for float32, all the same, or not finite
            total = 0.0
            for index in range(size):
                total += np.float64(rows[row, index])
            finite = finite and -np.inf < total < np.inf  # `isfinite` asks total - total == 0: here always true
            mean = least if least == largest else total / size
            variance = 0.0
            for index in range(size):
                variance += (np.float64(rows[row, index]) - mean) ** 2
            variance /= size
        found[row, 0], found[row, 1], found[row, 4] = mean, variance, zeros
        found[row, 2], found[row, 3] = least, largest
    return finite


@compile_for("void(float64[:, :, ::1], int64, float64, float64[:, ::1])")
def add(each: np.ndarray, size: int, threshold: float, totals: np.ndarray) -> None:
    """Add what `each_row` found of a batch to what is known of the channels.

    Arguments:
        each: (picture, channel, 5). size: values in a row. threshold: of a magnitude, above which a channel fires.
        totals: (channel, 7 or more): values so far, mean, sum of squared deviations, least, largest, zeros, and in how
            many pictures it fired. Without values yet the extremes are +inf and -inf.
    """
    for channel in range(totals.shape[0]):
        count, mean, squares = totals[channel, 0], totals[channel, 1], totals[channel, 2]
        least, most, zeros, fired = totals[channel, 3], totals[channel, 4], totals[channel, 5], totals[channel, 6]
        for picture in range(each.shape[0]):
            away = each[picture, channel, 0] - mean
            low, high = each[picture, channel, 2], each[picture, channel, 3]
            both = count + size
            mean += away * (size / both)
            squares += each[picture, channel, 1] * size + away * away * (count * (size / both))
            count = both
            least, most = min(least, low), max(most, high)
            zeros += each[picture, channel, 4]
            fired += 1.0 if max(-low, high) > threshold else 0.0
        totals[channel, 0], totals[channel, 1], totals[channel, 2] = count, mean, squares
        totals[channel, 3], totals[channel, 4], totals[channel, 5], totals[channel, 6] = least, most, zeros, fired


@compile_for("int64(float32[::1], float32)")
def first_place(row: np.ndarray, value: float) -> int:
    """The first place of a value in a row; 0 if it is not there."""
    for index in range(row.size):
        if row[index] == value:
            return index
    return 0


@compile_for(
    "void(float64[:, :, ::1], int64, float32[:, :, ::1], int64[::1], float32[:, ::1], int64[:, ::1], int32[:, ::1])"
)
def rank(
    numbers: np.ndarray,
    column: int,
    rows: np.ndarray,
    pictures: np.ndarray,
    values: np.ndarray,
    whose: np.ndarray,
    places: np.ndarray,
) -> None:
    """Put the pictures of a batch among the strongest of each channel.

    Of equal ones the picture with the lower number comes first, so that the order of the batches does not matter.

    Arguments:
        numbers: (picture, channel, 5), as `each_row` finds them. column: of that by which they are ranked.
        rows: (picture, channel, value), where the largest value is sought. pictures: their numbers in the set.
        values, whose, places: (channel, rank), the strongest so far, to write into: by what, which picture, and where
            in its row the largest value is. A rank that is still free has -inf and the largest number there is.
    """
    ranks = values.shape[1]
    for channel in range(values.shape[0]):
        for picture in range(numbers.shape[0]):
            value, number = np.float32(numbers[picture, channel, column]), pictures[picture]
            if not value > -np.inf:  # it has no number
                continue
            rank = ranks
            while rank > 0 and (
                value > values[channel, rank - 1]
                or (value == values[channel, rank - 1] and number < whose[channel, rank - 1])
            ):
                rank -= 1
            if rank == ranks:
                continue
            for lower in range(ranks - 1, rank, -1):
                values[channel, lower] = values[channel, lower - 1]
                whose[channel, lower] = whose[channel, lower - 1]
                places[channel, lower] = places[channel, lower - 1]
            values[channel, rank], whose[channel, rank] = value, number
            places[channel, rank] = first_place(rows[picture, channel], np.float32(numbers[picture, channel, 3]))
