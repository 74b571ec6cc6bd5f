"""The tree coloured by a run: the chosen column at the chosen step, where the model is the run's."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.feeds.checkpoints import named
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.over_set import NO_BARS
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked, ask
from hookscope.dashboard.panels.run.moment import broken_at, values_at
from hookscope.hooks.results.feeds import PLACES, Look
from hookscope.hooks.results.looks import LayerInfo

NEARLY_ALL = 0.9  # of a run's layers with weights are in a model that is taken for the run's
OTHER_NETWORK = (
    "The tree shows nothing of {run}, as {title} is another network: {there:,} of the run's {count:,} layers with "
    "weights are here. If it is the same, call it so: --model {run}=SPEC."
)
NOBODY = "\n"  # no layer's name
OF_WEIGHTS = "g", "w", "u"  # groups of which a layer without weights has no numbers


def part(scene: Scene, name: str) -> Part:
    """The part that draws it; `name` is the part's own."""
    asked = ask(scene.view, scene.service.feeds, scene.gallery)
    if isinstance(asked, str) or asked.look() is None:
        return Part.still(name, [NO_BARS, show_text(ids.METRIC_TEXT, None)])
    shows = asked.only("step", "column", "scale"), _Model(scene.info), _names_run(scene.view.model, asked.run.name)
    return Part(name, (), shows, _draw, error=ids.METRIC_TEXT)


def _names_run(model: str, run: str) -> bool:
    """Whether a model is called as a run is, or as one of its checkpoints."""
    return run in (model, (named(model) or ("",))[0])


class _Model:
    """A model, told by its fingerprint: all else of it is long."""

    def __init__(self, info: ModelInfo) -> None:
        self.info = info

    def __repr__(self) -> str:
        return self.info.fingerprint


def in_order(run: Followed, look: Look, layers: Sequence[LayerInfo]) -> tuple[int, int]:
    """How many of a run's layers with weights a model has, in their order and with as many weights; and of how many.

    Arguments:
        look: of the run. layers: of the model, in its order.
    """
    counts = dict(zip(look.layers, look.numbers[:, PLACES["w", "count"]].tolist(), strict=True))
    where = {layer.name: place for place, layer in enumerate(layers) if _fits(layer, counts.get(layer.name))}
    ends: list[int] = []  # of the shortest rising rows of each length: the longest of them is what is wanted
    for name in run.info.layers_with_weights:
        if name in where:
            place = where[name]
            at = bisect_left(ends, place)
            ends[at : at + 1] = [place]
    return len(ends), len(run.info.layers_with_weights)


def _fits(layer: LayerInfo, count: float | None) -> bool:
    """Whether a layer of a model has as many weights as the run's of that name, as far as both are known."""
    if not layer.parameters:
        return False
    return not layer.leaf or count is None or count != count or count == layer.parameters


def _draw(asked: Asked, model: _Model, called: bool, answers: Answers) -> list[Update]:
    look, axis = asked.look(), asked.axis
    assert look is not None
    nodes = tree_nodes(model.info.layers)
    names = [node["name"] for node in nodes]
    followed = set(look.layers)
    title, run = model.info.title, asked.run
    if not followed & set(names):
        text = f"{title} has none of the layers of {run.name}, so the tree shows nothing of the run."
        return [NO_BARS, show_text(ids.METRIC_TEXT, text)]
    there, count = in_order(run, look, model.info.layers)
    if not called and (not count or there < NEARLY_ALL * count):
        text = OTHER_NETWORK.format(title=title, run=run.name, there=there, count=count)
        return [NO_BARS, show_text(ids.METRIC_TEXT, text)]
    values, broken = values_at(asked, asked.run, look), broken_at(look, asked.column.group)
    if asked.column.group in OF_WEIGHTS:
        light = {layer.name for layer in model.info.layers if not layer.parameters}
        names = [NOBODY if name in light else name for name in names]  # whatever the run's layers of these names are
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
