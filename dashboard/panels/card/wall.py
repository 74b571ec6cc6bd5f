"""What a card shows of one layer's values: the channel wall, or bars where a layer has no maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from math import prod

import numpy as np
import plotly.graph_objects as go
from dash import html

from hookscope.dashboard.drawing import ranking, scales
from hookscope.dashboard.drawing.charts import bars_figure
from hookscope.dashboard.drawing.geometry import WallGeometry
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.scales import scale_text
from hookscope.dashboard.drawing.wall_figure import Panel, cell_numbers, wall_figure
from hookscope.dashboard.engine.protocol import ANSWER_BYTES
from hookscope.dashboard.page import restoring, wall_source
from hookscope.dashboard.page.reading import Reading, kind_of
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.wall_source import WallSource
from hookscope.dashboard.panels.card import restored
from hookscope.hooks.results.looks import Activation, Call, LayerInfo
from hookscope.hooks.results.maps import reason_no_maps, why_no_maps
from hookscope.hooks.results.restoring import RestoredParts

HOVERED = {"share": "for the class", "effect": "muted", "estimate": "Taylor’s estimate"}
MAX_BARS = 4096  # beyond, bars are one block of colour


def figure(source: WallSource, reading: Reading, geometry: WallGeometry, refused: str = "") -> go.Figure:
    """The wall: one panel per side that is there, in the places that A, B, B - A and what comes back will have.

    Arguments:
        refused: why the last of them stays empty.
    """
    scene = source.scene
    sides = tuple(reading.activations)
    order = reading.order[: geometry.shown]
    panels, places = [], scene.walled(source.key)
    for which in (*reading.maps, *(("difference",) if reading.comparable else ())):
        values = reading.difference if which == "difference" else reading.maps[which]
        assert values is not None
        own = order if which == "difference" else reading.order_of(which)[: geometry.shown]
        overlaid = scene.walls.overlay and which != "difference"
        shows = (
            which,
            tuple(source.units[s] for s in sides),
            scene.walls.rank,
            scene.walls.scale,
            scene.walls.colours,
            scene.prediction(which) if overlaid else None,
            scene.walls.moment,
            source.standing.signature,
            geometry,
        )
        address = scene.picture(
            shows,
            partial(source.sprite, which, geometry, sides, geometry.cell_px * (2 if overlaid else 1)),
            "image/webp" if overlaid else "image/png",
        )
        label = "B − A" if which == "difference" else which.upper()
        place = len(places) if which == "difference" else places.index(which)
        marks = None if (marked := source.standing.speaks(which)) is None else marked[own]
        said = {HOVERED[name]: column[own] for name, column in source.standing.columns(which).items()}
        of_map = which not in reading.maps or reading.depth(which) > 1  # and not of all frames
        numbers = cell_numbers(values, own, None if of_map else reading.numbers[which])
        panels.append(Panel(label, address, numbers, place, marks, said))
    fourth = restored.panel(source, reading, geometry) if scene.walls.restored else None
    return wall_figure(
        [*panels, *([fourth] if fourth else [])],
        order,
        geometry,
        distance=ranking.distance(reading.maps["a"], reading.maps["b"]) if reading.comparable else None,
        places=wall_source.places(scene, source.key),
        refused=refused,
        key=source.key,
        width_px=scene.width,
    )


def bars(scene: Scene, reading: Reading, layer: LayerInfo) -> go.Figure | None:
    """A layer without maps: its values by index, named by class where it is the model's answer; None for too many."""
    vectors = list(reading.vectors.values())
    if any(each.whole for each in reading.activations.values()) or max(len(vector) for vector in vectors) > MAX_BARS:
        return None
    first = next(iter(reading.vectors))
    names_of = () if scene.captions(first) else scene.classes(first)  # no layer computes typed captions' scores
    is_answer = bool(vectors) and len(vectors[0]) == len(names_of) and layer.calls[0].axes[-1:] != ("channel",)
    labels = [side.upper() for side in reading.vectors]
    names = [escape(name) for name in names_of] if is_answer else ()  # Plotly reads tags in its texts
    return bars_figure(vectors, labels, names, height_px=240, key=layer.name)


def colour_bars(reading: Reading, parts: RestoredParts | None = None) -> list[html.Div]:
    """The colour bars under a wall, each with the range that it spans."""
    found = [_colour_bar(reading.palette.css(), reading.scale, "A, B" if len(reading.maps) == 2 else "")]
    if reading.comparable:
        found.append(_colour_bar(DIFFERENCE.css(), reading.difference_scale, "B − A"))
    if reading.comparable and parts is not None:
        found.append(_colour_bar(DIFFERENCE.css(), restoring.scale_of(parts), "A in B, share that comes back"))
    return found


def _colour_bar(gradient: str, scale: scales.Scales, label: str) -> html.Div:
    if isinstance(scale, scales.Scale) and not np.isnan(scale.high) and scale.high > 0:
        low, high = scale.text.split(" … ")
        texts = (low, high)
    else:
        texts = ("", scale_text(scale))
    zero = html.Span("0", className="zero") if kind_of(scale) == "diverging" and texts[0] else None
    return html.Div(
        [
            html.Span(label, className="muted") if label else None,
            html.Span(texts[0]) if texts[0] else None,
            html.Span(zero, className="gradient", style={"background": gradient}),
            html.Span(texts[1]),
        ],
        className="colour-bar mono",
        title="The values that the first and the last colour stand for. Magenta is NaN, lime is infinite.",
    )


def reduced(there: Sequence[Activation]) -> list[tuple[str, str, str]]:
    """The badge of values that were too large to be kept as they were: (text, help, kind)."""
    found = {}
    for one in there:
        if one.whole and one.values.size:
            rows, columns = one.values.shape[1:]
            text = f"{megabytes(one)}, reduced to {rows}×{columns}"
            help_text = (
                f"{too_large(one)} Each value here is the mean over a square of positions, and so is what an enlarged "
                "channel's histogram counts; all numbers, and the layer's histogram, are of all values."
            )
            found[text] = (text, help_text, "note")
    return list(found.values())


def too_large(activation: Activation) -> str:
    """Why an activation is not there as it was computed."""
    return f"Its output takes {megabytes(activation)}, and more than {ANSWER_BYTES / 1e6:,.0f} MB are not kept."


def megabytes(activation: Activation) -> str:
    """The size of all values of an activation."""
    return f"{prod(activation.shape) * 4 / 1e6:,.0f} MB"


def no_maps(activation: Activation, call: Call) -> str:
    """Why a layer has no wall."""
    if activation.whole:
        return (
            f"{why_no_maps(call, call.shape)} {too_large(activation)} Its numbers and its histogram are of all values."
        )
    return reason_no_maps(activation)
