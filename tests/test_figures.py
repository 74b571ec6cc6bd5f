"""What the browser is sent: where the sprite lies, what a cell's hover says, and how much it weighs."""

import json
import math

import numpy as np
import plotly.io
import pytest

from hookscope.dashboard.drawing.channel_figure import channel_figure
from hookscope.dashboard.drawing.geometry import wall_geometry
from hookscope.dashboard.drawing.palettes import PALETTES
from hookscope.dashboard.drawing.ranking import difference, distance
from hookscope.dashboard.drawing.scales import Scale, difference_scale, layer_scale
from hookscope.dashboard.drawing.wall_figure import Panel, cell_numbers, wall_figure

A = np.arange(20, dtype=np.float32).reshape(5, 2, 2)
B = A[::-1].copy()
ORDER = np.array([4, 0, 2, 1])


def wall(**options):
    geometry = wall_geometry(5, 2, 2, 300, 200, 4)
    panels = [Panel("A", "/picture/a", cell_numbers(A, ORDER)), Panel("B", "/picture/b", cell_numbers(B, ORDER))]
    return wall_figure(panels, ORDER, geometry, distance=distance(A, B), **options), geometry


def test_cell_numbers_start_with_the_mean_map():
    numbers = cell_numbers(A, ORDER)
    assert numbers.dtype == np.float32
    assert numbers[0].tolist() == [9.5, 8, 11]
    assert numbers[1].tolist() == [17.5, 16, 19]
    known = {name: np.arange(5.0) for name in ("mean", "min", "max")}
    assert cell_numbers(A, ORDER, known)[1:].tolist() == [[4] * 3, [0] * 3, [2] * 3, [1] * 3]
    broken = np.full((1, 2, 2), math.nan, np.float32)
    assert np.isnan(cell_numbers(broken, np.array([0]))).all()


def test_the_sprite_fills_each_panel():
    figure, geometry = wall()
    assert (geometry.columns, geometry.rows) == (3, 2)
    for image, x in zip(figure.layout.images, ("x", "x2"), strict=True):
        assert (image.x, image.y, image.sizex, image.sizey) == (0, 0, 3, 2)
        assert (image.xref, image.xanchor, image.yanchor, image.sizing, image.layer) == (
            x,
            "left",
            "top",
            "stretch",
            "below",
        )
    assert [image.source for image in figure.layout.images] == ["/picture/a", "/picture/b"]
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((0, 3), (2, 0)), "row 0 is on top"
    assert figure.layout.xaxis.domain[1] < figure.layout.xaxis2.domain[0]


def test_every_cell_carries_its_channel_and_what_it_says_is_that_channels():
    figure, geometry = wall()
    grid = figure.data[2]
    assert grid.z.dtype == np.float32 and grid.customdata.dtype == np.float32
    gaps = distance(A, B)
    for row in range(2):
        for column in range(3):
            cell = row * geometry.columns + column  # the first is the mean map's
            if not 0 < cell <= len(ORDER):
                assert math.isnan(grid.z[row, column]), "no hover and no click of its own"
                continue
            channel = ORDER[cell - 1]
            assert grid.z[row, column] == channel
            values = B[channel]
            expected = [values.mean(), values.min(), values.max(), row * 3 + column, gaps[channel]]
            assert grid.customdata[row, column].tolist() == pytest.approx(expected)
    assert grid.hoverongaps is False
    assert "rank %{customdata[3]" in grid.hovertemplate
    assert "mean |A − B| %{customdata[4]" in grid.hovertemplate
    assert "mean of all channels" in figure.data[3].hovertemplate
    assert "mean 9.5<br>min 8 · max 11" in figure.data[1].hovertemplate


def test_the_cells_that_are_clicked_lie_on_those_that_are_seen():
    figure, geometry = wall()
    for image, grid, mean in zip(figure.layout.images, figure.data[::2], figure.data[1::2], strict=True):
        rows, columns = grid.z.shape
        # a heatmap's cell n reaches from x0 + (n - 1/2) dx to x0 + (n + 1/2) dx
        across = [(grid.x0 + (n - 0.5) * grid.dx, grid.x0 + (n + 0.5) * grid.dx) for n in range(columns)]
        down = [(grid.y0 + (n - 0.5) * grid.dy, grid.y0 + (n + 0.5) * grid.dy) for n in range(rows)]
        seen = image.sizex / geometry.columns, image.sizey / geometry.rows
        assert across == [(image.x + n * seen[0], image.x + (n + 1) * seen[0]) for n in range(geometry.columns)]
        assert down == [(image.y + n * seen[1], image.y + (n + 1) * seen[1]) for n in range(geometry.rows)]
        assert (mean.x0 - mean.dx / 2, mean.x0 + mean.dx / 2) == across[0], "the mean map is the first cell"
        assert (mean.y0 - mean.dy / 2, mean.y0 + mean.dy / 2) == down[0]
        assert (grid.xaxis, grid.yaxis) == (mean.xaxis, mean.yaxis) == (image.xref, image.yref)


