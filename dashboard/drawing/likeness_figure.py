"""The likeness of two models' layers as a matrix, the best match of each row marked. Pure functions."""

from __future__ import annotations

import csv
import io

import numpy as np
import plotly.graph_objects as go

from hookscope.dashboard.drawing.palettes import PALETTES
from hookscope.dashboard.drawing.plain_figures import Draft
from hookscope.hooks.results.likeness import Likeness

HEIGHT_PX = 520
MOST_TICKS = 26  # layers named along each side


def likeness_figure(
    found: Likeness, rows: list[str], columns: list[str], labels: tuple[str, str] = ("A", "B")
) -> go.Figure:
    """Debiased CKA of every pair of layers, 0 to 1; a ring on the best match of each row, CKA and Procrustes on hover.

    What lies below 0 has the colour of 0 and its own number on hover. The layers' keys are in `layout.meta`, "rows" and
    "columns", for a click.

    Arguments:
        rows, columns: what the layers of the first and of the second are called.
    """
    draft = Draft(HEIGHT_PX, "likeness")
    draft.add_trace(
        "heatmap",
        z=found.cka.astype(np.float32),
        customdata=found.procrustes.astype(np.float32),
        text=[[f"{one} and {other}" for other in columns] for one in rows],
        zmin=0,
        zmax=1,
        colorscale=PALETTES["viridis"].colorscale(),
        colorbar={"title": {"text": "CKA"}, "thickness": 12},
        hovertemplate="%{text}<br>CKA %{z:.3f}, Procrustes %{customdata:.3f}<extra></extra>",
    )
    best = found.best
    marked = np.flatnonzero(best >= 0)
    draft.add_trace(
        "scatter",
        x=best[marked],
        y=marked,
        mode="markers",
        marker={"symbol": "circle-open", "size": 9, "color": "#ff6b6b", "line": {"width": 2}},
        hoverinfo="skip",
        showlegend=False,
    )
    draft.update_layout(
        xaxis=_axis(columns, f"layers of {labels[1]}"),
        yaxis={**_axis(rows, f"layers of {labels[0]}"), "autorange": "reversed"},
        meta={"rows": rows, "columns": columns},
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
    )
    return draft.figure()


def _axis(names: list[str], title: str) -> dict[str, object]:
    step = -(-len(names) // MOST_TICKS)
    shown = list(range(0, len(names), max(step, 1)))
    return {
        "title": {"text": title},
        "tickvals": shown,
        "ticktext": [names[place] for place in shown],
        "automargin": True,
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
        "range": [-0.5, len(names) - 0.5],
    }


def likeness_csv(found: Likeness, rows: list[str], columns: list[str]) -> bytes:
    """One line per pair of layers: both names, CKA, its standard error where there is one, Procrustes."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["layer of A", "layer of B", "CKA", "standard error", "Procrustes"])
    for row, one in enumerate(rows):
        for column, other in enumerate(columns):
            error = repr(float(found.errors[row, column])) if found.errors.size else ""
            numbers = (repr(float(found.cka[row, column])), error, repr(float(found.procrustes[row, column])))
            writer.writerow([one, other, *numbers])
    return file.getvalue().encode()
