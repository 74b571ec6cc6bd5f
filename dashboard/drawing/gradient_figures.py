"""The gradient at every layer along the depth as one figure: box plots of its size, and its norm. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.charts import COLOURS, FILLS
from hookscope.dashboard.drawing.layer_axis import GRID, layer_axis, plain_text
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.drawing.plain_figures import NEUTRAL, Draft
from hookscope.hooks.results.looks import QUANTILE_LEVELS, LayerGradient

HEIGHT_PX = 500
BOX_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # whisker, box, median, box, whisker
BELOW = 1e-3  # of the smallest root mean square: smaller values, and zeros, lie on the ground
PLAIN = 1e-3, 1e5  # numbers between these are written without an exponent
SIZE_TITLE = "size of the gradient's values: median, quartiles, 5 % to 95 %; zeros lie on the lower edge"
NORM_TITLE = "its L2 norm; a hollow mark on the lower edge is 0"
MARKED = "rgba(232,160,12,0.16)"  # behind layers that sentences warn of; on white and on the dark page


def gradient_figure(
    found: Sequence[Sequence[LayerGradient]],
    labels: Sequence[str],
    keys: Sequence[str],
    marked: Sequence[int] = (),
    *,
    height_px: int = HEIGHT_PX,
) -> go.Figure:
    """Box plots of |gradient| by layer, and under them its L2 norm, both on logarithmic axes.

    Quartiles are given to Plotly, not values. Values far below the smallest layer's root mean square, and zeros,
    lie on the ground; a norm of 0 interrupts the line and is a hollow mark on the lower edge. The layers' keys are in
    `layout.meta["keys"]` by their place on the horizontal axis, for a click.

    Arguments:
        found: of A, or of A and B: the same layers in the same order, of the depth. labels: their names.
        keys: what the layers are called.
        marked: places of the layers, in rising order, that have a tinted ground because sentences warn of them.
    """
    draft = Draft(height_px, "gradients")
    count = len(keys)
    boxes = [_boxes(layers) for layers in found]
    norms = [np.array([layer.norm for layer in layers], np.float64) for layers in found]
    rms = np.array([layer.rms for layers in found for layer in layers], np.float64)
    ground, top = _range(rms * BELOW, *boxes)
    low, high = _range(np.array(norms, np.float64))
    width = 0.72 / max(len(found), 1)
    for number, (layers, box, norm) in enumerate(zip(found, boxes, norms, strict=True)):
        colour, fill = COLOURS[labels[number] == "B"], FILLS[labels[number] == "B"]
        shift = (number - (len(found) - 1) / 2) * (width + 0.04)
        drawable = np.isfinite(box[:, 0])
        places = np.arange(count)[drawable] + shift
        whisker_low, first, median, third, whisker_high = np.maximum(box[drawable], ground).T
        draft.add_trace(
            "box",
            x=places,
            q1=first,
            median=median,
            q3=third,
            lowerfence=whisker_low,
            upperfence=whisker_high,
            width=width,
            name=labels[number],
            line={"color": colour, "width": 1},
            fillcolor=fill,
            hoverinfo="skip",
        )
        texts = [_hover(labels[number], key, layer) for key, layer in zip(keys, layers, strict=True)]
        # an invisible point on each box: Plotly's own hover of a box has a label for each of five numbers
        draft.add_trace(
            "scatter",
            x=places,
            y=median,
            mode="markers",
            marker={"opacity": 0, "size": 14},
            text=[text for text, there in zip(texts, drawable, strict=True) if there],
            hovertemplate="%{text}<extra></extra>",
            name=labels[number],
        )
        # A logarithmic axis has no place for 0, and a line over a gap would say that there is a value: it is broken.
        draft.add_trace(
            "scatter",
            x=np.arange(count),
            y=np.where(np.isfinite(norm) & (norm > 0), norm, np.nan),
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"size": 4},
            connectgaps=False,
            yaxis="y2",
            text=texts,
            hovertemplate="%{text}<extra></extra>",
            name=labels[number],
        )
        if (norm == 0).any():
            _add_zeros(draft, np.flatnonzero(norm == 0), 10 ** _decades(low, high)[0], texts, colour, labels[number])
    for first, last in _runs(marked):
        draft.add_shape(
            type="rect",
            xref="x",
            yref="paper",
            x0=first - 0.5,
            x1=last + 0.5,
            y0=0,
            y1=1,
            layer="below",
            fillcolor=MARKED,
            line={"width": 0},
        )
    if not any(np.isfinite(norm).any() for norm in norms):
        draft.add_annotation(
            text="no finite gradient", xref="paper", yref="paper", x=0.5, y=0.7, showarrow=False, font={"size": 13}
        )
    log = {"type": "log", "showgrid": True, "gridcolor": GRID, "zeroline": False, "tick0": 0}
    log["tickfont"] = {"color": NEUTRAL, "size": 11}
    draft.update_layout(
        meta={"keys": list(keys)},
        boxmode="overlay",
        hovermode="closest",
        hoverdistance=40,
        margin={"l": 56, "r": 8, "t": 22, "b": 116},
        xaxis={**layer_axis(keys), "anchor": "y2"},
        yaxis={**log, "domain": [0.4, 1], **_axis(ground, top, 7), "fixedrange": True},
        yaxis2={**log, "domain": [0, 0.3], **_axis(low, high, 5), "fixedrange": True},
    )
    size_title = f"{SIZE_TITLE}; tinted: see above" if marked else SIZE_TITLE
    for text, height in ((size_title, 1.0), (NORM_TITLE, 0.3)):
        draft.add_annotation(
            text=text,
            xref="paper",
            yref="paper",
            x=0,
            y=height,
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"color": NEUTRAL, "size": 12},
        )
    return draft.figure()


def _add_zeros(draft: Draft, places: np.ndarray, edge: float, texts: Sequence[str], colour: str, label: str) -> None:
    """Hollow marks on the lower edge of the norms, where a norm is exactly 0; the first of neighbours is labelled."""
    first = np.diff(places, prepend=-2) > 1
    draft.add_trace(
        "scatter",
        x=places,
        y=np.full(len(places), edge),
        mode="markers+text",
        marker={"symbol": "circle-open", "size": 9, "color": colour, "line": {"width": 1.5}},
        text=["0" if each else "" for each in first],
        textposition="top center",
        textfont={"color": colour, "size": 11},
        cliponaxis=False,  # else half of it is cut
        yaxis="y2",
        customdata=[texts[place] for place in places],
        hovertemplate="%{customdata}<extra></extra>",
        name=label,
    )


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Rising whole numbers as runs of neighbours: the first and the last of each."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs


def _boxes(layers: Sequence[LayerGradient]) -> np.ndarray:
    """The five numbers of each layer's box, float64 (layer, 5)."""
    places = [QUANTILE_LEVELS.index(level) for level in BOX_LEVELS]
    return np.array([[layer.magnitudes[place] for place in places] for layer in layers], np.float64).reshape(-1, 5)


