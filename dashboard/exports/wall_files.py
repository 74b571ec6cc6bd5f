"""The files that a card can be saved as: its wall as a picture, its numbers as CSV, its values as NPZ."""

from __future__ import annotations

import io
from functools import partial

import numpy as np

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.tables import channel_csv, layer_csv
from hookscope.dashboard.drawing.wall_export import ExportPanel, wall_png
from hookscope.dashboard.page.wall_source import WallSource, draw_panel, geometry_for
from hookscope.dashboard.panels.card.wall import reduced
from hookscope.dashboard.panels.regions import RANDOM_WEIGHTS
from hookscope.hooks.results.looks import LayerInfo

EXPORT_CELL_PX = 256  # files are drawn with cells of up to this many values


def files(source: WallSource, layer: LayerInfo, number: int, has_maps: bool) -> list[tuple[str, str]]:
    """What a card can be saved as: (text, address)."""
    scene = source.scene
    name = f"{file_name(scene.info.title)}-{file_name(source.key)}"
    units = tuple(source.units.values())
    names = scene.named
    drawn_as = (
        scene.walls.rank,
        scene.walls.scale,
        scene.walls.colours,
        scene.walls.overlay,
        scene.walls.count,
        scene.width,
    )
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
    lines = [
        f"{scene.info.title} · {', '.join(inputs)}",
        f"rank: {scene.walls.rank} · scale: per {scene.walls.scale}",
    ]
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
