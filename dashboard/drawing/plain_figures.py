"""What all figures share: no template, no theme, panels side by side.

No figure brings colours of a theme: text is a grey that reads on light and dark, and the page's style sheet may set its
own (`.gridlayer path`, `.annotation-text`, `.xtick text`), so a change of theme needs no new figure.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

# Not "responsive": a graph would be laid out a second time whenever its height is set. assets/wall.js follows widths.
GRAPH_CONFIG = {"displaylogo": False, "showSendToCloud": False, "displayModeBar": False}
NEUTRAL = "#868e96"
HOVER = {
    "bgcolor": "#25262b",
    "bordercolor": "#25262b",
    "font": {"color": "#f8f9fa", "size": 12},
    "align": "left",
    "namelength": 0,
}
PLAIN = {"data": {"scatter": [{"type": "scatter"}]}}  # Plotly's template "none"
PANEL_GAP = 0.015  # between panels, as a share of the figure's width
LABEL_PX = 20  # above the panels, for their labels


class Draft:
    """A figure that is being put together, without the 6 KB of Plotly's default template.

    Its methods are `go.Figure`'s, on plain dicts: changing a finished figure looks every name up in Plotly's schema
    again, which took 18 of the 20 ms that a wall's figure took.

    Arguments:
        height_px: of the whole figure. top_px: how much of it lies above the drawing, for labels.
        key: Plotly's uirevision.
    """

    def __init__(self, height_px: int, key: str, top_px: int = 0) -> None:
        self.traces: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {
            "template": PLAIN,
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

    def update_layout(self, **settings: Any) -> None:
        """Set properties of the layout; those of axes, margins and the like one by one."""
        for name, value in settings.items():
            known = self.layout.get(name)
            merge = isinstance(known, dict) and isinstance(value, dict)
            self.layout[name] = dict(known or {}, **value) if merge else value

    def add_trace(self, kind: str, **settings: Any) -> None:
        """Draw values: "heatmap", "scatter", "bar", "box"; None means Plotly's own default."""
        self.traces.append({"type": kind, **{name: value for name, value in settings.items() if value is not None}})

    def add_layout_image(self, **settings: Any) -> None:
        """Lay a picture under or over the traces."""
        self.layout.setdefault("images", []).append(settings)

    def add_annotation(self, **settings: Any) -> None:
        """Write a text."""
        self.layout.setdefault("annotations", []).append(settings)

    def add_shape(self, **settings: Any) -> None:
        """Draw a line or a rectangle."""
        self.layout.setdefault("shapes", []).append(settings)

    def figure(self) -> go.Figure:
        """The finished figure.

        Whether Plotly knows all of its properties, with such values, is for tests to say of the pages that they record:
        it takes as long as everything else that a card is made of.
        """
        return go.Figure(data=self.traces, layout=self.layout, _validate=False)


def panel_axes(draft: Draft, number: int, panels: int) -> tuple[str, str]:
    """The names of panel `number`'s axes, which get their place side by side."""
    x, y = ("x", "y") if number == 0 else (f"x{number + 1}", f"y{number + 1}")
    set_axis(draft, "x", x, domain=panel_domain(number, panels), anchor=y)
    set_axis(draft, "y", y, domain=[0, 1], anchor=x)
    return x, y


def set_axis(draft: Draft, letter: str, name: str, **settings: Any) -> None:
    """Set properties of an axis that shows nothing of itself otherwise."""
    axis = f"{letter}axis{name[1:]}"
    plain = {
        "showticklabels": False,
        "ticks": "",
        "zeroline": False,
        "showgrid": False,
        "showline": False,
        "constrain": "domain",
    }
    draft.layout[axis] = {**plain, **draft.layout.get(axis, {}), **settings}


def panel_domain(number: int, panels: int) -> list[float]:
    width = (1 - PANEL_GAP * (panels - 1)) / panels
    start = number * (width + PANEL_GAP)
    return [start, min(start + width, 1)]


def panel_label(draft: Draft, text: str, x: str) -> None:
    draft.add_annotation(
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


def corner_note(draft: Draft, text: str, size: int = 12) -> None:
    """Write a line above the right end of a figure's axes; `size` in pixels."""
    draft.add_annotation(
        text=text,
        xref="paper",
        yref="paper",
        x=1,
        y=1,
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
        font={"color": NEUTRAL, "size": size},
    )
