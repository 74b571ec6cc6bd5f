"""Which of a set's pictures are shown, and in which order: by class, by what is taken for what, by a second model, by
file name; the least sure first, or the most alike.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.pictures.looked import Looked, Looking
from hookscope.dashboard.sets.agreeing import Agreement
from hookscope.dashboard.sets.alike import cosines, features_at, features_of
from hookscope.hooks.results.set_answers import Answers

LONGEST_NAME = 80  # as file labels are cut
ANY = -1  # stands where a class or a picture is not chosen


class _ShortTexts(Collection[str]):
    """Every text that can be a part of a file's name as the page shows it."""

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str) and len(text) <= LONGEST_NAME and text.isprintable()

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


SHORT_TEXTS = _ShortTexts()


@state
@dataclass(frozen=True)
class Choosing:
    """Which pictures of a set are shown, beside what `Looking` says.

    Attributes:
        named: a part of their files' names, in which * and ? may stand for any letters and for one.
        of_label, of_answer: those that are said to show the one class and taken for the other; -1 for any.
        agreement: how a second model answers them, as `Agreement.of` has it.
        alike: the number of the picture that they are like, -1 for A.
    """

    named: Annotated[str, SHORT_TEXTS] = ""
    of_label: int = ANY
    of_answer: int = ANY
    agreement: Literal["", "otherwise", "right", "this", "other", "wrong"] = ""
    alike: int = ANY


# as fields of the view
NOTHING_CHOSEN = asdict(Choosing()) | {"of_class": ANY, "from_picture": 0, "shown": Looking().shown}
ORDERS = (
    ("mistakes", "mistakes", "Answered otherwise than their label says, the most confident first"),
    ("unsure", "least sure", "The first class least ahead of the second"),
    ("doubtful", "least confident", "The first class with the smallest share"),
    ("energy", "most energy", "The largest -log of the sum of the exponentials of the logits: least like the training"),
    ("all", "all", "By name"),
    ("alike", "like A", "By the cosine with A's features before the head; of an embedding, with the answer itself"),
)


@dataclass(frozen=True)
class Chosen:
    """What is shown.

    Attributes:
        order: the name of one of `ORDERS`.
        numbers: int64 (picture,), the pictures, in this order.
        rest: int64 (picture,), the others: of mistakes, what is answered rightly.
        values: by number, what they are ordered by, where that is told of each: a margin, an energy, a cosine.
        named: how many pictures of the set have the name that is asked for.
    """

    order: str
    numbers: np.ndarray
    rest: np.ndarray
    values: dict[int, float]
    named: int


def orders(looked: Looked, answers: Answers | None) -> list[str]:
    """The orders that can be chosen, by name; the first is taken where none was chosen that there is."""
    there = {"all"}
    if answers is not None and len(answers.pictures):
        there |= {"mistakes"} if looked.labelled else set()
        there |= {"unsure"} if np.isfinite(answers.margin).any() else set()
        there |= {"doubtful"} if answers.reads not in ("values", "embedding") else set()
        there |= {"energy"} if np.isfinite(answers.energy).any() else set()
    chosen = looked.scene.view.of(Choosing).alike != ANY
    if features_of(looked.found) is not None and (chosen or side_like(looked)):
        there |= {"alike"}
    return [name for name, _, _ in ORDERS if name in there]


def side_like(looked: Looked) -> str:
    """The side whose picture the set's can be ordered by: one that is in the same model; "" if there is none."""
    scene = looked.scene
    return next((side for side in scene.inputs if scene.view.model_of(side) == looked.model), "")


def choose(
    looked: Looked, answers: Answers | None, agreement: Agreement | None, likeness: np.ndarray | None = None
) -> Chosen:
    """The pictures that the view asks for.

    Arguments:
        agreement: with a second model, if there is one. likeness: the features of what they are ordered by likeness to,
            if that is no picture of the set.
    """
    view = looked.scene.view
    looking, choosing = view.of(Looking), view.of(Choosing)
    offered = orders(looked, answers)
    order = looking.shown if looking.shown in offered else offered[0]
    names = [member.name for member in looked.pictures.members]
    numbers, values = _ordered(looked, answers, order, names, likeness)
    fits = np.array([fits_name(name, choosing.named) for name in names], bool)
    kept = fits & _of_classes(looked, answers, looking, choosing)
    if choosing.agreement:
        kept &= np.isin(np.arange(len(names)), [] if agreement is None else agreement.of(choosing.agreement))
    shown = numbers[kept[numbers]]
    if order == "mistakes" and answers is not None:
        others = answers.pictures[answers.right]
        rest = others[kept[others]]
    else:
        rest = np.setdiff1d(numbers, shown)
    return Chosen(order, shown, rest, values, int(fits.sum()))


