"""Every offered model's answer to the picture in one table, and how far it agrees; two of them become A and B."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import PredictionOf, Unit
from hookscope.dashboard.asking.sides import AS_WANTED, Side
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.numbers import format_share
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.previews import find
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.answer import TOP_CLASSES
from hookscope.dashboard.panels.panel import Panel, Setup
from hookscope.dashboard.panels.regions import random_weights, refuse, show_text, stop_button
from hookscope.dashboard.sources.spec import name_of, title_of
from hookscope.hooks.methods import READINGS
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.scores import top_classes

NAME = "models"
HELP = "What every offered model answers to this picture, and how far it agrees. Each is loaded when this is opened."
AGREES = (
    "How many of the first five classes both have, by name; and the overlap of all shares, 1 where they are the same "
    "and 0 where no class has a share in both."
)


@state
@dataclass(frozen=True)
class Compared:
    """Whether the table of models is open."""

    models: bool = False


@dataclass(frozen=True)
class Said:
    """A model's answer: its shares by class name, the best first.

    Attributes:
        exclusive: whether the shares add up to 1. named: whether its classes have names, and not numbers alone.
    """

    best: tuple[tuple[str, float], ...]
    shares: dict[str, float]
    exclusive: bool
    named: bool = True


def layout(setup: Setup) -> html.Section:
    """Draw the fold, closed; not to be seen where one model is offered."""
    return _section("All models on this picture", hidden=len(setup.models) < 2)


def _section(text: str, *, hidden: bool = False) -> html.Section:
    attributes = {"data-do": "models", "aria-expanded": "false", "aria-controls": ids.MODELS}
    fold = html.Button(text, id=ids.MODELS_FOLD, className="fold", title=HELP, **attributes)
    table = Markup(ids.MODELS, className="models", hidden=True)
    return html.Section([fold, table], className="model-side", hidden=hidden, **{"aria-label": text})


def parts(scene: Scene, offered: tuple[str, ...]) -> list[Part]:
    """The table; no model is asked while it is closed."""
    if len(offered) < 2:
        return []
    if not scene.view.of(Compared).models:
        return [close()]
    if not scene.inputs:
        return [close("Choose a picture above.")]
    units = _units(scene, [name_of(model) for model in offered])
    titles = {name_of(model): title_of(model) for model in offered}
    return [Part(NAME, tuple(units.values()), (scene.only(), units, titles), _draw, error=ids.MODELS)]


def close(sentence: str = "") -> Part:
    """The part while there is no table."""
    text = html.P(sentence, className="sentence") if sentence else None
    return Part.still(NAME, [*_fold(bool(sentence)), show_text(ids.MODELS, text, hidden=not sentence)])


def _fold(opened: bool) -> list[Update]:
    return [(ids.MODELS_FOLD, {"aria-expanded": "true" if opened else "false"})]


def _units(scene: Scene, names: list[str]) -> dict[str, Unit]:
    """The question for each model's answer, the one that is looked at first: the others are compared with it."""
    side = next(iter(scene.inputs))
    own = scene.prediction(side)
    found = {own.model: own}
    picture = find(scene.service.inputs, getattr(scene.view, side))
    assert picture is not None
    for name in names:
        if name in found:
            continue
        info = scene.service.state(name).info
        axes = own.side.preparation.axes
        given = picture.read_for(info.preprocessing.channels, axes) if info else picture
        preparation = replace(AS_WANTED, axes=axes) if given.axes else AS_WANTED
        found[name] = Unit(Side(name, given.digest, preparation), PredictionOf())
    return found


def _draw(scene: Scene, units: dict[str, Unit], titles: dict[str, str], answers: Answers) -> list[Update]:
    side = next(iter(scene.inputs))
    first = next(iter(units))
    said = {name: _said(scene, name, unit, answers) for name, unit in units.items()}
    head = ["model", "the first five classes", f"agrees with {titles.get(first, first)}", ""]
    rows = [html.Tr([html.Th(text, title=AGREES if number == 2 else "") for number, text in enumerate(head)])]
    for name, unit in units.items():
        rows.append(_row(scene, side, name, titles.get(name, name), unit, answers, said[name], said[first]))
    about = [f"Of {side.upper()}, {scene.inputs[side].name}, prepared as each model wants it."]
    done = {name: each for name, each in said.items() if each is not None}
    links: list[Any] = []
    if done:
        table = partial(_csv, {titles.get(name, name): each for name, each in done.items()})
        address = scene.file(("models", tuple(units.values()), tuple(done)), table, "text/csv", "models.csv")
        links = [" ", html.A("CSV", href=address, download="models.csv", className="link")]
    stop = [" ", stop_button(NAME)] if any(unit not in answers for unit in units.values()) else []
    content = [html.Table(html.Tbody(rows)), html.P([*about, *links, *stop], className="muted")]
    return [*_fold(True), show_text(ids.MODELS, content, hidden=False)]


