"""Loops over float32 values, compiled by numba for the processor at hand when this module is first imported.

What is compiled is kept beside this file, as Python keeps its own compiled files, or in the user's cache folder; where
neither can be written, every process compiles anew. Nothing here knows tensors, axes or threads: `compiled` does.

Sums are float64, but those of `squares` begin as float32. "reassoc" and "contract" let several sums run side by side,
which moves a result by a rounding and no more; NaN and infinities are not assumed away, so that a sum tells whether
there were any.

What makes them fast: each loop does one thing and runs over a slice from 0 to its size, for then the compiler takes 8
or 16 values at once. A loop over `values[start + index]`, one that copies on the way, or a minimum of floats, which has
to mind NaN, is taken value by value: six to ten times slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np

QUICK = {"reassoc", "contract", "nsz", "arcp"}
RUN = 2048  # values that are read by one loop after the other while they are near
SMALL, LARGE = np.float32(1e-18), np.float32(1e37)  # between them float32 sums of RUN squares are right to 1e-6
LITTLE = 1e-6  # of a bin: more than float64 may be wrong by
TABLES = 4  # counters of one bin, taken in turns: no addition waits for the one before it
FIRST, NEXT = 14, 9  # bits of an order that are counted at first, and then twice more
ENDLESS = np.float32(np.inf)
SIGN, REST = np.int32(31), np.int32(0x7FFFFFFF)


def compile_for(signature: str, fastmath: set[str] | bool = False) -> Callable[[Callable], Callable]:
    """Compiles a loop for the types of its arguments, as numba writes them."""

    def compile_it(function: Callable) -> Callable:
        try:
            return numba.njit(signature, nogil=True, cache=True, fastmath=fastmath)(function)
        except RuntimeError:  # there is no folder to keep it in
            return numba.njit(signature, nogil=True, fastmath=fastmath)(function)

    return compile_it


@compile_for("int32(int32)")
def signed(bits: np.int32) -> np.int32:
    """The bits of a float32 as a whole number that rises with the value; its own inverse."""
    return bits ^ (bits >> SIGN & REST)


@compile_for("uint32(int32)")
def digit(bits: np.int32) -> np.uint32:
    """The FIRST bits of the order of a float32."""
    return (np.uint32(signed(bits)) ^ np.uint32(0x80000000)) >> np.uint32(32 - FIRST)


@compile_for("boolean(float32[:, ::1], int32[:, ::1], int32[:, ::1], float32[:, ::1], float64[:, ::1])", QUICK)
def moments(rows: np.ndarray, bits: np.ndarray, orders: np.ndarray, ends: np.ndarray, found: np.ndarray) -> bool:
    """Of each row the mean, the variance, the least, the largest, and the number of zeros; whether all sums are finite.

    Where the variance is small beside the squared mean it has lost digits. With a NaN or an infinity in a row its
    numbers mean nothing.

    Arguments:
        rows: (row, value). bits: the same memory as int32. orders: (row, 2), to work in. ends: the same as float32.
        found: (row, 5 or more), to write into.
    """
    finite = True
    size = rows.shape[1]
    for row in range(rows.shape[0]):
        total = squares = 0.0
        low, high, none = np.int32(0x7FFFFFFF), np.int32(-0x80000000), 0
        for start in range(0, size, RUN):
            values, whole = rows[row, start : start + RUN], bits[row, start : start + RUN]
            part = part_squares = 0.0
            for index in range(values.size):
                value = np.float64(values[index])
                part += value
                part_squares += value * value
            least, most, zero = np.int32(0x7FFFFFFF), np.int32(-0x80000000), np.int32(0)
            for index in range(whole.size):
                order = signed(whole[index])
                least = min(least, order)
                most = max(most, order)
                zero += np.int32(whole[index] & REST == np.int32(0))
            total += part
            squares += part_squares
            low, high = min(low, least), max(high, most)
            none += zero
        orders[row, 0], orders[row, 1] = signed(low), signed(high)
        finite = finite and np.isfinite(total)
        constant = ends[row, 0] == ends[row, 1]
        mean = np.float64(ends[row, 0]) if constant else total / size
        found[row, 0] = mean
        found[row, 1] = 0.0 if constant else squares / size - mean * mean
        found[row, 2], found[row, 3], found[row, 4] = ends[row, 0], ends[row, 1], none
    return finite


@compile_for("boolean(float64[:, ::1], int64, float64, float64[::1])")  # not quick: -0 and 0 are told apart
def together(found: np.ndarray, size: int, spread: float, whole: np.ndarray) -> bool:
    """Make of what `moments` found the numbers that are shown, of rows and of all; False where a row has lost digits.

    An extreme of -0 becomes 0 in any case. Nothing else is written where a row has lost digits.

    Arguments:
        found: (row, 7), of which `moments` wrote the first five; becomes mean, standard deviation, least, largest, the
            share of zeros, and 0 twice. whole: (7,), to write the same of all rows into.
        size: values in a row. spread: of the mean square, above which a variance has not lost digits.
    """
    count = found.shape[0]
    mean = 0.0
    sure = True
    for row in range(count):
        mean += found[row, 0]
        found[row, 2] += 0.0
        found[row, 3] += 0.0
        large = found[row, 1] > spread * (found[row, 1] + found[row, 0] * found[row, 0])
        sure = sure and (large or found[row, 2] == found[row, 3])
    if not sure:
        return False
    mean /= count
    variance = zeros = 0.0
    least, most = np.inf, -np.inf
    for row in range(count):
        away = found[row, 0] - mean
        variance += found[row, 1] + away * away  # within the rows and between their means
        least, most = min(least, found[row, 2]), max(most, found[row, 3])
        zeros += found[row, 4]
        found[row, 1] = math.sqrt(found[row, 1])
        found[row, 4] /= size
        found[row, 5] = found[row, 6] = 0.0
    whole[0], whole[1], whole[2], whole[3] = mean, math.sqrt(variance / count), least, most
    whole[4] = zeros / (count * size)
    whole[5] = whole[6] = 0.0
    return True


@compile_for("void(float64[:, :, ::1], float64[:, ::1], float64[:, ::1])")
def over_images(each: np.ndarray, found: np.ndarray, largest: np.ndarray) -> None:
    """Of each channel of every image, as `moments` found them, the same of all images.

    Arguments:
        each: (image, channel, 5 or more). found: (channel, 5 or more), to write into; and largest: (image, channel),
            the largest magnitude.
    """
    images, channels = largest.shape
    for channel in range(channels):
        mean = 0.0
        for image in range(images):
            mean += each[image, channel, 0]
        mean /= images
        variance = zeros = 0.0
        least, most = np.inf, -np.inf
        for image in range(images):
            away = each[image, channel, 0] - mean
            variance += each[image, channel, 1] + away * away
            low, high = each[image, channel, 2], each[image, channel, 3]
            least, most = min(least, low), max(most, high)
            largest[image, channel] = max(-low, high)
            zeros += each[image, channel, 4]
        found[channel, 0] = least if least == most else mean
        found[channel, 1] = 0.0 if least == most else variance / images
        found[channel, 2], found[channel, 3], found[channel, 4] = least, most, zeros


@compile_for("void(float32[:, ::1], float32[:, ::1], float64[:, ::1])", QUICK)
def squares(rows: np.ndarray, others: np.ndarray, found: np.ndarray) -> None:
    """Sums of squares of rows (row, value), of others, and of the difference, into `found` (row, 3)."""
    for row in range(rows.shape[0]):
        of_values = of_others = apart = 0.0
        for start in range(0, rows.shape[1], RUN):
            values, second = rows[row, start : start + RUN], others[row, start : start + RUN]
            one = two = three = np.float32(0)
            for index in range(values.size):
                value, other = values[index], second[index]
                one += value * value
                two += other * other
                three += (value - other) * (value - other)
            if min(one, two, three) > SMALL and max(one, two, three) < LARGE:
                of_values += one
                of_others += two
                apart += three
                continue
            for index in range(values.size):  # float32 would lose what is very small or very large
                wide, wide_other = np.float64(values[index]), np.float64(second[index])
                of_values += wide * wide
                of_others += wide_other * wide_other
                apart += (wide - wide_other) * (wide - wide_other)
        found[row, 0], found[row, 1], found[row, 2] = of_values, of_others, apart


@compile_for("void(float32[:, ::1], float32[:, ::1], float64[:, ::1])")
def distances(rows: np.ndarray, others: np.ndarray, found: np.ndarray) -> None:
    """Wasserstein-1 and Kolmogorov-Smirnov distances of sorted rows, into `found` (row, 2).

    Of rows with a NaN, which is sorted to the end, or an infinity they are NaN.

    Walks through both at once: between two values that follow each other the shares of the values so far are apart by
    the same `gap`, whose area and largest size these are.
    """
    one, other = rows.shape[1], others.shape[1]
    for row in range(rows.shape[0]):
        first, second = rows[row], others[row]
        ends = np.float64(first[0]) + first[one - 1] + second[0] + second[other - 1]
        if not math.isfinite(ends):
            found[row, 0] = found[row, 1] = np.nan
            continue
        area, largest, gap = 0.0, 0.0, 0.0
        before = np.float64(min(first[0], second[0]))
        i = j = 0
        while i < one or j < other:
            value = first[i] if i < one else ENDLESS
            beside = second[j] if j < other else ENDLESS
            here = min(value, beside)
            i += here == value
            j += here == beside
            width = np.float64(here) - before
            area += gap * width
            largest = max(largest, gap if width > 0 else 0.0)
            gap = abs(i / one - j / other)
            before = np.float64(here)
        found[row, 0], found[row, 1] = area, largest


@compile_for("void(float32[::1], float64, float64, float32[::1], int64[::1])")
def histogram(values: np.ndarray, least: float, scale: float, limits: np.ndarray, counts: np.ndarray) -> None:
    """Count values into bins: bin b holds limits[b] <= value < limits[b + 1].

    Arguments:
        least, scale: where the bins begin, and bins per unit.
        limits: float32 (bin + 1,), rising, the last one +inf. counts: (bin,), to add to.
    """
    tables = np.zeros((TABLES, counts.size), np.int64)
    places = np.empty(RUN, np.int32)
    for start in range(0, values.size, RUN):
        part = values[start : start + RUN]
        near = places[: part.size]
        unsure = np.int32(0)
        for index in range(part.size):  # too low by a little, so that the true bin is this one or the next
            exact = (np.float64(part[index]) - least) * scale
            near[index] = np.int32(exact - LITTLE)
            unsure |= near[index] ^ np.int32(exact + LITTLE)
        if unsure:
            for index in range(part.size):
                near[index] += np.int32(part[index] >= limits[np.uint32(near[index] + 1)])
        whole = part.size // TABLES * TABLES
        for index in range(0, whole, TABLES):
            for turn in range(TABLES):
                tables[turn, np.uint32(near[index + turn])] += 1
        for index in range(whole, part.size):
            tables[0, np.uint32(near[index])] += 1
    for place in range(counts.size):
        for table in range(TABLES):
            counts[place] += tables[table, place]


@compile_for("void(int32[::1], int64, int64[::1])")
def by_bits(bits: np.ndarray, shift: int, counts: np.ndarray) -> None:
    """Count float32 values, given as bits, by those above `shift`, into `counts` (2^(32 - shift),)."""
    tables = np.zeros((TABLES, counts.size), np.int32)
    places = np.empty(RUN, np.uint32)
    for start in range(0, bits.size, RUN):
        part = bits[start : start + RUN]
        near = places[: part.size]
        for index in range(part.size):
            near[index] = np.uint32(part[index]) >> np.uint32(shift)
        for index in range(part.size):
            tables[np.uint32(index) & np.uint32(TABLES - 1), near[index]] += 1
    for place in range(counts.size):
        for table in range(TABLES):
            counts[place] += tables[table, place]


@compile_for("int64(int32[::1], int16[::1], int32[::1], int16[::1])")
def chosen(bits: np.ndarray, slots: np.ndarray, kept: np.ndarray, where: np.ndarray) -> int:
    """Keep the order of values whose first digit has a slot (2^FIRST,), none is -1, and the slot; say how many."""
    places = np.empty(RUN, np.uint32)
    count = 0
    for start in range(0, bits.size, RUN):
        part = bits[start : start + RUN]
        near = places[: part.size]
        for index in range(part.size):
            near[index] = digit(part[index])
        for index in range(part.size):
            slot = slots[near[index]]
            if slot >= 0:  # seldom: one of a hundred
                kept[count], where[count] = signed(part[index]), slot
                count += 1
    return count


@compile_for("void(int32[::1], int16[::1], int64, int64[:, ::1])")
def by_next(kept: np.ndarray, where: np.ndarray, shift: int, counts: np.ndarray) -> None:
    """Count orders by NEXT of their bits above `shift`, within their slots: `counts` (slot, 2^NEXT)."""
    tables = np.zeros((2, counts.shape[0], counts.shape[1]), np.int32)
    for index in range(kept.size):
        place = np.uint32(kept[index]) >> np.uint32(shift) & np.uint32((1 << NEXT) - 1)
        tables[np.uint32(index) & np.uint32(1), np.uint32(where[index]), place] += 1
    for slot in range(counts.shape[0]):
        for place in range(counts.shape[1]):
            counts[slot, place] = tables[0, slot, place] + tables[1, slot, place]


@compile_for("int64(int32[::1], int16[::1], int16[:, ::1])")
def narrowed(kept: np.ndarray, where: np.ndarray, slots: np.ndarray) -> int:
    """Of kept orders leave those whose slot and middle digit have a slot in turn (slot, 2^NEXT); say how many."""
    count = 0
    for index in range(kept.size):
        order = kept[index]
        slot = slots[np.uint32(where[index]), np.uint32(order) >> np.uint32(NEXT) & np.uint32((1 << NEXT) - 1)]
        kept[count], where[count] = order, slot
        count += slot >= 0
    return count
