"""The tab "Run": a training followed while it runs, or looked at afterwards, step by step."""

from __future__ import annotations

from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.gallery import Gallery
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.panel import Panel, Waiting
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run import alarm_list, charts, checkpoints, curve, head, moment, pinned, ridges
from hookscope.dashboard.panels.run.choice import Asked, Run, ask

NAME = "run"
REGIONS = (
    *(ids.RUN_COLUMNS, ids.RUN_LOSS, ids.RUN_CURVE_AT, ids.RUN_PINS, ids.RUN_LINES, ids.RUN_MARKER, ids.RUN_AT),
    *(
        ids.RUN_WEIGHTS,
        ids.RUN_DEPTH,
        ids.RUN_LAYER,
        ids.RUN_RIDGES,
        ids.RUN_RIDGE_AT,
        ids.RUN_PINNED,
        ids.RUN_ALARMS,
        ids.RUN_CHECKPOINTS,
    ),
)


def layout() -> html.Section:
    """Draw the panel, empty."""
    plots = html.Div(
        [
            html.Div([Markup(ids.RUN_LOSS), Markup(ids.RUN_CURVE_AT, className="run-beside")], className="run-curve"),
            Markup(ids.RUN_PINS),
            Markup(ids.RUN_LINES),
            Markup(ids.RUN_MARKER, className="run-marker"),
        ],
        className="run-plots",
    )
    slider = html.Div(
        className="run-slider live-only"
    )  # assets/run.js puts it there: what is drawn anew cannot be held
    return html.Section(
        [
            Markup(ids.RUN_HEAD, className="panel run-head"),
            html.Div(
                [Markup(ids.RUN_COLUMNS), plots, slider, Markup(ids.RUN_AT), Markup(ids.RUN_WEIGHTS)],
                className="panel run-time",
            ),
            html.Div(
                [
                    Markup(ids.RUN_DEPTH, className="panel run-depth"),
                    Markup(ids.RUN_LAYER, className="panel run-numbers"),
                ],
                className="run-row",
            ),
            Markup(ids.RUN_ALARMS, className="findings run-alarms"),
            html.Div([Markup(ids.RUN_RIDGES), Markup(ids.RUN_RIDGE_AT)], className="panel run-distributions"),
            Markup(ids.RUN_PINNED, className="panel"),
            Markup(ids.RUN_CHECKPOINTS, className="panel"),
        ],
        className="run-side",
        **{"aria-label": "Run"},
    )


def parts(scene: Scene) -> list[Part]:
    """What stands over the steps, and what stands at the chosen one; a move of the slider draws the latter alone."""
    return _parts(scene.view, scene.service.feeds, scene.gallery, scene.prefix)


def _waiting(wait: Waiting) -> list[Part]:
    return _parts(wait.view, wait.feeds, wait.gallery, wait.prefix)


def _parts(view: View, feeds: Feeds | None, gallery: Gallery, prefix: str) -> list[Part]:
    if view.tab != "run":
        return []
    asked = ask(view, feeds, gallery)
    names = feeds.names if feeds is not None else ()
    if isinstance(asked, str):
        chosen = view.of(Run)
        shown = (
            [*head.choices(names, chosen.run or names[0], ""), html.P(asked, className="sentence error")]
            if names
            else head.nothing_followed()
        )
        again = html.Div(shown, **{"data-run-token": asked, "data-run-names": f"a={chosen.run}"} if names else {})
        return [Part.still(NAME, [show_text(ids.RUN_HEAD, again), *(show_text(each, None) for each in REGIONS)])]
    tokens = tuple(each.token for each in asked.runs)
    only = asked.only
    drawn = (
        ("run head", (only("column"), tokens, names, prefix), _draw_head, ids.RUN_HEAD),
        ("run marker", (only("step"), tokens), _draw_marker, ids.RUN_AT),
        ("run depth", (only("step", "column", "layer", "scale"),), moment.draw_depth, ids.RUN_DEPTH),
        ("run layer", (only("step", "layer"),), moment.draw_layer, ids.RUN_LAYER),
        ("run columns", (only("column"),), charts.draw_columns, ids.RUN_COLUMNS),
        ("run lines", (only("column", "layer", "scale"),), charts.draw_layers, ids.RUN_LINES),
        ("run loss", (only("curve", "loss"),), curve.draw_curve, ids.RUN_LOSS),
        ("run value", (only("step", "curve"),), curve.draw_value, ids.RUN_CURVE_AT),
        ("run pins", (only(),), charts.draw_pins, ids.RUN_PINS),
        ("run pinned", (only("step") if asked.run.info.pinned else only(),), pinned.draw_pinned, ids.RUN_PINNED),
        ("run ridge", (only("step", "layer", "kind"),), ridges.draw_at_step, ids.RUN_RIDGE_AT),
        ("run alarms", (only(),), alarm_list.draw_alarms, ids.RUN_ALARMS),
        ("run ridges", (only("layer", "kind"),), ridges.draw_over_steps, ids.RUN_RIDGES),
    )
    found = [Part(name, (), shows, draw, error=error) for name, shows, draw, error in drawn]
    return [*found, *checkpoints.parts(asked, view)]


def _draw_head(
    asked: Asked, tokens: tuple[str, ...], names: tuple[str, ...], prefix: str, answers: Answers
) -> list[Update]:
    chosen = head.choices(names, asked.run.name, asked.other.name if asked.other else "")
    return [show_text(ids.RUN_HEAD, [*chosen, head.state(asked, prefix)])]


def _draw_marker(asked: Asked, tokens: tuple[str, ...], answers: Answers) -> list[Update]:
    return moment.draw_marker(asked, answers)


def _saved(scene: Scene) -> Any:
    return layout()


PANEL = Panel(
    NAME,
    "main",
    urgency=2,
    layout=lambda setup: layout(),
    parts=parts,
    waiting=_waiting,
    saved=_saved,
    tabs=("run",),
)
