"""Numbers against numpy in float64, and the tensors that make naive reductions wrong."""

import math

import numpy as np
import pytest
import torch

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.numbers import elsewhere
from hookscope.hooks.numbers.moments import PIECE, Scratch, moments
from hookscope.hooks.numbers.reductions import statistics, statistics_later
from hookscope.hooks.results.looks import HISTOGRAM_BINS, QUANTILE_LEVELS, Statistics


def compare(tensor: torch.Tensor, channel_axis: int | None) -> None:
    """Every number against numpy's own in float64, over the finite values; and again by the way of accelerators."""
    agree(statistics(tensor, channel_axis), tensor, channel_axis)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elsewhere, "lies_there", lambda values: True)
        agree(statistics(tensor, channel_axis), tensor, channel_axis)


def agree(found: Statistics, tensor: torch.Tensor, channel_axis: int | None) -> None:
    values = tensor.detach().double().numpy()
    finite = values[np.isfinite(values)]
    assert found.count == values.size
    assert found.nan == np.isnan(values).sum() and found.inf == np.isinf(values).sum()
    assert (found.min, found.max) == (finite.min(), finite.max())
    assert found.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-12)
    assert found.std == pytest.approx(finite.std(), rel=1e-6, abs=1e-12)
    assert found.zeros == (finite == 0).mean()
    np.testing.assert_allclose(found.quantiles, np.quantile(finite, QUANTILE_LEVELS), rtol=1e-12)
    counts, edges = np.histogram(finite, HISTOGRAM_BINS)
    np.testing.assert_array_equal(found.histogram, counts)
    np.testing.assert_array_equal(found.edges, edges)
    if channel_axis is None:
        assert found.channels == {}
        return
    for index, channel in enumerate(np.moveaxis(values, channel_axis, 0).reshape(values.shape[channel_axis], -1)):
        usable = channel[np.isfinite(channel)]
        numbers = {name: column[index] for name, column in found.channels.items()}
        assert numbers["nan"] == np.isnan(channel).sum() and numbers["inf"] == np.isinf(channel).sum()
        assert (numbers["min"], numbers["max"]) == (usable.min(), usable.max())
        assert numbers["mean"] == pytest.approx(usable.mean(), rel=1e-9, abs=1e-12)
        assert numbers["std"] == pytest.approx(usable.std(), rel=1e-6, abs=1e-12)
        assert numbers["zeros"] == (usable == 0).mean()


def test_four_pixels_by_hand():
    found = statistics(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [-4.0, 0.0]]]]), 1)
    assert (found.count, found.min, found.max, found.mean) == (8, -4, 6, 1)
    # squares about the mean 1: 0 + 1 + 4 + 25 and 1 + 1 + 25 + 1
    assert found.std == pytest.approx(math.sqrt(58 / 8), rel=1e-12)
    assert found.zeros == 3 / 8
    assert found.histogram.sum() == 8 and found.histogram[0] == 1 and found.histogram[-1] == 1
    assert found.quantiles[3] == 0.5  # between 0 and 1, the fourth and fifth of the eight
    np.testing.assert_array_equal(found.channels["mean"], [3, -1])
    np.testing.assert_allclose(found.channels["std"], [math.sqrt(14 / 4), math.sqrt(3)], rtol=1e-12)
    np.testing.assert_array_equal(found.channels["zeros"], [0, 0.75])


@pytest.mark.parametrize("shape, axis", [((1, 6, 9, 7), 1), ((1, 9, 7, 6), 3), ((1, 10, 6), 2), ((3, 40), None)])
def test_random_values_agree_with_numpy(shape, axis):
    torch.manual_seed(0)
    values = torch.randn(shape)
    compare(values, axis)
    compare(values.relu(), axis)  # many zeros, all of them in one bin
    compare(values.double(), axis)


def test_values_that_lie_exactly_on_edges_are_counted_as_numpy_counts_them():
    compare(torch.linspace(-1, 1, HISTOGRAM_BINS + 1), None)
    compare(torch.arange(1000.0).mul(0.1), None)


