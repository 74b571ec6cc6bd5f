"""The tree: every layer of the model by name and type; what is selected in it is what the cards show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import SurveyOf, Unit
from hookscope.dashboard.components.layer_tree import LayerTree, tree_nodes
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.metrics import bars, say, scale_text, texts, worst_first
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.distances import distances
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels import over_set
from hookscope.dashboard.panels.apart import why_alone
from hookscope.dashboard.panels.findings import marks
from hookscope.dashboard.panels.over_set import NO_BARS
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import refuse, show_text
from hookscope.dashboard.panels.run import marks as run_marks
from hookscope.dashboard.panels.welcome import last_map, why_recommended
from hookscope.dashboard.sets.layer_numbers import BEYOND, SET_METRICS
from hookscope.hooks.methods import METRICS
from hookscope.hooks.results.parting import Calibration, Parting, along_the_depth
from hookscope.hooks.results.summaries import Survey

NAME = "tree metric"
NO_METRIC = "none"
APART = "apart"  # how far A and B are apart, which is a number of two sides
APART_HELP = "how far A and B are apart at each layer, as a share of what unrelated photographs have there."


def nodes_of(info: ModelInfo) -> list[dict[str, Any]]:
    """The model's layers as the tree draws them, one of them recommended for maps."""
    detector = info.form() == "boxes"
    key = last_map(info.layers, detector=detector)
    why = why_recommended(info.layers, key, detector=detector) if key else ""
    return tree_nodes(info.layers, info.title, (key, why))


class _Names:
    """What can be chosen, asked each time."""

    def __contains__(self, name: object) -> bool:
        return name in (APART, marks.FINDINGS) or name in METRICS or name in SET_METRICS


@state
@dataclass(frozen=True)
class Bars:
    """The number of `METRICS` or `SET_METRICS` that every row shows as a bar; `APART`, `FINDINGS`, or `NO_METRIC`."""

    metric: Annotated[str, _Names()] = NO_METRIC


def layout(*, baselines: bool = False) -> html.Nav:
    """Draw the tree, empty until a model is loaded, under the choice of a number for its rows.

    Arguments:
        baselines: whether any is stored that a set can be held against.
    """
    of_picture = [{"value": name, "label": metric.title} for name, metric in METRICS.items()]
    offered = [metric for name, metric in SET_METRICS.items() if name != BEYOND or baselines]
    of_set = [{"value": metric.name, "label": metric.title} for metric in offered]
    options = [
        {"value": NO_METRIC, "label": "none"},
        {"group": "of the picture", "items": [*of_picture, {"value": APART, "label": "A against B"}]},
        {"group": "of the set chosen in Pictures", "items": of_set},
        {"group": "of the model", "items": [{"value": marks.FINDINGS, "label": "findings"}]},
    ]
    help_text = "A bar on every row of the tree.\n" + "\n".join(
        f"{metric.title}: {metric.help}" for metric in METRICS.values()
    )
    help_text += f"\nA against B: {APART_HELP}\nfindings: {marks.HELP}"
    help_text += "\nover the set: of all pictures of the set that is chosen in Pictures."
    head = html.Div(
        [
            html.Label(
                [
                    html.Span("colour by", className="muted"),
                    dmc.Select(
                        id=ids.METRIC,
                        data=options,
                        value=NO_METRIC,
                        allowDeselect=False,
                        size="xs",
                        comboboxProps={"width": "max-content"},
                    ),
                ],
                className="control",
                title=help_text,
            ),
            Markup(ids.METRIC_TEXT, className="metric-text muted", role="status"),
        ],
        className="tree-head",
    )
    return html.Nav([head, LayerTree(id=ids.TREE)], className="tree-side", **{"aria-label": "Layers of the model"})


def show_plain() -> Part:
    """No bars while a model is loaded: what they showed is not that model's."""
    return Part.still(NAME, [NO_BARS, show_text(ids.METRIC_TEXT, None)])


def part(scene: Scene) -> Part:
    """The part that draws the chosen number of every layer, for the side that the tree is about."""
    chosen = scene.view.of(Bars).metric
    if chosen == APART:
        return _apart(scene)
    if chosen == marks.FINDINGS or (chosen == NO_METRIC and scene.view.tab == "findings"):
        return marks.part(scene, NAME)
    if chosen == NO_METRIC and scene.view.tab == "run":
        return run_marks.part(scene, NAME)
    if chosen in SET_METRICS:
        return over_set.part(scene, NAME, chosen)
    metric = METRICS.get(chosen)
    if metric is None:
        return show_plain()
    if not scene.inputs:
        return Part.still(NAME, [NO_BARS, show_text(ids.METRIC_TEXT, "Choose a picture first.")])
    side = scene.view.side if scene.view.side in scene.inputs else next(iter(scene.inputs))
    unit = scene.unit(side, SurveyOf(scene.target(side) if metric.of == "gradient" else None))
    shows = (scene.only("metric", "side", *(EXPLAINED if metric.of == "gradient" else ()), sides=side), side, unit)
    return Part(NAME, (unit,), shows, _draw, error=ids.METRIC_TEXT)


