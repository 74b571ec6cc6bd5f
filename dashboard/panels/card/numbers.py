"""A card's numbers: the layer's statistics, and every channel's in a table that sorts."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.tables import channel_columns, channel_rows, statistics_rows
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Activation, Statistics

FIRST_STATISTICS = ("mean", "std", "min", "max", "zeros")


def statistics_tables(statistics: list[Statistics], labels: list[str]) -> list[Any]:
    """The statistics that are looked at first, and the others behind a fold."""
    rows = statistics_rows(statistics, labels)
    first = [row for row in rows if row["key"] in FIRST_STATISTICS]
    rest = [row for row in rows if row["key"] not in FIRST_STATISTICS]
    return [_table_of(first, labels), html.Details([html.Summary("quantiles, NaN, Inf"), _table_of(rest, labels)])]


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
    units = scene.units("activation", key)
    shows = (scene.only("rank", "scale", "colours"), position, units)
    name, error = f"card {position} table", ids.card("table", position)
    return Part(name, tuple(units.values()), shows, _table, error=error, eager=False)


def _table(scene: Scene, position: int, units: dict[str, Unit], answers: Answers) -> list[Update]:
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    reading = scene.readings.get(scene.walls, there)
    if not there or not reading.maps:
        return [(ids.card("table", position), {"children": None})]
    labels = [side.upper() for side in reading.numbers]
    rows = channel_rows(list(reading.numbers.values()), reading.order, reading.distance, labels)
    rows.sort(key=lambda row: row["rank"] or 0)  # as the wall above it
    grid = dag.AgGrid(
        id=ids.card("grid", position),
        rowData=rows,
        getRowId="'' + params.data.channel",  # by which assets/page.js knows the channel of a row
        columnDefs=channel_columns(labels),
        defaultColDef={"sortable": True, "resizable": True, "minWidth": 80, "flex": 1},
        dashGridOptions={"rowHeight": 26, "headerHeight": 30, "animateRows": False},
        style={"height": 300},
        className="ag-theme-alpine grid",
    )
    return [(ids.card("table", position), {"children": grid})]
