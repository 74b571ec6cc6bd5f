"""The Plotly figure of a channel wall: the sprites of A, B, B - A and what comes back, under grids that carry hover and
clicks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.geometry import READABLE_PX, WallGeometry
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.plain_figures import NEUTRAL, Draft, panel_axes, panel_domain, set_axis
from hookscope.dashboard.drawing.ranking import Numbers, channel_numbers, mean_map

FRAME = ({"color": "#ffffff", "width": 3}, {"color": "#1b1f24", "width": 1.5, "dash": "dot"})  # on any colours
MARK_COLOURS = ("#ff922b", "#4dabf7")  # of what speaks for the target, and against it; as dashboard.css has them
MARK_GROUND = "rgba(20, 22, 26, 0.8)"
MARK_INSET, MARK_HEIGHT, LEAST_MARK = 0.06, 0.93, 0.04  # of a cell
ASSUMED_PX = 280  # a panel's width where it is not known
LETTER_PX = 7  # wide, on average, in the figures' font
_INSET = 0.03  # of a cell: at the wall's edge half of a frame would be cut
_CLEAR = [[0, "rgba(0,0,0,0)"], [1, "rgba(0,0,0,0)"]]


@dataclass(frozen=True, eq=False)
class Words:
    """What a panel says of its cells in place of their mean, minimum and maximum.

    Attributes:
        columns: numbers of each channel, float (shown,). line: given how Plotly's template calls these, a channel's.
        notes: a text of each channel, `%{text}` in the line. first: of the wall's first cell, which is no channel.
    """

    columns: Sequence[np.ndarray]
    line: Callable[..., str]
    notes: Sequence[str]
    first: str


@dataclass(frozen=True, eq=False)
class Panel:
    """One of up to four pictures side by side in a wall.

    Attributes:
        label: "A", "B", "B − A" or "A in B", in its hover text.
        source: the sprite's URL.
        place: which of the places side by side is its own, from 0; None for the next one.
        numbers: float32 (cell, 3), mean, minimum and maximum of every cell, mean map first (`cell_numbers`).
        marks: float (shown,), drawn as a bar under each channel's cell, positive ones in another colour than negative
            ones, on one scale; NaN for none. None for no bars.
        said: further numbers of each channel, float (shown,), by what they are called in the hover text.
        words: what the hover text says in place of the numbers; None for these.
    """

    label: str
    source: str
    numbers: np.ndarray
    place: int | None = None
    marks: np.ndarray | None = None
    said: Mapping[str, np.ndarray] = field(default_factory=dict)
    words: Words | None = None


def cell_numbers(maps: np.ndarray, order: np.ndarray, numbers: Numbers | None = None) -> np.ndarray:
    """Mean, minimum and maximum of the mean map and of each shown channel: float32 (1 + shown, 3), of finite values.

    Arguments:
        maps: float32 (channel, height, width). order: the channels shown, in the wall's order.
        numbers: the maps' `channel_numbers`, or the same from `Statistics.channels`, where they are known.
    """
    if numbers is None or len(numbers.get("mean", ())) != len(maps):
        numbers = channel_numbers(maps[order])
    else:
        numbers = {name: array[order] for name, array in numbers.items()}
    first = channel_numbers(mean_map(maps)[None])
    columns = [np.concatenate([first[name], numbers[name]]) for name in ("mean", "min", "max")]
    return np.stack(columns, axis=1).astype(np.float32)


def wall_figure(
    panels: Sequence[Panel],
    order: np.ndarray,
    geometry: WallGeometry,
    *,
    distance: np.ndarray | None = None,
    places: int = 0,
    refused: str = "",
    key: str = "wall",
    width_px: int | None = None,
) -> go.Figure:
    """A card's channel wall: each panel's sprite under an invisible grid that carries hover text and clicks.

    A click's (x, y), in cells, is decoded by the page (assets/wall.js). Traces 2 p and 2 p + 1 are panel p's channels
    and mean map; a cell has the same point numbers in every panel, so the page can show the texts of all at once.

    Arguments:
        panels: A; or A, B; or A, B, B - A; and what comes back of A in B.
        order: the channels shown; a panel that has not as many has the first of them. geometry: their layout.
        distance: mean |A - B| of every channel by index, when there are two inputs.
        places: how many panels there will be, if not all are there yet; those that are keep their places.
        refused: why the last of these places stays empty; "" if it does not.
        key: Plotly's uirevision; keep it while the same wall is redrawn.
        width_px: of the figure; None for its container's. Where that has changed while it was hidden, Plotly would keep
            the old number of columns.
    """
    draft = Draft(geometry.height_px, key, 0)
    if width_px is not None:
        draft.layout["width"] = width_px
    gap = 2 if geometry.cell_px >= READABLE_PX else 1
    for number, panel in enumerate(panels):
        x, y = panel_axes(draft, number if panel.place is None else panel.place, max(places, len(panels)))
        cells = {"tickmode": "linear", "tick0": 0, "dtick": 1, "showgrid": True, "gridwidth": gap, "fixedrange": True}
        ratio = geometry.map_height / geometry.map_width
        set_axis(draft, "x", x, range=[0, geometry.columns], constraintoward="left", **cells)
        set_axis(
            draft, "y", y, range=[geometry.rows, 0], scaleanchor=x, scaleratio=ratio, constraintoward="top", **cells
        )
        draft.add_layout_image(
            source=panel.source,
            xref=x,
            yref=y,
            x=0,
            y=0,
            sizex=geometry.columns,
            sizey=-(-len(panel.numbers) // geometry.columns),
            xanchor="left",
            yanchor="top",
            sizing="stretch",
            layer="below",
        )
        _channels(draft, panel, order[: len(panel.numbers) - 1], geometry, distance, x, y)
        _mean_cell(draft, panel, x, y)
        _frame(draft, x, y)
    if refused:
        _refuse(draft, refused, places, width_px or 3 * ASSUMED_PX)
    for number, panel in enumerate(panels):  # after the traces that the page counts
        if panel.marks is not None:
            _mark(draft, panel.marks, geometry, number if panel.place is None else panel.place)
    return draft.figure()


def _refuse(draft: Draft, sentence: str, places: int, width_px: int) -> None:
    """Write a sentence where the last panel would be."""
    start, end = panel_domain(places - 1, places)
    letters = max(int((end - start) * width_px / LETTER_PX), 12)
    draft.add_annotation(
        text="<br>".join(escape(line, quote=False) for line in wrap(sentence, letters)),
        xref="paper",
        yref="paper",
        x=start,
        y=1,
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        font={"color": NEUTRAL, "size": 12},
    )


def _channels(
    draft: Draft, panel: Panel, order: np.ndarray, geometry: WallGeometry, distance: np.ndarray | None, x: str, y: str
) -> None:
    """The invisible grid: z is the channel's index, NaN where there is no channel (and so no hover and no click)."""
    shape = geometry.rows, geometry.columns
    parts = list(panel.numbers[1:].T if panel.words is None else panel.words.columns)
    if panel.words is None:
        values = f"{panel.label or 'value'}: mean %{{customdata[0]:.4~g}}"
        values += "<br>min %{customdata[1]:.4~g} · max %{customdata[2]:.4~g}"
    else:
        values = panel.words.line(*(f"customdata[{number}]" for number in range(len(parts))))
    head = "<b>channel %{z:.0f}</b>"
    if (np.diff(order) < 0).any():  # else the rank is the index, and 2,048 of them would weigh 11 KB
        head += f" · rank %{{customdata[{len(parts)}]:.0f}}"
        parts.append(np.arange(1, len(order) + 1))
    text = f"{head}<br>{values}"
    if distance is not None:
        text += f"<br>mean |A − B| %{{customdata[{len(parts)}]:.4~g}}"
        parts.append(distance[order])
    for name, column in panel.said.items():
        text += f"<br>{name} %{{customdata[{len(parts)}]:+.4~g}}"
        parts.append(column)
    z = np.full(shape, np.nan, np.float32)
    z.flat[1 : len(order) + 1] = order
    custom = np.full((*shape, len(parts)), np.nan, np.float32)
    custom.reshape(-1, len(parts))[1 : len(order) + 1] = np.stack(parts, axis=1)
    noted = None
    if panel.words is not None:
        flat = ["", *panel.words.notes, *[""] * (geometry.rows * geometry.columns - 1 - len(order))]
        noted = [flat[row * geometry.columns :][: geometry.columns] for row in range(geometry.rows)]
    draft.add_trace(
        "heatmap",
        z=z,
        customdata=custom,
        text=noted,
        x0=0.5,
        dx=1,
        y0=0.5,
        dy=1,
        xaxis=x,
        yaxis=y,
        colorscale=_CLEAR,
        showscale=False,
        hoverongaps=False,
        hovertemplate=text + "<extra></extra>",
    )


