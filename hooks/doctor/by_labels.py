"""What the labels of pictures say of a preparation: whether the first class is the label more often than by chance.

They are the surest evidence that there is, whatever the pictures show and however much these are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from hookscope.hooks.datasets.collectors import AnswersCollector
from hookscope.hooks.datasets.sweeping import Sweeping
from hookscope.hooks.doctor.answers import by_chance, label_rows, read_answers
from hookscope.hooks.doctor.chances import at_least, beyond
from hookscope.hooks.doctor.patient import AT_ONCE, CannotTell, Patient
from hookscope.hooks.doctor.ways import Way
from hookscope.hooks.results.findings import Bars, Finding
from hookscope.hooks.results.set_answers import Answers

LEAST_LABELLED = 8  # pictures
MOST_LABELLED = 64  # pictures that are prepared in other ways
TRUSTED = 0.5  # share of the labels that the first class has to be in the right preparation
DECISIVE_P = 0.01  # chance, below which more right answers are no chance: for all ways together


def of_these(batches: Sequence[Tensor], chosen: np.ndarray) -> list[Tensor]:
    """The pictures of these numbers, batch by batch."""
    found, number = [], 0
    for batch in batches:
        here = chosen[(chosen >= number) & (chosen < number + len(batch))] - number
        if len(here):
            found.append(batch[torch.from_numpy(here).to(batch.device)])
        number += len(batch)
    return found


def answers_to(patient: Patient, batches: Sequence[Tensor], labels: np.ndarray) -> Answers:
    """What the model answers to these pictures.

    Raises:
        CannotTell: no classes.
    """
    run = Sweeping(patient.model, [AnswersCollector(beyond=True)], described=patient.layers)
    number = 0
    for batch in batches:
        for part in batch.split(AT_ONCE):
            here = np.arange(number, number + len(part))
            run.add(part, here, labels[here])
            number += len(part)
            patient.step()
    found = run.found().answers
    if found is None:
        raise CannotTell("The model answers no classes when the same pictures are prepared otherwise.")
    return found


def need_finite(answers: Answers, chosen: np.ndarray) -> None:
    """Have a rule that compares answers say that they are no numbers.

    Raises:
        CannotTell: the answers to some of these pictures are not finite.
    """
    bad = int((~np.isfinite(answers.shares[chosen]).all(1)).sum())
    if bad:
        raise CannotTell(
            f"The answers to {bad} of {len(chosen)} pictures are not finite (NaN or infinity), so that nothing can be "
            "told from them: see non-finite first."
        )


def is_better(patient: Patient, others: Callable[[], Iterable[Tensor]]) -> bool:
    """Whether the first class is the label of significantly more pictures when they are prepared so."""
    chosen = _labelled(patient)
    if len(chosen) < LEAST_LABELLED:
        return False
    given = read_answers(patient).right[chosen]
    would = answers_to(patient, of_these(list(others()), chosen), patient.labels[chosen]).right
    return _chance(given, would) < DECISIVE_P and bool(would.sum() > given.sum())


def other_preparation(
    patient: Patient, given: Way, others: Sequence[tuple[Way, Callable[[], Iterable[Tensor]]]]
) -> Finding | None:
    """What to say where the answers are right no more often than by chance, and in another preparation are.

    Arguments:
        others: each with what gives the pictures prepared in it.
    """
    chosen = _labelled(patient)
    if len(chosen) < LEAST_LABELLED or not others:
        return None
    answers, labels = read_answers(patient), patient.labels[chosen]
    right = answers.right[chosen]
    if by_chance(answers.best[chosen, 0], labels, answers.classes) < DECISIVE_P:
        return None
    tried: list[tuple[Way, int, float]] = []
    for way, prepared in others:
        found = answers_to(patient, of_these(list(prepared()), chosen), labels)
        p = max(_chance(right, found.right), by_chance(found.best[:, 0], labels, found.classes))
        tried.append((way, int(found.right.sum()), min(p * len(others), 1.0)))
    way, would, p = max(tried, key=lambda each: (each[1], -each[2]))  # of as many the first
    if not p < DECISIVE_P or would < TRUSTED * len(chosen):
        return None
    names = ["as given", *(each.words.removeprefix("pixels of ") for each, *_ in tried)]
    return Finding(
        "preprocessing",
        "error",
        f"The pictures look like {given.words}, and the first class is the label of {right.sum()} of {len(chosen)}, no "
        f"more than by chance; as {way.words} it would be of {would} (p {p:.1g}, limit {DECISIVE_P:g}).",
        why="Every layer is given other values than in training, and the answers are chance without any error.",
        about="input",
        value=p,
        limit=DECISIVE_P,
        excess=beyond(p, DECISIVE_P),
        evidence=Bars(
            "pictures whose first class is the label",
            tuple(names),
            (float(right.sum()), *(float(count) for _, count, _ in tried)),
            bad=0,
            good=1 + [each is way for each, *_ in tried].index(True),
        ),
        preparation=way.text,
    )


def _labelled(patient: Patient) -> np.ndarray:
    """Int64 (picture,): the numbers of labelled pictures, evenly over all of them; none where the answers are no
    classes or not finite.
    """
    try:
        answers = read_answers(patient)
        rows = label_rows(patient, answers)
        if len(rows) > MOST_LABELLED:
            rows = rows[np.linspace(0, len(rows) - 1, MOST_LABELLED).round().astype(np.int64)]
        need_finite(answers, rows)
    except CannotTell:
        return np.zeros(0, np.int64)
    return rows


def _chance(given: np.ndarray, would: np.ndarray) -> float:
    ahead, behind = int((would & ~given).sum()), int((given & ~would).sum())
    return at_least(ahead, ahead + behind)