def test_one_input_says_nothing_of_a_difference():
    geometry = wall_geometry(5, 2, 2, 300, 200)
    order = np.arange(5)
    figure = wall_figure([Panel("", "/a", cell_numbers(A, order))], order, geometry)
    assert "A − B" not in figure.data[0].hovertemplate
    assert figure.data[0].customdata.shape[-1] == 3
    assert figure.layout.height == geometry.height_px
    assert not figure.layout.annotations


def test_the_mean_map_is_framed_in_every_panel_and_no_channel_is():
    shapes = wall()[0].layout.shapes
    assert [(shape.xref, shape.yref) for shape in shapes] == [("x", "y")] * 2 + [("x2", "y2")] * 2  # dark on white
    for shape in shapes:
        assert 0 < shape.x0 < 0.1 and 0.9 < shape.x1 < 1 and 0 < shape.y0 < 0.1 and 0.9 < shape.y1 < 1


def test_figures_are_light_and_leave_plotlys_default_alone():
    before = plotly.io.templates.default
    figure, _ = wall(key="card 1")
    assert plotly.io.templates.default == before
    assert len(json.dumps(json.loads(figure.to_json())["layout"]["template"])) < 110
    assert figure.layout.uirevision == "card 1"
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    order = np.arange(2048)
    numbers = np.random.default_rng(0).normal(size=(2049, 3)).astype(np.float32)
    big = wall_figure([Panel("A", "/a", numbers)], order, wall_geometry(2048, 7, 7, 420, 420, "all"))
    assert len(big.to_json()) < 58_000, "with its sprite of at most 90 KB, 150 KB"
    assert "bdata" in json.loads(big.to_json())["data"][0]["customdata"], "arrays travel as bytes"


def test_an_enlarged_channel_is_never_reduced():
    a, b = np.random.default_rng(0).normal(size=(2, 60, 80)).astype(np.float32)
    gap = difference(a, b)
    scale = layer_scale(a, b)
    figure = channel_figure(
        [("A", a), ("B", b)], scale, PALETTES["blue-red"], difference=gap, difference_scale=difference_scale(gap)
    )
    for trace, values in zip(figure.data, (a, b, gap), strict=True):
        assert trace.z.dtype == np.float32
        assert np.array_equal(trace.z, values)
    assert [trace.coloraxis for trace in figure.data] == ["coloraxis", "coloraxis", "coloraxis2"]
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (scale.low, scale.high)
    assert figure.layout.coloraxis2.cmax == np.abs(gap).max()
    assert figure.layout.coloraxis.colorbar.ticktext[1] == "0"
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((-0.5, 79.5), (59.5, -0.5))
    assert (figure.layout.xaxis3.matches, figure.layout.yaxis2.matches) == ("x", "y"), "the panels zoom together"


def test_an_enlarged_channel_over_the_picture():
    a = np.array([[0, 1]], np.float32)
    figure = channel_figure([("A", a)], layer_scale(a), PALETTES["viridis"], picture=["/seen/a"], opacity=0.6)
    image = figure.layout.images[0]
    assert (image.source, image.x, image.y, image.sizex, image.sizey) == ("/seen/a", -0.5, -0.5, 2, 1)
    scale = figure.layout.coloraxis.colorscale
    assert scale[0][1] == "rgba(68,1,84,0.000)" and scale[-1][1] == "rgba(253,231,37,0.600)"


def test_what_is_no_number_is_drawn_and_named():
    a = np.array([[math.nan, math.inf, -math.inf, 1]], np.float32)
    figure = channel_figure([("A", a)], layer_scale(a), PALETTES["viridis"])
    values, broken = figure.data
    assert np.array_equal(values.z, [[math.nan] * 3 + [1]], equal_nan=True)
    assert list(broken.text[0]) == ["NaN", "Inf", "-Inf", ""]
    assert broken.colorscale[0][1] == "rgb(255, 0, 255)"
    empty = channel_figure([("A", a[:, :1])], Scale(math.nan, math.nan, "sequential"), PALETTES["viridis"])
    assert empty.layout.coloraxis.colorbar.ticktext == ("no finite value",)


def test_a_side_that_stands_alone_keeps_its_place():
    geometry = wall_geometry(3, 4, 4, 200)
    panel = Panel("B", "/b", np.zeros((4, 3), np.float32), place=1)
    figure = wall_figure([panel], np.arange(3), geometry, places=3)
    assert figure.layout.images[0].xref == "x2" and figure.data[0].xaxis == "x2"
    assert figure.layout.xaxis2.domain[0] > 0.3
