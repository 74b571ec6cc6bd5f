"""Panels share the width, and no figure brings a theme."""

import itertools

import plotly.graph_objects as go
import pytest

from hookscope.dashboard.drawing.plain_figures import PANEL_GAP, Draft, panel_axes, panel_domain, set_axis


@pytest.mark.parametrize("panels", [1, 2, 3])
def test_panels_fill_the_width_with_equal_gaps(panels):
    domains = [panel_domain(number, panels) for number in range(panels)]
    assert domains[0][0] == 0 and domains[-1][1] == pytest.approx(1)
    assert len({round(end - start, 9) for start, end in domains}) == 1
    for left, right in itertools.pairwise(domains):
        assert right[0] - left[1] == pytest.approx(PANEL_GAP)


def test_axes_keep_their_place_when_they_are_set():
    draft = Draft(100, "key")
    assert panel_axes(draft, 0, 2) == ("x", "y")
    assert panel_axes(draft, 1, 2) == ("x2", "y2")
    set_axis(draft, "x", "x2", range=[0, 3])
    axis = draft.figure().layout.xaxis2
    assert axis.domain == tuple(panel_domain(1, 2))
    assert (axis.anchor, axis.range) == ("y2", (0, 3))


def test_nothing_is_drawn_behind_the_figure():
    layout = Draft(100, "key", top_px=20).figure().layout
    assert (layout.height, layout.margin.t, layout.uirevision) == (100, 20, "key")
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert layout.template == go.layout.Template(data={"scatter": [{"type": "scatter"}]})


def test_a_part_of_the_layout_is_changed_property_by_property():
    draft = Draft(100, "key", top_px=20)
    draft.update_layout(margin={"b": 7}, xaxis={"title": {"text": "depth"}})
    draft.update_layout(xaxis={"nticks": 3}, hovermode="x")
    layout = draft.figure().layout
    assert (layout.margin.t, layout.margin.b, layout.hovermode) == (20, 7, "x")
    assert (layout.xaxis.title.text, layout.xaxis.nticks) == ("depth", 3)


def test_what_plotly_does_not_know_is_refused():
    draft = Draft(100, "key")
    draft.add_trace("heatmap", z=[[1]], no_such_property=1)
    with pytest.raises(ValueError, match="no_such_property"):
        draft.figure()
