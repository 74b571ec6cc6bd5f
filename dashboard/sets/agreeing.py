"""Two models over one set: which pictures both answer rightly, which one alone gets wrong, and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hookscope.dashboard.sets import labels
from hookscope.hooks.results.set_answers import UNLABELLED, Answers

ELSEWHERE = -2  # a class that the first model does not have


@dataclass(frozen=True)
class Agreement:
    """What two models answered to the pictures that both have seen.

    Attributes:
        pictures: int64 (picture,), their numbers, rising.
        judged: bool (picture,), those that are said to show a class of both models.
        first_right, second_right: bool (picture,), False where that is not said.
        otherwise: bool (picture,), where the two answer different classes; None where their classes cannot be compared.
        by: "names" or "numbers" of the classes, by which they were compared; "" where neither can be.
    """

    pictures: np.ndarray
    judged: np.ndarray
    first_right: np.ndarray
    second_right: np.ndarray
    otherwise: np.ndarray | None
    by: str

    def of(self, kind: str) -> np.ndarray:
        """Int64 (picture,): the numbers of the pictures of one kind.

        Arguments:
            kind: "right", both are; "this", the first alone is wrong; "other", the second alone; "wrong", both are;
                "otherwise", they answer different classes.
        """
        if kind == "otherwise":
            return self.pictures[np.zeros(len(self.pictures), bool) if self.otherwise is None else self.otherwise]
        first, second = kind in ("right", "other"), kind in ("right", "this")
        return self.pictures[self.judged & (self.first_right == first) & (self.second_right == second)]


def agree(
    first: Answers, second: Answers, names: tuple[Sequence[str], Sequence[str]], named: tuple[bool, bool]
) -> Agreement:
    """Hold the answers of two models against each other, picture by picture.

    Classes are compared by name where both models bring names, and by number where one does not, or the names are the
    same, and they have equally many.

    Arguments:
        first, second: labelled each with its own model's classes. names: of the classes of each. named: whether those
            are the model's own, and not made up.
    """
    pictures, rows, others = np.intersect1d(first.pictures, second.pictures, return_indices=True)
    best, best_other = first.best[rows, 0].astype(np.int64), second.best[others, 0].astype(np.int64)
    wanted, wanted_other = first.labels[rows], second.labels[others]
    by, in_first = _translation(names, named)
    if by == "numbers":  # a label that only one of them knows by name is the other's of the same number
        wanted = np.where(wanted == UNLABELLED, wanted_other, wanted)
        wanted_other = np.where(wanted_other == UNLABELLED, wanted, wanted_other)
    judged = (wanted != UNLABELLED) & (wanted_other != UNLABELLED)
    return Agreement(
        pictures,
        judged,
        judged & (best == wanted),
        judged & (best_other == wanted_other),
        in_first[best_other] != best if by else None,
        by,
    )


def _translation(names: tuple[Sequence[str], Sequence[str]], named: tuple[bool, bool]) -> tuple[str, np.ndarray]:
    """By what classes are compared, and which of the first model's each of the second's is."""
    first, second = names
    same = np.arange(len(second))
    if tuple(first) == tuple(second):
        return ("names" if all(named) else "numbers"), same
    if not all(named):
        return ("numbers" if len(first) == len(second) else ""), same
    whole = labels.match(second, first)
    short = labels.match([name.partition(",")[0] for name in second], first)
    found = [whole[name] if whole[name] >= 0 else short[name.partition(",")[0]] for name in second]
    in_first = np.array([index if index >= 0 else ELSEWHERE for index in found], np.int64)
    return ("names" if (in_first >= 0).any() else ""), in_first