def test_reads_channels_last_memory_and_slices():
    torch.manual_seed(1)
    values = torch.randn(1, 8, 6, 5).to(memory_format=torch.channels_last)
    compare(values, 1)
    compare(values[:, 2:5, 1:], 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int32, torch.int64])
def test_every_dtype_is_reduced_in_float64(dtype):
    torch.manual_seed(2)
    compare((torch.randn(1, 3, 5, 4) * 20).to(dtype), 1)


def test_half_sums_and_counts_do_not_overflow():
    values = torch.full((1, 1, 2000, 1000), 60000.0, dtype=torch.float16)
    values[..., :500] = 1.0
    found = statistics(values, 1)
    assert found.mean == (60000.0 * 1_000_000 + 1_000_000) / 2_000_000  # 60000 in half is 60000 exactly
    assert found.histogram[0] == 1_000_000 and found.histogram[-1] == 1_000_000
    assert math.isfinite(found.std)


def test_bool_counts_as_zero_and_one():
    found = statistics(torch.tensor([True, False, False, False]), None)
    assert (found.mean, found.min, found.max, found.zeros) == (0.25, 0, 1, 0.75)


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation:UserWarning")
def test_quantized_is_read_as_what_it_stands_for():
    tensor = torch.quantize_per_tensor(torch.tensor([[0.0, 0.5, 1.0]]), 0.5, 0, torch.quint8)
    found = statistics(tensor, None)
    assert (found.min, found.max, found.mean) == (0, 1, 0.5)


def test_complex_counts_by_magnitude():
    assert statistics(torch.tensor([3 + 4j]), None).max == 5


def test_small_spread_about_a_large_mean_survives():
    torch.manual_seed(3)
    compare(1e4 + 1e-2 * torch.randn(1, 4, 50, 50), 1)
    compare(1e-30 * torch.randn(1, 2, 30, 30), 1)


def test_extremes_of_float32_do_not_overflow():
    found = statistics(torch.tensor([-3e38, 3e38]), None)
    assert found.mean == 0
    assert found.std == pytest.approx(3e38, rel=1e-6)
    assert found.histogram[0] == found.histogram[-1] == 1


def test_non_finite_values_are_counted_and_left_out():
    torch.manual_seed(4)
    values = torch.randn(1, 3, 8, 8)
    values[0, 0, 0, :3] = math.nan
    values[0, 1, 0, 0] = math.inf
    values[0, 1, 0, 1] = -math.inf
    compare(values, 1)


def test_nothing_finite_gives_nan_and_no_warning():
    found = statistics(torch.tensor([[[[math.nan]], [[math.inf]], [[2.0]]]]), 1)
    assert found.mean == 2 and found.nan == 1 and found.inf == 1
    np.testing.assert_array_equal(found.channels["mean"], [np.nan, np.nan, 2])
    np.testing.assert_array_equal(found.channels["min"], [np.nan, np.nan, 2])
    np.testing.assert_array_equal(found.channels["zeros"], [np.nan, np.nan, 0])
    found = statistics(torch.full((4,), math.nan), None)
    assert found.nan == 4 and math.isnan(found.mean) and math.isnan(found.std) and math.isnan(found.zeros)
    assert found.histogram.sum() == 0 and np.isnan(found.quantiles).all()


@pytest.mark.parametrize("shape, axis", [((0,), None), ((0, 3, 4, 4), 1), ((1, 0, 4, 4), 1), ((1, 3, 0, 4), 1)])
def test_an_empty_tensor_has_no_numbers(shape, axis):
    found = statistics(torch.empty(shape), axis)
    assert found.count == found.nan == found.inf == 0
    assert math.isnan(found.mean) and math.isnan(found.min) and found.histogram.sum() == 0
    if axis is not None:
        assert found.channels["mean"].shape == (shape[axis],)


