"""A channel's pictures from a set, wherever they stand: in the tab, beside the enlarged channel, on a card's wall."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import FieldOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.panels.pictures.crops import Crops
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.hooks.results.receptive import ReceptiveField
from hookscope.hooks.results.sweeps import LayerTop, Shown

NO_PICTURE = "any picture"  # stands where a picture's digest does: the question is about the model alone
CROPS = (
    ("strongest", "strongest", "The nine pictures with the channel's largest values, around the place of each"),
    ("mean", "by mean", "The nine pictures with the largest mean of the channel's map"),
    ("median", "median", "Pictures around the median of those that were drawn: what the channel usually sees"),
    ("random", "random", "Pictures drawn at random: the strongest alone mislead"),
)


def field_unit(looked: Looked, key: str) -> Unit:
    """The question where a layer's units look."""
    return Unit(Side(looked.model, NO_PICTURE), FieldOf(*parse_key(key)))


def field_of(answers: Answers, unit: Unit | None) -> tuple[ReceptiveField | None, str]:
    """Where a layer's units look, None if that is not known; and what is shown of each picture, in words."""
    found = result_of(answers, unit, ReceptiveField)
    if found is None and unit is not None and not failures(answers, (unit,)) and unit not in answers:
        return None, "Where this layer's units look is being computed; whole pictures are shown until then."
    return found, say_field(found)


def say_field(field: ReceptiveField | None) -> str:
    """What is shown of each picture, in words."""
    if field is None:
        return "Whole pictures are shown: where this layer's units look is not known."
    if field.whole and field.effective is None:
        return "Each unit can see the whole picture; the dot is at the place of its value."
    if field.whole and field.effective is not None:
        side, share = field.effective.side, f"{100 * field.effective.share:.0f} %"
        most = "; a dot marks the place where that is all of the picture" if side >= min(field.picture) else ""
        return (
            f"Each unit can see the whole picture; shown is where {share} of its sensitivity lies, {side} × {side} "
            f"pixels around its place (effective field: squared gradient over random inputs){most}."
        )
    height, width = field.size
    if height is None or width is None:
        return "Each crop is what the unit with the largest value can depend on."
    return f"Each crop is what the unit with the largest value can depend on, {height} × {width} pixels."


def shown_of(top: LayerTop, channel: int, which: str) -> Shown:
    """Some pictures of a channel; `which` is one of `CROPS`."""
    if which == "median":
        return top.median(channel)
    if which == "random":
        return top.random(channel)
    return top.strongest(channel, by="mean" if which == "mean" else "max")


def cells(crops: Crops, top: LayerTop, channel: int, which: str) -> list[html.Button]:
    """Their crops, each of which opens its picture."""
    shown = shown_of(top, channel, which)
    return [
        crops.cell(int(number), float(value), spot.tolist())
        for number, value, spot in zip(shown.pictures, shown.values, shown.spots, strict=True)
    ]


def choice(
    options: tuple[tuple[str, str, str], ...], field: str, chosen: str, help_text: str = "", **more: Any
) -> html.Div:
    """Buttons for the values of a field of the view, (value, text, help) each; `more` is what changes with it."""
    buttons = [
        html.Button(
            text,
            title=about or None,
            **{"data-do": "set", "data-value": json.dumps({field: name, **more})},
            **{"aria-pressed": "true" if name == chosen else "false"},
        )
        for name, text, about in options
    ]
    named = {"aria-label": help_text} if help_text else {}
    return html.Div(buttons, className="tabs live-only", role="group", **named)
