"""The tab "Pictures": what the model does over a set, worked from its failures."""

from __future__ import annotations

from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.pictures import galleries, gap, head, mistakes
from hookscope.dashboard.panels.pictures.looked import look_at
from hookscope.dashboard.panels.regions import show_text

NAME = "pictures"
INVITATION = (
    "Look through a set of pictures: which the model gets wrong, what each channel looks for, which channels never "
    "fire. Choose a set above; the built-in photographs are a first one. Folders of your own are offered with --images "
    "NAME=FOLDER."
)
REGIONS = (ids.SET_MISTAKES, ids.SET_CLASSES, ids.SET_CHANNELS, ids.SET_SILENT, ids.SET_GAP)


def layout() -> html.Section:
    """Draw the panel, empty."""
    return html.Section(
        [
            html.Div([Markup(ids.SET_CHOICE), Markup(ids.SET_STATE)], className="panel set-head"),
            html.Div(
                [
                    Markup(ids.SET_MISTAKES, className="panel set-pictures"),
                    html.Div(
                        [
                            Markup(ids.SET_CLASSES, className="panel set-classes"),
                            Markup(ids.SET_SILENT, className="panel set-silent"),
                        ],
                        className="set-beside",
                    ),
                ],
                className="set-row",
            ),
            Markup(ids.SET_GAP, className="panel set-gap", hidden=True),
            Markup(ids.SET_CHANNELS, className="panel set-channels"),
        ],
        className="pictures-side",
        **{"aria-label": "Sets of pictures"},
    )


def parts(scene: Scene) -> list[Part]:
    """The choice of sets, and what is known of the chosen one by now; no model is asked for this."""
    found = [Part.still("set choice", [show_text(ids.SET_CHOICE, [head.choices(scene), gap.choices(scene)])])]
    if not scene.view.set_a:
        return [*found, Part.still("set state", _instead(INVITATION))]
    looked = look_at(scene)
    if isinstance(looked, str):
        return [*found, Part.still("set state", _instead(looked))]
    return [
        *found,
        Part.still("set state", [show_text(ids.SET_STATE, head.state(looked))]),
        _region("set pictures", ids.SET_MISTAKES, mistakes.pictures(looked)),
        _region("set classes", ids.SET_CLASSES, mistakes.classes(looked)),
        _region("set silent", ids.SET_SILENT, galleries.silent(looked)),
        _region("set gap", ids.SET_GAP, gap.against(looked)),
        galleries.part(looked),
    ]


def _region(name: str, region: str, children: list[Any]) -> Part:
    return Part.still(name, [show_text(region, children, hidden=not children)])


def _instead(sentence: str) -> list[Update]:
    text = html.P(sentence, className="sentence")
    return [show_text(ids.SET_STATE, text), *(show_text(region, None, hidden=True) for region in REGIONS)]


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
