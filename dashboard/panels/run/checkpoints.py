"""The checkpoints in a run's folder: weights of a step as a side, step 1,000 against step 9,000."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.feeds.checkpoints import Checkpoint, model_name
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked
from hookscope.dashboard.sources.spec import name_of

NAME = "run checkpoints"
HOW = "A checkpoint is opened in a model of the run's own name: start the page with --model {name}=SPEC beside --feed."
NEW = "{} that came after the page was started: start it again to open them."


def part(asked: Asked, offered: tuple[str, ...], view: View) -> Part:
    """The part that offers them."""
    name = asked.run.name
    models = tuple(map(name_of, offered))
    found = asked.run.kept.checkpoints()
    shows = (name, found, tuple(model for model in models if model.startswith(name)), (view.model, view.model_b))
    return Part(NAME, (), shows, _draw)


def _draw(
    name: str, found: tuple[Checkpoint, ...], models: tuple[str, ...], chosen: tuple[str, str], answers: Answers
) -> list[Update]:
    if not found:
        return [show_text(ids.RUN_CHECKPOINTS, None)]
    there = [each for each in found if model_name(name, each.step) in models]
    words: list[Any] = [html.H2("Checkpoints")]
    if not there:
        steps = ", ".join(f"{each.step:,}" for each in found[:12]) + (" …" if len(found) > 12 else "")
        about = f"Weights of step {steps} lie in the folder. " if steps else ""
        sentence = HOW.format(name=name) if name not in models else NEW.format("They are checkpoints")
        return [show_text(ids.RUN_CHECKPOINTS, [*words, html.P(about + sentence, className="muted")])]
    if len(there) > 1:
        first, last = there[0], there[-1]
        text = f"step {first.step:,} in A against step {last.step:,} in B"
        changes = {"model": model_name(name, first.step), "model_b": model_name(name, last.step), "tab": "depth"}
        words.append(_button(text, {**changes, "depth": "apart"}, pressed=False, kind="pill primary"))
    rows = [_row(name, each, chosen) for each in there]
    missing = len(found) - len(there)
    more = (
        f"{missing:,} more are not offered: they came after the page was started, or there are many." if missing else ""
    )
    return [
        show_text(
            ids.RUN_CHECKPOINTS,
            [
                html.Div(words, className="run-title"),
                html.Div(rows, className="run-steps live-only"),
                html.P(more, className="muted") if more else None,
            ],
        )
    ]


def _row(name: str, each: Checkpoint, chosen: tuple[str, str]) -> html.Span:
    model = model_name(name, each.step)
    buttons = [
        _button(
            letter, {field: model}, pressed=chosen[place] == model, kind="pill", label=f"step {each.step:,} as {letter}"
        )
        for place, (letter, field) in enumerate((("A", "model"), ("B", "model_b")))
    ]
    return html.Span(
        [html.Span(f"step {each.step:,}", className="mono", title=each.name), *buttons], className="run-weights"
    )


def _button(text: str, changes: dict[str, str], *, pressed: bool, kind: str, label: str = "") -> html.Button:
    more = {"aria-label": label} if label else {}
    return html.Button(
        text,
        className=f"{kind} live-only",
        **{"data-do": "run-weights", "data-value": json.dumps(changes), "aria-pressed": "true" if pressed else "false"},
        **more,
    )
