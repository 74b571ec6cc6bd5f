"""The enlarged channel: one map of A and of B with its values on hover; it stays while other layers are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from dash import ClientsideFunction, Dash, Input, dcc, html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing import ranking, scales
from hookscope.dashboard.drawing.channel_figure import channel_figure
from hookscope.dashboard.drawing.charts import bins_for, histogram_figure
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.drawing.palettes import palette_for
from hookscope.dashboard.drawing.ranking import map_statistics
from hookscope.dashboard.drawing.tables import HELP
from hookscope.dashboard.page import ids, restoring, standing, wall_source
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.reading import Reading
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MEAN
from hookscope.dashboard.panels import channel_set, edited_answer, regions
from hookscope.dashboard.panels.card import wall
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import graph, keep_room, paint_over, refuse, show_figure, show_text
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.maps import reason_no_maps

HEIGHT_PX = 228  # with the sliders above it, the card stays in sight at 900 pixels
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
                        "▾",
                        className="icon fold-detail",
                        title="Show the name and the sliders alone, with more of the wall in sight; or all again",
                        **{"data-do": "fold-detail", "aria-label": "Fold", "aria-expanded": "true"},
                    ),
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
                    html.Div(id=ids.detail("edit"), className="gains"),  # assets/edits.js puts the sliders there
                    Markup(ids.detail("mean"), className="to-mean"),
                    html.Span("m mutes · b doubles · 0 resets", className="muted keys"),
                ],
                className="detail-edit",
            ),
            Markup(ids.detail("answer"), className="edited-answer", role="status"),
            html.Div(
                [
                    graph(ids.detail("figure"), HEIGHT_PX, "detail-figure"),
                    graph(ids.detail("histogram"), HISTOGRAM_PX, "histogram"),
                    html.Div([Markup(ids.detail("numbers")), Markup(ids.detail("told"))], className="statistics"),
                    Markup(ids.detail("set"), className="detail-set", hidden=True),
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
    units = scene.of_layer(ActivationOf, key)
    overlay = [scene.prediction(side) for side in units] if scene.walls.overlay else []
    ranked, restored = wall_source.ranked_units(scene, key), restoring.unit_of(scene, key)
    restored = restoring.ranking_unit(scene, restored)
    told = (*ranked.values(), *([restored] if restored else []))
    shown = scene.only("detail", "channel", "scale", "colours", "overlay")
    walked = scene.only("detail", "rank", "scale", "colours", "count", "restored", width=True)
    return [
        Part("detail", (*overlay, *units.values()), (shown, units), _draw, error=ids.detail("numbers")),
        edited_answer.part(scene),
        _told(scene, ranked),
        channel_set.part(scene),
        Part("walk", (*units.values(), *told), (walked, units, ranked, restored), _walk, eager=False),
    ]


def live(scene: Scene) -> list[Part]:
    """What of it follows a slider: the map in the scale that it is shown on, its numbers, and the answer's line."""
    key = scene.view.detail
    if not key or scene.call_of(key) is None or not scene.inputs:
        return []
    units = scene.of_layer(ActivationOf, key)
    shown = scene.only("detail", "channel", "scale", "colours")
    return [
        edited_answer.part(scene),
        Part("detail", tuple(units.values()), (shown, units, "tried"), _draw_tried, error=ids.detail("numbers")),
    ]


def close() -> Part:
    """The part of a page without an enlarged channel."""
    return Part.still("detail", [(ids.DETAIL, {"hidden": True})])


def _reading(
    scene: Scene, units: dict[str, Unit], answers: Answers, told: standing.Standing = standing.NOTHING
) -> Reading | None:
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    return scene.readings.get(scene.walls, there, told) if there else None


def _walk(
    scene: Scene, units: dict[str, Unit], ranked: dict[str, Unit], restored: Unit | None, answers: Answers
) -> list[Update]:
    reading = _reading(scene, units, answers, standing.standing(answers, ranked, restored))
    if reading is None or not reading.maps:
        return []
    geometry = wall_source.geometry_of(scene, scene.view.detail, reading)
    order = [MEAN, *reading.order[: geometry.shown].tolist()]
    return [(ids.WALK, {"data": {"layer": scene.view.detail, "order": order, "columns": geometry.columns}})]


def _told(scene: Scene, ranked: dict[str, Unit]) -> Part:
    """What the model has to tell of the channel, where the wall is ranked by that."""
    if not ranked or scene.view.channel == MEAN:
        return Part.still("detail told", [show_text(ids.detail("told"), None)])
    shown = scene.only("detail", "channel", "rank", *EXPLAINED)
    return Part("detail told", tuple(ranked.values()), (shown, ranked), _draw_told, error=ids.detail("told"))


