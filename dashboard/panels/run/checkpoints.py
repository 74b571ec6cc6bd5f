"""The checkpoints in a run's folder as sides: step 1,000 against step 9,000, or a side that moves with the slider."""

from __future__ import annotations

import json
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.feeds.checkpoints import Checkpoint, last_up_to, model_name, spread
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked, Run

HOW = "A checkpoint is opened in a model of the run's own name: start the page with --model {name}=SPEC beside --feed."
SIDES = (("A", "model"), ("B", "model_b"))


def parts(asked: Asked, view: View) -> list[Part]:
    """The weights that were saved up to the chosen step, and the list of all."""
    run, chosen = asked.run, (view.model, view.model_b)
    about = run.name, run.checkpoints
    look = asked.look()
    step = None if look is None else look.step if asked.step is None else asked.step
    shows = (*about, step, view.of(Run).run_moves, chosen)
    found = [Part("run weights", (), shows if run.openable else (*about, None, "", chosen), _draw_at_step)]
    return [*found, Part("run checkpoints", (), (*about, run.openable, chosen), _draw)]


def _draw_at_step(
    name: str,
    found: tuple[Checkpoint, ...],
    step: int | None,
    moves: str,
    chosen: tuple[str, str],
    answers: Answers,
) -> list[Update]:
    if step is None or not found:
        return [show_text(ids.RUN_WEIGHTS, None)]
    last = last_up_to(found, step)
    words: list[Any] = []
    about: dict[str, str] = {}
    if last is None:
        words.append(html.Span(f"No weights are saved up to step {step:,}; the first are of step {found[0].step:,}."))
    else:
        words += [html.Span(f"open the weights of step {last.step:,} as", title=last.name)]
        words += _as_sides(name, last, chosen)
        if moves:
            about["data-moves"] = json.dumps({dict(SIDES)[moves.upper()]: model_name(name, last.step)})
    words.append(html.Span("move with the step:", className="run-moves"))
    words += [_moves(letter, moves) for letter, _ in SIDES]
    return [show_text(ids.RUN_WEIGHTS, html.Div(words, className="run-weights muted live-only", **about))]


def _moves(letter: str, moves: str) -> html.Button:
    on = moves == letter.lower()
    return html.Button(
        letter,
        className="pill",
        title=f"Whenever the step moves, {letter} gets the weights that were saved last up to it, and so do all other "
        "tabs. They are loaded when the slider rests.",
        **{"data-do": "set", "data-value": json.dumps({"run_moves": "" if on else letter.lower()})},
        **{"aria-pressed": "true" if on else "false", "aria-label": f"{letter} moves with the step"},
    )


def _draw(
    name: str, found: tuple[Checkpoint, ...], openable: bool, chosen: tuple[str, str], answers: Answers
) -> list[Update]:
    if not found:
        return [show_text(ids.RUN_CHECKPOINTS, None)]
    words: list[Any] = [html.H2("Checkpoints")]
    if not openable:
        steps = ", ".join(f"{each.step:,}" for each in found[:12]) + (" …" if len(found) > 12 else "")
        text = f"Weights of step {steps} lie in the folder. {HOW.format(name=name)}"
        return [show_text(ids.RUN_CHECKPOINTS, [*words, html.P(text, className="muted")])]
    if len(found) > 1:
        first, last = found[0], found[-1]
        text = f"step {first.step:,} in A against step {last.step:,} in B"
        changes = {"model": model_name(name, first.step), "model_b": model_name(name, last.step), "tab": "depth"}
        words.append(_button(text, {**changes, "depth": "apart"}, pressed=False, kind="pill primary"))
    shown = spread(found)
    rows = [
        html.Span(
            [html.Span(f"step {each.step:,}", className="mono", title=each.name), *_as_sides(name, each, chosen)],
            className="run-weights",
        )
        for each in shown
    ]
    missing = len(found) - len(shown)
    more = f"{missing:,} more are not listed: move the slider to their step." if missing else ""
    content = [
        html.Div(words, className="run-title"),
        html.Div(rows, className="run-steps"),
        html.P(more, className="muted") if more else None,
    ]
    return [show_text(ids.RUN_CHECKPOINTS, content)]


def _as_sides(name: str, each: Checkpoint, chosen: tuple[str, str]) -> list[html.Button]:
    model = model_name(name, each.step)
    return [
        _button(letter, {field: model}, pressed=there == model, kind="pill", label=f"step {each.step:,} as {letter}")
        for there, (letter, field) in zip(chosen, SIDES, strict=True)
    ]


def as_side(name: str, each: Checkpoint, letter: str, text: str) -> html.Button:
    """A button that opens a checkpoint as a side, which stands behind another tab."""
    return _button(text, {dict(SIDES)[letter]: model_name(name, each.step)}, pressed=False, kind="link")


def _button(text: str, changes: dict[str, str], *, pressed: bool, kind: str, label: str = "") -> html.Button:
    more = {"aria-label": label} if label else {}
    return html.Button(
        text,
        className=f"{kind} live-only",
        **{"data-do": "run-weights", "data-value": json.dumps(changes), "aria-pressed": "true" if pressed else "false"},
        **more,
    )
