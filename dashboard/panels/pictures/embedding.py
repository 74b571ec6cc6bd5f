"""The map of a set: its pictures as points, near to each other if a layer finds them alike; what is drawn around can
become a set of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers as Asked
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.drawing.plane_figure import COLOURS, OTHER, plane_figure
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.pictures.galleries import chosen_layer
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.panels.pictures.pages import Page
from hookscope.dashboard.panels.regions import MIN_HEIGHT_PX, graph, keep_room, show_figure, show_text
from hookscope.dashboard.sets.alike import features_of
from hookscope.dashboard.sets.embeddings import Plane, plane_of
from hookscope.hooks.results.embedding import tsne_is_there
from hookscope.hooks.results.set_answers import UNLABELLED

NO_CLASS = -1
PATIENCE_SECONDS = 0.3  # PCA is there by then
METHODS = (
    ("pca", "PCA", "The two directions in which the pictures differ most"),
    ("tsne", "t-SNE", "Neighbours stay together, and nothing else means anything"),
)
TSNE_MISSING = "For t-SNE the package openTSNE is needed where Hookscope runs: pip install 'hookscope[tsne]'."
NOT_THERE = "Its map is there once the set has been looked through."
NOT_YET = "Finding neighbours by t-SNE takes some seconds, and comes when the set has been looked through."
HELP = (
    "Pictures that a layer finds alike lie together: each point is the means of the layer's channels over a picture, "
    "laid out in a plane."
)
PLANE_HELP = (
    "The pictures as points. Arrow keys go from point to point, Enter has the picture as A, Space takes it, Escape "
    "leaves all that were taken."
)
DRAW = "Draw around points to take them, or click a class to take its pictures; what is taken can become a set."


@state
@dataclass(frozen=True)
class Mapped:
    """How the pictures of a set are laid out."""

    map_by: Literal["pca", "tsne"] = "pca"


def _layout() -> html.Div:
    plane = graph(ids.SET_PLANE, MIN_HEIGHT_PX)
    about = {"aria-label": PLANE_HELP, "data-about": PLANE_HELP}
    return html.Div(
        [
            Markup(ids.SET_MAP, className="panel", hidden=True),
            html.Div(
                [
                    html.Div(plane, className="plane-graph", role="application", tabIndex="0", **about),
                    html.Div(
                        [
                            Markup(ids.SET_MAP_CLASSES, className="plane-classes"),
                            html.P(DRAW, className="muted live-only plane-hint"),
                            html.P(className="plane-count live-only", role="status"),
                            html.Div(className="plane-taken live-only"),
                        ],
                        className="plane-beside",
                    ),
                ],
                className="plane",
            ),
        ],
        className="set-page set-map",
    )


def _parts(looked: Looked) -> list[Part]:
    sweeps, method = looked.scene.service.sweeps, _method(looked)
    plane: Plane | str | None = NOT_THERE
    if sweeps is not None and looked.found is not None:
        if method == "tsne" and looked.progress.phase == "running":
            plane = NOT_YET
        else:
            key = chosen_layer(looked)
            plane = plane_of(sweeps, looked.pictures, looked.model, key, method, PATIENCE_SECONDS)
    return [Part("set map", (), (looked, method, plane), _draw, error=ids.SET_MAP)]


def _method(looked: Looked) -> Literal["pca", "tsne"]:
    return looked.scene.view.of(Mapped).map_by if tsne_is_there() else "pca"


def _draw(looked: Looked, method: str, plane: Plane | str | None, answers: Asked) -> list[Update]:
    if not isinstance(plane, Plane):
        waits = {"data-again": "1"} if plane is None else {}
        said = html.P(plane or "computing …", className="muted", **waits)
        head = html.Div([html.H2("Map of the pictures", title=HELP), _methods(method)], className="head")
        return [
            show_text(ids.SET_MAP, [head, said], hidden=False),
            keep_room(ids.SET_PLANE, MIN_HEIGHT_PX),
            show_text(ids.SET_MAP_CLASSES, None, hidden=True),
        ]
    shown = _shown(looked, plane.pictures)
    colours = [shown.colours.get(index, OTHER) for index in shown.classes.tolist()]
    classes = [index if index in shown.colours else NO_CLASS for index in shown.classes.tolist()]
    meta = {**_about(looked, plane), "classes": classes}
    key = repr(plane.key)
    figure = plane_figure(
        plane.embedding.points, colours, shown.wrong, shown.said, axes=_axes(plane), meta=meta, key=key
    )
    return [
        show_text(ids.SET_MAP, _head(looked, plane), hidden=False),
        show_figure(ids.SET_PLANE, figure),
        show_text(ids.SET_MAP_CLASSES, _legend(looked, shown), hidden=False),
    ]


def _axes(plane: Plane) -> tuple[str, str]:
    if plane.embedding.method == "tsne":
        return "", ""
    first, second = (
        f" · {share:.0%} of the variance" if np.isfinite(share) else "" for share in plane.embedding.shares
    )
    return f"first axis{first}", f"second axis{second}"


def _about(looked: Looked, plane: Plane) -> dict[str, Any]:
    """What the page's scripts have to know."""
    pictures = looked.pictures
    return {
        "map": repr(plane.key),
        "set": pictures.key,
        "name": pictures.name,
        "version": pictures.version,
        "model": looked.model,
    }