def _draw_told(scene: Scene, ranked: dict[str, Unit], answers: Answers) -> list[Update]:
    told, channel = standing.standing(answers, ranked), scene.view.channel
    columns = {side: told.columns(side) for side in ranked}
    rows = []
    for name in dict.fromkeys(name for found in columns.values() for name in found):
        found = {side: each[name] for side, each in columns.items() if name in each and channel < len(each[name])}
        cells = [html.Td(_told_text(found[side][channel]) if side in found else "") for side in ranked]
        rows.append(html.Tr([html.Th(wall.HOVERED[name], title=HELP[name]), *cells]))
    if failures(answers, tuple(ranked.values())) or not rows:  # the card says why, and how far it is
        return [show_text(ids.detail("told"), None)]
    return [show_text(ids.detail("told"), html.Table(html.Tbody(rows)))]


def _told_text(value: np.floating[Any]) -> str:
    return (f"{value:+.4g}" if value else "0") if np.isfinite(value) else "…"


def _draw(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    key, index = scene.view.detail, scene.view.channel
    reading = _reading(scene, units, answers)
    title = [
        html.Span(key, className="mono"),
        " · ",
        html.Strong("mean of all channels" if index == MEAN else f"channel {index}"),
    ]
    updates: list[Update] = [(ids.DETAIL, {"hidden": False}), show_text(ids.detail("title"), title)]
    updates.append(show_text(ids.detail("mean"), _to_mean(reading)))
    found = scene.call_of(key)
    if found:
        badges = regions.notes(scene, key, *found)
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
    seen = [scene.seen(side, second=scene.sees_second(units[side])) for side in maps]
    pictures = seen if scene.walls.overlay else []
    figure = channel_figure(
        [(_letter(scene, side), array) for side, array in maps.items()],
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


def _draw_tried(scene: Scene, units: dict[str, Unit], tried: str, answers: Answers) -> list[Update]:
    """The maps alone, which the page paints over those of the figure that is there."""
    key, index = scene.view.detail, scene.view.channel
    reading = _reading(scene, units, answers)
    channels = {side: reading.channel(side, index) for side in reading.maps} if reading else {}
    maps = {side: array for side, array in channels.items() if array is not None}
    if wrong := failures(answers, tuple(units.values())):
        return [show_text(ids.detail("numbers"), html.P(refuse(wrong[0], "detail"), className="sentence"))]
    found = scene.call_of(key)
    if reading is None or not maps or found is None:
        return []
    shown = list(maps.values())
    if len(maps) == 2 and reading.comparable:
        shown.append(ranking.difference(maps["a"], maps["b"]))
    numbers = {side: _channel_numbers(reading, side, index, array) for side, array in maps.items()}
    return [
        paint_over(ids.detail("figure"), shown),
        show_text(ids.detail("notes"), regions.notes(scene, key, *found)),
        show_text(ids.detail("numbers"), _numbers(reading, index, numbers)),
    ]


def _letter(scene: Scene, side: str) -> str:
    return f"{side.upper()}, edited" if scene.edits(side) else side.upper()


def _to_mean(reading: Reading | None) -> list[html.Button]:
    """The way to set a channel to its mean, which where values are signed is what 0 is behind a ReLU."""
    if reading is None or not any((array < 0).any() for array in reading.maps.values()):
        return []
    help_text = (
        "Every position becomes the channel's mean over the positions of its own picture: how strong it is stays, and "
        "where it is strong is gone. Where values are signed, 0 is no neutral value."
    )
    action = {"data-do": "edit", "data-value": "mean"}
    return [html.Button("set to the mean", className="link", title=help_text, **action)]


def _channel_numbers(reading: Reading, side: str, index: int, array: np.ndarray) -> Mapping[str, np.ndarray]:
    """One channel's numbers; where the map is reduced, those of all values."""
    if reading.activations[side].whole and index != MEAN:
        return {name: numbers[index : index + 1] for name, numbers in reading.numbers[side].items()}
    return ranking.channel_numbers(array[None])


def _scale(reading: Reading, index: int) -> scales.Scale:
    """The scale that the wall draws this channel on."""
    found = [each if isinstance(each, scales.Scale) else each[index] for each in _having(reading, index)]
    return found[0]  # of scales per channel the last one, which `MEAN` = -1 finds, is the mean map's


def _having(reading: Reading, index: int) -> list[scales.Scales]:
    """The scales of those sides that have a channel."""
    return [reading.scale_of[side] for side, maps in reading.maps.items() if index < len(maps)]


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
    if reading.comparable and index != MEAN:
        gap = ranking.distance(reading.maps["a"][[index]], reading.maps["b"][[index]])
        rows.append(html.Tr([html.Th("mean |A − B|"), html.Td(format_number(float(gap[0])), colSpan=2)]))
    head = html.Tr(
        [
            html.Th("of this frame" if reading.of_frames else ""),
            *(html.Th(side.upper(), className=side) for side in numbers),
        ]
    )
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
    live=live,
)
