"""A card's weights: the layer's own parameters as pictures, a distribution, norms by output channel, table and CSV."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import dash_ag_grid as dag
import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures_by_side, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import Unit, WeightsOf
from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing import weight_pictures
from hookscope.dashboard.drawing.charts import HISTOGRAM_PX, bars_figure, histogram_figure
from hookscope.dashboard.drawing.numbers import format_number, format_share
from hookscope.dashboard.drawing.palettes import DIFFERENCE, PALETTES
from hookscope.dashboard.drawing.tables import csv_of, number_column, short
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.card.region import Region
from hookscope.dashboard.panels.regions import MIN_HEIGHT_PX, graph, keep_room, refuse, show_figure, show_text
from hookscope.hooks.results.weights import Parameter, Weights

FILTER_PX, MATRIX_PX = 48, 512
NORM = "The L2 norm of the weights that make this output channel: the root of the sum of their squares."
PLAIN = ("mean", "std", "min", "max", "zeros")


@state
@dataclass(frozen=True)
class Unfolded:
    """Whether the cards show their layers' weights."""

    weights: bool = False


def layout(position: int) -> html.Div:
    """Draw the place of one card's weights, folded."""
    return html.Div(
        [
            Markup(ids.card("weights", position)),
            html.Div(
                [
                    graph(ids.card("weights-histogram", position), MIN_HEIGHT_PX, "histogram"),
                    graph(ids.card("weights-norms", position), MIN_HEIGHT_PX),
                ],
                className="weight-figures",
            ),
            html.Div(id=ids.card("weights-table", position), className="channel-table"),
        ],
        className="weights",
    )


def part(scene: Scene, position: int, key: str) -> Part:
    """The part that draws one card's weights, of A and, where B is in another model, of B."""
    name = f"card {position} weights"
    if not scene.view.of(Unfolded).weights:
        return Part.still(name, _folded(position))
    layer = parse_key(key)[0]
    units = {
        side: scene.unit(side, WeightsOf(parse_key(scene.key_in(key, side))[0]))
        for side in scene.models
        if scene.call_of(key, side)
    }
    shows = (scene.only("weights"), position, layer, units)
    return Part(name, tuple(units.values()), shows, _draw, error=ids.card("weights", position))


def _fold(opened: bool) -> html.Button:
    return html.Button(
        "Weights",
        className="fold",
        title="What this layer has learned: its own parameters",
        **{
            "data-do": "set",
            "data-value": json.dumps({"weights": not opened}),
            "aria-expanded": "true" if opened else "false",
        },
    )


def _folded(position: int, content: list[Any] | None = None) -> list[Update]:
    text = [_fold(content is not None), *(content or [])]
    return [
        show_text(ids.card("weights", position), text),
        keep_room(ids.card("weights-histogram", position), MIN_HEIGHT_PX),
        keep_room(ids.card("weights-norms", position), MIN_HEIGHT_PX),
        (ids.card("weights-table", position), {"children": None}),
    ]


def _draw(scene: Scene, position: int, layer: str, units: dict[str, Unit], answers: Answers) -> list[Update]:
    found = {side: each for side, unit in units.items() if (each := result_of(answers, unit, Weights)) is not None}
    wrong = [refuse(failure, f"card {position} weights") for _, failure in failures_by_side(answers, units)]
    if not found:
        return _folded(position, wrong or [html.Span("computing …", className="muted")])
    labels = [side.upper() for side in found]
    mains = [_main(each) for each in found.values()]
    csv = partial(_csv, list(found.values()), labels)
    name = f"{file_name(scene.info.title)}-{file_name(layer or 'model')}-weights.csv"
    address = scene.file(("weights", tuple(units.values())), csv, "text/csv", name)
    content = [
        _fold(True),
        html.Div([_walls(scene, side, units, found) for side in found], className="weight-walls"),
        html.Div(_difference(scene, units, mains), className="weight-walls") if len(mains) == 2 else None,
        _numbers(list(found.values()), labels),
        html.Div([html.A("Weights by output channel, CSV", href=address, download="", className="link")]),
        html.Div(
            [html.Span(f"Distribution of {mains[0].name}"), html.Abbr("Norm by output channel", title=NORM)],
            className="weight-figures small-title",
        ),
        *wrong,
    ]
    both = [each.values for each in mains] if all(each.values.shape == each.shape for each in mains) else None
    statistics = [each.statistics for each in mains]
    return [
        show_text(ids.card("weights", position), content),
        show_figure(
            ids.card("weights-histogram", position), histogram_figure(statistics, labels, both, key=f"weights {layer}")
        ),
        show_figure(
            ids.card("weights-norms", position),
            bars_figure([each.norms for each in mains], labels, height_px=HISTOGRAM_PX, key=f"norms {layer}"),
        ),
        (ids.card("weights-table", position), {"children": _table(position, mains, labels)}),
    ]


def _main(found: Weights) -> Parameter:
    """The parameter that is drawn: the first with two axes or more, else the first."""
    return next((each for each in found.parameters if len(each.shape) > 1), found.parameters[0])


def _walls(scene: Scene, side: str, units: dict[str, Unit], found: dict[str, Weights]) -> html.Div:
    parameter = _main(found[side])
    drawn = weight_pictures.tiles(parameter)
    letter = html.Span(side.upper(), className=f"letter small {side}") if len(found) > 1 else None
    shape = " × ".join(map(str, parameter.shape))
    title = html.Span(f"{parameter.name}, {shape}", className="mono")
    if drawn is None:
        why = "its values are too many to be drawn" if len(parameter.shape) > 1 else "a list of numbers"
        return html.Div([letter, title, html.Span(why, className="muted")], className="line")
    shown = [each for one in found.values() if (each := weight_pictures.tiles(_main(one))) is not None]
    scale = weight_pictures.scale_of(*shown)  # A's and B's
    address = scene.picture(
        ("weights", tuple(units.values()), side), partial(weight_pictures.picture, drawn, scale), "image/png"
    )
    colour = PALETTES["grey"] if drawn.cells.ndim == 4 else PALETTES["blue-red"]
    return _picture([letter, title, html.Span(drawn.text, className="muted")], drawn, address, scale.high, colour.css())


