"""What a card shows of one layer's values: the channel wall, or bars where a layer has no maps, and their files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from math import prod

import numpy as np
import plotly.graph_objects as go
from dash import html

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.drawing import pictures, scales
from hookscope.dashboard.drawing.charts import bars_figure
from hookscope.dashboard.drawing.geometry import WallGeometry, wall_geometry
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.plain_figures import PANEL_GAP
from hookscope.dashboard.drawing.scales import scale_text
from hookscope.dashboard.drawing.tables import channel_csv, layer_csv
from hookscope.dashboard.drawing.wall_export import ExportPanel, wall_png
from hookscope.dashboard.drawing.wall_figure import Panel, cell_numbers, wall_figure
from hookscope.dashboard.engine.protocol import ANSWER_BYTES
from hookscope.dashboard.page.reading import Reading, kind_of
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.regions import RANDOM_WEIGHTS, random_weights
from hookscope.hooks.results.looks import Activation, Call, LayerInfo, Prediction
from hookscope.hooks.results.maps import reason_no_maps, why_no_maps

MAX_HEIGHT_PX = 480
ROOMY_HEIGHT_PX = 528  # of a wall of few maps, whose cells would otherwise be smaller than the card has room for
ROOMY_CELL_PX = 64
MAX_BARS = 4096  # beyond, bars are one block of colour
EXPORT_CELL_PX = 256  # files are drawn with cells of up to this many values


@dataclass(frozen=True)
class WallSource:
    """Where one card's wall is drawn from, at any later time: units and a view, no arrays.

    Attributes:
        units: the activations by side.
    """

    scene: Scene
    key: str
    units: Mapping[str, Unit]

    def reading(self) -> Reading:
        """The layer's values as they are drawn.

        Raises:
            Gone: some of them are no longer kept.
        """
        found = {side: self.scene.kept(unit, Activation) for side, unit in self.units.items()}
        return self.scene.readings.get(self.scene.view, found)

    def sprite(self, which: str, geometry: WallGeometry, sides: tuple[str, ...], cell_px: float) -> bytes:
        """The picture of one panel: side "a" or "b", or "difference".

        Arguments:
            sides: whose values were there when the address was made; the others take no part in scale and order.
        """
        reading = WallSource(self.scene, self.key, {s: self.units[s] for s in sides}).reading()
        return draw_panel(self, reading, which, geometry, cell_px)


def draw_panel(source: WallSource, reading: Reading, which: str, geometry: WallGeometry, cell_px: float) -> bytes:
    """Draw one panel's sprite."""
    order = reading.order[: geometry.shown]
    if which == "difference":
        assert reading.difference is not None
        return pictures.sprite(
            reading.difference, order, geometry.columns, reading.difference_scale, DIFFERENCE, cell_px
        )
    if source.scene.view.overlay:
        pixels = source.scene.kept(source.scene.unit(which, "prediction"), Prediction).pixels
        return pictures.overlay_sprite(
            reading.maps[which], order, geometry.columns, reading.scale, reading.palette, pixels, cell_px
        )
    return pictures.sprite(reading.maps[which], order, geometry.columns, reading.scale, reading.palette, cell_px)


def geometry_for(scene: Scene, shape: tuple[int, int, int]) -> WallGeometry:
    """How a layer of (channel, height, width) is laid out in this page's cards."""
    panels = 3 if len(scene.inputs) == 2 else 1
    panel_px = int(scene.width * (1 - PANEL_GAP * (panels - 1)) / panels)
    fitting = wall_geometry(*shape, panel_px, MAX_HEIGHT_PX, scene.view.count)
    if fitting.shown == fitting.total and fitting.cell_px >= ROOMY_CELL_PX:
        return wall_geometry(*shape, panel_px, ROOMY_HEIGHT_PX, scene.view.count)
    return fitting


def figure(source: WallSource, reading: Reading, geometry: WallGeometry) -> go.Figure:
    """The wall: one panel per side that is there, in the places that A, B and B - A will have."""
    scene = source.scene
    sides = tuple(reading.activations)
    order = reading.order[: geometry.shown]
    panels = []
    for which in (*reading.maps, *(("difference",) if reading.comparable else ())):
        values = reading.difference if which == "difference" else reading.maps[which]
        assert values is not None
        view = scene.view
        shows = (
            which,
            tuple(source.units[s] for s in sides),
            view.rank,
            view.scale,
            view.colours,
            view.overlay,
            geometry,
        )
        overlaid = view.overlay and which != "difference"
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


