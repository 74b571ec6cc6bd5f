"""How well each class of a set is answered, and what is taken for what; without labels, how often each is answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.pictures.choosing import ANY, Choosing
from hookscope.dashboard.panels.pictures.links import csv_link
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.hooks.results.set_answers import UNLABELLED, Answers

LISTED = 12  # classes of the table, before it is opened
LARGEST = 20  # classes of a matrix; of more the most frequent pairs are listed
PAIRS = 30
SHORT = 4  # letters of a name that fits over a column
COLUMNS = (
    ("class", "name", "Sort by name"),
    ("right", "wrong", "Sort by how many are wrong, the most first"),
    ("%", "accuracy", "Sort by the share that is right, the least accurate first"),
)
MATRIX_HELP = (
    "Rows are what the pictures are said to show, columns what they are taken for. A click shows these pictures."
)


@state
@dataclass(frozen=True)
class Classes:
    """How the table of classes is shown.

    Attributes:
        classes_by: in which order. all_classes: whether all of them are listed.
    """

    classes_by: Literal["wrong", "accuracy", "name"] = "wrong"
    all_classes: bool = False


def classes(looked: Looked) -> list[Any]:
    """How well each class is answered, or how often it is answered where nobody says what pictures show."""
    answers = looked.answers
    if answers is None or not len(answers.pictures) or answers.reads == "values":
        return []
    if not looked.labelled or not (answers.labels != UNLABELLED).any():
        return _answered(looked, answers)
    found, counts = answers.confusion()
    totals, right = counts.sum(1), np.diag(counts)
    chosen = looked.scene.view.of(Classes)
    labelled = np.flatnonzero(totals)
    rows = [int(row) for row in labelled[_order(looked, chosen.classes_by, found, totals, right)[labelled].argsort()]]
    shown = rows if chosen.all_classes else rows[:LISTED]
    head = html.Tr([*(_heading(*each, chosen) for each in COLUMNS), html.Th("most often taken for")])
    body = [_class_row(looked, found, counts, row) for row in shown]
    return [
        html.Div([html.H2("Classes"), _csv(looked, "answers")], className="head"),
        html.Table([html.Thead(head), html.Tbody(body)], className="classes"),
        _more(chosen, len(rows)),
    ]


def _order(looked: Looked, by: str, found: np.ndarray, totals: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Int64 (class,): the place of each class in the table."""
    if by == "name":
        order = np.argsort([looked.name(int(index)).casefold() for index in found], kind="stable")
    elif by == "accuracy":
        share = np.divide(right, totals, out=np.ones(len(totals)), where=totals > 0)
        order = np.lexsort((-totals, share))
    else:
        order = np.argsort(right - totals, kind="stable")
    return order.argsort()


def _heading(text: str, by: str, help_text: str, chosen: Classes) -> html.Th:
    """A column's head, which sorts by it."""
    pressed = chosen.classes_by == by
    change = {"data-do": "set", "data-value": json.dumps({"classes_by": by})}
    button = html.Button(text, className="link told", title=help_text, **change)
    order = {"aria-sort": "ascending" if by != "wrong" else "descending"} if pressed else {}
    return html.Th(button, className="sorted" if pressed else None, **order)


def _class_row(looked: Looked, found: np.ndarray, counts: np.ndarray, row: int) -> html.Tr:
    total, right = int(counts[row].sum()), int(counts[row, row])
    others = counts[row].copy()
    others[row] = 0
    taken = int(others.argmax())
    index = int(found[row])
    confused: Any = ""
    if others[taken]:
        text = f"{looked.name(int(found[taken]))} ({int(others[taken])})"
        confused = _pair_button(index, int(found[taken]), text, f"Show these {int(others[taken])} alone")
    numbers = [html.Td(text, className="mono") for text in (f"{right} of {total}", f"{100 * right / total:.0f}")]
    return html.Tr([html.Td(_class_button(looked, index)), *numbers, html.Td(confused)])


def _class_button(looked: Looked, index: int) -> html.Button:
    change = {"data-do": "set", "data-value": json.dumps({"of_class": index, "from_picture": 0})}
    change["data-scroll"] = ids.SET_MISTAKES
    return html.Button(looked.name(index), className="link told", title="Show its pictures alone", **change)


def _pair_button(label: int, answer: int, text: str, help_text: str, **more: Any) -> html.Button:
    shown = "all" if label == answer else "mistakes"
    change = {"of_label": label, "of_answer": answer, "of_class": ANY, "shown": shown, "from_picture": 0}
    action = {"data-do": "set", "data-value": json.dumps(change), "data-scroll": ids.SET_MISTAKES}
    return html.Button(text, className="link told", title=help_text, **action, **more)


def _more(chosen: Classes, count: int) -> html.P | None:
    if count <= LISTED:
        return None
    text = "fewer" if chosen.all_classes else f"and {count - LISTED:,} more"
    change = {"data-do": "set", "data-value": json.dumps({"all_classes": not chosen.all_classes})}
    return html.P(html.Button(text, className="link", **change), className="live-only")


