"""The files that a card can be saved as: its wall as a picture, its numbers as CSV, its values as NPZ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial

import numpy as np

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.drawing.palettes import DIFFERENCE
from hookscope.dashboard.drawing.tables import channel_csv, layer_csv
from hookscope.dashboard.drawing.wall_export import ExportPanel, wall_png
from hookscope.dashboard.page import restoring
from hookscope.dashboard.page.wall_source import WallSource, draw_panel, geometry_of
from hookscope.dashboard.panels.card.restored import contrast
from hookscope.dashboard.panels.card.wall import reduced
from hookscope.hooks.results.looks import LayerInfo
from hookscope.hooks.results.maps import frame_index

EXPORT_CELL_PX = 256  # files are drawn with cells of up to this many values


def files(source: WallSource, layer: LayerInfo, number: int, has_maps: bool) -> list[tuple[str, str]]:
    """What a card can be saved as: (text, address)."""
    scene = source.scene
    name = _named(source)
    units = tuple(source.units.values())
    names = scene.named
    drawn_as = (
        scene.walls.rank,
        scene.walls.scale,
        scene.walls.colours,
        scene.walls.overlay,
        scene.walls.moment,
        scene.walls.count,
        scene.walls.restored,
        scene.width,
        tuple(scene.prediction(side) for side in source.units) if scene.walls.overlay else (),
    )
    known = source.standing.signature, restoring.signature(source.restored)
    shows = ("file", source.key, units, names, drawn_as, known)
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
    inputs = [f"{side.upper()}: {scene.label(side)}" for side in scene.inputs]
    lines = [
        f"{' and '.join(info.title for info in scene.models.values())} · {', '.join(inputs)}",
        f"rank: {scene.walls.rank} · scale: per {scene.walls.scale}",
    ]
    depth = max(map(scene.depth, source.units.values()))
    if depth > 1:
        lines.append(f"frame {frame_index(depth, scene.walls.moment) + 1} of {depth}")
    lines += scene.random
    lines += [f"{text}: {help_text}" for text, help_text, _ in reduced(list(reading.activations.values()))]
    geometry = geometry_of(scene, source.key, reading)
    panels = []
    parts = source.restored if reading.comparable and scene.walls.restored else None
    more = ("difference",) if reading.comparable else ()
    for which in (*reading.maps, *more, *((restoring.NAME,) if parts else ())):
        picture = draw_panel(source, reading, which, geometry, EXPORT_CELL_PX)
        if which == "difference":
            panels.append(ExportPanel("B − A", picture, reading.difference_scale, DIFFERENCE))
        elif which == restoring.NAME and parts:
            what = f"A in B: the share of {contrast(scene, parts)} that comes back"
            panels.append(ExportPanel(what, picture, restoring.scale_of(parts), DIFFERENCE))
        else:
            label = f"{which.upper()}: {scene.label(which)}"
            rows = geometry.rows_of(len(reading.maps[which]))
            panels.append(ExportPanel(label, picture, reading.scale_of[which], reading.palette, rows))
    shape = "×".join(map(str, next(iter(reading.maps.values())).shape))
    title = f"{source.key} · {layer.type} · {shape} · {geometry.text}"
    return wall_png(panels, title, lines, columns=geometry.columns, rows=geometry.rows)


def _layer_csv(source: WallSource, number: int) -> bytes:
    activations = source.reading().activations
    labels = [side.upper() for side in activations]
    name = next(iter(activations.values())).layer
    return layer_csv(name, number, [each.statistics for each in activations.values()], labels).encode()


def table(source: WallSource, listed: Sequence[int]) -> str:
    """The address of a card's table as a file, its rows in the order in which the table has them."""
    known = source.standing.signature, restoring.signature(source.restored)
    shows = ("table", source.key, tuple(source.units.values()), source.scene.walls, known)
    name = f"{_named(source)}-channels.csv"
    return source.scene.file(shows, partial(_channel_csv, source, listed), "text/csv", name)


def _named(source: WallSource) -> str:
    titles = "-".join(file_name(info.title) for info in source.scene.models.values())
    return f"{titles}-{file_name(source.key)}"


def _channel_csv(source: WallSource, listed: Sequence[int] = ()) -> bytes:
    reading = source.reading()
    labels = [side.upper() for side in reading.numbers]
    numbers = list(reading.numbers.values())
    back = None if source.restored is None else source.restored.by_channel(len(reading.order))
    return channel_csv(numbers, reading.order, reading.distance, labels, reading.distributions, back, listed).encode()


def _npz(source: WallSource, side: str, unit: Unit) -> bytes:
    activation = source.reading().activations[side]
    arrays = {
        "values": activation.values,
        "axes": np.array(activation.axes),
        "layer": np.array(unit.layer),
        "call": np.array(unit.call),
        "model": np.array(unit.model),
        "weights": np.array(source.scene.info_of(side).weights),
        "preparation": np.array(source.scene.prepared(side)),
    }
    if activation.whole:  # the shape of what was computed: `values` are means of it
        arrays["whole"] = np.array(activation.whole)
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
