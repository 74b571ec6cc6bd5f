"""What stands above a card's wall: which layer it is, how long it took, and whose panel is whose."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.page import restoring, wall_source
from hookscope.dashboard.page.scene import Scene
from hookscope.hooks.results.looks import Activation, Call

BACK_HELP = (
    "What each channel of A brings back of A's answer when it alone is put into B's run: the difference of the two "
    "classes' logits, 0 is nothing and 100 % all of it. Estimated at once, then measured, the strongest first."
)


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


def wall_labels(
    scene: Scene, key: str, texts: Mapping[str, str], difference: str | None = "", back: Sequence[Any] = ()
) -> html.Div:
    """What stands above each panel of a wall.

    Arguments:
        texts: of the sides that are there. difference: of B - A; None if there is no place for it.
        back: of what comes back of A in B, where that is shown.
    """
    heads = []
    for side in scene.walled(key):
        said_of_it = texts.get(side, "…") if side in scene.inputs else "its model is being loaded …"
        heads.append(
            html.Div(
                [
                    html.Span(className=f"dot {side}"),
                    html.Strong(side.upper()),
                    _in_its_place(scene, key, side),
                    html.Strong("edited", className="edited") if scene.edits(side) else None,
                    html.Span(said_of_it, className="muted", title=f"{scene.label(side)}: {said_of_it}"),
                ],
                title=scene.label(side),
            )
        )
    if len(heads) == 2 and difference is not None:
        help_text = "The difference, on a scale of its own that is symmetric about zero"
        why = [html.Span(difference, className="muted")] if difference else []
        fourth = wall_source.places(scene, key) == 4
        offered = not fourth and restoring.can_stand(scene, key) and restoring.can_be_answered(scene, key)
        more = [_switch("+ A restored in B", on=True)] if offered else []
        heads.append(html.Div([html.Strong("B − A"), *why, *more], title=help_text))
        if fourth:
            heads.append(html.Div([html.Strong("A in B"), *back, _switch("hide", on=False)], title=BACK_HELP))
    return html.Div(heads, className="wall-labels")


def _switch(text: str, *, on: bool) -> html.Button:
    """What adds the fourth wall to every card, or takes it away."""
    named = {"data-do": "set", "data-value": json.dumps({"restored": on})}
    return html.Button(text, className="link fourth", title=BACK_HELP if on else "Leave this wall out", **named)


def _in_its_place(scene: Scene, key: str, side: str) -> html.Span | None:
    """The layer that is shown of a side whose model lacks this one."""
    there = scene.key_in(key, side) if side in scene.inputs else key
    return html.Span(there, className="mono") if there not in ("", key) else None
