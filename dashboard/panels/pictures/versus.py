"""The pictures that are shown against the others: two sets made of one, to see where in the model they part; and how
often each of two sets is answered rightly.
"""

from __future__ import annotations

import json

import numpy as np
from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.panels.pictures.choosing import Chosen
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.hooks.results.gaps import FEWEST
from hookscope.hooks.results.set_answers import UNLABELLED
from hookscope.hooks.results.sweeps import drawn_at

MOST = 500  # pictures of each of the two: sets are compared by a sample of 128


def against_others(looked: Looked, chosen: Chosen) -> html.Button | None:
    """What makes two sets, of the pictures that are shown and of the others, and looks where the model sees a gap."""
    if looked.progress.phase != "done" or not len(chosen.numbers) or not len(chosen.rest):
        return None
    mistakes = chosen.order == "mistakes"
    what = "mistakes against the right ones" if mistakes else "these against the others"
    of = looked.pictures.name
    names = (f"mistakes of {of}", f"right ones of {of}") if mistakes else (f"chosen of {of}", f"others of {of}")
    sides = [
        {"name": name, "numbers": _some(numbers)}
        for name, numbers in zip(names, (chosen.numbers, chosen.rest), strict=True)
    ]
    asked = {"set": looked.pictures.key, "version": looked.pictures.version, "model": looked.model, "sides": sides}
    again = sum(len(numbers) for numbers in (sides[0]["numbers"], sides[1]["numbers"]))
    text = f"{what} (looks through {format_count(again)} pictures again)"
    too_few = min(len(chosen.numbers), len(chosen.rest)) < FEWEST
    help_text = (
        f"With fewer than {FEWEST} pictures on a side nothing can be said of a gap."
        if too_few
        else "Make two sets of them, and see from which layer on the model tells them apart. Of many pictures "
        f"{MOST} are drawn. What is known of all of them together cannot be divided, so they are looked through again."
    )
    return html.Button(
        text,
        className="link versus live-only",
        title=help_text,
        disabled=too_few,
        **{"data-do": "versus", "data-value": json.dumps(asked)},
    )


def accuracies(looked: Looked, other: Looked) -> list[html.P]:
    """How often each of two sets is answered rightly; nothing where one has no labels."""
    told = []
    for side in (looked, other):
        answers = side.answers
        if answers is None or not (labelled := int((answers.labels != UNLABELLED).sum())):
            return []
        right = int(answers.right.sum())
        told.append(
            f"{right / labelled:.1%} of {side.pictures.name} ({format_count(right)} of {format_count(labelled)})"
        )
    return [html.P(f"Answered rightly: {told[0]}, {told[1]}.")]


def _some(numbers: np.ndarray) -> list[int]:
    """Some of the pictures, drawn at random from many."""
    found: list[int] = numbers[np.argsort(drawn_at(numbers), kind="stable")[:MOST]].tolist()
    return found