def _mark(draft: Draft, marks: np.ndarray, geometry: WallGeometry, place: int) -> None:
    """A bar at the foot of each channel's cell, as long as the number is large, on a dark ground that sets it off."""
    axis = "" if place == 0 else str(place + 1)
    cells = np.arange(1, len(marks) + 1)
    left, foot = cells % geometry.columns + MARK_INSET, cells // geometry.columns + MARK_HEIGHT
    largest = np.nanmax(np.abs(marks), initial=0) or 1.0
    known, length = np.isfinite(marks), np.abs(marks) / largest * (1 - 2 * MARK_INSET)
    for chosen, colour, width in (
        (known, MARK_GROUND, 5),
        (known & (marks > 0), MARK_COLOURS[0], 3),
        (known & (marks < 0), MARK_COLOURS[1], 3),
    ):
        if not chosen.any():
            continue
        ends = left[chosen] + length[chosen]
        if colour == MARK_GROUND:
            ends = np.maximum(ends, left[chosen] + LEAST_MARK)  # a channel that does nothing is known, too
        nothing = np.full(int(chosen.sum()), np.nan)
        draft.add_trace(
            "scatter",
            mode="lines",
            x=np.stack([left[chosen], ends, nothing], axis=1).ravel().astype(np.float32),
            y=np.stack([foot[chosen], foot[chosen], nothing], axis=1).ravel().astype(np.float32),
            xaxis=f"x{axis}",
            yaxis=f"y{axis}",
            line={"color": colour, "width": width},
            hoverinfo="skip",
        )


def _frame(draft: Draft, x: str, y: str) -> None:
    """Set the first cell, which is no channel, apart from the others."""
    edges = {"x0": _INSET, "x1": 1 - _INSET, "y0": _INSET, "y1": 1 - _INSET}
    for line in FRAME:
        draft.add_shape(type="rect", xref=x, yref=y, line=line, **edges)


def _mean_cell(draft: Draft, panel: Panel, x: str, y: str) -> None:
    mean, low, high = (format_number(float(number)) for number in panel.numbers[0])
    text = f"<b>mean of all channels</b><br>{panel.label or 'value'}: mean {mean}<br>min {low} · max {high}"
    if panel.words is not None:
        text = panel.words.first
    draft.add_trace(
        "heatmap",
        z=np.zeros((1, 1), np.uint8),
        x0=0.5,
        dx=1,
        y0=0.5,
        dy=1,
        xaxis=x,
        yaxis=y,
        colorscale=_CLEAR,
        showscale=False,
        hovertemplate=text + "<extra></extra>",
    )