def notes(scene: Scene, layer: LayerInfo, call: Call, number: int, there: Sequence[Activation] = ()) -> list[html.Span]:
    """What every picture of a layer has to say of itself; `there` are the activations that it is drawn from."""
    found: list[tuple[str, str, str]] = []
    for one, count in (
        ("NaN", sum(a.statistics.nan for a in there)),
        ("infinite", sum(a.statistics.inf for a in there)),
    ):
        if count:
            found.append(
                (f"{format_count(count)} {one}", f"{one} values are counted and left out of every number.", "warn")
            )
    if len(layer.calls) > 1:
        text = f"call {number + 1} of {len(layer.calls)}"
        found.append((text, "This module runs several times in one forward pass; the tree offers each call.", "note"))
    if call.overwritten_by:
        text = f"value before {call.overwritten_by}"
        help_text = (
            f"{call.overwritten_by} writes into this value in place afterwards. You see what the layer computed."
        )
        found.append((text, help_text, "note"))
    if call.outputs > 1:
        path = next((f" ({a.path})" for a in there if a.path), "")
        text = f"output 1 of {call.outputs}{path}"
        found.append((text, "This module returns several tensors; the first is shown.", "note"))
    if call.grid is not None:
        rows, columns = call.grid
        left_out = f", {call.prefix_tokens} prefix tokens left out" if call.prefix_tokens else ""
        found.append(
            (f"tokens as a {rows}×{columns} grid", f"Each token is drawn where its patch lies{left_out}.", "note")
        )
    found += reduced(there)
    if len({a.shape for a in there}) > 1:
        found.append(
            ("A and B differ in size", "There is no difference of two activations of different shapes.", "note")
        )
    badges = [html.Span(text, title=help_text, className=f"badge {kind}") for text, help_text, kind in found]
    return [*random_weights(scene.info), *badges]


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


def files(source: WallSource, layer: LayerInfo, number: int, has_maps: bool) -> list[tuple[str, str]]:
    """What a card can be saved as: (text, address)."""
    scene = source.scene
    name = f"{file_name(scene.info.title)}-{file_name(source.key)}"
    units = tuple(source.units.values())
    view = scene.view
    names = scene.named
    drawn_as = (view.rank, view.scale, view.colours, view.overlay, view.count, scene.width)
    shows = ("file", source.key, units, names, drawn_as)
    picture = ("Picture, PNG", scene.file(shows, partial(_png, source, layer), "image/png", f"{name}.png"))
    numbers = (
        "Numbers of the layer, CSV",
        scene.file(shows, partial(_layer_csv, source, number), "text/csv", f"{name}.csv"),
    )
    channels = (
        "Numbers per channel, CSV",
        scene.file((*shows, "channels"), partial(_channel_csv, source), "text/csv", f"{name}-channels.csv"),
    )
    found = [picture, numbers, channels] if has_maps else [numbers]
    for side, unit in source.units.items():
        address = scene.file(
            (*shows, side), partial(_npz, source, side, unit), "application/zip", f"{name}-{side.upper()}.npz"
        )
        found.append((f"Activation of {side.upper()}, NPZ", address))
    return found


def _png(source: WallSource, layer: LayerInfo) -> bytes:
    reading, scene = source.reading(), source.scene
    inputs = [f"{side.upper()}: {given.name}" for side, given in scene.inputs.items()]
    lines = [f"{scene.info.title} · {', '.join(inputs)}", f"rank: {scene.view.rank} · scale: per {scene.view.scale}"]
    if scene.info.random:
        lines.append(RANDOM_WEIGHTS)
    lines += [f"{text}: {help_text}" for text, help_text, _ in reduced(list(reading.activations.values()))]
    geometry = geometry_for(scene, next(iter(reading.maps.values())).shape)
    panels = []
    for which in (*reading.maps, *(("difference",) if reading.comparable else ())):
        picture = draw_panel(source, reading, which, geometry, EXPORT_CELL_PX)
        if which == "difference":
            panels.append(ExportPanel("B − A", picture, reading.difference_scale, DIFFERENCE))
        else:
            label = f"{which.upper()}: {scene.inputs[which].name}"
            panels.append(ExportPanel(label, picture, reading.scale, reading.palette))
    shape = "×".join(map(str, next(iter(reading.maps.values())).shape))
    title = f"{source.key} · {layer.type} · {shape} · {geometry.text}"
    return wall_png(panels, title, lines, columns=geometry.columns, rows=geometry.rows)


def _layer_csv(source: WallSource, number: int) -> bytes:
    activations = source.reading().activations
    labels = [side.upper() for side in activations]
    name = next(iter(activations.values())).layer
    return layer_csv(name, number, [each.statistics for each in activations.values()], labels).encode()


def _channel_csv(source: WallSource) -> bytes:
    reading = source.reading()
    labels = [side.upper() for side in reading.numbers]
    return channel_csv(list(reading.numbers.values()), reading.order, reading.distance, labels).encode()


def _npz(source: WallSource, side: str, unit: Unit) -> bytes:
    activation = source.reading().activations[side]
    arrays = {
        "values": activation.values,
        "axes": np.array(activation.axes),
        "layer": np.array(unit.layer),
        "call": np.array(unit.call),
        "model": np.array(unit.model),
        "weights": np.array(source.scene.info.weights),
    }
    if activation.whole:  # the shape of what was computed: `values` are means of it
        arrays["whole"] = np.array(activation.whole)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
