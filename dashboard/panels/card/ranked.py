"""What stands above a wall that is ranked by what the channels do to the explained number: how far it is, what came."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.edits import LONGEST, MOST, write_edits
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.standing import Standing
from hookscope.dashboard.panels.regions import refuse, stop_button
from hookscope.hooks.results.edits import Scale
from hookscope.hooks.results.effects import ChannelShares, Effects

WEAK = 0.5  # Spearman's, below which the estimate says little of the effects
FOR = {
    "class": "orange: speaks for it, blue: against it",
    "effect": "orange: without it the number falls, blue: it rises",
}


def lines(scene: Scene, position: int, units: dict[str, Unit], answers: Answers, standing: Standing) -> list[Any]:
    """A line for each side; none for ranks that the activations tell."""
    found = [
        html.Div(_line(scene, position, side, unit, answers, standing), className="ranked")
        for side, unit in units.items()
    ]
    if len(units) == 2 and standing.told:
        first = next(iter(standing.told)).upper()
        found.append(html.Div(f"Both walls stand in {first}'s order.", className="ranked muted"))
    return found


def _line(scene: Scene, position: int, side: str, unit: Unit, answers: Answers, standing: Standing) -> list[Any]:
    letter = html.Span(side.upper(), className=f"letter small {side}")
    part, rank = f"card {position}", scene.walls.rank
    found = answers[unit].result if unit in answers else None
    told = standing.told.get(side)
    if isinstance(found, Failure):
        why: Any = html.Span("No such order: ", className="muted") if found.final else None
        if isinstance(told, Effects):
            why = html.Span(f"{told.done:,} of {len(told.measured):,} measured. ", className="muted")
        return [letter, why, refuse(scene.worded(side, found), part)]
    if told is None:
        return [letter, html.Span("asking each channel …", className="muted")]
    name = scene.explained_name(side, told.target, told.against)
    bars = html.Span([html.Span(className="mark for"), html.Span(className="mark against")], title=FOR[rank])
    if isinstance(told, ChannelShares):
        what = f"{scene.explained(side)} “{name}” ({format_number(told.score)})"
        text = f"each channel's share of {what}: gradient × activation"
        return [letter, bars, html.Span(text, className="muted", title=FOR[rank])]
    return [letter, bars, *_measured(scene, side, unit, told, answers, part, name)]


def _measured(scene: Scene, side: str, unit: Unit, told: Effects, answers: Answers, part: str, name: str) -> list[Any]:
    total = len(told.measured)
    what = f"{scene.explained(side)} “{name}” ({format_number(told.score)})"
    if not told.done:
        return [html.Span(f"muting {total:,} channels one by one, for {what} …", className="muted"), stop_button(part)]
    agreement = told.agreement
    agrees = "" if math.isnan(agreement) else f" · Taylor's estimate {_word(agreement)}: Spearman {agreement:.2f}"
    estimate = html.Span(agrees, className="muted", title=told.no_estimate or "Over the measured channels")
    if unit in answers.progress and told.together is None and not told.complete:
        return [
            html.Span(f"{told.done:,} of {total:,} measured, for {what}", title=told.how),
            estimate,
            stop_button(part),
        ]
    seconds = f" in {told.milliseconds / 1000:.1f} s" if told.complete else ""
    done = html.Span(f"{told.done:,} of {total:,} measured{seconds}", title=f"{what}. {told.how}")
    missing = f" · {told.no_estimate}" if told.no_estimate else ""
    return [done, estimate, html.Span(missing, className="muted"), *_together(scene, side, unit, told)]


def _word(agreement: float) -> str:
    return "agrees" if agreement >= WEAK else "agrees little"


def _together(scene: Scene, side: str, unit: Unit, told: Effects) -> list[Any]:
    """What is left without the strongest channels, all at once, and a way to see that as B."""
    joint = told.together
    if joint is None or not math.isfinite(joint.effect):
        return []
    single = float(np.sum(told.measured[joint.channels]))
    then = f", then “{scene.class_name(side, joint.top)}” comes first" if joint.top not in (-1, told.target) else ""
    text = f" · the {len(joint.channels)} strongest at once: {joint.effect:+.3g}{then} "
    title = f"Muted one by one their effects add up to {single:+.3g}; several at once are not the sum of each."
    return [html.Span(text, className="muted", title=title), *_without(scene, side, unit, joint.channels)]


def _without(scene: Scene, side: str, unit: Unit, channels: np.ndarray) -> list[Any]:
    """What makes B this side without the channels; why not, where there are so many edits already."""
    muted = [Scale(unit.layer, int(channel), 0.0, unit.call) for channel in channels]
    edits = (*scene.edits(side), *muted)
    text = write_edits(edits)
    if len(edits) > MOST or len(text) > LONGEST:
        too_many = "Take edits back to see what if they go."
        why = too_many if scene.edits(side) else "The layer's name is too long to mute them here."
        return [html.Span(why, className="muted", title="No more edits fit into the address of this page.")]
    view = scene.view
    changes = {
        "b": scene.inputs[side].key,
        "second_b": getattr(view, f"second_{side}"),
        "shown_b": getattr(view, f"shown_{side}"),
        "prepare_b": scene.side(side).preparation.write(),
        "edits_b": text,
        **({"model_b": ""} if side == "a" else {}),
    }
    named = {"data-do": "set", "data-value": json.dumps(changes)}
    help_text = f"B becomes {side.upper()} without these {len(muted)} channels, and every view shows what that changes."
    return [html.Button("what if they go", className="link", title=help_text, **named)]
