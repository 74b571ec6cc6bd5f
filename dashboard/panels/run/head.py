"""Which run is followed, beside which other, and whether it goes on."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.run.choice import Asked, ask

TITLE = 80  # characters
FOLLOW = (
    'with hs.follow(model, "runs/monday", every=50, optimizer=optimizer) as feed:',
    "    feed.step(loss=loss)  # in the loop, behind loss.backward() and before optimizer.step()",
)
SERVE = "python -m hookscope --feed monday=runs/monday"
NO_OPTIMIZER = (
    "No optimizer was given to hs.follow, so there are no updates and no learning rates: hs.follow(..., optimizer=...)."
)
NO_SCALER = "No scaler was given to hs.follow, so no scale is shown, and gradients are as the backward pass left them."
_IN_ORDER = "The run has ended."  # as the line itself says
NEWEST_FIRST: dict[str, Any] = {"run_step": "", "run_layer": ""}


def run_names(scene: Scene) -> list[str]:
    """The names of the runs that a view shows; none in another tab, or where it shows none."""
    asked = ask(scene.view, scene.service.feeds, scene.gallery) if scene.view.tab == "run" else ""
    return [] if isinstance(asked, str) else [each.name for each in asked.runs]


def run_in_words(scene: Scene) -> list[str]:
    """What was chosen: without it nobody can make the same view again."""
    asked = ask(scene.view, scene.service.feeds, scene.gallery)
    if isinstance(asked, str):
        return []
    look = asked.look()
    found = [f"run {' and '.join(each.name for each in asked.runs)} of {asked.run.info.model[:TITLE]}"]
    found += [f"step {look.step:,}"] if look is not None else []
    return [*found, asked.column.title, *([f"layer {asked.layer}"] if asked.layer else [])]


def nothing_followed() -> html.Div:
    """What stands there while the server follows no run."""
    return html.Div(
        [
            html.H2("Follow a training"),
            html.P(
                "Every so many steps a training writes what its layers do into a folder: activations, gradients, "
                "weights, updates, and alarms. Two lines in the loop:"
            ),
            html.P(FOLLOW[0], className="sentence code"),
            html.P(FOLLOW[1], className="sentence code"),
            html.P("And the folder's name when the page is started, before or while the training runs:"),
            html.P(SERVE, className="sentence code"),
        ],
        className="run-nothing",
    )


def choices(names: tuple[str, ...], run: str, other: str) -> list[Any]:
    """The runs that can be chosen, and those that can lie beside."""
    found = [_group("run", [_pill(name, {"run": name, "run_b": "", **NEWEST_FIRST}, name == run) for name in names])]
    beside = [name for name in names if name != run]
    if beside:
        pills = [_pill("none", {"run_b": ""}, not other), *(_pill(n, {"run_b": n}, n == other) for n in beside)]
        found.append(_group("beside it, dashed", pills))
    return [html.Div(found, className="run-choices live-only")]


def _group(text: str, pills: list[Any]) -> html.Div:
    return html.Div(
        [html.Span(text, className="muted"), *pills], className="set-choice", role="group", **{"aria-label": text}
    )


def _pill(text: str, changes: dict[str, Any], pressed: bool) -> html.Button:
    return html.Button(
        text,
        className="pill",
        **{"data-do": "set", "data-value": json.dumps(changes), "aria-pressed": "true" if pressed else "false"},
    )


def state(asked: Asked, prefix: str) -> html.Div:
    """Whether the runs go on, and what is to be said of them."""
    found: list[Any] = []
    notes = [_notes(each) for each in asked.runs]
    shared = [text for text in notes[0] if all(text in each for each in notes)]  # said once
    for each, letter, own in zip(asked.runs, "AB", notes, strict=False):
        found.append(_line(each, letter if asked.other else "", prefix, asked))
        found += [html.P(text, className="muted") for text in own if text not in shared]
    found += [html.P(text, className="muted") for text in shared]
    if asked.problem:
        found.append(html.P(asked.problem, className="sentence error"))
    tokens = " ".join(each.token for each in asked.runs)
    names = "&".join(f"{field}={quote(each.name)}" for field, each in zip("ab", asked.runs, strict=False))
    return html.Div(found, className="run-state", **{"data-run-token": tokens, "data-run-names": names})


def _line(run: Followed, letter: str, prefix: str, asked: Asked) -> html.Div:
    info, newest = run.info, run.newest
    title = info.title if info.title and info.title != run.name else ""
    facts = [title[:TITLE], info.model[:TITLE], f"a look every {format_count(info.every)} steps"]
    words: list[Any] = [
        html.Span(letter, className=f"letter small {letter.lower()}") if letter else None,
        html.Strong(run.name, className="run-name"),
        html.Span(_state_word(run), className=f"run-phase is-{run.state.kind}", title=run.state.sentence),
        html.Span([*_newest(run, letter)], className="mono"),
        html.Span(" · ".join(filter(None, facts)), className="muted"),
        # most trainings have none and need none, so it is no sentence of its own
        None if newest is None or info.scaler else html.Span("no scaler", className="muted run-aside", title=NO_SCALER),
    ]
    if newest is not None:
        words.append(html.Span(_files(run, prefix, asked), className="run-files live-only"))
    return html.Div(words, className="sweep-line")


def _files(run: Followed, prefix: str, asked: Asked) -> list[html.A]:
    """What can be taken along, in one piece: a line that is too long breaks before both."""
    there = f"{prefix}feed/{quote(run.name)}"
    numbers = f"{there}/numbers.csv?column={quote(asked.column.key, safe='')}"
    about = f"{asked.column.title} of every layer at every step that was looked at"
    told = "The loss, learning rates and numbers of your own at every step of which they are known"
    return [
        html.A("CSV", href=numbers, download="numbers.csv", className="link", title=about),
        html.A("CSV of steps", href=f"{there}/steps.csv", download="steps.csv", className="link", title=told),
    ]


def _state_word(run: Followed) -> str:
    return {"running": "running", "ended": "has ended", "unknown": "running or not: not known"}[run.state.kind]


def _newest(run: Followed, letter: str) -> list[Any]:
    if run.newest is None:
        return ["no step was looked at yet"]
    number = html.Span(format_count(run.newest.step), className="run-newest")
    if run.state.kind == "ended":
        return ["last look at step ", number]
    age = age_in_words(time.time() - run.newest.time)
    return ["newest look at step ", number, ", ", html.Span(age, className=f"run-age {letter.lower() or 'a'}")]


def age_in_words(seconds: float) -> str:
    """How long ago something was.

    >>> [age_in_words(each) for each in (-3, 0.4, 59, 200, 8000, float("nan"))]
    ['now', 'now', '59 s ago', '3 min ago', '2 h ago', 'at an unknown time']
    """
    if seconds != seconds:
        return "at an unknown time"
    if seconds < 1:
        return "now"
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{min(seconds / 3600, 1e6):.0f} h ago"


def _notes(run: Followed) -> list[str]:
    found = []
    if run.state.kind != "running" and run.state.sentence != _IN_ORDER:
        found.append(run.state.sentence)
    if run.share < 1:
        found.append(f"Reading what was written until now: {run.share:.0%}.")
    if run.newest is not None and not run.info.optimizer:
        found.append(NO_OPTIMIZER)
    if run.skipped:
        lines = "One line" if run.skipped == 1 else f"{format_count(run.skipped)} lines"
        found.append(f"{lines} of the feed could not be read and {'is' if run.skipped == 1 else 'are'} left out.")
    if run.left_out:
        found.append("It has more layers than are shown; the first 2,000 are.")
    return found
