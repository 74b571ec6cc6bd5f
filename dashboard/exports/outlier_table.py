"""How far the pictures of a set are from a baseline, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.sets.members import PictureSet
from hookscope.hooks.results.baseline_scores import SCORES, BaselineScores
from hookscope.hooks.results.set_answers import Answers

HEADER = (
    *("picture", "number", "in the baseline", "against", "label", "answer", "share", "margin"),
    *("distance", "its p", "energy", "p of the energy", "furthest", "p of the furthest"),
    *("first layer", "its call", "how", "layer furthest", "call of that", "how there"),
)


def outliers_csv(
    pictures: PictureSet, scores: BaselineScores, answers: Answers | None, names: Sequence[str], against: str
) -> str:
    """A row for each picture that was seen, those with the smallest probability first.

    Arguments:
        names: of the model's classes. against: what they are held against, in words.
    """
    order = np.lexsort((-scores.furthest, scores.layers_p))
    if (standing := scores.of("neighbours")) is not None:
        order = np.argsort(-np.nan_to_num(standing.values, nan=-np.inf), kind="stable")
    return csv_of(HEADER, list(_rows(pictures, scores, answers, names, order, against)))


def _rows(
    pictures: PictureSet,
    scores: BaselineScores,
    answers: Answers | None,
    names: Sequence[str],
    order: np.ndarray,
    against: str,
) -> Iterator[list[Any]]:
    known = {} if answers is None else {int(number): row for row, number in enumerate(answers.pictures)}
    standings, firsts = [scores.of(name) for name in SCORES], scores.firsts()
    for row in order.tolist():
        number = int(scores.pictures[row])
        member = pictures.members[number]
        told: list[Any] = ["", "", ""]
        if answers is not None and (at := known.get(number)) is not None:
            best = int(answers.best[at, 0])
            name = names[best] if best < len(names) else f"class {best}"
            told = [name, _short(answers.shares[at, 0]), _short(answers.margin[at])]
        numbers: list[Any] = []
        for each in standings:
            numbers += ["", ""] if each is None else [_short(each.values[row]), _short(each.p[row])]
        places: list[Any] = []
        for index in (int(firsts[row]), scores.worst(row)):
            if index is None or index < 0:
                places += ["", "", ""]
            else:
                places += [*scores.layers[index], scores.describe(row, index)]
        inside = "yes" if scores.inside[row] else ""
        yield [member.place, number, inside, against, member.group, *told, *numbers, *places]


def _short(value: float) -> float | str:
    """With six digits; nothing of what is no number."""
    return "" if np.isnan(value) else float(f"{value:.6g}")
