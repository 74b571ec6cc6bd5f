"""The pictures that are least like a baseline, and at which layer that begins: the set's own, another's, or stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.pictures.against_stored import stored_of, stored_outliers
from hookscope.dashboard.panels.pictures.head import state as sweep_state
from hookscope.dashboard.panels.pictures.links import csv_link
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.dashboard.panels.pictures.mistakes import step_through
from hookscope.dashboard.panels.pictures.pages import Page, region
from hookscope.dashboard.panels.pictures.spread import spread
from hookscope.dashboard.sets.outlying import Outlying, outliers_of
from hookscope.dashboard.sets.stored import STORED, Stored
from hookscope.hooks.results.baseline_scores import SURE, Standing
from hookscope.hooks.results.set_answers import Answers
from hookscope.hooks.results.usual import FEWEST

PATIENCE_SECONDS = 0.4  # a thousand pictures are there by then
PER_PAGE = 24
Score = Literal["neighbours", "energy", "layers"]
WORDS: dict[Score, str] = {"neighbours": "distance", "energy": "energy", "layers": "furthest"}
CHOICES: tuple[tuple[Score, str, str], ...] = (
    ("neighbours", "neighbours", "By the distance of the features before the head from the k-th nearest"),
    ("energy", "energy", "By -log of the sum of the exponentials of the logits"),
    ("layers", "layers", "By how far the numbers of some layer are from the usual ones"),
)
HELP = {
    "neighbours": (
        "The distance of a picture's features before the head, scaled to length 1, from its neighbour number {k} in "
        "the baseline (Sun et al. 2022)."
    ),
    "energy": (
        "The energy, -log of the sum of the exponentials of the logits: high where the model has little to say for any "
        "class (Liu et al. 2020)."
    ),
    "layers": (
        "How far the mean, the deviation, the share of zeros or the largest value of a layer is from the middle of the "
        "baseline's, in how far {usual} is; of {layers}, the one that is furthest."
    ),
}
_UNLIKE = "A high score says “unlike the baseline”, and not “wrong”."

_MOST = f"{100 * (1 - SURE):.0f}\N{NO-BREAK SPACE}%"


@state
@dataclass(frozen=True)
class Outliers:
    """How outliers are shown.

    Attributes:
        outliers_by: which score ranks them. from_outlier: the first that is shown.
    """

    outliers_by: Score = "neighbours"
    from_outlier: int = 0


def _layout() -> html.Div:
    return html.Div(
        [
            Markup(ids.SET_OUTLIERS, className="panel set-pictures set-outliers", hidden=True),
            Markup(ids.SET_OUTLIERS_BEGIN, className="panel set-gap", hidden=True),
        ],
        className="set-page",
    )


def _parts(looked: Looked) -> list[Part]:
    against = _against(looked)
    pictures, begin = (_sentence(against), []) if isinstance(against, str) else _pages(looked, against)
    return [region("set outliers", ids.SET_OUTLIERS, pictures), region("set begin", ids.SET_OUTLIERS_BEGIN, begin)]


def _against(looked: Looked) -> Looked | Stored | str:
    """The set that is the baseline, or the stored one; or why it is not there."""
    view = looked.scene.view
    if view.set_b == STORED:
        return stored_of(looked) or str(stored_outliers(looked))
    if view.set_b in ("", view.set_a):
        return looked
    return look_at(looked.scene, view.set_b)


def _sentence(text: str) -> list[Any]:
    return [html.H2("Outliers"), html.P(text, className="sentence")]


def _pages(looked: Looked, against: Looked | Stored) -> tuple[list[Any], list[Any]]:
    """The pictures, and where they begin to differ."""
    sweeps = looked.scene.service.sweeps
    if sweeps is None or looked.found is None:
        running = looked.progress.phase == "running"
        text = "computing …" if running else "Its outliers are there once the set has been looked through."
        return [html.H2("Outliers"), html.P(text, className="muted")], []
    if isinstance(against, Stored):
        found = stored_outliers(looked)
    else:
        if waits := _waiting(looked, against):
            return [html.H2("Outliers"), *waits], []
        found = outliers_of(sweeps, looked.pictures, against.pictures, looked.model, PATIENCE_SECONDS)
    if found is None:
        return [html.H2("Outliers"), html.P("computing …", className="muted", **{"data-again": "1"})], []
    if isinstance(found, str):
        return _sentence(found), []
    drawn = _Drawn(looked, against, found)
    return drawn.pictures(), drawn.beginnings()


def _waiting(looked: Looked, against: Looked) -> list[Any]:
    """What a second set, or the set itself, waits for; nothing if it does not."""
    if against.found is None and against.progress.phase != "running":
        text = f"The pictures are held against those of {against.pictures.name}, which has to be looked through first."
        return [html.P(text, className="muted"), sweep_state(against)]
    if "running" in (looked.progress.phase, against.progress.phase) and _fewest(looked, against) < FEWEST:
        return [html.P(f"They come when {FEWEST} pictures have been looked at.", className="muted")]
    return []


def _fewest(looked: Looked, against: Looked) -> int:
    """How many pictures of either set are known at least."""
    return min(0 if each.found is None else len(each.found.pictures) for each in (looked, against))


class _Drawn:
    """Draws what was found.

    Arguments:
        against: the baseline; the set itself where each picture is held against the others.
    """

    def __init__(self, looked: Looked, against: Looked | Stored, found: Outlying) -> None:
        self.looked, self.found = looked, found
        self.stored = isinstance(against, Stored)
        self.name = against.name if isinstance(against, Stored) else against.pictures.name
        self.key = STORED if isinstance(against, Stored) else against.pictures.key
        sides = [each for each in (looked, against) if isinstance(each, Looked)]
        self.running = "running" in [each.progress.phase for each in sides]
        self.scores, self.itself = found.scores, against is looked
        self.firsts = self.scores.firsts()
        chosen = looked.scene.view.of(Outliers).outliers_by
        self.offered: dict[Score, Standing] = {
            name: each for name, _, _ in CHOICES if (each := self.scores.of(name)) is not None
        }
        self.by: Score = chosen if chosen in self.offered else "layers"

    def pictures(self) -> list[Any]:
        """The pictures, those that are least like the baseline first."""
        standing = self.offered[self.by]
        order = np.argsort(-np.nan_to_num(standing.values.astype(np.float64), nan=-np.inf), kind="stable")
        start = self.looked.scene.view.of(Outliers).from_outlier
        start = min(start, max(len(order) - 1, 0)) // PER_PAGE * PER_PAGE
        answers = self.looked.answers
        cells = [self._cell(int(row), standing, answers) for row in order[start : start + PER_PAGE]]
        more = {} if self.itself else {"against": self.key}
        link = csv_link(self.looked, "outliers", "CSV", "Every picture with all three scores, and its layers", **more)
        return [
            html.Div([html.H2(self._title()), self._choice(), link], className="head"),
            *(html.P(text, className="muted") for text in self._notes(standing)),
            self._spread(standing),
            html.Div(cells, className="thumbs"),
            step_through(start, len(order), "from_outlier", PER_PAGE),
        ]

    def _title(self) -> str:
        count = format_count(len(self.scores.pictures))
        so_far = " so far" if self.running else ""
        if self.itself:
            return f"{count} pictures, each against the others{so_far}"
        if self.stored:
            return f"{count} pictures against {self.name}{so_far}"
        return f"{count} pictures against {format_count(self.found.usual)} of {self.name}{so_far}"

    def _choice(self) -> html.Div:
        buttons = [
            html.Button(
                text,
                title=help_text,
                **{"data-do": "set", "data-value": json.dumps({"outliers_by": name, "from_outlier": 0})},
                **{"aria-pressed": "true" if name == self.by else "false"},
            )
            for name, text, help_text in CHOICES
            if name in self.offered
        ]
        return html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "By which score"})

    def _notes(self, standing: Standing) -> list[str]:
        """What the score is, what can be said by it, and of how much."""
        known, there = self.found.layers
        layers = f"{known:,} layers" if known == there else f"{known:,} of {there:,} layers"
        usual = f"the furthest of the usual {_MOST}" if self.itself else "the furthest of those"
        notes = [f"{HELP[self.by].format(k=self.found.k, layers=layers, usual=usual)} {self._alarms(standing)}"]
        if self.found.shared:
            shared = format_count(self.found.shared)
            notes.append(f"{shared} pictures are in both sets, and are held against the rest of the other.")
        return [*notes, *filter(None, [self.found.note, self.scores.note()])]

    def _alarms(self, standing: Standing) -> str:
        if self.itself:
            return (
                f"{_UNLIKE} In any set one picture in twenty is beyond {_MOST} of the others: what counts is by "
                "how much. “against”, above, holds them against what is usual elsewhere."
            )
        told = int((~np.isnan(standing.p)).sum())
        beyond = int((standing.p <= SURE).sum())
        return (
            f"{format_count(beyond)} of {format_count(told)} are beyond {_MOST} of the baseline, where about "
            f"{SURE * told:.0f} would be by chance if both came from the same source. {_UNLIKE}"
        )

    def _spread(self, standing: Standing) -> html.Div | None:
        sides = [(self.looked.pictures.name, "own", standing.values)]
        if not self.itself:
            sides.append((self.name, "usual", standing.usual))
        return spread(sides)

    # --- one picture

    def _cell(self, row: int, standing: Standing, answers: Answers | None) -> html.Button:
        number = int(self.scores.pictures[row])
        name = self.looked.pictures.members[number].name
        said, ahead = self._said(number, answers)
        index = self._index(row)
        layer = "" if index is None else key_of(*self.scores.layers[index])
        how = "" if index is None else f"{self._from(row)} {layer}: {self.scores.describe(row, index)}"
        told = self._told(row)
        about = ", ".join(filter(None, [name, said, ahead, *told.values(), how]))
        asked = {"set": self.looked.pictures.key, "model": self.looked.model, "number": number, "stay": True}
        opens = asked | ({"layers": [layer]} if layer else {})
        others = ", ".join(
            f"{WORDS[name]} {self._value(name, row)}" for name in told if name not in (self.by, "layers")
        )
        most = f"most at {layer}" if self.by == "layers" and layer else "no layer stands out"
        lines = [
            html.Span([said or name, " ", html.Span(ahead, className="muted")], className="said"),
            html.Span(told.get(self.by, "no score")),
            html.Span(others, className="muted"),
            html.Span(how, className="layer") if self.firsts[row] >= 0 else html.Span(most, className="muted"),
        ]
        return html.Button(
            [html.Img(src=self.looked.preview(number), alt=name), *lines],
            className="thumb",
            title=about,
            **{"data-do": "open-member", "data-value": json.dumps(opens), "aria-label": about},
        )

    def _said(self, number: int, answers: Answers | None) -> tuple[str, str]:
        """What is answered to a picture, with its share; and by how much that is ahead."""
        if answers is None:
            return "", ""
        row = int(np.searchsorted(answers.pictures, number))
        if row == len(answers.pictures) or answers.pictures[row] != number:
            return "", ""
        margin = float(answers.margin[row])
        first = f"{self.looked.name(int(answers.best[row, 0]))} {answers.shares[row, 0]:.2f}"
        return first, "" if np.isnan(margin) else f"ahead by {margin:.2f}"

    def _told(self, row: int) -> dict[Score, str]:
        """Every score of a picture, in words: "distance 0.61 beyond 98 %"."""
        return {
            name: f"{WORDS[name]} {self._value(name, row)}, {_place(float(each.below[row]))}"
            for name, each in self.offered.items()
            if not np.isnan(each.values[row])
        }

    def _value(self, name: Score, row: int) -> str:
        return f"{self.offered[name].values[row]:.3g}"

    def _index(self, row: int) -> int | None:
        """The layer that makes a picture an outlier, or where it is furthest."""
        first = int(self.firsts[row])
        return first if first >= 0 else self.scores.worst(row)

    def _from(self, row: int) -> str:
        return "from" if self.firsts[row] >= 0 else "most at"

    # --- along the depth

    def beginnings(self) -> list[Any]:
        """At how many pictures each layer is the first that makes them outliers; nothing where none is one."""
        layers = self.scores.layers
        counts = np.bincount(self.firsts[self.firsts >= 0], minlength=len(layers))
        total = int(counts.sum())
        if not total:
            return []
        bars = []
        for (layer, call), count in zip(layers, counts.tolist(), strict=True):
            key = key_of(layer, call)
            about = f"{key}: {format_count(count)} of {format_count(total)}"
            change = json.dumps({"layers": [key]})
            bars.append(
                html.Button(
                    html.Span(style={"height": f"{100 * count / counts.max():.1f}%"}),
                    className="gap-bar apart",
                    title=about,
                    **{"data-do": "set", "data-value": change, "aria-label": about},
                )
            )
        most = key_of(*layers[int(counts.argmax())])
        ends = html.Div(
            [html.Span(key_of(*layers[0])), html.Span(key_of(*layers[-1]))], className="gap-ends muted mono"
        )
        text = (
            f"Of {format_count(total)} pictures that are further from the usual at some layer than {_MOST} of "
            "the baseline's are at any: at which layer each first is."
        )
        if counts.max() > 1:
            text += f" Most begin at {most}: {format_count(int(counts.max()))}."
        return [
            html.H2("Where outliers begin to differ"),
            html.P(text),
            html.Div([html.Div(bars, className="gap-bars"), ends]),
        ]


def _place(below: float) -> str:
    """Where a score stands among the baseline's, in words.

    >>> [_place(below).replace("\N{NO-BREAK SPACE}", "_") for below in (1.0, 0.9999, 0.994, 0.5, float("nan"))]
    ['beyond all', 'beyond 99.9_%', 'beyond 99.4_%', 'beyond 50_%', 'held against none']
    """
    if np.isnan(below):
        return "held against none"
    digits = 1 if below > 0.99 else 0
    share = np.floor(100 * below * 10**digits) / 10**digits
    return "beyond all" if below == 1 else f"beyond {share:g}\N{NO-BREAK SPACE}%"


PAGE = Page(
    "outliers",
    "Outliers",
    "Which pictures are least like the others, another set or the stored baseline, and at which layer that begins",
    _layout,
    _parts,
)
