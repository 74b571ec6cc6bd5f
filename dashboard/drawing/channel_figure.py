"""The Plotly figure of one enlarged channel: real heatmaps of A, B and B - A, with every value on hover."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import DIFFERENCE, INF_COLOUR, NAN_COLOUR, Palette
from hookscope.dashboard.drawing.plain_figures import (
    LABEL_PX,
    NEUTRAL,
    Draft,
    panel_axes,
    panel_domain,
    panel_label,
    set_axis,
)
from hookscope.dashboard.drawing.scales import Scale

BAR_PX = 34  # below the panels, for the colour bar


def channel_figure(
    maps: Sequence[tuple[str, np.ndarray]],
    scale: Scale,
    palette: Palette,
    *,
    difference: np.ndarray | None = None,
    difference_scale: Scale | None = None,
    picture: Sequence[str] = (),
    opacity: float = 1.0,
    height_px: int = 320,
    key: str = "channel",
) -> go.Figure:
    """One channel enlarged, never reduced, with its values on hover: A; or A, B and B - A, zooming together.

    Arguments:
        maps: (label, float32 (height, width)) for A, or for A and B.
        scale, palette: shared by A and B.
        difference: float32 (height, width), B - A. difference_scale: its own.
        picture: URLs of the model's inputs, one per map, to lay under the values; empty for none.
        opacity: of the value farthest from zero above a picture, 0..1; values near zero let the picture through.
        height_px: of the whole figure.
    """
    draft = Draft(height_px, key, LABEL_PX)
    draft.update_layout(margin={"b": BAR_PX}, dragmode="zoom")
    over = opacity if picture else None
    shown = [(label, values, "coloraxis") for label, values in maps]
    if difference is not None and difference_scale is not None:
        shown.append(("B − A", difference, "coloraxis2"))
        draft.update_layout(coloraxis2=_colour_axis(difference_scale, DIFFERENCE, len(maps), len(maps), len(shown)))
    draft.update_layout(coloraxis=_colour_axis(scale, palette, 0, len(maps) - 1, len(shown), over))
    for number, (label, values, colours) in enumerate(shown):
        x, y = panel_axes(draft, number, len(shown))
        height, width = values.shape
        linked = {"matches": "x"} if number else {}, {"matches": "y"} if number else {"scaleanchor": x}
        set_axis(draft, "x", x, range=[-0.5, width - 0.5], **linked[0])
        set_axis(draft, "y", y, range=[height - 0.5, -0.5], **linked[1])
        if number < len(picture):
            draft.add_layout_image(
                source=picture[number],
                xref=x,
                yref=y,
                x=-0.5,
                y=-0.5,
                sizex=width,
                sizey=height,
                xanchor="left",
                yanchor="top",
                sizing="stretch",
                layer="below",
            )
        panel_label(draft, label, x)
        text = f"row %{{y}}, column %{{x}}<br><b>{label}: %{{z:.5~g}}</b><extra></extra>"
        draft.add_trace(
            "heatmap",
            z=np.where(np.isfinite(values), values, np.nan).astype(np.float32),
            xaxis=x,
            yaxis=y,
            x0=0,
            dx=1,
            y0=0,
            dy=1,
            coloraxis=colours,
            hoverongaps=False,
            hovertemplate=text,
        )
        if not np.isfinite(values).all():
            _broken(draft, label, values, x, y)
    return draft.figure()


def _broken(draft: Draft, label: str, values: np.ndarray, x: str, y: str) -> None:
    """What is no number, in the colours that sprites give it."""
    z = np.where(np.isnan(values), 0, np.where(values == -np.inf, 1, np.where(np.isinf(values), 2, np.nan)))
    names = np.where(
        np.isnan(values), "NaN", np.where(values == -np.inf, "-Inf", np.where(np.isinf(values), "Inf", ""))
    )
    nan, inf = (f"rgb{colour}" for colour in (NAN_COLOUR, INF_COLOUR))
    draft.add_trace(
        "heatmap",
        z=z.astype(np.float32),
        text=names.tolist(),
        xaxis=x,
        yaxis=y,
        x0=0,
        dx=1,
        y0=0,
        dy=1,
        zmin=0,
        zmax=2,
        colorscale=[[0, nan], [0.4, nan], [0.4, inf], [1, inf]],
        showscale=False,
        hoverongaps=False,
        hovertemplate=f"row %{{y}}, column %{{x}}<br><b>{label}: %{{text}}</b><extra></extra>",
    )


def _colour_axis(
    scale: Scale, palette: Palette, first: int, last: int, panels: int, opacity: float | None = None
) -> dict[str, Any]:
    """A colour axis whose bar lies below the panels `first` to `last`; with an opacity, for values over a picture."""
    low, high = (scale.low, scale.high) if scale.high > 0 else (0.0, 1.0)
    ticks = [low, 0.0, high] if low < 0 else [low, high]
    start, end = panel_domain(first, panels)[0], panel_domain(last, panels)[1]
    return {
        "cmin": low,
        "cmax": high,
        "colorscale": palette.colorscale() if opacity is None else palette.overlay_colorscale(scale.kind, opacity),
        "colorbar": {
            "orientation": "h",
            "x": (start + end) / 2,
            "xanchor": "center",
            "y": 0,
            "yanchor": "top",
            "len": (end - start) * 0.7,  # a number below each end has to fit
            "thickness": 8,
            "ypad": 6,
            "xpad": 0,
            "outlinewidth": 0,
            "tickfont": {"color": NEUTRAL, "size": 11},
            "tickvals": ticks if scale.high > 0 else [0],
            "ticks": "",
            "ticklabeloverflow": "allow",
            "ticktext": [format_number(tick) for tick in ticks] if scale.high > 0 else [scale.text],
        },
    }
