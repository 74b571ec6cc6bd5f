"""Behind the other tabs: that what they show is not the step which is chosen in the tab "Run", where it is not."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.feeds.checkpoints import Checkpoint, last_up_to, named
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.checkpoints import as_side
from hookscope.dashboard.panels.run.choice import ask

NAME = "run elsewhere"


def parts(scene: Scene) -> list[Part]:
    """One line, where a step is chosen and a model that is looked at has not the weights of that."""
    if not _follows(scene):
        return []
    asked = ask(scene.view, scene.service.feeds, scene.gallery)
    if isinstance(asked, str) or asked.step is None or asked.look() is None:
        return [Part.still(NAME, [show_text(ids.RUN_ELSEWHERE, None)])]
    sides = tuple((side, scene.view.model_of(side), info.title) for side, info in scene.models.items())
    last = last_up_to(asked.run.checkpoints, asked.step) if asked.run.openable else None
    return [Part(NAME, (), (asked.run.name, asked.step, last, sides), _draw)]


def _draw(
    run: str, step: int, last: Checkpoint | None, sides: tuple[tuple[str, str, str], ...], answers: Answers
) -> list[Update]:
    found: list[Any] = []
    for side, model, title in sides:
        whose = f"{side.upper()}: {title}" if len(sides) > 1 else title
        told, offers = said(run, step, last, model, whose)
        if told:
            found += [
                html.Span(told),
                as_side(run, last, side.upper(), f"open these as {side.upper()}") if last and offers else None,
            ]
    if not found:
        return [show_text(ids.RUN_ELSEWHERE, None)]
    forget = html.Button(
        "forget the step", className="link live-only", **{"data-do": "set", "data-value": json.dumps({"run_step": ""})}
    )
    return [show_text(ids.RUN_ELSEWHERE, html.P([*found, forget], className="run-elsewhere muted"))]


def said(run: str, step: int, last: Checkpoint | None, model: str, whose: str) -> tuple[str, bool]:
    """What is to be said of a model while a step is chosen, "" for nothing; and whether other weights are offered."""
    of_run, saved = named(model) or ("", -1)
    if of_run == run and last is not None and saved == last.step:
        if saved == step:
            return "", False
        return (
            f"{whose} has the weights of step {saved:,}, the last that were saved up to step {step:,} of {run}.",
            False,
        )
    now = f"has the weights of step {saved:,}" if of_run == run else "is shown as it was loaded"
    nearest = f" The weights of step {last.step:,} are saved." if last is not None else ""
    return (
        f"{whose} {now}, not as at step {step:,} of {run}, which is chosen in the tab Run.{nearest}",
        last is not None,
    )


def _follows(scene: Scene) -> bool:
    return scene.service.feeds is not None and bool(scene.service.feeds.names)


PANEL = Panel(
    NAME,
    "main",
    urgency=3,
    layout=lambda setup: Markup(ids.RUN_ELSEWHERE),
    parts=parts,
    saved=lambda scene: Markup(ids.RUN_ELSEWHERE) if _follows(scene) else [],
    tabs=("layers", "depth", "pictures", "findings"),
)
