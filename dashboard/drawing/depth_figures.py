"""How far A and B are apart along the depth, and what of A's answer comes back, as figures. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.drawing.layer_axis import GRID, layer_axis, plain_text
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.plain_figures import NEUTRAL, Draft, corner_note
from hookscope.hooks.results.parting import PartedCall, Place
from hookscope.hooks.results.restoring import RestoredLayer

HEIGHT_PX = 400
APART, FIRST, BACK, ALL_PATHS = "#9775fa", "#5f3dc4", "#2b8a3e", "rgba(134,142,150,0.45)"
EDGES = (-1.0, 2.0)  # of what comes back: beyond, a small gap between the answers makes it mean little
LEAST = 1e-8  # of a relative distance, on a logarithmic axis: below float32's own rounding

# a dashed line that is seen on hundreds of bars as well as on the paper, light or dark
OVER_BARS = ({"color": "rgba(255,255,255,0.75)", "width": 3}, {"color": "#343a40", "width": 1, "dash": "dash"})


def parting_figure(
    steps: Sequence[PartedCall],
    values: Mapping[Place, float],
    threshold: float | None,
    first: PartedCall | None,
    *,
    called: str,
    logarithmic: bool = False,
) -> go.Figure:
    """A bar for each step along the depth; the first parting is darker, the threshold, if there is one, a line.

    Arguments:
        values: of each call, what is drawn. called: that number's name, for the hover; "" where it is said otherwise.
        logarithmic: for two models, whose distances span many decades; 0 has no bar there.
    """
    keys = [key_of(*step.place) for step in steps]
    heights = np.array([values[step.place] for step in steps], np.float64)
    draft = Draft(HEIGHT_PX, "parting log" if logarithmic else "parting")
    drawn = np.where(heights > LEAST, heights, np.nan) if logarithmic else heights
    draft.add_trace(
        "bar",
        x=np.arange(len(keys)),
        y=drawn,
        marker={"color": [FIRST if step is first else APART for step in steps], "line": {"width": 0}},
        width=0.72,
        hoverinfo="skip",
    )
    low, high = _range(drawn, threshold or LEAST, logarithmic)
    texts = [_parted(step, value, called) for step, value in zip(steps, heights.tolist(), strict=True)]
    _add_hovers(draft, texts, low if not logarithmic else 10**low)
    if threshold is not None:
        _add_threshold(draft, threshold, "tolerance" if logarithmic else "below it the two are the same")
    # by itself Plotly writes all nine numbers of a decade, over each other
    ticks = {"type": "log", "tickformat": ".0e", "dtick": "D2" if high - low < 3 else math.ceil((high - low) / 8)}
    _lay_out(draft, keys, ticks if logarithmic else {}, (low, high))
    return draft.figure()


def restored_figure(layers: Sequence[RestoredLayer]) -> go.Figure:
    """A bar for what each layer brings back, grey where all paths pass, and a line for its strongest channels."""
    keys = [key_of(layer.layer, layer.call) for layer in layers]
    whole = np.array([layer.whole for layer in layers], np.float64)
    strongest = np.array([layer.strongest for layer in layers], np.float64)
    known_all = all(layer.reason or math.isfinite(layer.whole) for layer in layers)
    draft = Draft(HEIGHT_PX, "restored")
    draft.add_trace(
        "bar",
        x=np.arange(len(keys)),
        y=np.clip(whole, *EDGES),
        marker={"color": [ALL_PATHS if layer.all_paths else APART for layer in layers], "line": {"width": 0}},
        width=0.72,
        hoverinfo="skip",
    )
    draft.add_trace(
        "scatter",
        x=np.arange(len(keys)),
        y=np.clip(strongest, *EDGES),
        mode="lines+markers",
        line={"color": BACK, "width": 1.5},
        marker={"size": 5},
        connectgaps=known_all,  # over layers without channels, and not over those that are not known yet
        hoverinfo="skip",
    )
    known = np.concatenate([whole, strongest, [0.0, 1.0]])
    known = known[np.isfinite(known)]
    low, high = (float(np.clip(edge, *EDGES)) for edge in (known.min(), known.max()))
    beyond = [f"below {low:g}"] if known.min() < low else []
    beyond += [f"above {high:g}"] if known.max() > high else []
    if beyond:
        corner_note(draft, f"{' or '.join(beyond)} cut at the edge; point at a layer for its number")
    low, high = low - 0.08, high + 0.08
    _add_hovers(draft, [_restored(layer) for layer in layers], 0.5)
    _lay_out(draft, keys, {"zeroline": True, "zerolinecolor": GRID}, (low, high))
    return draft.figure()


def _add_threshold(draft: Draft, threshold: float, means: str) -> None:
    for line in OVER_BARS:
        draft.add_shape(type="line", xref="paper", yref="y", x0=0, x1=1, y0=threshold, y1=threshold, line=line)
    corner_note(draft, f"dashed: {format_number(threshold)}, {means}")


def _range(values: np.ndarray, threshold: float, logarithmic: bool) -> tuple[float, float]:
    known = np.append(values[np.isfinite(values)], threshold)
    if logarithmic:
        return math.log10(float(known.min())) - 0.3, math.log10(float(known.max())) + 0.3
    return 0.0, max(float(known.max()) * 1.08, 1.0)


def _add_hovers(draft: Draft, texts: Sequence[str], height: float) -> None:
    """An invisible point for each layer: a bar of height 0 has nothing to point at."""
    draft.add_trace(
        "scatter",
        x=np.arange(len(texts)),
        y=np.full(len(texts), height),
        mode="markers",
        marker={"opacity": 0, "size": 14},
        text=list(texts),
        hovertemplate="%{text}<extra></extra>",
    )


def _lay_out(draft: Draft, keys: Sequence[str], more: dict[str, Any], span: tuple[float, float]) -> None:
    draft.update_layout(
        meta={"keys": list(keys)},
        hovermode="x",
        hoverdistance=40,
        margin={"l": 48, "r": 8, "t": 22, "b": 116},
        xaxis=layer_axis(keys),
        yaxis={
            "showgrid": True,
            "gridcolor": GRID,
            "zeroline": False,
            "tickfont": {"color": NEUTRAL, "size": 11},
            "range": list(span),
            "fixedrange": True,
            **more,
        },
    )


def _parted(step: PartedCall, value: float, called: str) -> str:
    lines = [f"<b>{plain_text(key_of(*step.place))}</b>"]
    if step.reason:
        lines.append(plain_text(step.reason))
    else:
        own = f"{called} {format_number(value)}, " if called else ""
        lines.append(f"{own}relative L2 {format_number(step.distance)}")
        sqnr = "infinite" if math.isinf(step.sqnr) else f"{step.sqnr:.1f} dB"
        lines.append(f"cosine distance {format_number(step.cosine)}, SQNR {sqnr}")
    if math.isfinite(step.shift):
        lines.append(f"distributions: KS {format_number(step.shift)} on average over the channels")
    if step.left_out:
        lines.append(f"{step.left_out:,} NaN or infinite values left out")
    return "<br>".join([*lines, "Click to show this layer."])


def _restored(layer: RestoredLayer) -> str:
    lines = [f"<b>{plain_text(key_of(layer.layer, layer.call))}</b>"]
    if layer.reason:
        lines.append(plain_text(layer.reason))
    else:
        whole = "not measured yet" if math.isnan(layer.whole) else f"{layer.whole:.1%}"
        lines.append(f"the whole layer: {whole}" + (", all paths pass here" if layer.all_paths else ""))
        if math.isfinite(layer.strongest):
            lines.append(f"its ten channels that differ most: {layer.strongest:.1%}")
        lines.append(f"estimated by one gradient: {format_number(layer.estimate)}")
        if layer.branch:
            lines.append(f"one branch into {plain_text(layer.branch)}")
    return "<br>".join([*lines, "Click to show this layer."])
