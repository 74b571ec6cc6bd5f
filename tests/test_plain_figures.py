"""Panels share the width, and no figure brings a theme."""

import itertools

import plotly.graph_objects as go
import pytest

from dashboard.drawing.plain_figures import PANEL_GAP, panel_axes, panel_domain, plain_figure, set_axis


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_panels_fill_the_width_with_equal_gaps(panels):
    domains = [panel_domain(number, panels) for number in range(panels)]
    assert domains[0][0] == 0 and domains[-1][1] == pytest.approx(1)
    assert len({round(end - start, 9) for start, end in domains}) == 1
    for left, right in itertools.pairwise(domains):
        assert right[0] - left[1] == pytest.approx(PANEL_GAP)


def test_axes_keep_their_place_when_they_are_set():
    figure = plain_figure(100, "key")
    assert panel_axes(figure, 0, 2) == ("x", "y")
    assert panel_axes(figure, 1, 2) == ("x2", "y2")
    set_axis(figure, "x", "x2", range=[0, 3])
    assert figure.layout.xaxis2.domain == tuple(panel_domain(1, 2))
    assert (figure.layout.xaxis2.anchor, figure.layout.xaxis2.range) == ("y2", (0, 3))


def test_nothing_is_drawn_behind_the_figure():
    layout = plain_figure(100, "key", top_px=20).layout
    assert (layout.height, layout.margin.t, layout.uirevision) == (100, 20, "key")
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert layout.template == go.layout.Template(data={"scatter": [{"type": "scatter"}]})
