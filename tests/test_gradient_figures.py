"""Gradients along the depth: the quartiles that are drawn are the layers' own, and nothing odd stops the figure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from inline_engine import gradient_of

from hookscope.dashboard.drawing.gradient_figures import BELOW, BOX_LEVELS, gradient_figure
from hookscope.dashboard.drawing.layer_axis import MOST_TICKS
from hookscope.hooks.results.looks import LayerGradient


def layers(*values: np.ndarray) -> list[LayerGradient]:
    return [gradient_of(f"l{place}", 0, each) for place, each in enumerate(values)]


def test_boxes_are_quantiles_of_the_size_and_the_line_is_the_norm() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=101) * 10.0**-place for place in range(3)]
    figure = gradient_figure([layers(*values)], ["A"], ["l0", "l1", "l2"])
    box, points, line = figure.data
    expected = np.array([np.quantile(np.abs(each), BOX_LEVELS) for each in values])
    drawn = np.stack([box.lowerfence, box.q1, box.median, box.q3, box.upperfence], axis=1)
    np.testing.assert_allclose(drawn, expected)
    np.testing.assert_allclose(line.y, [np.sqrt((each**2).sum()) for each in values])
    np.testing.assert_allclose(points.y, expected[:, 2])
    assert list(line.x) == [0, 1, 2] and list(figure.layout.meta["keys"]) == ["l0", "l1", "l2"]
    assert figure.layout.yaxis.type == figure.layout.yaxis2.type == "log"
    low, high = (10**edge for edge in figure.layout.yaxis.range)
    assert low < expected.min() and high > expected.max()


def test_a_and_b_stand_side_by_side_in_their_colours_and_b_alone_keeps_its_own() -> None:
    one, other = layers(np.ones(3), np.ones(3)), layers(np.ones(3) * 2, np.ones(3) * 2)
    figure = gradient_figure([one, other], ["A", "B"], ["x", "y"])
    first, second = (trace for trace in figure.data if trace.type == "box")
    assert (np.array(second.x) - np.array(first.x) > first.width).all()
    assert np.round(first.x).tolist() == np.round(second.x).tolist() == [0, 1]  # a click finds the layer
    alone = gradient_figure([other], ["B"], ["x", "y"]).data[0]
    assert alone.line.color == second.line.color != first.line.color


def test_zeros_lie_on_the_ground_and_do_not_stretch_the_axis() -> None:
    values = np.concatenate([np.zeros(60), np.ones(40), [1e-30]])
    figure = gradient_figure([layers(values)], ["A"], ["l0"])
    ground = BELOW * np.sqrt((values**2).mean())
    assert figure.data[0].q1[0] == pytest.approx(ground) and figure.data[0].lowerfence[0] == pytest.approx(ground)
    assert 10 ** figure.layout.yaxis.range[0] > ground / 10


def test_a_norm_of_zero_interrupts_the_line_and_is_a_hollow_mark_on_the_edge() -> None:
    values = [np.ones(4), np.zeros(4), np.zeros(4), np.ones(4) * 1e-3, np.zeros(4)]
    keys = [f"l{place}" for place in range(5)]
    _, _, line, marks = gradient_figure([layers(*values)], ["A"], keys).data
    np.testing.assert_allclose(line.y, [2, np.nan, np.nan, 2e-3, np.nan])
    assert line.connectgaps is False
    assert list(marks.x) == [1, 2, 4] and list(marks.text) == ["0", "", "0"]  # one label for neighbours
    assert marks.marker.symbol == "circle-open" and "l1" in marks.customdata[0] and "norm 0" in marks.customdata[0]


def test_no_mark_of_zero_lies_where_a_value_could() -> None:
    tiny, dead = np.full(4, 5e-9), np.zeros(4)
    for found in ([layers(tiny, dead)], [layers(tiny, np.ones(4)), layers(np.ones(4), dead)], [layers(dead, dead)]):
        figure = gradient_figure(found, ["A", "B"][: len(found)], ["x", "y"])
        edge = 10 ** figure.layout.yaxis2.range[0]
        drawn = [each for each in figure.data if each.yaxis == "y2"]
        marks = [value for each in drawn if each.mode == "markers+text" for value in each.y]
        assert marks and marks == pytest.approx([edge] * len(marks))
        values = np.array([value for each in drawn if each.mode == "lines+markers" for value in each.y], float)
        assert not (values <= edge * 1.5).any()


@pytest.mark.parametrize("odd", [[math.nan], [math.inf, -math.inf], [0.0], [3e38, -3e38], [5e-324], []])
def test_no_gradient_stops_the_figure(odd: list[float]) -> None:
    found = layers(np.array(odd), np.ones(4))
    figure = gradient_figure([found, found], ["A", "B"], ["x", "y"])
    for axis in (figure.layout.yaxis, figure.layout.yaxis2):
        assert all(math.isfinite(edge) for edge in axis.range)
    for trace in figure.data:
        assert not np.isnan(np.array(trace.x, float)).any()
    alone = gradient_figure([layers(np.array(odd))], ["A"], ["x"])
    assert [trace.type for trace in alone.data[:3]] == ["box", "scatter", "scatter"]


def test_a_layer_without_a_gradient_is_left_out_and_keeps_its_place() -> None:
    found = [
        gradient_of("a", 0, np.ones(2)),
        gradient_of("b", 0, np.ones(2), "No path."),
        gradient_of("c", 0, np.ones(2)),
    ]
    figure = gradient_figure([found], ["A"], ["a", "b", "c"])
    line = figure.data[2]
    assert list(line.x) == [0, 1, 2] and np.isnan(line.y).tolist() == [False, True, False]  # and not drawn over it
    assert len(figure.data[0].q1) == 2 and len(figure.data) == 3  # no gradient is not a gradient of 0
    nothing = gradient_figure([found[1:2]], ["A"], ["b"])
    assert any("no finite gradient" in note.text for note in nothing.layout.annotations)


@pytest.mark.parametrize("decades", [0.0, 0.5, 1, 1.6, 2.5, 6, 14, 40])
def test_ticks_are_few_however_far_values_span(decades: float) -> None:
    values = 3e-6 * 10.0 ** np.linspace(-decades, 0, 50)
    figure = gradient_figure([layers(*values[:, None])], ["A"], [f"l{n}" for n in range(50)])
    for axis, most in ((figure.layout.yaxis, 8), (figure.layout.yaxis2, 6)):
        first, last = axis.range
        per_decade = 3 if axis.dtick == "D2" else 1 / axis.dtick
        assert 1 <= (last - first) * per_decade <= most


def test_hundreds_of_layers_have_as_many_names_as_can_be_read() -> None:
    count = 400
    found = [gradient_of(f"stage.block{place}.convolution", 0, np.ones(2)) for place in range(count)]
    figure = gradient_figure([found], ["A"], [layer.layer for layer in found])
    assert len(figure.layout.xaxis.ticktext) <= MOST_TICKS
    assert all(len(text) <= 22 for text in figure.layout.xaxis.ticktext)
    assert "stage.block399.convolution" in figure.data[2].text[-1]


def test_a_layers_name_is_no_markup() -> None:
    figure = gradient_figure([layers(np.ones(2))], ["A"], ["<i>x</i>"])
    assert "<i>" not in figure.data[1].text[0] and "<i>" not in figure.layout.xaxis.ticktext[0]
