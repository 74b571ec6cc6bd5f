"""What stands above a card's fourth wall: what comes back, with which channels, how far it is; or why not."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import failures
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.card.restored import contrast
from hookscope.dashboard.panels.regions import refuse, stop_button
from hookscope.hooks.results.restoring import RestoredParts

AGREES = 0.9  # Spearman from which an estimate is said to agree
NAMED = 5  # channels in the line above the wall
SIGNS = "orange: brings A's answer back, blue: takes it further away"


def label(found: RestoredParts | None, refused: str) -> list[Any]:
    """What stands beside the wall's name."""
    if found is not None:
        return []
    return [html.Span("none" if refused else "computing …", className="muted")]


def lines(
    scene: Scene, position: int, key: str, unit: Unit | None, answers: Answers, found: RestoredParts | None
) -> list[Any]:
    """Two lines above the walls: what comes back, of what, with which channels, and how far that is measured.

    None where it is refused for good, which stands in the wall's place.
    """
    if unit is None:
        return []
    part, name = f"card {position}", html.Strong("A in B")
    wrong = failures(answers, [unit])
    if wrong and wrong[0].final and scene.walls.restored:
        return []
    refused = [html.Div([name, refuse(scene.worded("a", each), part)], className="ranked") for each in wrong]
    stop = stop_button(part)
    if found is None and refused:
        return refused
    if found is None:
        text = html.Span("putting each channel of A into B's run …", className="muted")
        return [html.Div([name, text, stop], className="ranked"), html.Div("\u00a0", className="ranked")]
    second = ", A's second class, because both have one answer" if found.runner_up else ""
    words = f"{contrast(scene, found)}{second}: {format_number(found.of_a)} for A, {format_number(found.of_b)} for B"
    if math.isfinite(found.whole):
        words += f" · the whole layer brings {found.whole:.0%} back{', all paths pass here' if found.all_paths else ''}"
    bars = html.Span([html.Span(className="mark for"), html.Span(className="mark against")], title=SIGNS)
    first = html.Div([name, bars, html.Span(words, className="muted", title=SIGNS)], className="ranked")
    total = len(found.exact) if found.done == found.total else found.total
    text = f"{found.done:,} of {total:,} measured"
    if math.isfinite(found.agreement):
        text += f" · the estimate {found.how} {'agrees' if found.agreement >= AGREES else 'agrees in part'}: "
        text += f"Spearman {found.agreement:.2f}"
    told = html.Span(text, className="muted", title=f"The {found.total:,} with the largest estimates are measured")
    more = [stop] if found.done < found.total and not refused else []
    return [*refused, first, html.Div([*_strongest(key, found), told, *more], className="ranked")]


def _strongest(key: str, found: RestoredParts) -> list[Any]:
    """The channels that bring most back, as links: the wall may have no room for them."""
    shares = np.nan_to_num(found.exact if found.done else found.estimate)
    chosen = [channel for channel in np.argsort(-np.abs(shares), kind="stable")[:NAMED].tolist() if shares[channel]]
    if not chosen:
        return [html.Span("No channel brings anything back", className="muted")]
    said: list[Any] = [html.Span("Most with channel", className="muted")]
    for channel in chosen:
        about = "" if found.done else "about "
        more = {"data-do": "set", "data-value": json.dumps({"detail": key, "channel": channel})}
        link = html.Button(str(channel), className="link told", title=f"Enlarge channel {channel}", **more)
        said.append(html.Span([link, f" {about}{shares[channel]:.1%}"]))
    return said


def refusal(scene: Scene, unit: Unit | None, answers: Answers) -> str:
    """The sentence that stands where the wall would be; "" for none."""
    wrong = failures(answers, [unit] if unit else [])
    return scene.worded("a", wrong[0]).sentence if wrong and wrong[0].final else ""
