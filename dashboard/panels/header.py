"""The header: which model, what its worker does, and what can be done with the whole view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.drawing.numbers import format_count, short_count
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.feeds.checkpoints import named
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import random_weights
from hookscope.dashboard.sources.spec import name_of, title_of

TABS = (
    ("layers", "Layers", "What the chosen layers computed"),
    ("depth", "Depth", "What runs along the network: gradients, where A and B part, what comes back"),
    ("pictures", "Pictures", "A set of pictures: what the model gets wrong, what each channel looks for"),
    (
        "findings",
        "Findings",
        "What is wrong with this model, or with what it is given: checked by rules, with evidence",
    ),
    ("run", "Run", "A training, followed while it runs: every layer over the steps, and alarms"),
)
TENSORBOARD_HELP = (
    "Write the shown layers' maps, histograms and numbers for TensorBoard, and the gradients if their tab was opened, "
    "into a new folder on the server."
)


def layout(models: tuple[str, ...], *, tensorboard: bool = False) -> html.Header:
    """Draw the header; `models` are what the operator offers, as they were written.

    Arguments:
        tensorboard: whether what is shown may be written for TensorBoard.
    """
    label = [html.Span("Tensor", className="roomy"), "Board"]
    attributes = {"data-do": "tensorboard", "aria-label": "TensorBoard"}
    write = html.Button(label, className="pill joined", title=TENSORBOARD_HELP, **attributes)
    return html.Header(
        className="header",
        children=[
            html.Div([html.Span(className="logo"), html.H1("Hookscope")], className="brand"),
            html.Div(
                className="pill model-pill",
                children=[
                    html.Span(id="model-letter", hidden=True),  # whose model it is, where there are A and B
                    dmc.Select(
                        id=ids.MODEL_SELECT,
                        data=_choices(models),
                        value=name_of(models[0]),
                        allowDeselect=False,
                        variant="unstyled",
                        size="sm",
                        w=190,
                        **{"aria-label": "Model"},
                    ),
                    html.Span(id=ids.MODEL_FACTS, className="muted facts"),
                ],
            ),
            html.Div(
                className="pill state-pill",
                role="status",
                children=[
                    html.Span(id="worker-dot", className="dot", **{"data-phase": "idle"}),
                    html.Span("starting", id="worker-text"),
                    html.Button(
                        "0 hooks live",
                        id="worker-hooks",
                        className="muted hooks-live",
                        **{"data-do": "hooks", "aria-expanded": "false", "aria-controls": "live-hooks"},
                    ),
                    html.Button("Cancel", id="cancel-work", className="link", **{"data-do": "cancel"}),
                ],
            ),
            html.Nav(
                [
                    html.Button(
                        text,
                        title=help_text,
                        **{"data-do": "tab", "data-value": tab, "aria-pressed": "true" if tab == "layers" else "false"},
                    )
                    for tab, text, help_text in TABS
                ],
                className="tabs",
                **{"aria-label": "What is shown under the inputs"},
            ),
            html.Div(className="spacer"),
            html.Button("Share", id=ids.SHARE, className="pill", **{"data-do": "share"}),
            html.A(
                ["Export", html.Span("\u00a0page", className="roomy")],
                id=ids.EXPORT_VIEW,
                className="pill joined",
                title="Save everything shown as one HTML file that opens without Hookscope and without a network.",
                download="hookscope.html",
            ),
            html.Button(
                "Script",
                id=ids.SCRIPT,
                className="pill",
                title="Save a Python program that prints the numbers of what is shown, with its pictures.",
                **{"data-do": "script"},
            ),
            write if tensorboard else None,
            html.Button(
                "◐", id=ids.THEME, className="pill", title="Light or dark", **{"aria-label": "Switch light and dark"}
            ),
            html.Div(id="share-link", className="popover", hidden=True),
            html.Div(
                id="live-hooks",
                className="popover",
                role="region",
                hidden=True,
                **{"aria-label": "Hooks that are live"},
            ),
        ],
    )


def _choices(models: Sequence[str]) -> list[dict[str, str]]:
    return [{"value": name_of(model), "label": title_of(model)} for model in models]


def offered(view: View, models: tuple[str, ...]) -> list[Part]:
    """The choice of models anew, for a page that was opened before a checkpoint came that is looked at."""
    looked = [name for name in dict.fromkeys((view.model, view.model_b)) if named(name)]
    if not looked:
        return []
    there = {name_of(model) for model in models}
    data = _choices([*models, *(name for name in looked if name not in there)])
    return [Part.still("models offered", [(ids.MODEL_SELECT, {"data": data})])]


def facts(info: ModelInfo) -> list[Any]:
    """What stands beside the model's name: weights, size, device, and a badge that stays if the weights are random."""
    parts: list[Any] = [html.Span(f"{short_count(info.parameters)} parameters · {info.device}", title=info.weights)]
    if not info.random:
        licence = f" Licence: {info.licence}." if info.licence else ""
        parts[0].title = f"{format_count(info.parameters)} parameters. {info.weights}{licence}"
    return [*parts, *random_weights(info)]


def register(app: dash.Dash) -> None:
    """The header's callbacks; both run in the browser."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "model"), Input(ids.MODEL_SELECT, "value"), prevent_initial_call=True
    )
    app.clientside_callback(
        ClientsideFunction("hookscope", "theme"), Input(ids.THEME, "n_clicks"), prevent_initial_call=True
    )


PANEL = Panel(
    "header",
    "top",
    layout=lambda setup: layout(setup.models, tensorboard=setup.tensorboard),
    register=register,
    parts=lambda scene: offered(scene.view, scene.offered),
    waiting=lambda wait: offered(wait.view, wait.offered),
)
