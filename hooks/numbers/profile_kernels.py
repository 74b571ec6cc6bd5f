"""A loop over what `row_kernels` has read of a batch: the numbers of each picture, all of its channels together."""

from __future__ import annotations

import numpy as np

from hookscope.hooks.numbers.kernels import QUICK, compile_for


@compile_for("void(float64[:, :, ::1], int64, float64[:, ::1])", QUICK)
def profile(numbers: np.ndarray, size: int, found: np.ndarray) -> None:
    """Of each picture the mean, the variance, the share of zeros and the largest value.

    Arguments:
        numbers: (picture, channel, 5): mean, variance, least, largest and number of zeros of `size` finite values each.
        found: (picture, 4), to write into.
    """
    channels = numbers.shape[1]
    for picture in range(numbers.shape[0]):
        pivot, largest = numbers[picture, 0, 0], numbers[picture, 0, 3]
        total = variances = zeros = squares = 0.0
        for channel in range(channels):
            away = numbers[picture, channel, 0] - pivot
            total += away
            squares += away * away
            variances += numbers[picture, channel, 1]
            zeros += numbers[picture, channel, 4]
            if numbers[picture, channel, 3] > largest:
                largest = numbers[picture, channel, 3]
        mean = total / channels
        found[picture, 0] = pivot + mean
        found[picture, 1] = max(0.0, (variances + squares) / channels - mean * mean)
        found[picture, 2], found[picture, 3] = zeros / (channels * size), largest
