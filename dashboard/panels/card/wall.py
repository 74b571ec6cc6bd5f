"""What a card shows of one layer's values: the channel wall, or bars where a layer has no maps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from math import prod

import numpy as np
import plotly.graph_objects as go
from dash import html

from hookscope.dashboard.drawing import scales
from hookscope.dashboard.drawing.charts import bars_figure
from hookscope.dashboard.drawing.geometry import WallGeometry
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.scales import scale_text
from hookscope.dashboard.drawing.wall_figure import Panel, cell_numbers, wall_figure
from hookscope.dashboard.engine.protocol import ANSWER_BYTES
from hookscope.dashboard.page.reading import Reading, kind_of
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.wall_source import WallSource
from hookscope.hooks.results.looks import Activation, Call, LayerInfo
from hookscope.hooks.results.maps import reason_no_maps, why_no_maps

MAX_BARS = 4096  # beyond, bars are one block of colour


def figure(source: WallSource, reading: Reading, geometry: WallGeometry) -> go.Figure:
    """The wall: one panel per side that is there, in the places that A, B and B - A will have."""
    scene = source.scene
    sides = tuple(reading.activations)
    order = reading.order[: geometry.shown]
    panels = []
    for which in (*reading.maps, *(("difference",) if reading.comparable else ())):
        values = reading.difference if which == "difference" else reading.maps[which]
        assert values is not None
        shows = (
            which,
            tuple(source.units[s] for s in sides),
            scene.walls.rank,
            scene.walls.scale,
            scene.walls.colours,
            scene.walls.overlay,
            geometry,
        )
        overlaid = scene.walls.overlay and which != "difference"
        address = scene.picture(
            shows,
            partial(source.sprite, which, geometry, sides, geometry.cell_px * (2 if overlaid else 1)),
            "image/webp" if overlaid else "image/png",
        )
        label = "B − A" if which == "difference" else which.upper()
        place = len(scene.inputs) if which == "difference" else list(scene.inputs).index(which)
        panels.append(Panel(label, address, cell_numbers(values, order, reading.numbers.get(which)), place))
    places = 3 if len(scene.inputs) == 2 else 1
    return wall_figure(
        panels,
        order,
        geometry,
        distance=reading.distance,
        places=places,
        key=source.key,
        width_px=scene.width,
    )


def bars(scene: Scene, reading: Reading, layer: LayerInfo) -> go.Figure | None:
    """A layer without maps: its values by index, named by class where it is the model's answer; None for too many."""
    vectors = list(reading.vectors.values())
    if any(each.whole for each in reading.activations.values()) or max(len(vector) for vector in vectors) > MAX_BARS:
        return None
    is_answer = (
        bool(vectors) and len(vectors[0]) == len(scene.info.classes) and layer.calls[0].axes[-1:] != ("channel",)
    )
    labels = [side.upper() for side in reading.vectors]
    names = [escape(name) for name in scene.info.classes] if is_answer else ()  # Plotly reads tags in its texts
    return bars_figure(vectors, labels, names, height_px=240, key=layer.name)


def colour_bars(reading: Reading) -> list[html.Div]:
    """The colour bars under a wall, each with the range that it spans."""
    found = [_colour_bar(reading.palette.css(), reading.scale, "A, B" if len(reading.maps) == 2 else "")]
    if reading.comparable:
        found.append(_colour_bar(DIFFERENCE.css(), reading.difference_scale, "B − A"))
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
