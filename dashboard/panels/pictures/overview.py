"""The first page of a set: its mistakes, its classes, what its channels look for, and where it parts from another."""

from __future__ import annotations

from dash import html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures import agreement, confusion, galleries, gap, levels, mistakes
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.panels.pictures.pages import Page, region


def _layout() -> html.Div:
    return html.Div(
        [
            Markup(ids.SET_GAP, className="panel set-gap", hidden=True),
            html.Div(
                [
                    html.Div(
                        [html.Div(className="name-filter live-only"), Markup(ids.SET_MISTAKES, className="panel")],
                        className="set-pictures",
                    ),
                    html.Div(
                        [
                            Markup(ids.SET_CLASSES, className="panel set-classes"),
                            Markup(ids.SET_AGREEMENT, className="panel set-agreement", hidden=True),
                            Markup(ids.SET_SILENT, className="panel set-silent"),
                        ],
                        className="set-beside",
                    ),
                ],
                className="set-row",
            ),
            Markup(ids.SET_LEVELS, className="panel set-levels", hidden=True),
            Markup(ids.SET_CONFUSION, className="panel set-confusion", hidden=True),
            Markup(ids.SET_CHANNELS, className="panel set-channels"),
        ],
        className="set-page",
    )


def _parts(looked: Looked) -> list[Part]:
    return [
        mistakes.part(looked),
        region("set classes", ids.SET_CLASSES, confusion.classes(looked)),
        region("set agreement", ids.SET_AGREEMENT, agreement.compared(looked)),
        region("set levels", ids.SET_LEVELS, levels.strengths(looked)),
        region("set confusion", ids.SET_CONFUSION, confusion.matrix(looked)),
        region("set silent", ids.SET_SILENT, galleries.silent(looked)),
        region("set gap", ids.SET_GAP, gap.against(looked)),
        galleries.part(looked),
    ]


PAGE = Page(
    "",
    "Mistakes and channels",
    "Which pictures are answered wrongly, what each channel looks for, which channels never fire",
    _layout,
    _parts,
)
