"""Fixed bins against numpy, and merging against counting everything at once."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from hookscope.hooks.numbers.sketch import sketch
from hookscope.hooks.results.looks import HISTOGRAM_BINS
from hookscope.hooks.results.sketches import (
    cumulative,
    divergence,
    entropy,
    histogram,
    limits,
    merge,
    quantiles,
    wasserstein,
)

LEVELS = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])


def draws(seed: int, size: int = 20_000, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)) + shift


def test_every_value_lies_in_its_bin():
    values = torch.cat([draws(0), draws(1) * 1e-20, draws(2) * 1e30, torch.tensor([0.0, -0.0, 1.0, -1.0, 3.4e38])])
    counted = sketch(values)
    low, high = limits(counted.keys)
    ordered = np.sort(values.double().numpy())
    last = np.cumsum(counted.counts)
    assert last[-1] == values.numel()
    for index, end in enumerate(last):
        inside = ordered[end - counted.counts[index] : end]
        assert low[index] <= inside[0] and inside[-1] <= high[index]
    wide = (counted.keys != 0) & (np.abs(low) > 1e-37)
    assert ((high - low)[wide] <= np.minimum(np.abs(low), np.abs(high))[wide] / 64 * (1 + 1e-9)).all()


def test_zeros_of_both_signs_share_a_bin_and_nothing_infinite_is_counted():
    counted = sketch(torch.tensor([0.0, -0.0, math.nan, -math.nan, math.inf, -math.inf, 2.0]))
    assert dict(zip(limits(counted.keys)[0].tolist(), counted.counts.tolist(), strict=True)) == {0.0: 2, 2.0: 1}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.float64, torch.bool])
def test_every_dtype_is_counted_completely(dtype):
    assert sketch((draws(3) * 3).to(dtype)).counts.sum() == 20_000


def test_merging_equals_counting_everything_at_once():
    parts = [draws(4).relu(), draws(5) * 100, torch.zeros(7), torch.empty(0)]
    merged = sketch(torch.empty(0))
    for part in parts:
        merged = merge(merged, sketch(part))
    whole = sketch(torch.cat(parts))
    np.testing.assert_array_equal(merged.keys, whole.keys)
    np.testing.assert_array_equal(merged.counts, whole.counts)


@pytest.mark.parametrize("make", [lambda x: x, torch.relu, lambda x: x.abs() + 1e4, lambda x: x.exp()])
def test_quantiles_are_within_a_sixty_fourth(make):
    values = make(draws(6))
    found = quantiles(sketch(values), LEVELS, float(values.min()), float(values.max()))
    exact = np.quantile(values.double().numpy(), LEVELS)
    np.testing.assert_allclose(found, exact, rtol=1 / 64, atol=2e-3)


def test_a_histogram_keeps_the_total_and_is_near_the_exact_one():
    values = draws(7).relu()
    found, edges = histogram(sketch(values), 0.0, float(values.max()))
    exact, _ = np.histogram(values.double().numpy(), edges)
    assert found.sum() == exact.sum() and len(found) == HISTOGRAM_BINS
    # what may stand on the wrong side of an edge is in the one fixed bin that the edge cuts
    assert np.abs(np.cumsum(found) - np.cumsum(exact)).max() <= sketch(values[values > 0]).counts.max()
    assert found[0] >= (values == 0).sum()


def test_a_constant_fills_one_bin():
    found, edges = histogram(sketch(torch.full((9,), 7.5)), 7.5, 7.5)
    assert found.sum() == found.max() == 9 and edges[0] < 7.5 < edges[-1]
    assert (quantiles(sketch(torch.full((9,), 7.5)), LEVELS, 7.5, 7.5) == 7.5).all()


def test_nothing_has_no_quantiles():
    assert np.isnan(quantiles(sketch(torch.empty(0)), LEVELS, math.nan, math.nan)).all()
    assert histogram(sketch(torch.empty(0)), math.nan, math.nan)[0].sum() == 0
    assert math.isnan(divergence(sketch(torch.empty(0)), sketch(torch.ones(1)))) and math.isnan(entropy(np.zeros(3)))


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    both = [cumulative(sketch(values), float(values.min()), float(values.max())) for values in (first, second)]
    return wasserstein(both[0], both[1])


@pytest.mark.parametrize("shift", [0.0, 0.1, 5.0])
def test_wasserstein_agrees_with_scipy_on_the_values_themselves(shift):
    first, second = draws(8), draws(9, 15_000, shift).relu()
    assert distance(first, second) == pytest.approx(wasserstein_distance(first.numpy(), second.numpy()), rel=0.02)


def test_wasserstein_by_hand():
    # two points moved by 3, and one of two points moved by 2
    assert distance(torch.tensor([1.0, 2.0]), torch.tensor([4.0, 5.0])) == pytest.approx(3, rel=0.02)
    assert distance(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 2.0])) == pytest.approx(1, rel=0.02)
    assert distance(torch.zeros(3), torch.zeros(5)) == 0


def test_divergence_agrees_with_scipy_and_has_its_limits():
    first, second = draws(10), draws(11, shift=1.0)
    one, other = sketch(first), sketch(second)
    keys = np.union1d(one.keys, other.keys)
    rows = [np.array([dict(zip(s.keys, s.counts, strict=True)).get(key, 0) for key in keys]) for s in (one, other)]
    assert divergence(one, other) == pytest.approx(jensenshannon(rows[0], rows[1], base=2) ** 2, rel=1e-9)
    assert divergence(one, one) == 0
    assert divergence(sketch(torch.ones(4)), sketch(-torch.ones(9))) == 1


def test_entropy_by_hand():
    assert entropy(np.array([4, 4, 0, 8])) == 1.5  # 1/4, 1/4, 1/2
    assert entropy(np.array([7, 0])) == 0
