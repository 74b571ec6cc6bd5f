"""The tree coloured by a run: the chosen column at the chosen step, where the model has the run's layers."""

from __future__ import annotations

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.over_set import NO_BARS
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked, ask
from hookscope.dashboard.panels.run.moment import broken_at, values_at


def part(scene: Scene, name: str) -> Part:
    """The part that draws it; `name` is the part's own."""
    asked = ask(scene.view, scene.service.feeds, scene.gallery)
    if isinstance(asked, str) or asked.look() is None:
        return Part.still(name, [NO_BARS, show_text(ids.METRIC_TEXT, None)])
    return Part(name, (), (asked.only("step", "column", "scale"), _Model(scene.info)), _draw, error=ids.METRIC_TEXT)


class _Model:
    """A model, told by its fingerprint: all else of it is long."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def __repr__(self) -> str:
        return self.info.fingerprint


def _draw(asked: Asked, model: _Model, answers: Answers) -> list[Update]:
    look, axis = asked.look(), asked.axis
    assert look is not None
    nodes = tree_nodes(model.info.layers)
    names = [node["name"] for node in nodes]
    followed = set(look.layers)
    if not followed & set(names):
        text = f"{model.info.title} has none of the layers of {asked.run.name}, so the tree shows nothing of the run."
        return [NO_BARS, show_text(ids.METRIC_TEXT, text)]
    values, broken = values_at(asked, asked.run, look), broken_at(look, asked.column.group)
    bars: list[float | None] = []
    texts: list[str] = []
    for name in names:
        value, bad = values.get(name), broken.get(name, "")
        share = None if value is None or axis is None else float(axis.shares(np.array([value]))[0])
        bars.append(1.0 if bad else share)
        said = "" if value is None else f"{asked.column.title} {format_number(value)} at step {look.step:,}"
        texts.append(" · ".join(filter(None, [said, bad])))
    order = [place for place, bar in enumerate(bars) if bar is not None]
    worst = sorted(order, key=lambda place: (names[place] not in broken, -(bars[place] or 0)))
    tree = {
        "metric": bars,
        "metric_texts": texts,
        "worst": worst,
        "alarms": sum(name in broken for name in names),
        "alarm_text": "not finite",
    }
    ends = "" if axis is None else f"{format_number(axis.least)} to {format_number(axis.most)}"
    text = f"{asked.run.name}: {asked.column.title} at step {look.step:,}{f', over all steps {ends}' if ends else ''}"
    return [(ids.TREE, tree), show_text(ids.METRIC_TEXT, html.Span(text, title=asked.column.help))]
