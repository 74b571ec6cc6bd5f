"""What stands above a card's wall: which layer it is, how long it took, and whose panel is whose."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dash import html

from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Activation, Call


def shapes_text(call: Call, there: dict[str, Activation]) -> str:
    """The output's size for one image: what was computed, or what the recorded run had while that is awaited."""
    shapes = [activation.shape for activation in there.values()] or [call.shape[1:]]
    return ", ".join(dict.fromkeys(" × ".join(map(str, shape)) for shape in shapes))


def card_head(key: str, kind: str, size: str, status: str, notes: list[html.Span]) -> list[Any]:
    """A card's first line: which layer, what it is, how long it took, and what every picture has to say of itself."""
    facts = [
        html.Span(kind, className="badge") if kind else None,  # a layer that the model lacks has neither
        html.Span(size, className="mono", title="The output's shape for one image") if size else None,
    ]
    return [
        html.H2(key, title=key),
        html.Span(facts, className="facts"),
        html.Span(status, className="status muted"),
        html.Span(notes, className="notes"),
    ]


def status_text(answers: Answers, units: dict[str, Unit], there: dict[str, Activation]) -> str:
    if not all(unit in answers for unit in units.values()):
        return "computing …"
    fresh = [there[side].milliseconds for side, unit in units.items() if side in there and not answers[unit].cached]
    if fresh:
        return f"{max(fresh):.0f} ms"
    return "computed before" if there else ""


def wall_labels(scene: Scene, text: str, there: Collection[str], difference: bool = True) -> html.Div:
    """What stands above each panel of a wall; `text` beside the sides that are there."""
    heads = []
    for side, given in scene.inputs.items():
        said_of_it = text if side in there else "…"
        heads.append(
            html.Div(
                [
                    html.Span(className=f"dot {side}"),
                    html.Strong(side.upper()),
                    html.Span(said_of_it, className="muted", title=f"{given.name}: {said_of_it}"),
                ],
                title=given.name,
            )
        )
    if len(heads) == 2 and difference:
        help_text = "The difference, on a scale of its own that is symmetric about zero"
        heads.append(html.Div([html.Strong("B − A")], title=help_text))
    return html.Div(heads, className="wall-labels")
