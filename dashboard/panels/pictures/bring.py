"""Where a visitor brings pictures of their own; assets/visitor_sets.js does what is said here."""

from __future__ import annotations

import json

from dash import html

from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures.choosing import NOTHING_CHOSEN

LABELS_WANTED = "Mistakes need folders by class, or a labels.csv beside the files."
WHAT = "They are seen by whoever has the page's address or a link to it, and by nobody else."


def layout() -> html.Div:
    """Draw the place that pictures are dropped on, and below it how far they have come."""
    progress = html.Div(
        html.Div(id=ids.SET_MAKING_BAR, className="done"), className="bar", role="progressbar", **{"aria-label": "Sent"}
    )
    return html.Div(
        [
            html.P(
                [
                    html.Strong("Your own: "),
                    "drop a folder, a zip or many pictures here, or browse ",
                    _browse("folder", "a folder"),
                    " or ",
                    _browse("files", "single files"),
                    ". ",
                    html.Span(LABELS_WANTED, className="muted"),
                ],
                title=WHAT,
            ),
            html.Div(
                [
                    html.Strong(id=ids.SET_MAKING_NAME),
                    progress,
                    html.Span(id=ids.SET_MAKING_TEXT, className="muted"),
                    html.Button("cancel", className="link", **{"data-do": "cancel-set"}),
                ],
                id=ids.SET_MAKING,
                className="sweep-line",
                hidden=True,
            ),
            html.P(id=ids.SET_REFUSED, className="sentence error", role="alert", hidden=True),
        ],
        id=ids.SET_DROP,
        className="set-drop live-only",
        **{"data-chosen": json.dumps(NOTHING_CHOSEN)},
    )


def _browse(what: str, text: str) -> html.Button:
    return html.Button(text, className="link", **{"data-browse-set": what})
