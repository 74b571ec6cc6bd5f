"""Which pictures of two sets the model tells apart at a layer, and how surely."""

from __future__ import annotations

from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.hooks.results.gaps import LayerGap
from hookscope.hooks.results.telling import ToldApart, tell_apart

SHOWN = 8  # pictures of each set
HELP = (
    "A logistic regression on the means of the layer's channels, asked about pictures that it has not seen. The proxy "
    "A-distance 2 (1 - 2 error) is 2 where all are told apart and 0 at chance."
)


def told(looked: Looked, other: Looked, gap: LayerGap) -> list[Any]:
    """How many held-out pictures are told apart at a layer, and which ones most surely."""
    sweeps, one, two = looked.scene.service.sweeps, looked.found, other.found
    if sweeps is None or one is None or two is None:
        return []
    about = [sweeps.written(each.pictures, each.model) for each in (looked, other)]
    key = ("told apart", *about, gap.layer, gap.call)
    found = sweeps.later.get(key, lambda: tell_apart(one, two, gap.layer, gap.call), 0.3)
    head = html.H3(
        ["Pictures that ", html.Span(key_of(gap.layer, gap.call), className="mono"), " tells apart"], title=HELP
    )
    if found is None:
        return [html.Div([head, html.P("computing …", className="muted")], **{"data-again": "1"})]
    if isinstance(found, str):
        return [head, html.P(found, className="muted")]
    sides = zip((looked, other), found.surest(SHOWN), (found.first_scores, found.second_scores), strict=True)
    rows = [_surest(side, numbers, scores, found) for side, numbers, scores in sides]
    return [head, html.P(describe_told(found), title=HELP), html.Div(rows, className="told-apart")]


def describe_told(found: ToldApart) -> str:
    """In one sentence."""
    distance = format_number(round(found.distance, 2))
    return (
        f"Told apart: {found.right} of {found.total} held-out pictures, where chance tells half; proxy A-distance "
        f"{distance}, where 2 is that all are told apart and 0 is chance."
    )


def _surest(side: Looked, numbers: np.ndarray, scores: np.ndarray, found: ToldApart) -> html.Div:
    """The pictures of one set that are most surely told to be of it."""
    assert side.found is not None
    name = html.Span(side.pictures.name, className="muted")
    if not len(numbers):
        return html.Div([name, html.P("No picture is told to be of this set.", className="muted")])
    pictures = found.first if scores is found.first_scores else found.second
    of = dict(zip(pictures.tolist(), np.abs(scores).tolist(), strict=True))
    crops = Crops(side, side.found, None)
    cells = [crops.cell(int(number), of[int(number)], (-1, -1)) for number in numbers]
    return html.Div([name, html.Div(cells, className="strip told")])
