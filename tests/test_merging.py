"""Merged numbers against those of everything at once."""

import math

import numpy as np
import pytest
import torch

from hookscope.hooks.numbers.reductions import statistics
from hookscope.hooks.results.merging import merge


def parts() -> list[torch.Tensor]:
    torch.manual_seed(0)
    first = 1e4 + 1e-2 * torch.randn(2, 3, 5, 5)
    second = torch.randn(5, 3, 4, 7).relu()
    third = torch.randn(1, 3, 2, 2)
    third[0, 0, 0, 0], third[0, 1], third[0, 2, 1, 1] = math.nan, math.inf, -math.inf
    return [first, second, third, torch.empty(0, 3, 4, 4)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 2), (2, 0), (2, 3), (3, 2, 1), (3, 3), (2, 2, 2)])
def test_merging_equals_reducing_everything_at_once(order):
    chosen = [parts()[index] for index in order]
    found = statistics(chosen[0], 1, distribution=False)
    for part in chosen[1:]:
        found = merge(found, statistics(part, 1, distribution=False))
    # one long row of positions per channel
    whole = torch.cat([part.double().movedim(1, 0).reshape(3, -1) for part in chosen], 1)
    exact = statistics(whole, 0, distribution=False)
    assert (found.count, found.nan, found.inf) == (exact.count, exact.nan, exact.inf)
    for name in ("mean", "std", "min", "max", "zeros"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-7, abs=1e-9, nan_ok=True)
        np.testing.assert_allclose(found.channels[name], exact.channels[name], rtol=1e-7, atol=1e-9)


def test_control_averaging_the_parts_numbers_is_wrong():
    first, second = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 4, 4), 5.0)
    one, other = (statistics(values, 1, distribution=False) for values in (first, second))
    found = merge(one, other)
    assert (found.mean, found.std) == pytest.approx((4.0, 2.0))  # sixteen fives and four zeros
    assert ((one.mean + other.mean) / 2, (one.std + other.std) / 2) == (2.5, 0.0)
