"""What layers make of the pinned picture at the chosen step: a film of a training, moved by the slider."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import palette_for
from hookscope.dashboard.drawing.pictures import sprite
from hookscope.dashboard.drawing.scales import layer_scale
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked
from hookscope.dashboard.panels.run.ridges import not_kept

LAYERS, CHANNELS, SIDE = 12, 16, 64  # of maps that are shown, and positions on a side
LEAST, GAP = 32, 2  # pixels that a map is wide, and between two of them
ANSWERS = 3


def draw_pinned(asked: Asked, answers: Answers) -> list[Update]:
    """A row of maps for each layer of which they are kept, at the chosen step."""
    look = asked.look()
    if look is None or not asked.run.info.pinned:
        text = "No picture is pinned: hs.follow(..., pinned=pictures) keeps what layers make of the first one."
        return [show_text(ids.RUN_PINNED, html.P(text, className="muted") if look is not None else None)]
    title = html.Div(
        [html.H2("The pinned picture"), html.Span(f"in evaluation mode, at step {look.step:,}", className="muted")],
        className="run-title",
    )
    found = asked.run.kept.maps(look.step)
    if found is None:
        return [show_text(ids.RUN_PINNED, [title, not_kept(asked, "maps", look.step)])]
    rows = []
    for layer, maps in list(found.maps.items())[:LAYERS]:
        maps = maps[:CHANNELS, :SIDE, :SIDE]
        shows = ("run maps", asked.marks[0], look.step, layer)
        address = asked.gallery.add(shows, partial(_png, maps), "image/png")
        finite = maps[np.isfinite(maps)]
        most = f"up to {format_number(float(np.abs(finite).max()))}" if finite.size else "none is finite"
        channels = found.channels[layer][:CHANNELS].tolist()
        what = f"{layer}: the mean over its channels, then channels {', '.join(map(str, channels))}"
        height, width = (_larger(maps) * each for each in maps.shape[1:])
        across = (width + GAP) * (len(maps) + 1) - GAP
        style = {"aspectRatio": f"{across} / {height}", "maxWidth": f"{64 * (len(maps) + 1)}px"}
        rows.append(
            html.Div(
                [
                    html.Span(layer, className="name mono"),
                    html.Span(most, className="mono muted"),
                    html.Img(src=address, alt=what, title=what, style=style),
                ],
                className="run-maps",
            )
        )
    words = []
    if found.answer is not None and found.answer.size:
        best = np.argsort(-np.nan_to_num(found.answer, nan=-np.inf), kind="stable")[:ANSWERS]
        told = ", ".join(f"{index} ({format_number(float(found.answer[index]))})" for index in best.tolist())
        answer: list[Any] = ["answer, the largest first: ", html.Span(told, className="mono")]
        if not np.isfinite(found.answer).any():
            answer = ["No number of its answer is finite."]
        words.append(html.P(answer, className="muted"))
    return [show_text(ids.RUN_PINNED, [title, *words, *rows])]


def _larger(maps: np.ndarray) -> int:
    """How many pixels a position is wide: without that a gap would be as wide as a position."""
    return -(-LEAST // maps.shape[2])


def _png(maps: np.ndarray) -> bytes:
    scale = layer_scale(maps)
    shown = maps.repeat(_larger(maps), axis=1).repeat(_larger(maps), axis=2)
    return sprite(shown, np.arange(len(maps)), len(maps) + 1, scale, palette_for(scale.kind), gap=GAP)
