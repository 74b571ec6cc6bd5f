"""What all figures share: no template, no theme, panels side by side.

No figure brings colours of a theme: text is a grey that reads on light and dark, and the page's style sheet may set its
own (`.gridlayer path`, `.annotation-text`, `.xtick text`), so a change of theme needs no new figure.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

GRAPH_CONFIG = {"displaylogo": False, "showSendToCloud": False, "displayModeBar": False, "responsive": True}
NEUTRAL = "#868e96"
HOVER = {
    "bgcolor": "#25262b",
    "bordercolor": "#25262b",
    "font": {"color": "#f8f9fa", "size": 12},
    "align": "left",
    "namelength": 0,
}
PANEL_GAP = 0.015  # between panels, as a share of the figure's width
LABEL_PX = 20  # above the panels, for their labels


def plain_figure(height_px: int, key: str, top_px: int = 0) -> go.Figure:
    """An empty figure, without the 6 KB of Plotly's default template.

    Arguments:
        height_px: of the whole figure. top_px: how much of it lies above the drawing, for labels.
        key: Plotly's uirevision.
    """
    return go.Figure(
        layout={
            "template": "none",
            "height": height_px,
            "margin": {"l": 0, "r": 0, "t": top_px, "b": 0},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": NEUTRAL, "size": 12},
            "hoverlabel": HOVER,
            "hovermode": "closest",
            "dragmode": False,
            "showlegend": False,
            "uirevision": key,
        }
    )


def panel_axes(figure: go.Figure, number: int, panels: int) -> tuple[str, str]:
    """The names of panel `number`'s axes, which get their place side by side."""
    x, y = ("x", "y") if number == 0 else (f"x{number + 1}", f"y{number + 1}")
    set_axis(figure, "x", x, domain=panel_domain(number, panels), anchor=y)
    set_axis(figure, "y", y, domain=[0, 1], anchor=x)
    return x, y


def set_axis(figure: go.Figure, letter: str, name: str, **settings: Any) -> None:
    plain = {
        "showticklabels": False,
        "ticks": "",
        "zeroline": False,
        "showgrid": False,
        "showline": False,
        "constrain": "domain",
    }
    figure.update_layout({f"{letter}axis{name[1:]}": plain | settings})


def panel_domain(number: int, panels: int) -> list[float]:
    width = (1 - PANEL_GAP * (panels - 1)) / panels
    start = number * (width + PANEL_GAP)
    return [start, min(start + width, 1)]


def panel_label(figure: go.Figure, text: str, x: str) -> None:
    figure.add_annotation(
        text=text,
        xref=f"{x} domain",
        yref="paper",
        x=0,
        y=1,
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        font={"color": NEUTRAL, "size": 12},
        borderpad=1,
    )