def _row(
    scene: Scene, side: str, name: str, title: str, unit: Unit, answers: Answers, said: Said | None, first: Said | None
) -> html.Tr:
    info = scene.service.state(name).info
    badge = random_weights(info) if info else []
    called = html.Th([html.Span(title, className="name"), " ", *badge], scope="row")
    found = answers[unit].result if unit in answers else None
    looked = scene.view.model_of(side) == name
    actions = [
        html.Button(
            f"as {letter.upper()}",
            className="chip",
            disabled=looked and letter == side,
            title=f"Put the picture into {title} as {letter.upper()}",
            **{"data-put": letter, "data-value": name},
        )
        for letter in ("a", "b")
    ]
    if isinstance(found, Failure):
        return html.Tr([called, html.Td(refuse(found, NAME), colSpan=2), html.Td(actions)])
    if found is None:
        state = scene.service.state(name)
        text = "computing …" if state.info else "loading …"
        return html.Tr([called, html.Td(text, className="muted", colSpan=2), html.Td(actions)])
    if said is None:
        text = "It answers no classes, or boxes, which stand beside its picture: put it into A or B."
        return html.Tr([called, html.Td(text, className="muted", colSpan=2), html.Td(actions)])
    listed = [html.Span([each, html.Span(f" {share:.3f}", className="mono muted")]) for each, share in said.best]
    return html.Tr([called, html.Td(listed, className="classes"), html.Td(_agreement(said, first)), html.Td(actions)])


def _said(scene: Scene, name: str, unit: Unit, answers: Answers) -> Said | None:
    """A model's answer by class; None until it is there, and of a model whose answer is no list of shares."""
    prediction, info = result_of(answers, unit, Prediction), scene.service.state(name).info
    if prediction is None or prediction.scores is None or info is None or not prediction.scores.shares.size:
        return None
    scores = prediction.scores
    names = _names(info, unit, len(scores.shares))
    best = top_classes(scores.shares, TOP_CLASSES)
    shares: dict[str, float] = {}
    for index, share in enumerate(scores.shares.tolist()):
        shares[names[index]] = shares.get(names[index], 0.0) + share  # equal names are one class to a reader
    row = READINGS.get(scores.reads)
    exclusive = row is not None and (row.exclusive or abs(float(np.sum(scores.shares)) - 1) < 1e-3)
    named = names != [f"class {index}" for index in range(len(names))]
    return Said(tuple((names[index], share) for index, share in best), shares, exclusive, named)


def _names(info: ModelInfo, unit: Unit, count: int) -> list[str]:
    known = info.names(unit.side.reading)
    return [known[index] if index < len(known) else f"class {index}" for index in range(count)]


def _agreement(said: Said, first: Said | None) -> str:
    """How far an answer is the first model's, in words."""
    if said is first:
        return "the others are compared with it"
    if first is None:
        return ""
    if said.named != first.named:
        return (
            f"its classes have {'' if said.named else 'no '}names, and the other's {'none' if said.named else 'have'}"
        )
    common = len({name for name, _ in said.best} & {name for name, _ in first.best})
    same = "the same first class" if said.best[:1] and said.best[0][0] == first.best[0][0] else "another first class"
    text = f"{same}, {common} of {len(said.best)} in common"
    over = overlap(said, first)
    return text if over is None else f"{text}, overlap {format_share(over)}"


def overlap(one: Said, other: Said) -> float | None:
    """The sum of the smaller share of each class, 0..1; None where shares do not add up to 1, or none is in both."""
    if not (one.exclusive and other.exclusive and one.shares.keys() & other.shares.keys()):
        return None
    return sum(min(share, other.shares.get(name, 0.0)) for name, share in one.shares.items())


def _csv(said: dict[str, Said]) -> bytes:
    """One line per model and class of its first five."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["model", "rank", "class", "share", "overlap with the first"])
    first = next(iter(said.values()))
    for model, each in said.items():
        over = overlap(each, first)
        for rank, (name, share) in enumerate(each.best, 1):
            writer.writerow([model, rank, name, repr(share), "" if over is None else repr(over)])
    return file.getvalue().encode()


def _saved(scene: Scene) -> html.Section | list[Any]:
    shown = scene.view.of(Compared).models and bool(scene.inputs)
    return _section("All models on this picture") if shown and len(scene.offered) > 1 else []


PANEL = Panel(
    NAME,
    "main",
    urgency=6,  # a model that is not there takes seconds to load
    layout=layout,
    parts=lambda scene: parts(scene, scene.offered),
    saved=_saved,
)
