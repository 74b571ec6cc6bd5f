"""A card's numbers: the layer's statistics, and every channel's in a table that sorts."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.drawing.tables import channel_columns, channel_rows, in_order, statistics_rows, told_of
from hookscope.dashboard.exports import wall_files
from hookscope.dashboard.page import ids, restoring, standing, wall_source
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.card.region import Region
from hookscope.hooks.results.looks import Activation, Statistics
from hookscope.hooks.results.restoring import RestoredParts

FIRST_STATISTICS = ("mean", "std", "min", "max", "zeros")


def statistics_tables(statistics: list[Statistics], labels: list[str], of_frames: str = "") -> list[Any]:
    """The statistics that are looked at first, and the others behind a fold.

    Arguments:
        of_frames: of which frames of a clip they are, and the distribution above them.
    """
    rows = statistics_rows(statistics, labels)
    first = [row for row in rows if row["key"] in FIRST_STATISTICS]
    rest = [row for row in rows if row["key"] not in FIRST_STATISTICS]
    return [
        *_said(f"Distribution and numbers {of_frames}", of_frames),
        _table_of(first, labels),
        html.Details([html.Summary("quantiles, NaN, Inf"), _table_of(rest, labels)]),
    ]


def _said(text: str, of_frames: str) -> list[html.Div]:
    """The line that says of which frames numbers are, where the maps beside them are of one."""
    return [html.Div(text, className="muted of-frames")] if of_frames else []


def _table_of(rows: list[dict[str, str]], labels: list[str]) -> html.Table:
    head = html.Tr([html.Th(""), *(html.Th(label, className=label.lower()) for label in labels)])
    body = [
        html.Tr([html.Th(html.Abbr(row["name"], title=row["help"])), *(html.Td(row[label]) for label in labels)])
        for row in rows
    ]
    return html.Table([html.Thead(head), html.Tbody(body)])


def table_part(scene: Scene, position: int, key: str) -> Part:
    """Every channel's numbers in a sortable table, when the person asked for it."""
    if not scene.walls.table:
        return Part.still(f"card {position} table", [(ids.card("table", position), {"children": None})])
    units, ranked = scene.of_layer(ActivationOf, key), wall_source.ranked_units(scene, key)
    restored = restoring.unit_of(scene, key)
    shows = (scene.only("rank", "scale", "colours", "moment", "sort"), position, key, units, ranked, restored)
    name, error = f"card {position} table", ids.card("table", position)
    needed = (*units.values(), *ranked.values(), *([restored] if restored else []))
    return Part(name, needed, shows, _table, error=error, eager=False)


def _table(
    scene: Scene,
    position: int,
    key: str,
    units: dict[str, Unit],
    ranked: dict[str, Unit],
    restored: Unit | None,
    answers: Answers,
) -> list[Update]:
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    told = standing.standing(answers, ranked, restoring.ranking_unit(scene, restored))
    reading = scene.readings.get(scene.walls, there, told)
    if not there or not reading.maps:
        return [(ids.card("table", position), {"children": None})]
    labels = [side.upper() for side in reading.numbers]
    parts = result_of(answers, restored, RestoredParts)
    back = None if parts is None else parts.by_channel(len(reading.order))
    numbers = list(reading.numbers.values())
    sort = scene.walls.sort
    rows = in_order(channel_rows(numbers, reading.order, reading.distance, labels, reading.distributions, back), sort)
    grid = dag.AgGrid(
        id=ids.card("grid", position),
        rowData=rows,
        getRowId="'' + params.data.channel",  # by which assets/page.js knows the channel of a row
        columnDefs=channel_columns(labels, told_of(numbers), restored=back is not None, sort=sort),
        defaultColDef={"sortable": True, "resizable": True, "minWidth": 88, "flex": 1},
        dashGridOptions={"rowHeight": 26, "headerHeight": 30, "animateRows": False},
        eventListeners={"sortChanged": ["hookscopeSorted(params)"]},  # of assets/page.js
        style={"height": 300},
        className="ag-theme-alpine grid",
    )
    said = _said(f"Numbers {reading.of_frames}", reading.of_frames)
    source = wall_source.WallSource(scene, key, units, told, parts)
    listed = [int(row["channel"] or 0) for row in rows]
    save = html.A("this table as CSV", href=wall_files.table(source, listed), download="", className="link save")
    return [(ids.card("table", position), {"children": [*said, grid, save]})]


REGION = Region(
    "table",
    layout=lambda position: html.Div(id=ids.card("table", position), className="channel-table"),
    part=table_part,
)
