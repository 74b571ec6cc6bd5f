"""A finding's evidence as a small figure of plain elements."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import palette_for
from hookscope.dashboard.drawing.pictures import picture_png
from hookscope.dashboard.drawing.scales import Scale, layer_scale, levels
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.findings import Bars, Curve, Evidence, Maps, Trail

PLACES = 64  # bars of a curve; of more each is the largest of some
SHORTEST = 3  # percent of the height, so that a value can be seen
DECADES = 8.0  # of a logarithmic axis, from its largest value down


def draw_evidence(scene: Scene, evidence: Evidence) -> html.Div:
    """Draw it, with its title."""
    if isinstance(evidence, Bars):
        found = _bars(evidence)
    elif isinstance(evidence, Trail):
        found = _trail(evidence)
    elif isinstance(evidence, Maps):
        found = _maps(scene, evidence)
    else:
        found = _curve(evidence)
    return html.Div([*found, html.P(evidence.title, className="muted")], className="evidence")


def _bars(bars: Bars) -> list[Any]:
    heights = _heights(np.array(bars.values), bars.logarithmic)
    columns = []
    for index, (name, value) in enumerate(zip(bars.names, bars.values, strict=True)):
        kind = "bad" if index == bars.bad else "good" if index == bars.good else ""
        said = f"{name}: {format_number(value)}"
        column = html.Span(className=f"column {kind}", style={"height": f"{0.7 * heights[index]:.1f}px"})
        stack = html.Span([html.Span(format_number(value), className="mono"), column], className="stack")
        columns.append(html.Div([stack, html.Span(name, className="name")], className="bar-of", title=said))
    return [html.Div(columns, className="bars")]


def _curve(curve: Curve) -> list[Any]:
    values = np.asarray(curve.values, np.float64)
    count = len(values)
    if not count:
        return []
    step = -(-count // PLACES)
    marked = {place // step for place in curve.marked}
    # of several places the one that is marked, or the largest
    chosen = [_chosen(values, range(start, min(start + step, count)), curve.marked) for start in range(0, count, step)]
    heights = _heights(values[chosen], curve.logarithmic)
    columns = []
    for index, place in enumerate(chosen):
        name = curve.names[place] if curve.names else str(place)
        kind = "bad" if index in marked else ""
        style, said = {"height": f"{0.8 * heights[index]:.1f}px"}, f"{name}: {format_number(values[place])}"
        columns.append(html.Span(className=f"column {kind}", style=style, title=said))
    ends = []
    if curve.names:
        ends = [html.Span(curve.names[0]), html.Span(curve.names[-1])]
    return [html.Div(columns, className="curve"), html.Div(ends, className="ends muted mono")]


def _chosen(values: np.ndarray, places: range, marked: tuple[int, ...]) -> int:
    there = [place for place in places if place in marked]
    if there:
        return there[0]
    known = [place for place in places if not math.isnan(values[place])]
    return max(known, key=lambda place: values[place]) if known else places[0]


def _heights(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Percent of the height; of what is not finite all of it."""
    finite = values[np.isfinite(values)]
    most = float(finite.max(initial=0.0))
    found = np.full(len(values), 100.0)
    known = np.isfinite(values)
    if most <= 0:
        found[known] = SHORTEST
    elif logarithmic:
        with np.errstate(divide="ignore"):
            above = 1 + np.log10(np.maximum(values[known], 0) / most) / DECADES
        found[known] = np.clip(100 * above, SHORTEST, 100)
    else:
        found[known] = np.clip(100 * values[known] / most, SHORTEST, 100)
    found[np.isnan(values)] = 0
    return found


def _trail(trail: Trail) -> list[Any]:
    rows = [
        html.Tr(
            [html.Td(layer or "input", className="mono"), html.Td(said)],
            className="bad" if index in trail.marked else "",
        )
        for index, (layer, said) in enumerate(trail.lines)
    ]
    return [html.Table(html.Tbody(rows), className="trail")]


def _maps(scene: Scene, maps: Maps) -> list[Any]:
    values = np.asarray(maps.values, np.float32)
    scale = layer_scale(values)
    cells = []
    for index, (caption, each) in enumerate(zip(maps.captions, values, strict=True)):
        address = scene.picture(("evidence", maps.title, caption, each.tobytes()), partial(_map_png, each, scale))
        kind = "map bad" if index in maps.marked else "map"
        cells.append(html.Div([html.Img(src=address, alt=caption), html.Span(caption)], className=kind, title=caption))
    return [html.Div(cells, className="maps")]


def _map_png(values: np.ndarray, scale: Scale) -> bytes:
    return picture_png(palette_for(scale.kind).table[levels(values[None], scale)[0]])