@pytest.mark.parametrize("value", [0.0, 7.5, -1e30, 1e-30])
def test_a_constant_has_no_spread_and_fills_one_bin(value):
    found = statistics(torch.full((1, 2, 3, 3), value), 1)
    assert found.std == 0 and found.min == found.max == np.float32(value)
    assert np.count_nonzero(found.histogram) == 1 and found.histogram.sum() == 18
    assert (np.diff(found.edges) > 0).all()
    assert found.zeros == (1 if value == 0 else 0)


def test_without_the_distribution_there_is_no_sorted_copy():
    found = statistics(torch.tensor([1.0, 3.0]), None, distribution=False)
    assert found.mean == 2 and found.std == pytest.approx(1, rel=1e-12)
    assert np.isnan(found.quantiles).all() and found.histogram.size == 0


def test_a_large_mean_in_float32_does_not_drift():
    values = torch.full((1, 1, 4096, 2048), 0.1)
    found = statistics(values, 1, distribution=False)
    assert found.mean == pytest.approx(float(np.float32(0.1)), rel=1e-12)
    assert found.std == 0


def test_a_spread_too_small_for_the_mean_square_is_read_again():
    """The control: the mean square less the squared mean, in float64, has lost every digit of this variance."""
    torch.manual_seed(5)
    values = 1e6 + torch.randn(1, 3, 40, 40, dtype=torch.float64) * 1e-3
    rows = values[0].reshape(3, -1).numpy()
    naive = (rows**2).mean(1) - rows.mean(1) ** 2
    true = rows.var(1)
    assert (abs(naive - true) / true).max() > 1
    found = statistics(values, 1, distribution=False)
    np.testing.assert_allclose(found.channels["std"] ** 2, true, rtol=1e-6)


@pytest.mark.parametrize("shape, axis", [((1, 2, 400, 400), 1), ((1, 3000, 7, 7), 1), ((400_000,), None)])
def test_what_is_larger_than_one_piece_agrees_with_numpy(shape, axis):
    assert math.prod(shape) > PIECE
    torch.manual_seed(7)
    compare(torch.randn(shape).clamp(-1, 3), axis)
    compare(torch.randn(shape).relu(), axis)


@pytest.mark.parametrize("kind", ["normal", "relu", "outlier", "constant", "narrow", "integers", "nan", "double"])
def test_the_approximate_distribution_is_marked_and_off_by_a_bin_at_most(kind):
    torch.manual_seed(8)
    values = torch.randn(1, 5, 200, 200)
    values = {
        "normal": values,
        "relu": values.relu(),
        "outlier": values.where(values < 4, 1e3),
        "constant": torch.full_like(values, 2.5),
        "narrow": 1e4 + 1e-2 * values,
        "integers": (20 * values).round(),
        "nan": values.where(values < 2, math.nan),
        "double": 1e40 * values.double(),
    }[kind]
    found, exact = statistics(values, 1, distribution="approximate"), statistics(values, 1)
    assert found.approximate and not exact.approximate
    assert found.histogram.sum() == exact.histogram.sum() == values.isfinite().sum()
    np.testing.assert_array_equal(found.edges, exact.edges)
    bin_width = exact.edges[1] - exact.edges[0]
    assert abs(found.quantiles - exact.quantiles).max() <= 1.01 * bin_width
    # a value on an edge, or a ten-thousandth of a bin from it, may be counted in the bin beside it
    plain = values.double().numpy()
    near = [np.isclose(plain, edge, atol=1e-4 * bin_width, rtol=0).sum() for edge in exact.edges]
    assert (abs(np.cumsum(found.histogram) - np.cumsum(exact.histogram)) <= near[1:]).all()
    for name in ("mean", "std", "min", "max", "zeros", "nan", "inf"):
        assert getattr(found, name) == getattr(exact, name)


def test_approximate_numbers_of_nothing():
    assert np.isnan(statistics(torch.full((3,), math.nan), None, distribution="approximate").quantiles).all()
    assert statistics(torch.empty(0), None, distribution="approximate").histogram.sum() == 0
    one = statistics(torch.tensor([3.0]), None, distribution="approximate")
    assert (one.quantiles == 3).all() and one.histogram.sum() == 1


