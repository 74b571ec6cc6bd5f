"""The chosen layer's distributions over the steps, as ridges; and the one at the chosen step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.drawing.numbers import format_share
from hookscope.dashboard.drawing.run_figures import draw_ridges, ridge_bottom
from hookscope.dashboard.feeds.store import Followed
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.panels.run.choice import Asked
from hookscope.hooks.results.feeds import A_DECADE, BINS

ROWS = 28
LABELS = 7  # of rows
SPACE = 3  # bins beside those that hold anything
KINDS = (("a", "activations"), ("g", "gradients"), ("w", "weights"))
MIDDLE = BINS // 2


def draw_over_steps(asked: Asked, answers: Answers) -> list[Update]:
    """Ridges of steps that are kept, evenly spread, the oldest at the back."""
    if not asked.run.looks:
        return [show_text(ids.RUN_RIDGES, None)]
    head = _head(asked)
    steps, rows = _rows(asked)
    if not rows:
        text = f"No distributions of the {dict(KINDS)[asked.kind]} of this layer are kept."
        return [show_text(ids.RUN_RIDGES, [head, html.P(text, className="muted")])]
    low, high = _range(rows)
    shapes = [row[low:high] for row in rows]
    shows = ("run ridges", asked.marks[0], asked.layer, asked.kind)
    address = asked.gallery.add(shows, partial(draw_ridges, shapes, _zero(low, high)), "image/svg+xml")
    every = max(1, len(rows) // LABELS)
    labels = [
        html.Span(f"{step:,}", style={"top": f"{100 * ridge_bottom(place, len(rows)):.1f}%"})
        for place, step in enumerate(steps)
        if place % every == 0 or place == len(rows) - 1
    ]
    what = f"Distributions of {asked.layer} at {len(rows)} steps"
    picture = html.Div(
        [
            html.Div(labels, className="run-rows mono"),
            html.Div(html.Img(src=address, alt=what), className="run-frame"),
        ],
        className="run-ridge-plot",
    )
    return [show_text(ids.RUN_RIDGES, [head, picture, _values(low, high)])]


def draw_at_step(asked: Asked, answers: Answers) -> list[Update]:
    """The distribution at the chosen step, or that it is not kept."""
    look = asked.look()
    if look is None:
        return [show_text(ids.RUN_RIDGE_AT, None)]
    found = asked.run.kept.distribution(look.step, asked.kind, asked.layer)
    if found is None:
        return [show_text(ids.RUN_RIDGE_AT, not_kept(asked, "bins", look.step))]
    if not found.any():
        return [
            show_text(
                ids.RUN_RIDGE_AT, html.P(f"At step {look.step:,} none of its values is finite.", className="muted")
            )
        ]
    _, rows = _rows(asked)
    low, high = _range([*rows, found.astype(np.float64)])
    shows = ("run ridge", asked.marks[0], look.step, asked.layer, asked.kind, low, high)
    shape = found[low:high].astype(np.float64)
    address = asked.gallery.add(shows, partial(draw_ridges, [shape], _zero(low, high)), "image/svg+xml")
    zeros = found[MIDDLE] / max(int(found.sum()), 1)
    words = [
        html.Span(["at step ", html.Strong(f"{look.step:,}")]),
        html.Span(f"{format_share(zeros)} are 0, or nearer to it than 1e-11", className="muted"),
    ]
    frame = html.Div(html.Img(src=address, alt=f"The distribution at step {look.step:,}"), className="run-frame")
    return [
        show_text(
            ids.RUN_RIDGE_AT,
            [html.Div(words, className="run-title"), html.Div(frame, className="run-ridge-plot one")],
        )
    ]


def not_kept(asked: Asked, kind: str, step: int) -> html.P:
    """That distributions or maps of a step are not kept, and the nearest step of which they are."""
    what = {"bins": "distribution of this layer", "maps": "maps of the pinned picture"}[kind]
    kept = asked.run.kept.kept(kind)
    is_or = "is" if kind == "bins" else "are"
    found: list[Any] = [f"The {what} at step {step:,} {is_or} not kept."]
    near = [int(each) for each in kept if each != step]
    if near:
        nearest = min(near, key=lambda each: abs(each - step))
        changes = json.dumps({"run_step": str(nearest)})
        text = f"go to step {nearest:,}"
        found += [" ", html.Button(text, className="link", **{"data-do": "set", "data-value": changes})]
    return html.P(found, className="muted")


def _head(asked: Asked) -> html.Div:
    buttons = [
        html.Button(
            text,
            className="pill",
            **{"data-do": "set", "data-value": json.dumps({"run_kind": kind})},
            **{"aria-pressed": "true" if kind == asked.kind else "false"},
        )
        for kind, text in KINDS
    ]
    about = "Each row is one step; the bin of 0 is cut, so that it does not hide the others."
    return html.Div(
        [
            html.H2(["Distributions of ", html.Span(asked.layer, className="mono")], title=about),
            html.Div(buttons, className="set-choice live-only", role="group", **{"aria-label": "Distributions"}),
        ],
        className="run-title",
    )


def _rows(asked: Asked) -> tuple[list[int], list[np.ndarray]]:
    """Steps of which distributions are kept, at most about `ROWS`, and those, float64 (bin,)."""
    run: Followed = asked.run

    def make() -> tuple[list[int], list[np.ndarray]]:
        steps = np.intersect1d(run.kept.kept("bins"), run.kept.steps())
        stride = 1
        while len(steps) > ROWS * stride:
            stride *= 2  # so that the same steps stay when one comes
        chosen = sorted({*steps[::stride].tolist(), *steps[-1:].tolist()})
        found = [(step, run.kept.distribution(step, asked.kind, asked.layer)) for step in chosen]
        there = [(step, row.astype(np.float64)) for step, row in found if row is not None and row.sum() > 0]
        return [step for step, _ in there], [row for _, row in there]

    found: tuple[list[int], list[np.ndarray]] = run.kept.once(("ridges", run.mark, asked.kind, asked.layer), make)
    return found


def _range(rows: Sequence[np.ndarray]) -> tuple[int, int]:
    """Which bins hold anything in any row, and a few beside them."""
    there = np.flatnonzero(np.sum(rows, axis=0) > 0) if rows else np.zeros(0, np.int64)
    if not len(there):
        return 0, BINS
    return max(int(there[0]) - SPACE, 0), min(int(there[-1]) + 1 + SPACE, BINS)


def _zero(low: int, high: int) -> int:
    """Where the bin of 0 is among those that are shown; -1 if it is not."""
    return MIDDLE - low if low <= MIDDLE < high else -1


def _values(low: int, high: int) -> html.Div:
    """Which values stand below: powers of ten on both sides of 0."""
    wide = (high - low) / A_DECADE > 14
    marks = []
    for place in range(low, high):
        distance = place - MIDDLE
        power = (abs(distance) - 1) / A_DECADE - 11
        if distance == 0:
            text = "0"
        elif (abs(distance) - 1) % A_DECADE == 0 and round(power) % (4 if wide else 2) == 0:
            text = f"{'−' if distance < 0 else ''}{10.0 ** round(power):g}"
        else:
            continue
        # the edge that is nearer to 0 is the power of ten itself
        at = place + (0.5 if distance == 0 else 0.0 if distance > 0 else 1.0)
        marks.append(html.Span(text, style={"left": f"{100 * (at - low) / (high - low):.2f}%"}))
    return html.Div(html.Div(marks, className="run-frame"), className="run-values mono muted")