def _ordered(
    looked: Looked, answers: Answers | None, order: str, names: list[str], likeness: np.ndarray | None
) -> tuple[np.ndarray, dict[int, float]]:
    """All pictures that belong to an order, and what they are ordered by."""
    if order == "alike":
        return _by_likeness(looked, likeness)
    if answers is None:
        seen = np.zeros(0, np.int64) if looked.found is None else looked.found.pictures
        return seen[np.argsort([names[number] for number in seen], kind="stable")], {}
    if order == "mistakes":
        return answers.pictures[answers.mistakes()], {}
    if order == "all":
        return answers.pictures[np.argsort([names[number] for number in answers.pictures], kind="stable")], {}
    by = {"unsure": answers.margin, "doubtful": answers.shares[:, 0], "energy": -answers.energy}[order]
    rows = np.argsort(np.nan_to_num(by, nan=np.inf), kind="stable")
    told = dict(zip(answers.pictures.tolist(), (-by if order == "energy" else by).tolist(), strict=True))
    return answers.pictures[rows], {} if order == "doubtful" else told  # each picture says its share anyway


def _by_likeness(looked: Looked, likeness: np.ndarray | None) -> tuple[np.ndarray, dict[int, float]]:
    """The most alike first; of a picture of the set, itself."""
    features, to = features_of(looked.found), looked.scene.view.of(Choosing).alike
    assert features is not None  # or this order would not be offered
    vector = features_at(features, to) if to != ANY else likeness
    if vector is None or vector.shape != features.values.shape[1:]:
        return np.zeros(0, np.int64), {}
    found = cosines(features, vector)
    order = np.lexsort((features.pictures != to, -found))
    return features.pictures[order], dict(zip(features.pictures.tolist(), found.tolist(), strict=True))


def _of_classes(looked: Looked, answers: Answers | None, looking: Looking, choosing: Choosing) -> np.ndarray:
    """Bool (picture,), of every picture of the set: whether it is about the chosen classes."""
    label, best = looked.labels, np.full(len(looked.pictures.members), ANY, np.int64)
    if answers is not None:
        best[answers.pictures] = answers.best[:, 0]
    kept = np.ones(len(label), bool)
    if looking.of_class != ANY:
        kept &= (label == looking.of_class) | (best == looking.of_class)
    if choosing.of_label != ANY:
        kept &= label == choosing.of_label
    if choosing.of_answer != ANY:
        kept &= best == choosing.of_answer
    return kept


def fits_name(name: str, pattern: str) -> bool:
    """Whether a file's name contains a text, capitals aside, in which * stands for anything and ? for one letter.

    >>> [fits_name("IMG_07.png", pattern) for pattern in ("img", "i*7.", "g_??.", "8")]
    [True, True, True, False]
    """
    name, pattern = name.casefold(), pattern.casefold()
    return pattern in name or (any(sign in pattern for sign in "*?") and fnmatch.fnmatchcase(name, f"*{pattern}*"))


def chips(looked: Looked, chosen: Chosen, other: str) -> list[Any]:
    """What was chosen, each with a click that takes it back, and how many pictures are left; nothing if nothing was.

    Arguments:
        other: what the second model is called.
    """
    buttons = [
        html.Button(
            f"{text} ×",
            className="pill",
            title="Take this back",
            **{"data-do": "set", "data-value": json.dumps({**change, "from_picture": 0})},
        )
        for text, change in _taken_back(looked, chosen, other)
    ]
    count = len(chosen.numbers)
    said = "one picture" if count == 1 else f"{format_count(count)} pictures"
    return [*buttons, html.Span(said, className="muted")] if buttons else []


def _taken_back(looked: Looked, chosen: Chosen, other: str) -> list[tuple[str, dict[str, object]]]:
    """What was chosen in words, and what of the view takes it back."""
    view = looked.scene.view
    looking, choosing = view.of(Looking), view.of(Choosing)
    found: list[tuple[str, dict[str, object]]] = []
    if looking.of_class != ANY:
        found.append((looked.name(looking.of_class), {"of_class": ANY}))
    if choosing.of_label != ANY or choosing.of_answer != ANY:
        found.append((_pair(looked, choosing), {"of_label": ANY, "of_answer": ANY}))
    if choosing.agreement:
        found.append((WORDS[choosing.agreement].format(other=other), {"agreement": ""}))
    if choosing.named:
        found.append((f"name: {choosing.named}", {"named": ""}))
    if chosen.order == "alike" and choosing.alike != ANY and choosing.alike < len(looked.pictures.members):
        name = looked.pictures.members[choosing.alike].name
        found.append((f"like {name}", {"alike": ANY, "shown": "mistakes"}))
    return found


WORDS = {
    "otherwise": "{other} answers otherwise",
    "right": "both right",
    "this": "right in {other} only",
    "other": "wrong in {other} only",
    "wrong": "both wrong",
}


def _pair(looked: Looked, choosing: Choosing) -> str:
    label, answer = choosing.of_label, choosing.of_answer
    if answer == ANY:
        return f"labelled {looked.name(label)}"
    if label == ANY:
        return f"taken for {looked.name(answer)}"
    if label == answer:
        return f"{looked.name(label)}, answered rightly"
    return f"{looked.name(label)} taken for {looked.name(answer)}"


def none_such(looked: Looked, chosen: Chosen) -> str:
    """Why no picture is shown."""
    named = looked.scene.view.of(Choosing).named
    if named and not chosen.named:
        return f"No picture's name contains “{named}”."
    if chosen.order == "alike":
        return "What these pictures are to be like is not known."
    view = looked.scene.view
    if view.of(Looking).of_class == ANY and view.of(Choosing) == Choosing(alike=view.of(Choosing).alike):
        return "No mistake: every picture with a label is answered as it says."
    return "No picture is all of this at once. Take something back."
