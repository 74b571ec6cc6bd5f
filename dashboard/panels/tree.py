"""The tree: every layer of the model by name and type; what is selected in it is what the cards show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.layer_tree import LayerTree, tree_nodes
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.metrics import bars, say, scale_text, texts, worst_first
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import refuse, show_text
from hookscope.hooks.methods import METRICS
from hookscope.hooks.results.summaries import Survey

NAME = "tree metric"
NO_METRIC = "none"
NO_BARS: Update = (
    ids.TREE,
    {"metric": None, "metric_texts": None, "worst": None, "alarms": None, "alarm_text": None},
)


@state
@dataclass(frozen=True)
class Bars:
    """The number of `methods.METRICS` that every row shows as a bar, or `NO_METRIC`."""

    metric: Annotated[str, METRICS] = NO_METRIC


def layout() -> html.Nav:
    """Draw the tree, empty until a model is loaded, under the choice of a number for its rows."""
    options = [{"value": NO_METRIC, "label": "none"}]
    options += [{"value": name, "label": metric.title} for name, metric in METRICS.items()]
    help_text = "A bar on every row of the tree.\n" + "\n".join(
        f"{metric.title}: {metric.help}" for metric in METRICS.values()
    )
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
    """The part that draws the chosen number of every layer, for input A, or B where that is the only one."""
    metric = METRICS.get(scene.view.of(Bars).metric)
    if metric is None:
        return show_plain()
    if not scene.inputs:
        return Part.still(NAME, [NO_BARS, show_text(ids.METRIC_TEXT, "Choose a picture first.")])
    side = next(iter(scene.inputs))
    unit = scene.unit(side, "survey", explained=metric.of == "gradient")
    shows = (scene.only("metric", sides=side), side, unit)
    return Part(NAME, (unit,), shows, _draw, error=ids.METRIC_TEXT)


def _draw(scene: Scene, side: str, unit: Unit, answers: Answers) -> list[Update]:
    metric = METRICS[scene.view.of(Bars).metric]
    if unit not in answers:
        return [NO_BARS, show_text(ids.METRIC_TEXT, f"{metric.title} of {side.upper()}: computing …")]
    found = answers[unit].result
    if isinstance(found, Failure):
        return [NO_BARS, show_text(ids.METRIC_TEXT, refuse(scene.worded(found), NAME))]
    assert isinstance(found, Survey)
    nodes = tree_nodes(scene.info.layers)
    names = [node["name"] for node in nodes]
    of = side.upper()
    if metric.of == "gradient":
        if found.reason_no_gradient:
            return [NO_BARS, show_text(ids.METRIC_TEXT, scene.worded(Failure(found.reason_no_gradient)).sentence)]
        of = f"“{scene.class_name(found.target)}” in {of}"
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


def register(app: dash.Dash) -> None:
    """The number is chosen in the browser; so are layers, about which page.js hears from the tree itself."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "metric"), Input(ids.METRIC, "value"), prevent_initial_call=True
    )


def _saved(scene: Scene) -> list[Any]:
    if scene.view.of(Bars).metric not in METRICS or not scene.inputs:
        return []
    title = html.Div([html.H2("Layers", className="small-title"), Markup(ids.METRIC_TEXT)])
    return [title, LayerTree(id=ids.TREE, nodes=tree_nodes(scene.info.layers, scene.info.title))]


PANEL = Panel(
    "tree",
    "side",
    urgency=4,
    layout=lambda setup: layout(),
    parts=lambda scene: [part(scene)],
    waiting=lambda wait: [show_plain()],
    saved=_saved,
    register=register,
)
