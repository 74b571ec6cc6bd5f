"""Histograms and bars count what is there."""

import json
import math

import numpy as np
import pytest

from hookscope.dashboard.drawing.charts import bars_figure, bins_for, histogram_figure, shared_bins
from hookscope.dashboard.drawing.ranking import channel_numbers
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Statistics


def statistics(values):
    """The statistics of an array, written out with numpy."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        nothing = np.full(len(QUANTILE_LEVELS), math.nan)
        nan, inf = int(np.isnan(values).sum()), int(np.isinf(values).sum())
        return Statistics(values.size, *[math.nan] * 4, 0.0, nan, inf, nothing, np.zeros(0, np.int64), np.zeros(0))
    counts, edges = np.histogram(finite, 64)
    return Statistics(
        count=values.size,
        mean=finite.mean(),
        std=finite.std(),
        min=finite.min(),
        max=finite.max(),
        zeros=float((values == 0).mean()),
        nan=int(np.isnan(values).sum()),
        inf=int(np.isinf(values).sum()),
        quantiles=np.quantile(finite, QUANTILE_LEVELS),
        histogram=counts.astype(np.int64),
        edges=edges,
        channels=channel_numbers(values) if values.ndim > 1 else {},
    )


def note(figure):
    return figure.layout.annotations[0].text


def test_shared_bins_by_hand():
    bins = shared_bins([np.array([0, 1, 1, 4.0]), np.array([[8.0, math.nan]])], 4)
    (a, edges), (b, other) = bins
    assert edges.tolist() == other.tolist() == [0, 2, 4, 6, 8]
    assert (a.tolist(), b.tolist()) == ([3, 0, 1, 0], [0, 0, 0, 1])
    assert a.dtype == np.int64


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-300, 3e38, 1e17])
def test_a_constant_is_one_bin(value):
    ((counts, edges),) = shared_bins([np.full(9, value)])
    assert counts.tolist() == [9]
    assert edges[0] < value < edges[1]


def test_values_closer_than_a_bin_can_be_are_one_bin():
    values = np.array([1.0, np.nextafter(1.0, 2)])
    ((counts, edges),) = shared_bins([values])
    assert (counts.tolist(), edges.tolist()) == ([2], [0.5, values[1] + 0.5])


def test_a_and_b_share_their_bins_and_every_value_is_counted():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 5, 5)).astype(np.float32), rng.normal(2, 1, size=(3, 5, 5)).astype(np.float32)
    figure = histogram_figure([statistics(a), statistics(b)], values=[a, b])
    first, second = figure.data
    assert np.array_equal(first.x, second.x)
    assert first.customdata[1:-1, 2].sum() == second.customdata[1:-1, 2].sum() == 75
    assert first.customdata[1, 0] == min(a.min(), b.min())
    assert first.line.shape == "hvh", "the steps lie on the bins' edges, between the centres"
    assert (first.line.color, second.line.color) == ("#1c7ed6", "#e8590c")
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.shapes[0].x0 == 0


def test_empty_bins_lie_on_the_ground_and_say_zero():
    a = np.array([1.0, 1, 1, 5])
    figure = histogram_figure([statistics(a)], values=[a])
    trace = figure.data[0]
    assert trace.y.min() < 0.5 and trace.customdata[:, 2].min() == 0
    assert figure.layout.yaxis.range[0] == np.log10(0.5)
    assert not figure.layout.shapes, "zero is not in the range"


def test_without_values_the_statistics_own_bins_are_drawn():
    a = np.array([0.0, 1, 2, 3])
    known = statistics(a)
    trace = histogram_figure([known]).data[0]
    assert trace.customdata[1:-1, 2].tolist() == known.histogram.tolist()
    single = Statistics(4, 2, 0, 2, 2, 0, 0, 0, known.quantiles, np.array([4]), np.array([2.0, 2.0]))
    assert histogram_figure([single]).data[0].x.tolist() == [1.5, 2, 2.5]


def test_what_stands_beside_the_histogram():
    a = np.array([0.0, 0, 0, 1])
    assert note(histogram_figure([statistics(a)], values=[a])) == "zeros 75.0 %"
    b = np.array([1.0, math.nan, math.inf, math.inf])
    text = note(histogram_figure([statistics(a), statistics(b)], values=[a, b]))
    assert text == "zeros A 75.0 %, B 0 % · 3 not finite"


def test_no_finite_value_is_a_sentence():
    a = np.array([math.nan, math.inf])
    for values in ([a], None):
        figure = histogram_figure([statistics(a)], values=values)
        assert not figure.data
        assert figure.layout.annotations[1].text == "no finite value"


def test_counts_beyond_int32_are_drawn():
    counts = np.array([5_000_000_000, 1], np.int64)
    known = Statistics(1, 0, 0, 0, 2, 0, 0, 0, np.zeros(7), counts, np.array([0.0, 1, 2]))
    sent = json.loads(histogram_figure([known]).to_json())["data"][0]
    assert sent["customdata"]["dtype"] == "f8"


def test_few_features_are_bars_and_many_a_line():
    a, b = np.arange(4, dtype=np.float32), np.arange(4, dtype=np.float32) * 2
    figure = bars_figure([a, b], names=["cup", "pot", "pan", "jug"])
    assert [trace.type for trace in figure.data] == ["bar", "bar"]
    assert figure.data[1].y.tolist() == [0, 2, 4, 6]
    assert list(figure.data[0].customdata) == ["cup", "pot", "pan", "jug"]
    assert figure.data[0].hovertemplate.startswith("%{customdata} (%{x})")
    long = bars_figure([np.zeros(257, np.float32)], names=["cup"])
    assert long.data[0].type == "scatter"
    assert long.data[0].hovertemplate.startswith("feature %{x}")


def test_bars_leave_out_what_is_no_number_and_say_so():
    figure = bars_figure([np.array([1, math.nan, math.inf], np.float32)])
    assert np.array_equal(figure.data[0].y, [1, math.nan, math.nan], equal_nan=True)
    assert note(figure) == "2 NaN or Inf not drawn"
    assert note(bars_figure([np.array([math.nan])])) == "no finite value"


def test_few_values_fill_few_bins():
    assert [bins_for(count) for count in (1, 49, 196, 3136, 50_176)] == [5, 7, 14, 56, 64]
    values = np.random.default_rng(0).normal(size=(7, 7))
    figure = histogram_figure([statistics(values)], ["A"], [values], bins=bins_for(values.size))
    counts = figure.data[0].customdata[1:-1, 2]
    assert len(counts) == 7 and counts.sum() == 49  # every value, as before
