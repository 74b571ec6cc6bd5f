"""Along the depth: what of A's answer comes back where A's values are put into B's run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import RestoredOf, Unit
from hookscope.dashboard.drawing.depth_figures import HEIGHT_PX, restored_figure
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.restoring import parts_unit
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.apart import channel_link, why_alone
from hookscope.dashboard.panels.regions import (
    MIN_HEIGHT_PX,
    refuse,
    reservations,
    show_figure,
    show_instead,
    show_text,
    stop_button,
)
from hookscope.hooks.results.restoring import Restored, RestoredParts

NAME = "back"
LISTED = 12  # channels
MOST_OPAQUE = 0.85  # of a place's colour, so that the picture shows through
AGREES = 0.9  # Spearman from which an estimate is said to agree
HELP = (
    "What of the one side's answer comes back when a layer of the other side's run gets its values: the difference of "
    "the two classes' logits, 0 is nothing and 1 is all of it. Estimated for all layers by one gradient, then measured."
)
WITHOUT_B = (
    "With a second picture, B, this shows how much of A's answer comes back when A's values are put into B's run, "
    "layer by layer: which layers, channels and places the difference goes through. Choose a second picture beside A."
)


@state
@dataclass(frozen=True)
class Back:
    """Which way values are put, and whether a chosen layer is taken apart.

    Attributes:
        back_into: the side whose run is changed.
        back_by: the parts of the first chosen layer that are restored one by one.
    """

    back_into: Literal["b", "a"] = "b"
    back_by: Literal["none", "channels", "positions"] = "none"


def parts(scene: Scene) -> list[Part]:
    """The chart with its sentence, and the parts of the chosen layer."""
    there = len(scene.inputs) == 2
    unit = scene.unit(_giver(scene), RestoredOf(*_asked(scene))) if there else None
    first = "Measuring the chosen layer, below, then all of them …" if _parts_of(scene) else "Running both sides …"
    shows = (scene.only("back_into"), unit, first if there else why_alone(scene, WITHOUT_B))
    chart = Part(NAME, (unit,) if unit else (), shows, _draw, error=ids.GRADIENTS_TEXT)
    return [_taken_apart(scene), chart]  # some passes of one layer; those of all layers may take minutes


def _parts_of(scene: Scene) -> str:
    """The layer whose parts are restored one by one; "" for none."""
    one_model = len(scene.inputs) == 2 and not scene.two_models and scene.view.of(Back).back_by != "none"
    return next((key for key in scene.view.layers if key), "") if one_model else ""


def _giver(scene: Scene) -> str:
    return "a" if scene.view.of(Back).back_into == "b" else "b"


def _asked(scene: Scene) -> tuple[Any, ...]:
    giver, taker = _giver(scene), scene.view.of(Back).back_into
    return scene.answering(taker), scene.target(giver), scene.target(taker)


def _draw(scene: Scene, unit: Unit | None, meanwhile: str, answers: Answers) -> list[Update]:
    if unit is None:
        return _instead(html.P(meanwhile, className="sentence"))
    giver, taker = _giver(scene).upper(), scene.view.of(Back).back_into.upper()
    other = {"back_into": "a" if taker == "B" else "b"}
    turn = html.Button(
        f"put {taker} into {giver} instead", className="link", **{"data-do": "set", "data-value": json.dumps(other)}
    )
    head: list[Any] = [html.H2([f"{giver} restored in {taker} ", *reservations(scene)], title=HELP), turn]
    found = result_of(answers, unit, Restored)
    if found is None:
        if wrong := failures(answers, [unit]):
            return _instead([html.Div(head, className="depth-head"), refuse(scene.worded("a", wrong[0]), NAME)])
        return _instead([html.Div(head, className="depth-head"), html.P(meanwhile, className="muted")], HEIGHT_PX)
    wrong = failures(answers, [unit])
    file = scene.file(("restored", unit), partial(_csv, scene, unit), "text/csv", "hookscope-what-comes-back.csv")
    save = html.A("numbers as CSV", href=file, download="hookscope-what-comes-back.csv", className="link save")
    if found.done == found.total and not wrong:  # before, nothing is kept of which a file could be made
        head += [html.Div(className="spacer"), save]
    texts: list[Any] = [html.Div(head, className="depth-head")]
    texts.append(html.P(_sentence(scene, found, giver, taker), className="depth-sentence"))
    if found.done < found.total:
        stop = [] if wrong else [stop_button(NAME)]
        texts.append(
            html.P([f"{found.done} of {found.total} layers measured, the strongest by the estimate first. ", *stop])
        )
    texts += [refuse(scene.worded("a", each), NAME) for each in wrong]
    texts.append(html.P(_legend(found), className="gradient-text muted"))
    return [show_text(ids.GRADIENTS_TEXT, texts), show_figure(ids.GRADIENTS, restored_figure(found.layers))]


def _instead(element: Any, room_px: int = MIN_HEIGHT_PX) -> list[Update]:
    return show_instead(ids.GRADIENTS_TEXT, ids.GRADIENTS, element, room_px)


def _sentence(scene: Scene, found: Restored, giver: str, taker: str) -> str:
    one, other = (scene.class_name(giver.lower(), index) for index in (found.target, found.target_b))
    what = f"“{one}” against “{other}”"
    if found.runner_up:
        what += f", {giver}'s second class, because both sides have one answer"
    passes = sum(layer.all_paths for layer in found.layers)
    everywhere = f" All paths pass through {passes} of these layers: there everything comes back." if passes else ""
    return (
        f"{what}: {format_number(found.of_a)} for {giver} and {format_number(found.of_b)} for {taker}, in logits."
        f"{everywhere}"
    )


def _legend(found: Restored) -> str:
    if math.isnan(found.agreement):
        agreement = "Too few layers are measured to say how good the estimate is."
    else:
        good = "agrees" if found.agreement >= AGREES else "agrees only in part, so go by what is measured"
        agreement = (
            f"The estimate by one gradient {good}: Spearman {found.agreement:.2f} over layers where not all paths pass."
        )
    return (
        "Bars: what comes back with the whole layer, where 1 is all of the answer; grey where all paths pass. Line: "
        f"with its ten channels that differ most. {agreement}"
    )


def _csv(scene: Scene, unit: Unit) -> bytes:
    header = [
        "layer",
        "call",
        "estimate",
        "whole layer",
        "ten channels",
        "channels",
        "all paths",
        "branch of",
        "why not",
    ]
    rows = []
    for layer in scene.kept(unit, Restored).layers:
        channels = " ".join(map(str, layer.channels))
        numbers = [layer.estimate, layer.whole, layer.strongest, channels, layer.all_paths, layer.branch, layer.reason]
        rows.append([layer.layer, layer.call, *numbers])
    return csv_of(header, rows).encode()


# --- one layer taken apart


def _taken_apart(scene: Scene) -> Part:
    key = next((key for key in scene.view.layers if key), "")
    by = scene.view.of(Back).back_by
    if len(scene.inputs) < 2:
        return Part.still("depth channels", [show_text(ids.DEPTH_CHANNELS, None)])
    if not key:
        hint = "Choose a layer in the tree to see through which of its channels and places the answer comes back."
        return Part.still("depth channels", [show_text(ids.DEPTH_CHANNELS, html.P(hint, className="muted"))])
    taker = scene.view.of(Back).back_into
    unit = None if by == "none" else parts_unit(scene, _giver(scene), taker, key, by)
    shows = (scene.only("back_into", "back_by"), key, unit)
    units = (unit, scene.prediction(scene.view.of(Back).back_into)) if unit else ()  # the picture that lies below a map
    return Part("depth channels", units, shows, _draw_apart, error=ids.DEPTH_CHANNELS)


def _draw_apart(scene: Scene, key: str, unit: Unit | None, answers: Answers) -> list[Update]:
    buttons = [
        html.Button(
            text,
            **{"data-do": "set", "data-value": json.dumps({"back_by": by})},
            **{"aria-pressed": "true" if by == scene.view.of(Back).back_by else "false"},
        )
        for by, text in (("channels", "channel by channel"), ("positions", "place by place"))
    ]
    head = html.Div([html.H2(key), html.Div(buttons, className="tabs")], className="depth-head")
    if unit is None:
        return [show_text(ids.DEPTH_CHANNELS, head)]
    found = result_of(answers, unit, RestoredParts)
    if found is None:
        wrong = failures(answers, [unit])
        waiting = html.P("Running both sides …", className="muted")
        said = refuse(scene.worded("a", wrong[0]), "depth channels") if wrong else waiting
        return [show_text(ids.DEPTH_CHANNELS, [head, said])]
    wrong = failures(answers, [unit])
    stop = [" ", stop_button("depth channels")] if found.done < found.total and not wrong else []
    words = html.P([_how_far(found), *stop], className="muted")
    drawn = _table(key, found) if found.by == "channels" else _map(scene, found)
    refusals = [refuse(scene.worded("a", each), "depth channels") for each in wrong]
    return [show_text(ids.DEPTH_CHANNELS, [head, words, *refusals, drawn])]


def _how_far(found: RestoredParts) -> str:
    parts = "channels" if found.by == "channels" else "places"
    chosen = f", those of {found.exact.size:,} with the largest estimates" if found.exact.size > found.total else ""
    spearman = "" if math.isnan(found.agreement) else f" Spearman with the estimate {found.how} {found.agreement:.2f}."
    return f"{found.done:,} of {found.total:,} {parts} measured{chosen}.{spearman}"


def _table(key: str, found: RestoredParts) -> html.Table:
    order = found.strongest[:LISTED].tolist()
    head = html.Tr([html.Th(text) for text in ("channel", "measured", "estimate")])
    rows = []
    for channel in order:
        exact = found.exact[channel]
        measured = f"{exact:.1%}" if math.isfinite(exact) else "…" if found.done < found.total else "not measured"
        cells = [channel_link(key, channel), measured, f"{found.estimate[channel]:.1%}"]
        rows.append(html.Tr([html.Td(cell) for cell in cells]))
    return html.Table([html.Thead(head), html.Tbody(rows)])


def _map(scene: Scene, found: RestoredParts) -> html.Div:
    """The places over the picture whose run is changed: green brings back, red takes away."""
    values = found.exact
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    cells = []
    for value in values.ravel().tolist():
        share = 0.0 if math.isnan(value) or not most else min(abs(value) / most, 1.0) * MOST_OPAQUE
        colour = "43, 138, 62" if value >= 0 else "201, 42, 42"
        style = {"background": f"rgba({colour}, {share:.3f})"}
        cells.append(html.Span(style=style, title="not measured yet" if math.isnan(value) else f"{value:.1%}"))
    style = {"gridTemplateColumns": f"repeat({values.shape[1]}, 1fr)"}
    taker = scene.view.of(Back).back_into
    label = f"What comes back by place; the strongest is {most:.1%}"
    places = html.Div(cells, className="depth-map", style=style, role="img", **{"aria-label": label})
    return html.Div(
        [
            html.P(
                f"Over what the network saw of {taker.upper()}: green brings the answer back, red takes more of it "
                f"away; full colour is {most:.1%}.",
                className="muted",
            ),
            html.Div([html.Img(src=scene.seen(taker), alt=""), places], className="depth-place"),
        ]
    )
