"""A layer's map of a set, and how much variety each layer lets through, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.sets.embeddings import Plane
from hookscope.dashboard.sets.members import PictureSet
from hookscope.hooks.results.information import SetInformation
from hookscope.hooks.results.set_answers import UNLABELLED, Answers

PLANE = ("picture", "number", "label", "answer", "wrong", "first axis", "second axis")
INFORMATION = (
    *("layer", "call", "type", "channels", "pictures", "entropy (bits)"),
    *("effective rank", "at most", "participation ratio"),
)


def plane_csv(pictures: PictureSet, plane: Plane, answers: Answers | None, names: Sequence[str]) -> str:
    """A row for each point: where it lies, what it is said to show, what it is answered with."""
    rows = {} if answers is None else {int(number): row for row, number in enumerate(answers.pictures)}
    lines = []
    for number, (first, second) in zip(plane.pictures.tolist(), plane.embedding.points.tolist(), strict=True):
        member, row = pictures.members[number], rows.get(number)
        answer, wrong = "", ""
        if answers is not None and row is not None:
            best, label = int(answers.best[row, 0]), int(answers.labels[row])
            answer = names[best] if best < len(names) else f"class {best}"
            wrong = "" if label == UNLABELLED else str(int(best != label))
        lines.append([member.name, number, member.group, answer, wrong, _short(first), _short(second)])
    return csv_of(PLANE, lines)


def information_csv(flow: Sequence[SetInformation]) -> str:
    """A row for each layer, in execution order."""
    rows = [
        [
            *(step.layer, step.call, step.type, step.channels, step.pictures, _short(step.entropy)),
            *(_short(step.effective_rank), step.ceiling, _short(step.participation_ratio)),
        ]
        for step in flow
    ]
    return csv_of(INFORMATION, rows)


def _short(value: float) -> float | str:
    return float(f"{value:.6g}") if np.isfinite(value) else ""