def _picture(head: list[Any], drawn: weight_pictures.Tiles, address: str, high: float, gradient: str) -> html.Div:
    width, height = drawn.size
    one = drawn.cells.shape[2] + 1
    cell = max(1, min(FILTER_PX // one, 16) if len(drawn.cells) > 1 else MATRIX_PX // width)
    image = html.Img(
        src=address, alt="Weights", style={"width": f"{width * cell}px", "aspectRatio": f"{width} / {height}"}
    )
    bar = [
        html.Span(format_number(-high)),
        html.Span(className="gradient", style={"background": gradient}),
        html.Span(format_number(high)),
    ]
    return html.Div([html.Div(head, className="line"), image, html.Div(bar, className="colour-bar mono")])


def _difference(scene: Scene, units: dict[str, Unit], mains: list[Parameter]) -> list[Any]:
    """B - A of two models' weights; a sentence where there is none."""
    a, b = mains
    if a.shape != b.shape:
        return [html.Span("There is no difference: A's and B's weights have different shapes.", className="muted")]
    if a.values.shape != a.shape or b.values.shape != b.shape:
        return []
    gap = b.values - a.values
    drawn = weight_pictures.tiles(a, gap)
    whole, part = (float(np.linalg.norm(each.astype(np.float64))) for each in (a.values, gap))
    ratio = format_share(part / whole) if whole else ""
    said = f"‖B − A‖ is {ratio}{'' if 'times' in ratio else ' of'} ‖A‖" if ratio else "A's weights are all 0"
    head = [html.Strong("B − A"), html.Span(said, className="muted")]
    if drawn is None:
        return [html.Div(head, className="line")]
    scale = weight_pictures.scale_of(drawn)
    address = scene.picture(
        ("weights", tuple(units.values()), "difference"),
        partial(weight_pictures.picture, drawn, scale, DIFFERENCE),
        "image/png",
    )
    colour = PALETTES["grey"] if drawn.cells.ndim == 4 else DIFFERENCE
    return [_picture(head, drawn, address, scale.high, colour.css())]


def _numbers(found: list[Weights], labels: list[str]) -> html.Table:
    """Every parameter's numbers, a row each."""
    head = html.Tr([html.Th(text) for text in ("", "shape", *PLAIN, "norm")])
    rows = []
    for one, label in zip(found, labels, strict=True):
        for each in one.parameters:
            texts = [format_number(float(getattr(each.statistics, name))) for name in PLAIN[:-1]]
            norm = float(np.linalg.norm(each.norms))
            title = f"{label} {each.name}" if len(found) > 1 else each.name
            note = " (frozen)" if each.frozen else ""
            cells = [" × ".join(map(str, each.shape)), *texts, format_share(each.statistics.zeros), format_number(norm)]
            rows.append(html.Tr([html.Th(title + note), *(html.Td(text) for text in cells)]))
    return html.Table([html.Thead(head), html.Tbody(rows)])


def _rows(mains: list[Parameter], labels: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """By output channel: {"channel", "A norm", "A mean", ..., "B norm", ..., "norm of B - A"}, and these names."""
    count = max(len(each.norms) for each in mains)
    rows: list[dict[str, Any]] = [{"channel": index} for index in range(count)]
    for each, label in zip(mains, labels, strict=True):
        prefix = f"{label} " if len(mains) > 1 else ""
        columns = {"norm": each.norms} | {name: each.statistics.channels[name] for name in PLAIN}
        for name, column in columns.items():
            for row, value in zip(rows, column.tolist(), strict=False):
                row[f"{prefix}{name}"] = value
    a, b = mains[0], mains[-1]
    if len(mains) == 2 and a.values.shape == b.values.shape == a.shape:
        gap = np.moveaxis(b.values.astype(np.float64) - a.values, a.output_axis, 0).reshape(count, -1)
        for row, value in zip(rows, np.linalg.norm(gap, axis=1).tolist(), strict=True):
            row["norm of B - A"] = value
    return rows, list(rows[0]) if rows else []


def _table(position: int, mains: list[Parameter], labels: list[str]) -> Any:
    rows, names = _rows(mains, labels)
    fields = {name: f"c{number}" for number, name in enumerate(names)}  # a dot in a field would be a path
    return dag.AgGrid(
        id=ids.card("weights-grid", position),
        rowData=[
            {fields[name]: value if name == "channel" else short(value) for name, value in row.items()} for row in rows
        ],
        columnDefs=[
            number_column(fields[name], name, NORM if "norm" in name else "", "d" if name == "channel" else ".4~g")
            for name in names
        ],
        defaultColDef={"sortable": True, "resizable": True, "minWidth": 88, "flex": 1},
        dashGridOptions={"rowHeight": 26, "headerHeight": 30, "animateRows": False},
        style={"height": min(300, 60 + 26 * len(rows))},
        className="ag-theme-alpine grid",
    )


def _csv(found: list[Weights], labels: list[str]) -> bytes:
    rows, names = _rows([_main(each) for each in found], labels)
    return csv_of(names, [[row.get(name, "") for name in names] for row in rows]).encode()


REGION = Region("weights", layout, part)