def _draw(scene: Scene, side: str, unit: Unit, answers: Answers) -> list[Update]:
    metric = METRICS[scene.view.of(Bars).metric]
    if unit not in answers:
        return [NO_BARS, show_text(ids.METRIC_TEXT, f"{metric.title} of {side.upper()}: computing …")]
    found = answers[unit].result
    if isinstance(found, Failure):
        return [NO_BARS, show_text(ids.METRIC_TEXT, refuse(scene.worded(side, found), NAME))]
    assert isinstance(found, Survey)
    nodes = tree_nodes(scene.info_of(side).layers)
    names = [node["name"] for node in nodes]
    of = side.upper()
    if metric.of == "gradient":
        if found.reason_no_gradient:
            return [NO_BARS, show_text(ids.METRIC_TEXT, scene.worded(side, Failure(found.reason_no_gradient)).sentence)]
        of = f"“{scene.explained_name(side, found.target, found.against)}” in {of}"
    worst, alarms = worst_first(found, metric, nodes)
    tree = {
        "metric": bars(found, metric, names),
        "metric_texts": texts(found, metric, names, of),
        "worst": worst,
        "alarms": alarms,
        "alarm_text": f"{metric.title} {say(metric, metric.worst).replace('.0 %', ' %')}",
    }
    return [
        (ids.TREE, tree),
        show_text(ids.METRIC_TEXT, html.Span(f"{of}: {scale_text(found, metric)}", title=metric.help)),
    ]


def _apart(scene: Scene) -> Part:
    units = distances(scene)
    if not units:
        text = why_alone(scene, "A against B: choose a second picture, B, first.")
        return Part.still(NAME, [NO_BARS, show_text(ids.METRIC_TEXT, text)])
    shows = (scene.only("side"), units)
    return Part(NAME, tuple(units.values()), shows, _draw_apart, error=ids.METRIC_TEXT)


def _draw_apart(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    found = result_of(answers, units["parting"], Parting)
    if found is None:
        if wrong := failures(answers, [units["parting"]]):
            return [NO_BARS, show_text(ids.METRIC_TEXT, refuse(scene.worded("a", wrong[0]), NAME))]
        return [NO_BARS, show_text(ids.METRIC_TEXT, "A against B: computing …")]
    usual = result_of(answers, units["usual"], Calibration) if "usual" in units else None
    values = along_the_depth(found, usual)
    nodes = tree_nodes(scene.info.layers)
    by_layer = {call.layer: values[call.place] for call in found.calls if call.call == 0}
    numbers = [by_layer.get(node["name"], math.nan) for node in nodes]
    known = [number for number in numbers if math.isfinite(number)]
    most = max([1.0 if found.models == 1 else 0.0, *known]) or 1.0
    leaves = [place for place, node in enumerate(nodes) if not node["children"] and math.isfinite(numbers[place])]
    tree = {
        "metric": [number / most if math.isfinite(number) else None for number in numbers],
        "metric_texts": [f"A against B: {format_number(each)}" if math.isfinite(each) else "" for each in numbers],
        "worst": sorted(leaves, key=lambda place: -numbers[place]),
        "alarms": 0,
        "alarm_text": "",
    }
    scale = "1 is any two pictures" if usual else "relative L2, not calibrated"
    if found.by_distribution:
        scale = "distributions (KS), for A and B differ in size"
    text = html.Span(f"A against B: bars from 0 to {format_number(most)}; {scale}", title=APART_HELP)
    return [(ids.TREE, tree), show_text(ids.METRIC_TEXT, text)]


def register(app: dash.Dash) -> None:
    """The number is chosen in the browser; so are layers, about which page.js hears from the tree itself."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "metric"), Input(ids.METRIC, "value"), prevent_initial_call=True
    )


def _saved(scene: Scene) -> list[Any]:
    chosen = scene.view.of(Bars).metric
    if chosen == NO_METRIC or not (scene.inputs or chosen in SET_METRICS):
        return []
    title = html.Div([html.H2("Layers", className="small-title"), Markup(ids.METRIC_TEXT)])
    return [title, LayerTree(id=ids.TREE, nodes=tree_nodes(scene.info.layers, scene.info.title))]


PANEL = Panel(
    "tree",
    "side",
    urgency=4,
    layout=lambda setup: layout(baselines=setup.baselines),
    parts=lambda scene: [part(scene)],
    waiting=lambda wait: [show_plain()],
    saved=_saved,
    register=register,
)
