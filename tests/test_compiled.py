"""The compiled loops against numpy, and that nothing but the time depends on them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from checkout import ROOT
from scipy.stats import ks_2samp, wasserstein_distance

from hookscope.hooks.numbers import compiled
from hookscope.hooks.numbers.reductions import LONG, by_image, statistics
from hookscope.hooks.results.distributions import channel_distances
from hookscope.hooks.results.looks import HISTOGRAM_BINS, QUANTILE_LEVELS


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CASES = {
    "noise": noise(1, 6, 200, 200),
    "after a ReLU": noise(1, 6, 200, 200).relu(),
    "far from 0": 1e4 + 1e-2 * noise(1, 6, 200, 200),
    "tiny": 1e-39 * noise(1, 6, 200, 200),  # subnormal in float32
    "huge": 3e38 * (2 * torch.rand(1, 6, 200, 200, generator=torch.Generator().manual_seed(1)) - 1),
    "few values": torch.arange(240_000.0).reshape(1, 6, 200, 200) % 7,
    "one value": torch.full((1, 6, 200, 200), -3.5),
    "zeros of both signs": torch.tensor([0.0, -0.0]).repeat(120_000).reshape(1, 6, 200, 200),
    "not finite here and there": torch.where(
        noise(1, 6, 200, 200) > 3, torch.nan, noise(1, 6, 200, 200, seed=1)
    ).masked_fill(noise(1, 6, 200, 200, seed=2) > 3, -torch.inf),
}


@pytest.mark.parametrize("name", CASES)
def test_every_number_is_numpys(name: str) -> None:
    values = CASES[name]
    assert compiled.usable(values) and values.numel() > LONG
    found = statistics(values, 1)
    flat = values.double().numpy().reshape(-1)
    finite = flat[np.isfinite(flat)]
    assert (found.min, found.max) == (finite.min(), finite.max())
    assert found.zeros == (finite == 0).mean()
    assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-12 * np.abs(finite).max())
    assert found.std == pytest.approx(finite.std(), rel=1e-9)
    np.testing.assert_array_equal(found.quantiles, np.quantile(finite, QUANTILE_LEVELS, method="linear"))
    if found.min < found.max:
        np.testing.assert_array_equal(found.histogram, np.histogram(finite, HISTOGRAM_BINS)[0])
    else:
        assert found.histogram.sum() == finite.size == found.histogram.max()
    assert (found.nan, found.inf) == (np.isnan(flat).sum(), np.isinf(flat).sum())


@pytest.mark.parametrize("name", CASES)
def test_without_numba_the_numbers_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = statistics(CASES[name], 1)
    monkeypatch.setattr(compiled, "kernels", lambda: None)
    without = statistics(CASES[name], 1)
    np.testing.assert_array_equal(with_it.histogram, without.histogram)
    np.testing.assert_array_equal(with_it.quantiles, without.quantiles)
    for field in ("min", "max", "zeros", "nan", "inf"):
        np.testing.assert_array_equal(with_it.channels[field], without.channels[field])
    np.testing.assert_allclose(
        with_it.channels["mean"], without.channels["mean"], rtol=1e-12, atol=1e-12 * abs(with_it.max)
    )
    np.testing.assert_allclose(with_it.channels["std"], without.channels["std"], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 65_537])
def test_every_rank_of_sorted_values(count: int) -> None:
    values = noise(count).numpy()
    ranks = np.unique(np.linspace(0, count - 1, 20).astype(np.int64))
    np.testing.assert_array_equal(compiled.ranked(values, ranks), np.sort(values)[ranks])


@pytest.mark.parametrize("why", ["numba is not there", "nothing can be kept"])
def test_a_process_that_lacks_something(why: str) -> None:
    block = {
        "numba is not there": "import sys; sys.modules['numba'] = None",
        "nothing can be kept": "import os, numba; from numba.core import caching; "
        "caching.CacheImpl._locator_classes = caching.FunctionCache._impl_class._locator_classes = []",
    }[why]
    code = (
        f"{block}; import torch; from hookscope.hooks.numbers import compiled; "
        "from hookscope.hooks.numbers.reductions import statistics; "
        "print(compiled.kernels() is None, statistics(torch.tensor([[1.0, 2.0, 6.0]]), None).mean)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(why == "numba is not there"), "3.0"]


@pytest.mark.parametrize("shape", [(1, 1), (6, 40_000), (3, 70_001), (1, 200_000)])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e25])
def test_sums_of_squares_are_numpys(shape: tuple[int, int], scale: float) -> None:
    one, other = noise(*shape), noise(*shape, seed=1) * scale
    found = compiled.squares(one, other)
    a, b = one.double().numpy(), other.double().numpy()
    expected = np.stack([(a**2).sum(1), (b**2).sum(1), ((a - b) ** 2).sum(1)], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not compiled.squares(one, one)[:, 2].any()


SHAPES = [((1, 1), (1, 1)), ((3, 5), (3, 9)), ((6, 400), (6, 400)), ((7, 90_000), (7, 80_001)), ((2, 4), (2, 1))]


@pytest.mark.parametrize("shape, other", SHAPES)
@pytest.mark.parametrize("kind", ["noise", "ties", "the same", "apart", "not finite", "huge"])
def test_distances_of_distributions_are_numpys_and_scipys(
    shape: tuple[int, int], other: tuple[int, int], kind: str
) -> None:
    a, b = noise(*shape), noise(*other, seed=1)
    if kind == "ties":
        a, b = a.round(), b.round()
    elif kind == "the same":
        b = a.flip(1)
    elif kind == "apart":
        b = b + 20
    elif kind == "not finite":
        a[0, 0], b[-1, -1] = torch.nan, -torch.inf
    elif kind == "huge":
        a, b = a * 1e38, b * 1e38
    found = compiled.distances(a, b)
    expected = channel_distances(a.numpy(), b.numpy())
    for one, by_numpy in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, by_numpy, rtol=1e-5, atol=1e-12)
    row = len(a) // 2
    values = a[row].numpy(), b[row].numpy()
    if all(np.isfinite(each).all() for each in values):
        assert found[0][row] == pytest.approx(wasserstein_distance(*map(np.float64, values)), rel=1e-9, abs=1e-12)
        assert found[1][row] == pytest.approx(ks_2samp(*values).statistic, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("nothing", [0.0, -0.0, 1e-42])  # 1e-42 is in the bin of 0 and no 0
def test_ranks_where_many_values_are_zero(share: float, nothing: float) -> None:
    values = noise(50_001).numpy()
    values[: int(share * len(values))] = nothing
    values[: int(share * len(values) / 2)] = 0
    ranks = np.linspace(0, len(values) - 1, 15).astype(np.int64)
    np.testing.assert_array_equal(compiled.ranked(values, ranks), np.sort(values)[ranks])


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_read_image_by_image_and_the_numbers_are_numpys(name: str) -> None:
    values = torch.cat([CASES[name][:, :3], CASES[name][:, 3:]]).reshape(2, 3, 200, 200)
    found = by_image(values)
    array = values.double().numpy()
    if not np.isfinite(array).all() or name == "far from 0":  # then the other way is gone
        assert found is None
        return
    assert found is not None
    numbers, largest = found
    np.testing.assert_array_equal(largest, np.abs(array).max((2, 3)))
    by_channel = {
        "mean": array.mean((0, 2, 3)),
        "std": array.std((0, 2, 3)),
        "min": array.min((0, 2, 3)),
        "max": array.max((0, 2, 3)),
        "zeros": (array == 0).mean((0, 2, 3)),
        "nan": np.zeros(3),
        "inf": np.zeros(3),
    }
    scale = np.abs(array).max()
    assert numbers.channels.keys() == by_channel.keys()
    for field, expected in by_channel.items():
        np.testing.assert_allclose(numbers.channels[field], expected, rtol=1e-9, atol=1e-12 * scale, err_msg=field)
    for field, expected in (("mean", array.mean()), ("std", array.std()), ("zeros", (array == 0).mean())):
        np.testing.assert_allclose(getattr(numbers, field), expected, rtol=1e-9, atol=1e-12 * scale, err_msg=field)
    assert (numbers.min, numbers.max, numbers.count) == (array.min(), array.max(), array.size)