def _range(least: np.ndarray, *more: np.ndarray) -> tuple[float, float]:
    """The least value of `least` and the greatest of all that are finite and above 0."""
    low, high = _positive(least), _positive(np.concatenate([least.ravel(), *(each.ravel() for each in more)]))
    return (float(low.min()), float(high.max())) if low.size else (0.1, 1.0)


def _positive(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values) & (values > 0)]


def _decades(low: float, high: float) -> list[float]:
    """The range of a logarithmic axis, with some air."""
    return [math.log10(low) - 0.3, math.log10(high) + 0.3]


def _axis(low: float, high: float, most: int) -> dict[str, Any]:
    """A logarithmic axis's range, and ticks of which there are about `most` at most.

    Plotly's own are printed over each other where values span less than two decades. These stand at 1, 2 and 5 of each
    decade where that is few enough, else at every decade or every so many; in plain digits where those are short.
    """
    first, last = _decades(low, high)
    span = last - first
    return {
        "range": [first, last],
        "dtick": "D2" if 3 * span <= most else max(1, math.ceil(span / most)),
        "tickformat": "~g" if PLAIN[0] <= low and high <= PLAIN[1] else ".0e",
    }


def _hover(label: str, key: str, layer: LayerGradient) -> str:
    broken = [f"{count:,} {name}" for count, name in ((layer.nan, "NaN"), (layer.inf, "Inf")) if count]
    lines = [
        f"<b>{plain_text(key)}</b>",
        f"{label}: norm {format_number(layer.norm)}, largest {format_number(layer.max_abs)}",
        f"median size {format_number(float(layer.magnitudes[QUANTILE_LEVELS.index(0.5)]))}, "
        f"zeros {format_share(layer.zeros)}",
        *([" and ".join(broken)] if broken else []),
        "Click to show this layer.",
    ]
    return "<br>".join(lines)
