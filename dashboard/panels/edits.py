"""The bar above the inputs: what is looked at and what was changed of it, each change with a way to take it back."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.asking.edits import PageEdit, change_of, place_of, write_edits
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import show_text

LISTED = 12  # of a side


def parts(scene: Scene) -> list[Part]:
    """The bar; hidden as long as nothing is changed."""
    return [Part.still("edits", [show_text(ids.EDITS, _bar(scene), hidden=not _edited(scene))])]


def _edited(scene: Scene) -> list[str]:
    return [side for side in SIDES if scene.edits(side)]


def _bar(scene: Scene) -> list[Any]:
    if not _edited(scene):
        return []
    looked_at: list[Any] = [html.Span("looking at", className="muted")]
    for side in SIDES:
        if side in scene.inputs or scene.edits(side):
            looked_at.append(html.Span(_side(scene, side), className=f"edited-side {side}"))
    return [*looked_at, *_ways(scene)]


def _side(scene: Scene, side: str) -> list[Any]:
    name = scene.inputs[side].name if side in scene.inputs else "no picture"
    if side == "b" and _is_same(scene):
        name = "the same"
    edits = scene.edits(side)
    found: list[Any] = [html.Span(side.upper(), className=f"letter small {side}"), html.Span(name)]
    found += [_chip(side, edits, index) for index in range(min(len(edits), LISTED))]
    if len(edits) > LISTED:
        found.append(html.Span(f"and {len(edits) - LISTED} more", className="muted"))
    return found


def _chip(side: str, edits: tuple[PageEdit, ...], index: int) -> html.Button:
    each = edits[index]
    text = f"{place_of(each)} {change_of(each)}"
    return html.Button(
        [html.Span(place_of(each), className="mono"), f" {change_of(each)} ", html.Span("×", className="cross")],
        className="chip edit",
        title=f"Take this back, for {side.upper()}",
        **{
            **_set({f"edits_{side}": write_edits(edits[:index] + edits[index + 1 :])}),
            "aria-label": f"{side.upper()}: {text}. Take it back",
        },
    )


def _ways(scene: Scene) -> list[html.Button]:
    found = []
    view = scene.view
    if _edited(scene) == ["a"] and view.a and (not view.b or _is_same(scene)):
        beside = {
            "b": view.a,
            "second_b": view.second_a,
            "shown_b": view.shown_a,
            "prepare_b": view.prepare_a.write(),
            "model_b": "",
            "edits_a": "",
            "edits_b": view.edits_a,
            "side": "b",
        }
        help_text = "Show A as it is, and beside it as B the same picture with these changes"
        found.append(html.Button("A plain, B the same with edits", className="link", title=help_text, **_set(beside)))
    undo = _set({"edits_a": "", "edits_b": ""})
    return [*found, html.Button("undo all", className="link", title="Take every change back", **undo)]


def _is_same(scene: Scene) -> bool:
    """Whether B is A's picture in A's model, prepared as that is."""
    view = scene.view
    a, b = (tuple(getattr(view, field + side) for field in ("", "second_", "prepare_")) for side in SIDES)
    return bool(view.b) and not view.model_b and a == b


def _set(fields: dict[str, str]) -> dict[str, str]:
    return {"data-do": "set", "data-value": json.dumps(fields)}


PANEL = Panel(
    "edits",
    "main",
    urgency=0.5,
    layout=lambda setup: Markup(ids.EDITS, className="edits-bar", hidden=True, role="status"),
    parts=parts,
    waiting=lambda wait: [Part.still("edits", [show_text(ids.EDITS, None, hidden=True)])],
    saved=lambda scene: Markup(ids.EDITS, className="edits-bar", hidden=not _edited(scene)),
    live=parts,
)
