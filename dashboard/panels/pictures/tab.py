"""The tab "Pictures": what the model does over a set, worked from its failures."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.pictures import bring, could_go, embedding, gap, head, information, outliers, overview
from hookscope.dashboard.panels.pictures.looked import Looking, look_at
from hookscope.dashboard.panels.pictures.pages import PAGES, Page
from hookscope.dashboard.panels.regions import show_text

NAME = "pictures"
INVITATION = (
    "Look through a set of pictures: which the model gets wrong, what each channel looks for, which channels never "
    "fire. Choose a set above, or bring one; the built-in photographs are a first one. Whoever runs the server offers "
    "folders with --images NAME=FOLDER."
)
# in the order in which they are offered
for each in (overview.PAGE, outliers.PAGE, embedding.PAGE, information.PAGE, could_go.PAGE):
    PAGES.add(each)


def layout() -> html.Section:
    """Draw the panel, empty."""
    return html.Section(
        [
            html.Div([Markup(ids.SET_CHOICE), bring.layout(), Markup(ids.SET_STATE)], className="panel set-head"),
            Markup(ids.SET_PAGES, hidden=True),
            *(html.Div(page.layout(), id=ids.set_page(page.name), hidden=True) for page in PAGES.values()),
        ],
        className="pictures-side",
        **{"aria-label": "Sets of pictures"},
    )


def parts(scene: Scene) -> list[Part]:
    """The choice of sets, and what is known of the chosen one by now."""
    found = [
        Part.still(
            "set choice", [show_text(ids.SET_CHOICE, [head.choices(scene, scene.view.set_a), gap.choices(scene)])]
        )
    ]
    if not scene.view.set_a:
        return [*found, Part.still("set state", _instead(INVITATION))]
    looked = look_at(scene)
    if isinstance(looked, str):
        return [*found, Part.still("set state", _instead(looked))]
    offered = [page for page in PAGES.values() if page.there(looked)]
    chosen = next((page for page in offered if page.name == scene.view.of(Looking).set_page), offered[0])
    return [
        *found,
        Part.still("set state", [show_text(ids.SET_STATE, head.state(looked)), *_show(chosen)]),
        Part.still("set pages", [show_text(ids.SET_PAGES, _choice(offered, chosen), hidden=len(offered) < 2)]),
        *chosen.parts(looked),
    ]


def _choice(offered: list[Page], chosen: Page) -> html.Div:
    buttons = [
        html.Button(
            page.title,
            title=page.help,
            **{"data-do": "set", "data-value": json.dumps({"set_page": page.name})},
            **{"aria-pressed": "true" if page is chosen else "false"},
        )
        for page in offered
    ]
    return html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "What is asked of the set"})


def _instead(sentence: str) -> list[Update]:
    text = html.P(sentence, className="sentence")
    return [show_text(ids.SET_STATE, text), show_text(ids.SET_PAGES, None, hidden=True), *_show(None)]


def _show(chosen: Page | None) -> list[Update]:
    """One page; the others keep what stands in them, which need not be drawn again when they are shown again."""
    return [(ids.set_page(page.name), {"hidden": page is not chosen}) for page in PAGES.values()]


def _saved(scene: Scene) -> Any:
    return layout()


PANEL = Panel(
    NAME,
    "main",
    urgency=3,
    layout=lambda setup: layout(),
    parts=parts,
    waiting=lambda wait: [Part.still("set state", _instead(wait.sentence))],
    saved=_saved,
    tabs=("pictures",),
)
