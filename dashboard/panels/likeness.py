"""How alike the layers of A's and of B's model are, over the built-in photographs: a matrix, and its matches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import dash
from dash import ClientsideFunction, Input, State, html

from hookscope.dashboard.answers.parts import Part, Update, failures_by_side, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import GramsOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.likeness_figure import HEIGHT_PX, likeness_csv, likeness_figure
from hookscope.dashboard.inputs.samples import PHOTOGRAPHS
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import (
    MIN_HEIGHT_PX,
    computing,
    graph,
    keep_room,
    refuse,
    reservations,
    show_figure,
    show_text,
)
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.likeness import Grams, Likeness, Place, compare_grams

NAME = "likeness"
TITLE = "Likeness of layers"
HELP = (
    "How alike A's and B's models see the built-in photographs, layer by layer: debiased linear CKA is 1 for the same, "
    "whatever the rotation and the scale, and about 0 for nothing in common."
)
MATRIX_HELP = "Likeness of every layer of A and of B. Arrow keys go from pair to pair, and Enter opens both layers."
LISTED = 40
TWO_MODELS = "This compares two models. Put A's picture into another one as B: “A in another model …”."


@state
@dataclass(frozen=True)
class Alike:
    """Whether the likeness of layers is open."""

    likeness: bool = False


def layout(models: int = 2) -> html.Section:
    """Draw the fold, closed; hidden where one model is offered: the browser looks for the figure of its callback."""
    attributes = {"data-do": "likeness", "aria-expanded": "false", "aria-controls": ids.LIKENESS_TEXT}
    return html.Section(
        [
            html.Button(TITLE, id=ids.LIKENESS_FOLD, className="fold", title=HELP, **attributes),
            html.Div(
                [
                    Markup(ids.LIKENESS_TEXT),
                    html.Div(
                        graph(ids.LIKENESS, MIN_HEIGHT_PX),
                        className="likeness-matrix",
                        role="application",
                        tabIndex="0",
                        **{"aria-label": MATRIX_HELP},
                    ),
                    Markup(ids.LIKENESS_LIST),
                ],
                className="likeness",
            ),
        ],
        className="likeness-side",
        hidden=models < 2,
        **{"aria-label": TITLE},
    )


def parts(scene: Scene) -> list[Part]:
    """The matrix; nothing is asked while it is closed, and nothing of one model alone."""
    if not scene.view.of(Alike).likeness:
        return [close()]
    if scene.awaited and scene.view.model_b:
        return [close("The other model is being loaded …")]
    if not scene.two_models:
        return [close(TWO_MODELS)]
    pictures = tuple(scene.service.inputs.sample(name).digest for name in PHOTOGRAPHS)
    units = {side: Unit(Side(scene.view.model_of(side), pictures[0]), GramsOf(pictures)) for side in scene.inputs}
    return [Part(NAME, tuple(units.values()), (scene.only(), units), _draw, error=ids.LIKENESS_TEXT)]


def close(sentence: str = "") -> Part:
    """The part while there is no matrix."""
    text = html.P(sentence, className="sentence") if sentence else None
    return Part.still(NAME, [*_fold(bool(sentence)), *_without_figure(text)])


def _fold(opened: bool) -> list[Update]:
    return [(ids.LIKENESS_FOLD, {"aria-expanded": "true" if opened else "false"})]


def _without_figure(text: Any, height_px: int = MIN_HEIGHT_PX) -> list[Update]:
    return [show_text(ids.LIKENESS_TEXT, text), keep_room(ids.LIKENESS, height_px), show_text(ids.LIKENESS_LIST, None)]


def _draw(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    head = html.Div([html.Span(TITLE, title=HELP), " ", *reservations(scene)], className="small-title")
    if wrong := failures_by_side(answers, units):
        return [*_fold(True), *_without_figure([head, *(refuse(each, NAME) for _, each in wrong)])]
    grams = {side: result_of(answers, unit, Grams) for side, unit in units.items()}
    waiting = [
        html.P([f"{side.upper()}: ", *computing(answers, unit, NAME)], className="muted")
        for side, unit in units.items()
        if grams[side] is None
    ]
    one, other = grams.get("a"), grams.get("b")
    if waiting or one is None or other is None:
        return [*_fold(True), *_without_figure([head, *waiting], HEIGHT_PX)]
    try:
        found = compare_grams(one, other)
    except HooksError as problem:
        return [*_fold(True), *_without_figure([head, html.P(str(problem), className="sentence")])]
    rows, columns = _keys(found.first), _keys(found.second)
    titles = [scene.info_of(side).title for side in ("a", "b")]
    name = "likeness.csv"
    address = scene.file((NAME, tuple(units.values())), partial(likeness_csv, found, rows, columns), "text/csv", name)
    note = html.P([f"{found.note} ", html.A("CSV", href=address, download=name, className="link")], className="muted")
    figure = likeness_figure(found, rows, columns, (f"A, {titles[0]}", f"B, {titles[1]}"))
    return [
        *_fold(True),
        show_text(ids.LIKENESS_TEXT, [head, note]),
        show_figure(ids.LIKENESS, figure),
        show_text(ids.LIKENESS_LIST, _in_words(found, rows, columns)),
    ]


def _keys(places: tuple[Place, ...]) -> list[str]:
    return [key_of(each.layer, each.call) for each in places]


def _in_words(found: Likeness, rows: list[str], columns: list[str]) -> list[Any]:
    """The best match of each row, the likest first; a click opens both layers."""
    known = [(row, int(column)) for row, column in enumerate(found.best) if column >= 0]
    known.sort(key=lambda pair: -float(found.cka[pair]))
    lines = []
    for row, column in known[:LISTED]:
        error = f" ± {found.errors[row, column]:.2f}" if found.errors.size else ""
        layers = {"layers": list(dict.fromkeys([rows[row], columns[column]])), "tab": "layers"}
        text = f"A's {rows[row]} is most like B's {columns[column]}"
        numbers = f": {found.cka[row, column]:.2f}{error} (Procrustes {found.procrustes[row, column]:.2f})"
        action = {"data-do": "set", "data-value": json.dumps(layers)}
        lines.append(html.P([html.Button(text, className="link told", title="Show both layers", **action), numbers]))
    left = len(known) - LISTED
    more = [html.P(f"and {left} more, in the matrix and the CSV", className="muted")] if left > 0 else []
    return [html.Div(lines, className="matches"), *more]


def _saved(scene: Scene) -> html.Section | list[Any]:
    return layout() if scene.view.of(Alike).likeness and scene.two_models else []


def register(app: dash.Dash) -> None:
    """A click on a cell opens both layers; the browser's own business."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "likenessClick"),
        Input(ids.LIKENESS, "clickData"),
        State(ids.LIKENESS, "figure"),
        prevent_initial_call=True,
    )


PANEL = Panel(
    NAME,
    "main",
    urgency=7,  # a pass per picture
    layout=lambda setup: layout(len(setup.models)),
    parts=lambda scene: parts(scene) if len(scene.offered) > 1 else [],
    saved=_saved,
    register=register,
)