def _answered(looked: Looked, answers: Answers) -> list[Any]:
    """How often each class is answered, and how confidently."""
    found, inverse, counts = np.unique(answers.best[:, 0], return_inverse=True, return_counts=True)
    means = np.bincount(inverse, answers.shares[:, 0]) / counts
    order = np.argsort(-counts, kind="stable")
    chosen = looked.scene.view.of(Classes)
    shown = order if chosen.all_classes else order[:LISTED]
    head = html.Tr([html.Th(text) for text in ("answer", "pictures", "mean share")])
    rows = [
        html.Tr(
            [
                html.Td(_class_button(looked, int(found[row]))),
                html.Td(format_count(int(counts[row])), className="mono"),
                html.Td(f"{means[row]:.2f}", className="mono"),
            ]
        )
        for row in shown
    ]
    return [
        html.Div([html.H2("Answers"), _csv(looked, "answers")], className="head"),
        html.Table([html.Thead(head), html.Tbody(rows)], className="classes"),
        _more(chosen, len(found)),
    ]


def matrix(looked: Looked) -> list[Any]:
    """What is taken for what: a matrix of the classes that occur, or the most frequent pairs of many."""
    answers = looked.answers
    if answers is None or not looked.labelled or not (answers.labels != UNLABELLED).any():
        return []
    found, counts = answers.confusion()
    head = html.Div([html.H2("Taken for", title=MATRIX_HELP), _csv(looked, "confusion")], className="head")
    if len(found) > LARGEST:
        return [head, *_pairs(looked, found, counts)]
    return [head, html.P(MATRIX_HELP, className="muted live-only"), _matrix(looked, found, counts)]


def _matrix(looked: Looked, found: np.ndarray, counts: np.ndarray) -> html.Table:
    names = [looked.name(int(index)) for index in found]
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    top = html.Tr([html.Th("is \\ taken for"), *(html.Th(html.Span(name), title=name) for name in names)])
    chosen = looked.scene.view.of(Choosing)
    rows = []
    for row, name in enumerate(names):
        if not totals[row, 0]:
            continue
        cells = [
            _cell(looked, (int(found[row]), int(found[column])), int(count), float(shares[row, column]), chosen)
            for column, count in enumerate(counts[row])
        ]
        rows.append(html.Tr([html.Th(name, title=name), *cells]))
    tall = " tall" if max(map(len, names)) > SHORT else ""  # names that stand upright
    return html.Table([html.Thead(top), html.Tbody(rows)], className=f"confusion{tall}")


def _cell(looked: Looked, pair: tuple[int, int], count: int, share: float, chosen: Choosing) -> html.Td:
    """One cell: a number on a ground as strong as its share of the row."""
    label, answer = pair
    if not count:
        return html.Td("")
    is_right = label == answer
    said = "answered rightly" if is_right else f"taken for {looked.name(answer)}"
    about = f"{looked.name(label)} {said}: {count:,}, {share:.0%} of its pictures"
    pressed = {"aria-pressed": "true" if (chosen.of_label, chosen.of_answer) == pair else "false"}
    button = _pair_button(label, answer, format_count(count), about, **pressed, **{"aria-label": about})
    return html.Td(
        [html.Span(className="ground", style={"opacity": f"{0.08 + 0.62 * share:.3f}"}), button],
        className="right" if is_right else "wrong",
    )


def _pairs(looked: Looked, found: np.ndarray, counts: np.ndarray) -> list[Any]:
    """The pairs that are most often taken for one another."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")
    places = [divmod(int(place), len(found)) for place in order[:PAIRS] if wrong.flat[place]]
    there = int((wrong > 0).sum())
    if not places:
        return [html.P("Nothing is taken for anything else.", className="muted")]
    cells = [_pair_line(looked, int(found[row]), int(found[column]), int(wrong[row, column])) for row, column in places]
    left = there - len(places)
    more = [html.P(f"and {left:,} pairs more, in the CSV.", className="muted")] if left > 0 else []
    text = f"{len(found):,} classes occur; the pairs that are confused most often:"
    return [html.P(text, className="muted"), html.Div(cells, className="pairs"), *more]


def _pair_line(looked: Looked, label: int, answer: int, count: int) -> html.P:
    times = "once" if count == 1 else f"{count:,} times"
    text = f"{looked.name(label)} taken for {looked.name(answer)}"
    return html.P([_pair_button(label, answer, text, "Show these pictures alone"), f", {times}"])


TABLES = {
    "answers": ("CSV", "A row for each picture: its label, its answer and how sure it is"),
    "confusion": ("pairs as CSV", "How often each class is taken for each, of all pairs that occur"),
}


def _csv(looked: Looked, table: str) -> html.A:
    text, help_text = TABLES[table]
    return csv_link(looked, table, text, help_text)
