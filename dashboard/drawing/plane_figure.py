"""Pictures as points in a plane. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.layer_axis import GRID, plain_text
from hookscope.dashboard.drawing.plain_figures import NEUTRAL, Draft

HEIGHT_PX = 560
# ten hues that can be told apart on light and dark ground; what is of another class is grey
COLOURS = (
    *("#1c7ed6", "#f08c00", "#2f9e44", "#ae3ec9", "#0ca678", "#e64980", "#8a5a2b", "#5c7cfa", "#a3b018", "#15aabf"),
)
OTHER = "#9aa1a9"
WRONG = "#e03131"
SMALL = 800  # points, beyond which they are drawn smaller


def plane_figure(
    points: np.ndarray,
    colours: Sequence[str],
    wrong: np.ndarray,
    said: Sequence[tuple[int, str, str]],
    *,
    axes: tuple[str, str] = ("", ""),
    meta: dict[str, Any],
    key: str,
) -> go.Figure:
    """A point for each picture, both axes of one scale; what is drawn around with the pointer is selected.

    Arguments:
        points: float (point, 2). colours: of each. wrong: bool (point,), which have a ring.
        said: of each its number, its name, and what is said of it: on hover.
        axes: what they are called. meta: for the page's scripts, as `layout.meta`. key: of what this is a picture.
    """
    draft = Draft(HEIGHT_PX, key)
    size = 9 if len(points) <= SMALL else 6
    draft.add_trace(
        "scatter",
        x=points[:, 0].astype(np.float32),
        y=points[:, 1].astype(np.float32),
        mode="markers",
        marker={
            "size": size,
            "color": list(colours),
            "opacity": 0.85,
            "line": {"color": WRONG, "width": np.where(wrong, 2, 0).tolist()},
        },
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0.18}},
        customdata=[[number, plain_text(name), plain_text(text)] for number, name, text in said],
        hovertemplate="%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
    )
    draft.update_layout(
        meta=meta,
        dragmode="lasso",
        hoverdistance=12,
        margin={"l": 26, "r": 8, "t": 8, "b": 26},
        xaxis=_axis(axes[0]),
        yaxis={**_axis(axes[1]), "scaleanchor": "x"},
        newselection={"line": {"color": NEUTRAL, "width": 2, "dash": "dot"}},
        activeselection={"fillcolor": "rgba(0,0,0,0)"},
    )
    return draft.figure()


def _axis(title: str) -> dict[str, Any]:
    return {
        "title": {"text": title, "font": {"color": NEUTRAL, "size": 12}, "standoff": 4},
        "showticklabels": False,
        "ticks": "",
        "showgrid": False,
        "zeroline": True,
        "zerolinecolor": GRID,
        "fixedrange": True,
    }
