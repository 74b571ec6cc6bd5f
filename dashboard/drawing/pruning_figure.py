"""What a model answers without a growing share of a layer's channels: the curve, and its numbers as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.layer_axis import GRID
from hookscope.dashboard.drawing.numbers import format_share
from hookscope.dashboard.drawing.plain_figures import NEUTRAL, Draft, corner_note
from hookscope.dashboard.drawing.tables import csv_of
from hookscope.hooks.results.importance import PruneCurve
from hookscope.hooks.results.prunable import Pruned

HEIGHT_PX = 280
LINE, RIGHT, BAND = "#1c7ed6", "#2b8a3e", "rgba(134,142,150,0.3)"
CURVE = (
    *("channels removed", "share", "disagreement", "accuracy", "divergence"),
    *("least in random orders", "mean in random orders", "most in random orders", "pictures"),
)
CHANNELS = ("rank", "channel", "taylor", "gate", "goes")


def pruning_figure(curve: PruneCurve, limit: float) -> go.Figure:
    """The disagreement with the whole model against the share of channels that are gone, with random orders as a band.

    Arguments:
        limit: the share of answers that may change, a dashed line; what can go at that, is a dotted one.
    """
    draft = Draft(HEIGHT_PX, "pruning")
    shares = 100 * curve.shares
    band = curve.random_agreement
    if len(curve.random_orders):
        for values, fill in ((band.most, None), (band.least, "tonexty")):
            draft.add_trace(
                "scatter",
                x=shares,
                y=100 * (1 - values),
                mode="lines",
                line={"width": 0},
                fill=fill,
                fillcolor=BAND,
                hoverinfo="skip",
            )
    if curve.labelled:
        line = {"color": RIGHT, "width": 1.5, "dash": "dash"}
        draft.add_trace("scatter", x=shares, y=100 * curve.accuracy, mode="lines", line=line, hoverinfo="skip")
    draft.add_trace(
        "scatter",
        x=shares,
        y=100 * (1 - curve.agreement),
        mode="lines+markers",
        line={"color": LINE, "width": 2},
        marker={"size": 6},
        text=_points(curve),
        hovertemplate="%{text}<extra></extra>",
    )
    across = {"color": NEUTRAL, "width": 1, "dash": "dash"}
    draft.add_shape(type="line", xref="paper", yref="y", x0=0, x1=1, y0=100 * limit, y1=100 * limit, line=across)
    if count := curve.removable(limit).count:
        at = 100 * count / curve.channels
        upright = {"color": LINE, "width": 1, "dash": "dot"}
        draft.add_shape(type="line", xref="x", yref="paper", x0=at, x1=at, y0=0, y1=1, line=upright)
    corner_note(draft, _said(curve, limit))
    titled = {"size": 12, "color": NEUTRAL}
    axis = {"gridcolor": GRID, "zeroline": False, "fixedrange": True, "tickfont": {"color": NEUTRAL, "size": 11}}
    draft.update_layout(
        margin={"l": 52, "r": 12, "t": 24, "b": 44},
        hovermode="x",
        xaxis={
            **axis,
            "title": {"text": "channels removed", "font": titled},
            "range": [0, 100],
            "ticksuffix": " %",
            "showgrid": False,
        },
        yaxis={**axis, "title": {"text": "of the pictures", "font": titled}, "range": [-2, 102], "ticksuffix": " %"},
    )
    return draft.figure()


def _said(curve: PruneCurve, limit: float) -> str:
    said = ["blue: disagreement"]
    said += [f"grey: in {len(curve.random_orders)} random orders"] if len(curve.random_orders) else []
    said += ["green: accuracy"] if curve.labelled else []
    return " · ".join([*said, f"dashed: {limit:.0%}"])


def _points(curve: PruneCurve) -> list[str]:
    band = curve.random_agreement
    found = []
    for point, count in enumerate(curve.counts.tolist()):
        changed = curve.pictures - int(curve.agreed[0, point])
        lines = [f"<b>{count:,} of {curve.channels:,} channels</b>", f"{changed:,} of {curve.pictures:,} change"]
        if len(curve.random_orders) and point:
            least, most = (format_share(1 - float(each[point])) for each in (band.most, band.least))
            lines.append(f"in random orders {least} to {most}")
        if curve.labelled:
            lines.append(f"accuracy {format_share(float(curve.accuracy[point]))}")
        found.append("<br>".join(lines))
    return found


def curve_csv(curve: PruneCurve) -> bytes:
    """A row for each point of the curve; what is not known is empty."""
    band = curve.random_agreement
    rows: list[list[Any]] = []
    for point, count in enumerate(curve.counts.tolist()):
        random = (1 - each[point] for each in (band.most, band.mean, band.least))
        own = (1 - curve.agreement[point], curve.accuracy[point], curve.divergence[point])
        rows.append([count, *map(_plain, (curve.shares[point], *own, *random)), curve.pictures])
    return csv_of(CURVE, rows).encode()


def channels_csv(found: Pruned, by: str, limit: float) -> bytes:
    """A row for each channel, the least important first: its importance by each criterion, and whether it can go."""
    order, count = found.curve.order, found.curve.removable(limit).count
    taylor, gate = found.importance.taylor, found.importance.gate
    rows = [
        [rank + 1, channel, _plain(taylor[channel]), _plain(gate[channel]), "yes" if rank < count else "no"]
        for rank, channel in enumerate(order.tolist())
    ]
    return csv_of([*CHANNELS[:2], *(f"{name} (ranks)" if name == by else name for name in CHANNELS[2:])], rows).encode()


def indices_json(channels: Mapping[str, Sequence[int]]) -> bytes:
    """By layer the channels that can go, as Torch-Pruning takes them for `pruning_idxs`."""
    return (json.dumps({layer: list(each) for layer, each in channels.items()}) + "\n").encode()


def _plain(value: float) -> float | str:
    return float(f"{value:.6g}") if np.isfinite(value) else ""
