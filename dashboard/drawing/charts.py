"""Plotly figures of distributions and of layers without maps: histogram and bars. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.numbers import format_count, format_share
from hookscope.dashboard.drawing.plain_figures import NEUTRAL, Draft, corner_note
from hookscope.hooks.results.looks import HISTOGRAM_BINS, Statistics

COLOURS = ("#1c7ed6", "#e8590c")  # A and B; both read on white and on the dark page
FILLS = ("rgba(28,126,214,0.22)", "rgba(232,89,12,0.22)")
MOST_BARS = 256
FEWEST_BINS = 5
_GROUND = 0.5  # where the logarithmic axis begins
HISTOGRAM_PX = 170
_GRID = "rgba(134,142,150,0.25)"


def histogram_figure(
    statistics: Sequence[Statistics],
    labels: Sequence[str] = ("A", "B"),
    values: Sequence[np.ndarray] | None = None,
    *,
    bins: int = HISTOGRAM_BINS,
    height_px: int = HISTOGRAM_PX,
    key: str = "histogram",
) -> go.Figure:
    """The distribution of a layer's or a channel's values, counts on a logarithmic axis.

    Arguments:
        statistics: of A, or of A and B. labels: their names.
        values: the values themselves, of any shape; they give A and B the same bins. Without them each is drawn in
            the bins of its own statistics.
        bins: how many, of `values`.
    """
    draft = _draft(height_px, key)
    shares = [format_share(one.zeros) for one in statistics]
    zeros = (
        f"zeros {', '.join(map(' '.join, zip(labels, shares, strict=False)))}"
        if len(shares) > 1
        else f"zeros {shares[0]}"
    )
    corner_note(draft, " · ".join([zeros, *_broken_notes(statistics)]), size=11)
    counted = [_own_bins(one) for one in statistics] if values is None else shared_bins(values, bins)
    if not any(counts.sum() for counts, _ in counted):
        _say(draft, "no finite value")
        return draft.figure()
    for number, (counts, edges) in enumerate(counted):
        _step_line(draft, counts, edges, labels[number], number)
    if min(edges[0] for _, edges in counted) <= 0 <= max(edges[-1] for _, edges in counted):
        draft.add_shape(
            type="line",
            xref="x",
            yref="paper",
            x0=0,
            x1=0,
            y0=0,
            y1=1,
            line={"color": NEUTRAL, "width": 1, "dash": "dot"},
        )
    top = max(int(counts.max()) for counts, _ in counted)
    draft.update_layout(
        hovermode="x",
        xaxis={"nticks": 5},
        # The axis starts below 1, so that a bin with one value stands out and an empty one lies on the ground.
        yaxis={
            "type": "log",
            "range": [np.log10(_GROUND), np.log10(top * 1.3)],
            "dtick": 1 if top < 10_000 else 2,  # a tick at every power of ten, or at every second one
            "tickformat": "~s",
            "showgrid": True,
        },
    )
    return draft.figure()


def bins_for(count: int) -> int:
    """As many bins as so many values fill: their square root, because 64 bins of 49 values are a comb."""
    return min(max(math.ceil(math.sqrt(count)), FEWEST_BINS), HISTOGRAM_BINS)


def shared_bins(values: Sequence[np.ndarray], bins: int = HISTOGRAM_BINS) -> list[tuple[np.ndarray, np.ndarray]]:
    """Histograms of several arrays in the same equal bins: (int64 counts, float64 edges) for each, finite values only.

    If all values are equal there is one bin around them; if there is none, one empty bin.
    """
    finite = [array[np.isfinite(array)] for array in (np.ravel(one) for one in values)]
    some = [array for array in finite if array.size]
    low = min((float(array.min()) for array in some), default=0.0)
    high = max((float(array.max()) for array in some), default=0.0)
    edges = np.linspace(low, high, bins + 1)
    if not (np.diff(edges) > 0).all():  # one value, or values so close that no bin edge lies between them
        half = max(0.5, abs(low) * 1e-6)
        edges = np.array([low - half, high + half])
    return [(np.histogram(array.astype(np.float64), edges)[0].astype(np.int64), edges) for array in finite]


def _own_bins(statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    counts, edges = np.asarray(statistics.histogram), np.asarray(statistics.edges, np.float64)
    if len(edges) != len(counts) + 1 or not np.isfinite(edges).all() or not len(counts):
        return np.zeros(1, np.int64), np.array([-0.5, 0.5])
    if edges[-1] <= edges[0]:
        return np.array([counts.sum()]), np.array([edges[0] - 0.5, edges[0] + 0.5])
    return counts, edges


def _step_line(draft: Draft, counts: np.ndarray, edges: np.ndarray, label: str, number: int) -> None:
    """A histogram's outline. Its points are the bins' centres, so that hover finds the bin; steps lie between them."""
    centres = (edges[:-1] + edges[1:]) / 2
    places = np.concatenate([edges[:1], centres, edges[-1:]])
    index = np.concatenate([[0], np.arange(len(counts)), [len(counts) - 1]])
    # float64 holds any count below 2 ** 53 exactly, and int64 would travel as a list of text.
    custom = np.stack([edges[:-1][index], edges[1:][index], counts[index].astype(np.float64)], axis=1)
    draft.add_trace(
        "scatter",
        x=places,
        y=np.maximum(counts[index], _GROUND * 0.98).astype(np.float64),
        customdata=custom,
        mode="lines",
        name=label,
        line={"shape": "hvh", "width": 1.5, "color": COLOURS[_side(label, number)]},
        fill="tozeroy",
        fillcolor=FILLS[_side(label, number)],
        hovertemplate=f"{label}: %{{customdata[2]:,.0f}} values"
        "<br>%{customdata[0]:.4~g} to %{customdata[1]:.4~g}<extra></extra>",
    )


def _side(label: str, number: int) -> int:
    """Which colour: A's and B's are their own, also where one of them stands alone."""
    return {"A": 0, "B": 1}.get(label, number)


def _broken_notes(statistics: Sequence[Statistics]) -> list[str]:
    """That something is not drawn, in few letters: a card is narrow, and its table has the counts."""
    left_out = sum(one.nan + one.inf for one in statistics)
    return [f"{format_count(left_out)} not finite"] if left_out else []


def bars_figure(
    values: Sequence[np.ndarray],
    labels: Sequence[str] = ("A", "B"),
    names: Sequence[str] = (),
    *,
    height_px: int = 220,
    key: str = "bars",
) -> go.Figure:
    """The values of a layer without spatial axes by index: bars up to 256 features, a line beyond.

    Arguments:
        values: float (feature,) of A, or of A and B. labels: their names.
        names: what the features are called (class names); used on hover if there is one for each feature.
    """
    draft = _draft(height_px, key)
    count = len(values[0]) if values else 0
    if not any(np.isfinite(array).any() for array in values):
        _say(draft, "no finite value")
        return draft.figure()
    title = "%{customdata} (%{x})" if len(names) == count else "feature %{x}"
    for number, array in enumerate(values):
        common: dict[str, Any] = {
            "x0": 0,
            "dx": 1,
            "y": np.where(np.isfinite(array), array, np.nan).astype(np.float32),
            "name": labels[number],
            "customdata": list(names) if len(names) == count else None,
            "hovertemplate": f"{title}<br>{labels[number]}: %{{y:.5~g}}<extra></extra>",
        }
        if count <= MOST_BARS:
            draft.add_trace(
                "bar", marker={"color": COLOURS[_side(labels[number], number)], "line": {"width": 0}}, **common
            )
        else:
            draft.add_trace(
                "scatter", mode="lines", line={"width": 1, "color": COLOURS[_side(common["name"], number)]}, **common
            )
    broken = sum(int((~np.isfinite(array)).sum()) for array in values)
    if broken:
        corner_note(draft, f"{format_count(broken)} NaN or Inf not drawn", size=11)
    draft.update_layout(
        hovermode="x",
        bargap=0.15,
        xaxis={"range": [-0.5, count - 0.5], "nticks": 8},
        yaxis={"zeroline": True, "zerolinecolor": NEUTRAL, "zerolinewidth": 1, "nticks": 5, "showgrid": True},
    )
    return draft.figure()


def _draft(height_px: int, key: str) -> Draft:
    axis = {"showgrid": False, "gridcolor": _GRID, "zeroline": False, "automargin": True, "ticks": ""}
    axis["tickfont"] = {"color": NEUTRAL, "size": 11}
    draft = Draft(height_px, key, top_px=18)
    draft.update_layout(xaxis=axis, yaxis=axis, margin={"l": 4, "r": 8, "b": 4})
    return draft


def _say(draft: Draft, text: str) -> None:
    """Write a sentence where the drawing would have been."""
    draft.add_annotation(
        text=text, xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False, font={"color": NEUTRAL, "size": 13}
    )
    draft.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
