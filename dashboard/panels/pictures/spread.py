"""How a score spreads over the pictures of one set, or of two: bars of plain elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from dash import html

from hookscope.dashboard.drawing.numbers import format_number

BINS = 36
WIDE = 30.0  # times as large as the least, from which on the largest is shown in equal ratios


def spread(sides: Sequence[tuple[str, str, np.ndarray]]) -> html.Div | None:
    """Bars between the least and the largest; nothing where all are the same.

    Arguments:
        sides: of each set its name, the class name of its bars, and the scores, float (picture,).
    """
    finite = [values[np.isfinite(values)].astype(np.float64) for _, _, values in sides]
    every = np.concatenate(finite)
    if not every.size or every.min() == every.max():
        return None
    least, most = float(every.min()), float(every.max())
    wide = least > 0 and most > WIDE * least
    edges = np.geomspace(least, most, BINS + 1) if wide else np.linspace(least, most, BINS + 1)
    edges[0], edges[-1] = least, most  # which a root and its power may miss by a rounding
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for values in finite]
    highest = max(float(each.max()) for each in shares)
    bins = [
        html.Div(
            [
                html.Span(className=kind, style={"height": f"{100 * share[index] / highest:.1f}%"})
                for (_, kind, _), share in zip(sides, shares, strict=True)
            ],
            className="score-bin",
            title=f"{format_number(float(edges[index]))} to {format_number(float(edges[index + 1]))}: "
            + ", ".join(f"{name} {share[index]:.1%}" for (name, _, _), share in zip(sides, shares, strict=True)),
        )
        for index in range(BINS)
    ]
    names = [html.Span(name, className=f"score-of {kind}") for name, kind, _ in sides]
    ends = [html.Span(format_number(edge), className="mono") for edge in (least, most)]
    about = f"How the scores spread, from {format_number(least)} to {format_number(most)}"
    below = html.Div(
        [ends[0], html.Span([*names, " in equal ratios" if wide else ""]), ends[1]], className="gap-ends muted"
    )
    return html.Div(
        [html.Div(bins, className="score-bins"), below], className="score-spread", role="img", **{"aria-label": about}
    )