def test_one_scratch_serves_tensors_of_every_size_and_dtype():
    scratch = Scratch()
    torch.manual_seed(9)
    for shape in [(1, 2, 3, 3), (1, 64, 60, 60), (1, 4, 5, 5)]:
        for dtype in (torch.float32, torch.float64, torch.float16):
            values = torch.randn(shape).to(dtype)
            with torch.inference_mode(dtype == torch.float16):
                found = statistics(values, 1, scratch=scratch, distribution="approximate")
            expected = statistics(values, 1, distribution="approximate")
            np.testing.assert_array_equal(found.channels["std"], expected.channels["std"])
            np.testing.assert_array_equal(found.histogram, expected.histogram)


def test_the_meta_device_is_refused():
    with pytest.raises(ModelNotSupported, match="no values"):
        statistics(torch.empty(3, device="meta"), None)


def test_the_tensor_and_its_graph_are_left_alone():
    values = torch.randn(1, 2, 3, 3, requires_grad=True) * 1
    before = values.detach().clone()
    statistics(values, 1)
    assert torch.equal(values, before) and values._version == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 7, 49, 127, 128, 1025, 150_000])
def test_rows_of_every_length_give_what_numpy_gives(length: int, dtype: torch.dtype) -> None:
    rows = torch.randn(5, length, generator=torch.Generator().manual_seed(length), dtype=dtype)
    rows[1:3].clamp_(min=0)  # about half of them zeros
    rows[3] = 0
    found, values = moments(rows, Scratch()), rows.numpy().astype(np.float64)
    assert np.array_equal(found.zeros, (values == 0).sum(1)) and found.zeros.dtype == np.int64
    assert np.array_equal(found.min, values.min(1)) and np.array_equal(found.max, values.max(1))
    assert found.mean == pytest.approx(values.mean(1), rel=1e-12, abs=1e-15)
    assert found.variance == pytest.approx(values.var(1), rel=1e-9, abs=1e-15)


def test_on_an_accelerator_numbers_are_those_of_the_moment_and_are_read_later(monkeypatch):
    monkeypatch.setattr(elsewhere, "lies_there", lambda values: True)
    read, right = [], elsewhere.Awaited.read
    monkeypatch.setattr(elsewhere.Awaited, "read", lambda awaited: read.append(awaited) or right(awaited))
    values = torch.tensor([[[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, -4.0, 0.0]]])
    later = statistics_later(values, 1, distribution="approximate")
    values.fill_(9)
    assert not read
    found = later()
    assert len(read) == 1
    assert (found.count, found.min, found.max, found.mean, found.zeros) == (8, -4, 6, 1, 3 / 8)
    assert found.quantiles[3] == 0.5 and not found.approximate


@pytest.mark.parametrize("fill", [math.nan, math.inf])
def test_on_an_accelerator_nothing_finite_is_said(monkeypatch, fill):
    here = statistics(torch.full((1, 2, 3), fill), 1)
    monkeypatch.setattr(elsewhere, "lies_there", lambda values: True)
    there = statistics(torch.full((1, 2, 3), fill), 1)
    for name, value in vars(here).items():
        np.testing.assert_equal(getattr(there, name), value)


def test_a_large_mean_beside_a_value_that_is_not_finite_costs_no_digits(monkeypatch):
    torch.manual_seed(0)
    values = 1e6 + torch.randn(1, 2, 1000, dtype=torch.float64)
    values[0, 1, 3], values[0, 1, 5] = math.nan, -math.inf
    monkeypatch.setattr(elsewhere, "lies_there", lambda values: True)
    found = statistics(values, 1).channels["std"]
    exact = [channel[np.isfinite(channel)].std() for channel in values[0].numpy()]
    np.testing.assert_allclose(found, exact, rtol=1e-9)
