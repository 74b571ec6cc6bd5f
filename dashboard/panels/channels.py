"""What a person decides of an array: which channels are seen as red, green and blue, and what its axes are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from dash import html

from hookscope.dashboard.asking.sides import OWN_WAY, Preparation
from hookscope.dashboard.inputs import colours
from hookscope.dashboard.inputs.axes import EITHER, NAMES, WAYS
from hookscope.dashboard.page.scene import Scene

COLOURS = ("red", "green", "blue")
READ = {
    "by the model's channels": "This array can be read in two ways, and in this one it has the model's channels.",
    "as chosen": "This array can be read in two ways, and this one was chosen on this page, for this side.",
}


def said(scene: Scene, side: str) -> list[html.Div]:
    """What of it is in sight beside the picture, a line each, the axes to choose if nothing says what they are."""
    given = scene.inputs[side]
    help_text = "Choose otherwise under “preparation”."
    lines = []
    second = scene.second(side)
    if EITHER in (given.axes, second.axes if second else ""):
        lines.append(html.Div([html.Span("axes"), *_axes(scene, side)]))
        lines.append(html.Div(f"The picture is shown as {NAMES['channels-last']} until you choose.", className="why"))
    return lines + [html.Div(f"{text}.", className="why", title=help_text) for text in in_words(scene, side)]


def in_words(scene: Scene, side: str) -> list[str]:
    """The same for a file in which nothing can be chosen."""
    given, found = scene.inputs[side], []
    if given.axes in NAMES:
        found.append(f"Axes: {NAMES[given.axes]}, {_known(scene, side)}")
    if given.channels > 1:
        three = ", ".join(map(str, scene.shown(side)))
        found.append(f"Seen as red, green, blue: channels {three} of {given.channels}")
    return found


def choices(scene: Scene, side: str) -> list[html.Div]:
    """The rows in which both are chosen; none of an ordinary picture."""
    given, rows = scene.inputs[side], []
    if given.axes in NAMES:
        how = _known(scene, side)
        known = html.Span(how, className="known", title=READ[how])
        chips = html.Span(_axes(scene, side), className="chips")
        rows.append(html.Div([html.Span("axes", className="muted"), chips, known], className="fact"))
    if given.channels > 1:
        help_text = "Of the picture on this page; what the network gets does not change."
        rows.append(html.P("Which channels are seen as", className="muted", title=help_text))
        rows += [_colour(scene, side, place) for place in range(3)]
    return rows


def _known(scene: Scene, side: str) -> str:
    return "by the model's channels" if _prepared(scene, side).axes == OWN_WAY else "as chosen"


def _prepared(scene: Scene, side: str) -> Preparation:
    preparation: Preparation = getattr(scene.view, f"prepare_{side}")
    return preparation


def _axes(scene: Scene, side: str) -> list[html.Button]:
    now = scene.inputs[side].axes
    chips = []
    for name in WAYS:
        text = NAMES[name]
        wanted = replace(_prepared(scene, side), axes=name).write()
        chips.append(_chip(text, {f"prepare_{side}": wanted, "side": side}, name == now, f"Read its axes as {text}"))
    return chips


def _colour(scene: Scene, side: str, place: int) -> html.Div:
    three, count = scene.shown(side), scene.inputs[side].channels
    chips = []
    for index in range(count):
        first, second, third = (index if each == place else three[each] for each in range(3))
        wanted = colours.write((first, second, third), count)
        help_text = f"See channel {index} as {COLOURS[place]}"
        chips.append(_chip(str(index), {f"shown_{side}": wanted}, index == three[place], help_text))
    named = html.Span(COLOURS[place], className="muted")
    return html.Div([named, html.Span(chips, className="chips all")], className="fact")


def _chip(text: str, values: dict[str, Any], chosen: bool, help_text: str) -> html.Button:
    return html.Button(
        text,
        className="chip chosen" if chosen else "chip",
        title=help_text,
        **{
            "data-do": "set",
            "data-value": json.dumps(values),
            "aria-pressed": "true" if chosen else "false",
            "aria-label": help_text,
        },
    )
