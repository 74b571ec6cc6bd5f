"""The pictures themselves: which are answered wrongly, most confidently first, and the classes that are taken for one
another.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.panels.pictures.looked import Looked, Looking
from hookscope.hooks.results.set_answers import Answers

PER_PAGE = 24
LISTED = 12  # classes of the table
ORDERS = (
    ("mistakes", "mistakes", "Answered otherwise than their label says, the most confident first"),
    ("unsure", "least sure", "The first class least ahead of the second"),
    ("all", "all", "By name"),
)


def pictures(looked: Looked) -> list[Any]:
    """The grid of pictures, with what they are sorted and chosen by."""
    answers = looked.answers
    if answers is None or not len(answers.pictures):
        return _nothing(looked)
    looking = looked.scene.view.of(Looking)
    chosen = looking.shown if looked.labelled or looking.shown != "mistakes" else "unsure"
    rows = _rows(answers, chosen, looking.of_class, [member.name for member in looked.pictures.members])
    start = min(looking.from_picture, max(len(rows) - 1, 0)) // PER_PAGE * PER_PAGE
    page = rows[start : start + PER_PAGE]
    return [
        html.Div([html.H2(_title(looked, answers)), _orders(looked, chosen), _class(looked)], className="head"),
        html.P(_help(looked), className="muted live-only"),
        html.Div([_cell(looked, answers, int(row)) for row in page], className="thumbs"),
        step_through(start, len(rows), "from_picture", PER_PAGE),
    ]


def _nothing(looked: Looked) -> list[Any]:
    text = "computing …" if looked.progress.phase == "running" else "Its pictures and mistakes will stand here."
    return [html.P(text, className="muted")]


def _rows(answers: Answers, shown: str, of_class: int, names: list[str]) -> np.ndarray:
    """Which rows of the answers are shown, in their order; `names` are those of all pictures of the set."""
    if shown == "mistakes":
        rows = answers.mistakes()
    elif shown == "unsure":
        rows = np.argsort(np.nan_to_num(answers.margin, nan=np.inf), kind="stable")
    else:
        rows = np.argsort([names[number] for number in answers.pictures], kind="stable")
    if of_class < 0:
        return rows
    return rows[(answers.labels[rows] == of_class) | (answers.best[rows, 0] == of_class)]


def _title(looked: Looked, answers: Answers) -> str:
    so_far = " so far" if looked.progress.phase == "running" else ""
    labelled = int((answers.labels >= 0).sum())
    if looked.labelled and labelled:
        wrong = len(answers.mistakes())
        noun = "mistake" if wrong == 1 else "mistakes"
        return f"{format_count(wrong)} {noun} among {format_count(labelled)}{so_far} · {answers.accuracy:.1%} right"
    return f"{format_count(len(answers.pictures))} answers{so_far}"


def _orders(looked: Looked, chosen: str) -> html.Div:
    buttons = [
        html.Button(
            text,
            title=help_text,
            **{"data-do": "set", "data-value": json.dumps({"shown": name, "from_picture": 0})},
            **{"aria-pressed": "true" if name == chosen else "false"},
        )
        for name, text, help_text in ORDERS
        if name != "mistakes" or looked.labelled
    ]
    return html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "Which pictures"})


def _class(looked: Looked) -> html.Button | None:
    of_class = looked.scene.view.of(Looking).of_class
    if of_class < 0:
        return None
    change = {"data-do": "set", "data-value": json.dumps({"of_class": -1, "from_picture": 0})}
    return html.Button(f"{looked.name(of_class)} ×", className="pill", title="Show all classes again", **change)


def _help(looked: Looked) -> str:
    if looked.labelled:
        return (
            "A click: the picture as A, as B the most alike one of its class that is answered rightly, and where they "
            "part; A alone where none is."
        )
    return "A click has the picture as A, in Layers and Depth."


def _cell(looked: Looked, answers: Answers, row: int) -> html.Button:
    number, label = int(answers.pictures[row]), int(answers.labels[row])
    best, share = int(answers.best[row, 0]), float(answers.shares[row, 0])
    name = looked.pictures.members[number].name
    wrong = label >= 0 and best != label
    said = looked.name(best)
    text = [html.Span([said, " ", html.Span(f"{share:.2f}", className="mono")], className="said")]
    if wrong:
        text.append(html.Span(f"is: {looked.name(label)}", className="muted"))
    value = json.dumps({"set": looked.pictures.key, "model": looked.model, "number": number})
    about = f"{name}: {said} {share:.3f}" + (f", labelled {looked.name(label)}" if label >= 0 else "")
    return html.Button(
        [html.Img(src=looked.preview(number), alt=name), *text],
        className="thumb wrong" if wrong else "thumb",
        title=about,
        **{"data-do": "open-member", "data-value": value, "aria-label": about},
    )


def step_through(start: int, total: int, field: str, size: int) -> html.Div | None:
    """Steps through what does not fit."""
    if total <= size:
        return None

    def step(to: int, text: str) -> html.Button:
        there = 0 <= to < total
        return html.Button(
            text, className="link", disabled=not there, **{"data-do": "set", "data-value": json.dumps({field: to})}
        )

    place = f"{start + 1:,} to {min(start + size, total):,} of {total:,}"
    return html.Div(
        [step(start - size, "before"), html.Span(place, className="muted"), step(start + size, "more")],
        className="pages live-only",
    )


def classes(looked: Looked) -> list[Any]:
    """How well each class is answered, and what is taken for what."""
    answers = looked.answers
    if answers is None or not looked.labelled or not (answers.labels >= 0).any():
        return []
    found, counts = answers.confusion()
    totals = counts.sum(1)
    wrong = totals - np.diag(counts)
    order = np.argsort(-wrong, kind="stable")
    shown = [int(row) for row in order if totals[row]][:LISTED]
    head = html.Tr([html.Th(text) for text in ("class", "right", "most often taken for")])
    rows = [_class_row(looked, found, counts, row) for row in shown]
    left = int((totals > 0).sum()) - len(shown)
    more = [html.P(f"and {left:,} classes more, in the CSV.", className="muted")] if left > 0 else []
    link = html.A("CSV", href=_csv_address(looked), download="answers.csv", className="link")
    return [
        html.Div([html.H2("Classes"), link], className="head"),
        html.Table([html.Thead(head), html.Tbody(rows)], className="classes"),
        *more,
    ]


def _class_row(looked: Looked, found: np.ndarray, counts: np.ndarray, row: int) -> html.Tr:
    total, right = int(counts[row].sum()), int(counts[row, row])
    others = counts[row].copy()
    others[row] = 0
    taken = int(others.argmax())
    index = int(found[row])
    change = {"data-do": "set", "data-value": json.dumps({"of_class": index, "from_picture": 0})}
    name = html.Button(looked.name(index), className="link", title="Show its pictures alone", **change)
    confused = f"{looked.name(int(found[taken]))} ({int(others[taken])})" if others[taken] else ""
    return html.Tr([html.Td(name), html.Td(f"{right} of {total}", className="mono"), html.Td(confused)])


def _csv_address(looked: Looked) -> str:
    pictures = looked.pictures
    return f"{looked.scene.prefix}set/{pictures.key}/answers.csv?model={looked.model}"
