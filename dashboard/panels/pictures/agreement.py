"""A second model over the same set: which pictures both answer rightly, and which only one of the two."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures.choosing import Choosing
from hookscope.dashboard.panels.pictures.head import state
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.sets.agreeing import Agreement, agree
from hookscope.dashboard.sources.spec import name_of, title_of

HELP = "Both models answer the same pictures; each is right where its first class is what the picture is said to show."


def second(looked: Looked) -> Looked | str | None:
    """The set in the other side's model; a sentence while that is not there, None where it is the same model."""
    view = looked.scene.view
    other = "a" if view.side == "b" else "b"
    if not second_model(looked):
        return None
    return look_at(looked.scene, looked.pictures.key, other)


def second_model(looked: Looked) -> str:
    """The name of the other side's model; "" where it is the same."""
    view = looked.scene.view
    other = view.model_of("a" if view.side == "b" else "b")
    return "" if other == looked.model else other


def between(looked: Looked, other: Looked | str | None) -> Agreement | None:
    """How the two models agree; None where one of them has answered nothing yet."""
    if not isinstance(other, Looked) or looked.answers is None or other.answers is None:
        return None
    named = bool(looked.info.given_classes), bool(other.info.given_classes)
    return agree(looked.answers, other.answers, (looked.names, other.names), named)


def compared(looked: Looked) -> list[Any]:
    """The choice of a second model, and what the two have in common; nothing where one model is offered."""
    models = [model for model in looked.scene.offered if name_of(model) != looked.model]
    if not models or looked.answers is None:
        return []
    other = second(looked)
    head = html.Div([html.H2("Another model", title=HELP), _choice(looked, models, other)], className="head")
    if other is None:
        text = "which pictures do both get wrong, and which only one?" if looked.labelled else "where do they differ?"
        return [head, html.P(f"Choose one: {text}", className="muted")]
    if isinstance(other, str):
        return [head, html.P(other, className="muted")]
    agreement = between(looked, other)
    sweep = [] if other.progress.phase == "done" else [state(other)]
    if agreement is None or not len(agreement.pictures):
        return [head, html.P(_no_answers(other), className="muted"), *sweep]
    return [head, *sweep, *_counts(looked, other, agreement)]


def _no_answers(other: Looked) -> str:
    if not other.progress.seen:
        return f"{other.title} has not looked through this set yet."
    return f"{other.title} answers no classes." if other.answers is None else "It has answered none of these yet."


def _choice(looked: Looked, models: list[str], other: Looked | str | None) -> html.Div:
    view = looked.scene.view
    field = "model" if view.side == "b" else "model_b"
    now = view.model_of("a" if view.side == "b" else "b")

    def button(model: str) -> html.Button:
        name = name_of(model)
        pressed = other is not None and name == now
        change = {field: looked.model if pressed else name, "agreement": "", "from_picture": 0}
        return html.Button(
            title_of(model),
            className="pill",
            **{"data-do": "set", "data-value": json.dumps(change), "aria-pressed": str(pressed).lower()},
        )

    return html.Div(
        [button(model) for model in models],
        className="set-choice live-only",
        role="group",
        **{"aria-label": "A second model"},
    )


def _counts(looked: Looked, other: Looked, agreement: Agreement) -> list[Any]:
    """The four counts, and in how many pictures the two differ."""
    judged, all_of = int(agreement.judged.sum()), len(agreement.pictures)
    found: list[Any] = []
    if judged:
        head = html.Tr([html.Td(), html.Th(f"{other.title} right"), html.Th(f"{other.title} wrong")])
        rows = [
            html.Tr([html.Th(f"{looked.title} {word}"), *(_count(looked, agreement, kind) for kind in kinds)])
            for word, kinds in (("right", ("right", "other")), ("wrong", ("this", "wrong")))
        ]
        found.append(html.Table([html.Thead(head), html.Tbody(rows)], className="classes agreement"))
    if agreement.otherwise is not None:
        count = int(agreement.otherwise.sum())
        button = _button(looked, "otherwise", f"{format_count(count)} of {format_count(all_of)}")
        found.append(html.P([button, " pictures are answered otherwise."]))
    notes = _cannot(agreement, judged, all_of)
    return [*found, *(html.P(text, className="muted") for text in notes)]


def _cannot(agreement: Agreement, judged: int, all_of: int) -> list[str]:
    """What of the two cannot be compared, or is compared by number alone."""
    found = []
    if agreement.by == "numbers":
        found.append("Classes are compared by number, as one of the two models has no names of its own.")
    if not agreement.by:
        found.append("The two have no class names in common, so which answers differ cannot be told.")
    if judged and judged < all_of:
        left = format_count(all_of - judged)
        found.append(f"{left} pictures are not counted: what they are said to show is no class of both models.")
    if not judged:
        found.append("No picture is said to show a class of both models, so there is no right and wrong to count.")
    return found


def _count(looked: Looked, agreement: Agreement, kind: str) -> html.Td:
    return html.Td(_button(looked, kind, format_count(len(agreement.of(kind)))), className="mono")


def _button(looked: Looked, kind: str, text: str) -> html.Button:
    pressed = looked.scene.view.of(Choosing).agreement == kind
    change: dict[str, object] = {"agreement": "" if pressed else kind, "from_picture": 0}
    if kind in ("right", "other", "otherwise"):  # of which not all are mistakes of this model
        change["shown"] = "all"
    else:
        change["shown"] = "mistakes"
    return html.Button(
        text,
        className="link told",
        title="Show these pictures alone",
        **{"data-do": "set", "data-value": json.dumps(change), "aria-pressed": str(pressed).lower()},
        **{"data-scroll": ids.SET_MISTAKES},
    )
