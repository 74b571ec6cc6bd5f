"""Which layer stands beside a card's in a model that lacks it, with what goes to the one before and the one after."""

from __future__ import annotations

import json

from dash import html

from hookscope.dashboard.page.matching import beside, chosen_pair, pairs_of
from hookscope.dashboard.page.scene import Scene


def control(scene: Scene, key: str, side: str) -> html.Span:
    """The layer's name, how it was found, and the ways to others."""
    there, text = scene.key_in(key, side), scene.view.matched
    chosen = pairs_of(text).get(key) == there
    info = scene.info_of(side)
    how = "chosen" if chosen else "by depth and stride"
    shown = [
        _step("‹", key, beside(there, info, -1), text, "The layer before"),
        html.Span([f"{side.upper()}: ", html.Span(there, className="mono"), f", {how}"]),
        _step("›", key, beside(there, info, 1), text, "The layer after"),
    ]
    if chosen:
        shown.append(_set("×", chosen_pair(text, key, ""), "The layer by depth and stride again"))
    help_text = (
        f"{info.title} has no layer {key}. Of its layers this one is the nearest: as deep, relative to the whole, and "
        "its positions stand for as much of the picture. ‹ and › choose another."
    )
    return html.Span(shown, className="badge note frames", title=help_text)


def _step(sign: str, key: str, to: str, text: str, title: str) -> html.Button:
    return _set(sign, chosen_pair(text, key, to), title, disabled=not to)


def _set(sign: str, matched: str, title: str, *, disabled: bool = False) -> html.Button:
    named = {"data-do": "set", "data-value": json.dumps({"matched": matched}), "aria-label": title}
    return html.Button(sign, className="link", title=title, disabled=disabled, **named)
