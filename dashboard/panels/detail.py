"""The enlarged channel: one map of A and of B with its values on hover; it stays while other layers are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from dash import ClientsideFunction, Dash, Input, dcc, html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing import ranking, scales
from hookscope.dashboard.drawing.channel_figure import channel_figure
from hookscope.dashboard.drawing.charts import bins_for, histogram_figure
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.drawing.palettes import palette_for
from hookscope.dashboard.drawing.ranking import map_statistics
from hookscope.dashboard.page import ids, wall_source
from hookscope.dashboard.page.reading import Reading
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MEAN
from hookscope.dashboard.panels import regions
from hookscope.dashboard.panels.card import wall
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import graph, keep_room, refuse, show_figure, show_text
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.maps import reason_no_maps

HEIGHT_PX = 264
HISTOGRAM_PX = 150
NUMBERS = ("mean", "std", "min", "max", "zeros")


def layout() -> html.Aside:
    """Draw the panel, hidden until a channel is chosen."""
    return html.Aside(
        id=ids.DETAIL,
        className="detail",
        hidden=True,
        **{"aria-label": "Enlarged channel"},
        children=[
            html.Div(
                [
                    Markup(ids.detail("title"), className="detail-title"),
                    Markup(ids.detail("notes"), className="notes"),
                    html.Span("← → ↑ ↓ walk the wall · Esc closes", className="muted keys"),
                    html.Button(
                        "✕",
                        className="icon",
                        title="Close (Escape)",
                        **{"data-do": "close-detail", "aria-label": "Close"},
                    ),
                ],
                className="card-head",
            ),
            html.Div(
                [
                    graph(ids.detail("figure"), HEIGHT_PX, "detail-figure"),
                    graph(ids.detail("histogram"), HISTOGRAM_PX, "histogram"),
                    Markup(ids.detail("numbers"), className="statistics"),
                ],
                className="detail-body",
            ),
            dcc.Store(id=ids.WALK),
        ],
    )


def parts(scene: Scene) -> list[Part]:
    """The enlarged channel, and how the arrow keys walk from it."""
    key = scene.view.detail
    if not key or scene.call_of(key) is None or not scene.inputs:
        return [close()]
    units = scene.units("activation", key)
    overlay = list(scene.units("prediction").values()) if scene.walls.overlay else []
    shown = scene.only("detail", "channel", "scale", "colours", "overlay")
    walked = scene.only("detail", "rank", "scale", "colours", "count", width=True)
    return [
        Part("detail", (*overlay, *units.values()), (shown, units), _draw, error=ids.detail("numbers")),
        Part("walk", tuple(units.values()), (walked, units), _walk, eager=False),
    ]


def close() -> Part:
    """The part of a page without an enlarged channel."""
    return Part.still("detail", [(ids.DETAIL, {"hidden": True})])


def _reading(scene: Scene, units: dict[str, Unit], answers: Answers) -> Reading | None:
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    return scene.readings.get(scene.walls, there) if there else None


def _walk(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    reading = _reading(scene, units, answers)
    if reading is None or not reading.maps:
        return []
    geometry = wall_source.geometry_for(scene, next(iter(reading.maps.values())).shape)
    order = [MEAN, *reading.order[: geometry.shown].tolist()]
    return [(ids.WALK, {"data": {"layer": scene.view.detail, "order": order, "columns": geometry.columns}})]


def _draw(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    key, index = scene.view.detail, scene.view.channel
    reading = _reading(scene, units, answers)
    title = [
        html.Span(key, className="mono"),
        " · ",
        html.Strong("mean of all channels" if index == MEAN else f"channel {index}"),
    ]
    updates: list[Update] = [(ids.DETAIL, {"hidden": False}), show_text(ids.detail("title"), title)]
    found = scene.call_of(key)
    if found:
        badges = regions.notes(scene, *found, parse_key(key)[1])
        there = list(reading.activations.values()) if reading else []
        badges += [html.Span(text, title=more, className=f"badge {kind}") for text, more, kind in wall.reduced(there)]
        updates.append(show_text(ids.detail("notes"), badges))
    channels = {side: reading.channel(side, index) for side in reading.maps} if reading else {}
    maps = {side: array for side, array in channels.items() if array is not None}
    if reading is None or not maps:
        wrong = failures(answers, tuple(units.values()))
        waiting: Any = refuse(wrong[0], "detail") if wrong else "computing …"
        if reading is not None:
            first = next(iter(reading.activations.values()))
            reason = wall.no_maps(first, found[1]) if found else reason_no_maps(first)
            waiting = reason or f"This layer has no channel {index}."
        return [
            *updates,
            keep_room(ids.detail("figure"), HEIGHT_PX),
            keep_room(ids.detail("histogram"), HISTOGRAM_PX),
            show_text(ids.detail("numbers"), html.P(waiting, className="sentence")),
        ]
    gap = ranking.difference(maps["a"], maps["b"]) if len(maps) == 2 and reading.comparable else None
    scale = _scale(reading, index)
    pictures = [scene.seen(side) for side in maps] if scene.walls.overlay else []
    figure = channel_figure(
        [(side.upper(), array) for side, array in maps.items()],
        scale,
        palette_for(scale.kind, scene.walls.colours),
        difference=gap,
        difference_scale=scales.difference_scale(gap) if gap is not None else None,
        picture=pictures,
        opacity=0.6 if pictures else 1.0,
        height_px=HEIGHT_PX,
        key=key,
    )
    numbers = {side: _channel_numbers(reading, side, index, array) for side, array in maps.items()}
    return [
        *updates,
        show_figure(ids.detail("figure"), figure),
        show_figure(ids.detail("histogram"), _histogram(maps)),
        show_text(ids.detail("numbers"), _numbers(reading, index, numbers)),
    ]


def _channel_numbers(reading: Reading, side: str, index: int, array: np.ndarray) -> Mapping[str, np.ndarray]:
    """One channel's numbers; where the map is reduced, those of all values."""
    if reading.activations[side].whole and index != MEAN:
        return {name: numbers[index : index + 1] for name, numbers in reading.numbers[side].items()}
    return ranking.channel_numbers(array[None])


