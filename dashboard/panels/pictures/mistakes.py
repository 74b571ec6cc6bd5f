"""The pictures themselves: which are answered wrongly, most confidently first; or the least sure, or most alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers as Answered
from hookscope.dashboard.asking.questions import ActivationOf, PredictionOf, Unit
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures import agreement, choosing
from hookscope.dashboard.panels.pictures.choosing import ANY, ORDERS, Choosing
from hookscope.dashboard.panels.pictures.looked import Looked, Looking
from hookscope.dashboard.panels.pictures.pages import region
from hookscope.dashboard.panels.pictures.versus import against_others
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.sets.alike import features_of
from hookscope.hooks.results.looks import Activation, Prediction
from hookscope.hooks.results.set_answers import Answers

PER_PAGE = 24
WITHOUT_LABELS = (
    "Nobody says what these pictures show, so no mistakes are counted: for that bring them in folders by class, or "
    "with a labels.csv of file names and classes beside them."
)
NAME = "set pictures"


def part(looked: Looked) -> Part:
    """The grid of pictures; of those like A it waits for what the model makes of A."""
    unit = _of_a(looked)
    if unit is None:
        return region(NAME, ids.SET_MISTAKES, pictures(looked))
    shows = looked, looked.scene.view.of(Choosing), looked.progress.changed
    return Part(NAME, (unit,), (*shows, unit), _draw, error=ids.SET_MISTAKES)


def _of_a(looked: Looked) -> Unit | None:
    """What is asked of A where the pictures are ordered by their likeness to it."""
    side, features = choosing.side_like(looked), features_of(looked.found)
    view = looked.scene.view
    if view.of(Looking).shown != "alike" or view.of(Choosing).alike != ANY or not side or features is None:
        return None
    question = ActivationOf(features.layer, features.call) if features.layer else PredictionOf()
    return looked.scene.unit(side, question)


def _draw(looked: Looked, chosen: Choosing, changed: int, unit: Unit, answers: Answered) -> list[Update]:
    return [show_text(ids.SET_MISTAKES, pictures(looked, _features(answers, unit)), hidden=False)]


def _features(answers: Answered, unit: Unit) -> np.ndarray | None:
    """What the set's features are of one picture: the channels' means of a layer, or an embedding."""
    prediction = result_of(answers, unit, Prediction)
    if prediction is not None:
        return None if prediction.scores is None else prediction.scores.logits
    activation = result_of(answers, unit, Activation)
    return None if activation is None else activation.statistics.channels.get("mean")


def pictures(looked: Looked, likeness: np.ndarray | None = None) -> list[Any]:
    """The grid of pictures, with what they are sorted and chosen by.

    Arguments:
        likeness: the features of A, where they are sorted by their likeness to it.
    """
    answers = looked.answers
    if (answers is None or not len(answers.pictures)) and (looked.found is None or not len(looked.found.pictures)):
        return _nothing(looked)
    other = agreement.second(looked)
    both = agreement.between(looked, other)
    chosen = choosing.choose(looked, answers, both, likeness)
    start = min(looked.scene.view.of(Looking).from_picture, max(len(chosen.numbers) - 1, 0)) // PER_PAGE * PER_PAGE
    cells = _Cells(looked, answers, other if isinstance(other, Looked) and both is not None else None, chosen)
    titled = other.title if isinstance(other, Looked) else "the other model"
    page = [cells.cell(int(number)) for number in chosen.numbers[start : start + PER_PAGE]]
    shown = [html.Div(page, className="thumbs")] if page else [_none(looked, chosen)]
    return [
        html.Div([html.H2(_title(looked, answers)), _orders(looked, answers, chosen.order)], className="head"),
        *_unlabelled(looked, answers),
        _line(looked, answers, chosen, titled),
        *shown,
        step_through(start, len(chosen.numbers), "from_picture", PER_PAGE),
    ]


def _line(looked: Looked, answers: Answers | None, chosen: choosing.Chosen, other: str) -> html.Div:
    """What was chosen, or what a click does; and what can be done with all that is shown."""
    help_text = _help(looked, answers, chosen, other)
    said = choosing.chips(looked, chosen, other) or [html.Span(help_text, className="muted")]
    button = against_others(looked, chosen)
    return html.Div([*said, html.Span(className="spacer"), button], className="set-choice chosen-of-set live-only")


def _nothing(looked: Looked) -> list[Any]:
    text = "computing …" if looked.progress.phase == "running" else "Its pictures and mistakes will stand here."
    return [html.P(text, className="muted")]


def _none(looked: Looked, chosen: choosing.Chosen) -> html.P:
    waits = chosen.order == "alike" and looked.scene.view.of(Choosing).alike == ANY
    text = "computing …" if waits else choosing.none_such(looked, chosen)
    return html.P(text, className="sentence none-such")


def _title(looked: Looked, answers: Answers | None) -> str:
    so_far = " so far" if looked.progress.phase == "running" else ""
    if answers is None:
        return f"{format_count(looked.progress.read)} pictures{so_far}"
    labelled = int((answers.labels >= 0).sum())
    if looked.labelled and labelled:
        wrong = len(answers.mistakes())
        noun = "mistake" if wrong == 1 else "mistakes"
        return f"{format_count(wrong)} {noun} among {format_count(labelled)}{so_far} · {answers.accuracy:.1%} right"
    return f"{format_count(len(answers.pictures))} answers{so_far}"


def _orders(looked: Looked, answers: Answers | None, chosen: str) -> html.Div | None:
    offered = choosing.orders(looked, answers)
    if not choosing.side_like(looked):
        offered = [name for name in offered if name != "alike"]  # of a picture of the set a chip says it
    buttons = [
        html.Button(
            text,
            title=help_text,
            **{"data-do": "set", "data-value": json.dumps({"shown": name, "alike": ANY, "from_picture": 0})},
            **{"aria-pressed": "true" if name == chosen else "false"},
        )
        for name, text, help_text in ORDERS
        if name in offered and len(offered) > 1
    ]
    if not buttons:
        return None
    return html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "Which pictures"})


def _unlabelled(looked: Looked, answers: Answers | None) -> list[html.P]:
    """What it takes for mistakes to be known, where nobody says what pictures show."""
    if looked.pictures.groups or answers is None or not looked.names:
        return []
    return [html.P(WITHOUT_LABELS, className="muted")]


def _help(looked: Looked, answers: Answers | None, chosen: choosing.Chosen, other: str) -> str:
    like = looked.scene.view.of(Choosing).alike
    if chosen.order == "alike" and like != ANY and len(chosen.numbers):
        return f"A click: {looked.pictures.members[like].name} as A, and the picture beside it as B."
    if agreement.second_model(looked):
        return f"A click: it as A in {looked.title}, and as B the same in {other}."
    if answers is not None and looked.labelled:
        return "A click: it as A; as B the right one of its class that is most like it, if there is one."
    return "A click has the picture as A, in Layers and Depth."


class _Cells:
    """Draws the pictures' cells.

    Arguments:
        other: the set in a second model, whose answers are told too; None if there is none.
    """

    def __init__(self, looked: Looked, answers: Answers | None, other: Looked | None, chosen: choosing.Chosen) -> None:
        self.looked, self.answers, self.other, self.chosen = looked, answers, other, chosen
        self.has_features = features_of(looked.found) is not None
        self.others = other.answers if other is not None else None

    def cell(self, number: int) -> html.Div:
        """A picture, what is answered to it, and what it is ordered by."""
        looked, name = self.looked, self.looked.pictures.members[number].name
        said = self._said(number)
        label = int(looked.labels[number])
        wrong = said is not None and label >= 0 and said[0] != label
        about = name if said is None else f"{name}: {looked.name(said[0])} {said[1]:.3f}"
        about += f", labelled {looked.name(label)}" if label >= 0 else ""
        value = json.dumps({"set": looked.pictures.key, "model": looked.model, **self._opens(number)})
        picture = html.Button(
            [html.Img(src=looked.preview(number), alt=name), *self._lines(number, name, said, wrong)],
            className="thumb wrong" if wrong else "thumb",
            title=about,
            **{"data-do": "open-member", "data-value": value, "aria-label": about},
        )
        return html.Div([picture, *self._alike(number, name)], className="thumb-cell")

    def _opens(self, number: int) -> dict[str, Any]:
        """What a click has as A, and as B where that is known before."""
        like = self.looked.scene.view.of(Choosing).alike
        if self.chosen.order != "alike" or like in (ANY, number):
            second = agreement.second_model(self.looked)
            return {"number": number, **({"model_b": second} if second else {})}
        there = {} if self.answers is not None else {"tab": "layers"}  # where an embedding's likeness is explained
        return {"number": like, "beside": number, **there}

    def _said(self, number: int) -> tuple[int, float] | None:
        """The class that a picture is given, and its share."""
        return _first(self.answers, number)

    def _lines(self, number: int, name: str, said: tuple[int, float] | None, wrong: bool) -> list[html.Span]:
        lines = []
        if said is None:
            group = self.looked.pictures.members[number].group
            lines += [html.Span(name, className="said"), *([html.Span(group, className="muted")] if group else [])]
        else:
            lines.append(_answer(self.looked.name(said[0]), said[1], "said"))
        if wrong:
            lines.append(html.Span(f"is: {self.looked.name(int(self.looked.labels[number]))}", className="muted"))
        beside = _first(self.others, number)
        if self.other is not None and beside is not None:
            lines.append(_answer(f"{self.other.title}: {self.other.name(beside[0])}", beside[1], "muted"))
        if number in self.chosen.values:
            text = VALUES[self.chosen.order].format(self.chosen.values[number])
            lines.append(html.Span(text, className="muted"))
        return lines

    def _alike(self, number: int, name: str) -> list[html.Button]:
        """What orders the pictures by their likeness to this one."""
        if not self.has_features:
            return []
        change = json.dumps({**choosing.NOTHING_CHOSEN, "shown": "alike", "alike": number})
        about = f"The pictures most like {name}"
        return [
            html.Button(
                "alike",
                className="alike live-only",
                title=about,
                **{"data-do": "set", "data-value": change, "aria-label": about},
            )
        ]


VALUES = {"unsure": "ahead by {:.3f}", "energy": "energy {:.2f}", "alike": "cosine {:.3f}"}


def _answer(text: str, share: float, kind: str) -> html.Span:
    """A class and its share, which stands there whole where the name has to be cut."""
    parts = [html.Span(text, className="name"), " ", html.Span(f"{share:.2f}", className="mono")]
    return html.Span(parts, className=f"{kind} with-share")


def _first(answers: Answers | None, number: int) -> tuple[int, float] | None:
    """The first class of a picture's answer, and its share; None if it was not answered."""
    if answers is None:
        return None
    row = int(np.searchsorted(answers.pictures, number))
    if row == len(answers.pictures) or answers.pictures[row] != number:
        return None
    return int(answers.best[row, 0]), float(answers.shares[row, 0])


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
