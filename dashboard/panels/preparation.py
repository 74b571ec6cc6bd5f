"""How a side's picture is prepared: what its model wants, from where that is known, and what of it can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dash import html

from hookscope.dashboard.asking.sides import ASPECTS, OWN_WAY, Preparation
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.engine.base import WAYS, Preprocessing
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene

SQUARES = (96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512, 640, 768, 1024)  # an address may have any size
CHANGED = {  # the ways that a choice on the page replaces
    "values": ("mean", "std", "range"),
    "channels": ("order",),
    "size": ("size", "fit"),
    "interpolation": ("interpolation",),
    "pixels": ("size",),
    "levels": ("range",),
    "axes": (),
    "painted": (),
}
MEANING = {
    "given": "Said by the operator or by the model's factory.",
    "from the weights": "Said by the model's library for these weights.",
    "assumed": "Nobody said it, and other models are mostly prepared so. If it is wrong, every number here is.",
    "changed": "Chosen on this page, for this side.",
}


def control(side: str) -> html.Details:
    """The facts and the choices of one side, folded."""
    rows = [_choice(side, aspect, choices) for aspect, choices in ASPECTS.items()]
    sizes = {OWN_WAY: "the model's own", **{f"{each}x{each}": f"{each} × {each}" for each in SQUARES}}
    help_text = (
        "How the picture is prepared for the model, and from where that is known. Change it to see what that does."
    )
    return html.Details(
        [
            html.Summary("preparation", title=help_text),
            html.Div(
                [
                    Markup(ids.side("prepared", side), className="facts"),
                    html.P("Change it for this side:", className="muted"),
                    *rows,
                    _choice(side, "pixels", sizes),
                ],
                className="menu",
            ),
        ],
        className="save prepare",
    )


def _choice(side: str, aspect: str, choices: Mapping[str, str]) -> html.Label:
    options = [html.Option(text, value=choice) for choice, text in choices.items()]
    named = {"data-prepare": side, "data-aspect": aspect}
    return html.Label([html.Span(aspect, className="muted"), html.Select(options, **named)])


def facts(scene: Scene, side: str) -> list[Any]:
    """What is known of how this side's picture is prepared, a row each."""
    info = scene.info_of(side).preprocessing
    changed = changed_ways(scene.side(side).preparation)
    found = []
    for way in WAYS:
        known = "changed" if way in changed else info.known(way)
        found.append(
            html.Div(
                [
                    html.Span(way, className="muted"),
                    html.Span("see below" if known == "changed" else said(info, way)),
                    html.Span(known, className=f"known {known.split()[0]}", title=MEANING[known]),
                ],
                className="fact",
            )
        )
    return found


def changed_ways(preparation: Preparation) -> set[str]:
    """Which of the ways a preparation replaces."""
    return {way for aspect in preparation.changed for way in CHANGED[aspect]}


def said(info: Preprocessing, way: str) -> str:
    """One of the model's ways in words.

    >>> said(Preprocessing(256, (224, 224), "bicubic", (0.5,) * 3, (0.25,) * 3), "fit")
    'the shorter side resized to 256, the centre cut out'
    """
    if way == "size":
        height, width = info.crop if any(info.crop) else info.resize if isinstance(info.resize, tuple) else (0, 0)
        return f"{width} × {height} pixels" if width else "as the picture is long and wide"
    if way == "fit":
        return _fit(info)
    if way == "interpolation":
        return info.interpolation if info.resize else "none"
    if way in ("mean", "std"):
        told = info.mean if way == "mean" else info.std
        texts = [f"{each * info.range:.6g}" for each in told]
        return ", ".join(texts if len(set(texts)) > 1 else texts[:1])
    if way == "order":
        names = {"rgb": "red, green, blue", "bgr": "blue, green, red"}
        if info.channels not in (1, 3):
            return f"{info.channels} channels, as the array has them"
        return "one channel, grey" if info.channels == 1 else names[info.order]
    return f"pixels of 0 to {info.range}, before the mean"


def _fit(info: Preprocessing) -> str:
    if info.fit == "none" or not info.resize:
        return "none; the model resizes it, if anybody does"
    if info.fit == "squash":
        return "squashed, its proportions not kept"
    if info.fit == "pad":
        return "all of it, with black around"
    size = info.resize if isinstance(info.resize, int) else " × ".join(map(str, reversed(info.resize)))
    first = f"the shorter side resized to {size}" if isinstance(info.resize, int) else f"squashed to {size}"
    return f"{first}, the centre cut out" if any(info.crop) else first