def _head(looked: Looked, plane: Plane) -> list[Any]:
    key = key_of(plane.layer, plane.call)
    shown = len(plane.pictures)
    which = f"{format_count(shown)} pictures"
    if plane.drawn:
        which = f"{format_count(shown)} of {format_count(plane.seen)} pictures, drawn at random"
    left_out = f" {format_count(plane.left_out)} with NaN or infinite values are left out." if plane.left_out else ""
    address = (
        f"{looked.scene.prefix}set/{looked.pictures.key}/embedding.csv?model={quote(looked.model)}"
        f"&layer={quote(chosen_layer(looked))}&by={plane.embedding.method}"
    )
    title = html.H2(["Map of the pictures at ", html.Span(key, className="mono")], title=HELP)
    link = html.A("CSV", href=address, download="embedding.csv", className="link")
    return [
        html.Div(
            [title, _methods(plane.embedding.method), link, _before_the_head(looked, key)], className="head plane-shown"
        ),
        html.P(f"{which}, by the means of the layer's channels.{left_out} {plane.embedding.note}", className="muted"),
    ]


def _before_the_head(looked: Looked, shown: str) -> html.Button | None:
    """A way to the layer of which every picture's features are kept."""
    features = features_of(looked.found)
    if features is None or (key := key_of(features.layer, features.call)) == shown:
        return None
    layers = [key, *(each for each in looked.scene.view.layers if each and each != key)]
    return html.Button(
        "the features before the head",
        className="link live-only",
        title=f"Lay them out by {key}, of which those of all pictures are kept",
        **{"data-do": "set", "data-value": json.dumps({"layers": layers})},
    )


def _methods(chosen: str) -> html.Div:
    there = tsne_is_there()
    buttons = [
        html.Button(
            text,
            title=TSNE_MISSING if name == "tsne" and not there else help_text,
            disabled=True if name == "tsne" and not there else None,
            **{"data-do": "set", "data-value": json.dumps({"map_by": name})},
            **{"aria-pressed": "true" if name == chosen else "false"},
        )
        for name, text, help_text in METHODS
    ]
    return html.Div(buttons, className="tabs live-only", role="group", **{"aria-label": "How pictures are laid out"})


@dataclass(frozen=True)
class _Shown:
    """What is shown of each point.

    Attributes:
        classes: int64 (point,), what it is said to show, else what it is answered with, `NO_CLASS` where neither is
            known. wrong: bool (point,). said: its number, its name, and what is said of it.
        colours: of the classes that have one, the commonest of the set first: the same ones for every layer.
    """

    classes: np.ndarray
    wrong: np.ndarray
    said: list[tuple[int, str, str]]
    colours: dict[int, str]


def _shown(looked: Looked, numbers: np.ndarray) -> _Shown:
    count = len(looked.pictures.members)
    labels, best, shares = looked.labels, np.full(count, NO_CLASS, np.int64), np.zeros(count, np.float32)
    if (answers := looked.answers) is not None and len(answers.pictures):
        best[answers.pictures], shares[answers.pictures] = answers.best[:, 0], answers.shares[:, 0]
    known = labels != UNLABELLED
    classes = np.where(known, labels, best)
    wrong = known & (best != NO_CLASS) & (best != labels)
    said = []
    for number in numbers.tolist():
        answered = f"answered {looked.name(int(best[number]))} ({shares[number]:.2f})"
        parts = [] if best[number] == NO_CLASS else [answered]
        parts += [f"labelled {looked.name(int(labels[number]))}"] if known[number] else []
        said.append((number, looked.pictures.members[number].name, ", ".join(parts)))
    return _Shown(classes[numbers], wrong[numbers], said, _coloured(classes))


def _coloured(classes: np.ndarray) -> dict[int, str]:
    """Colours of the commonest classes, the most pictures first; of as many the lower class."""
    counts = Counter(classes.tolist())
    counts.pop(NO_CLASS, None)
    ordered = sorted(counts, key=lambda index: (-counts[index], index))
    return dict(zip(ordered, COLOURS, strict=False))


def _legend(looked: Looked, shown: _Shown) -> list[Any]:
    counts = Counter(shown.classes.tolist())
    there = [index for index in shown.colours if counts[index]]
    order = sorted(there) if looked.labelled else there
    rows = [_row(index, looked.name(index), counts[index], shown.colours[index]) for index in order]
    if others := len(shown.classes) - sum(counts[index] for index in there):
        several = len(counts.keys() - {NO_CLASS}) > len(there)
        rows.append(_row(NO_CLASS, "other classes" if several else "no class", others, OTHER))
    wrong = format_count(int(shown.wrong.sum()))
    ring = [html.Span(className="swatch ring"), f"answered otherwise than labelled ({wrong})"]
    rings = [html.P(ring, className="plane-class")] if shown.wrong.any() else []
    title = "Classes, by label" if looked.labelled else "Classes, as answered"
    if looked.labelled and (looked.labels == UNLABELLED).any():
        title += "; as answered where there is none"
    return [html.H3(title), *rows, *rings]


def _row(index: int, name: str, count: int, colour: str) -> html.Button:
    return html.Button(
        [
            html.Span(className="swatch", style={"background": colour}),
            html.Span(name, className="name"),
            html.Span(format_count(count), className="mono"),
        ],
        className="plane-class",
        title="Take these pictures",
        **{"data-do": "take-class", "data-value": str(index), "aria-label": f"Take the {count} pictures of {name}"},
    )


PAGE = Page(
    "map",
    "Map",
    "The pictures as points: what a layer finds alike lies together; draw around some to have a set of them",
    _layout,
    _parts,
)