def _scale(reading: Reading, index: int) -> scales.Scale:
    """The scale that the wall draws this channel on."""
    if isinstance(reading.scale, scales.Scale):
        return reading.scale
    return reading.scale[index]  # the last one, which `MEAN` = -1 finds, is the mean map's


def _histogram(maps: dict[str, np.ndarray]) -> Any:
    return histogram_figure(
        [map_statistics(array) for array in maps.values()],
        [side.upper() for side in maps],
        list(maps.values()),
        bins=bins_for(max(array.size for array in maps.values())),
        height_px=HISTOGRAM_PX,
        key="detail",
    )


def _numbers(reading: Reading, index: int, numbers: Mapping[str, Mapping[str, np.ndarray]]) -> html.Table:
    def text(side: str, name: str) -> str:
        value = float(numbers[side][name][0])
        return format_share(value) if name == "zeros" else format_number(value)

    rows = [html.Tr([html.Th(name), *(html.Td(text(side, name)) for side in numbers)]) for name in NUMBERS]
    strongest = {side: _strongest(reading.channel(side, index)) for side in numbers}
    for axis, name in enumerate(("row", "column")):
        title = f"The {name} in which the largest |value| lies, counted from 0"
        cells = [html.Td(_place(reading, side, strongest[side], axis)) for side in numbers]
        rows.append(html.Tr([html.Th(f"strongest: {name}", title=title), *cells]))
    if reading.distance is not None and index != MEAN:
        rows.append(
            html.Tr([html.Th("mean |A − B|"), html.Td(format_number(float(reading.distance[index])), colSpan=2)])
        )
    head = html.Tr([html.Th(""), *(html.Th(side.upper(), className=side) for side in numbers)])
    return html.Table([html.Thead(head), html.Tbody(rows)])


def _place(reading: Reading, side: str, strongest: tuple[int, int] | None, axis: int) -> str:
    """A row or column as text; of how many, where the map is a reduced one and not the layer's own."""
    if strongest is None:
        return "nowhere"
    reduced = f" of {reading.maps[side].shape[1 + axis]}" if reading.activations[side].whole else ""
    return f"{strongest[axis]}{reduced}"


def _strongest(values: np.ndarray | None) -> tuple[int, int] | None:
    """Row and column of the largest finite |value|."""
    if values is None or not np.isfinite(values).any():
        return None
    row, column = np.unravel_index(np.nanargmax(np.where(np.isfinite(values), np.abs(values), np.nan)), values.shape)
    return int(row), int(column)


def register(app: Dash) -> None:
    """The arrow keys learn how the wall is laid out; runs in the browser."""
    app.clientside_callback(ClientsideFunction("hookscope", "walk"), Input(ids.WALK, "data"), prevent_initial_call=True)


PANEL = Panel(
    "detail",
    "main",
    urgency=3,
    layout=lambda setup: layout(),
    parts=parts,
    waiting=lambda wait: [close()],
    saved=lambda scene: layout(),
    register=register,
    tabs=("layers",),
)
