"""The header's "Export page": the address of the whole view as one file, drawn when it is asked for."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.targets import Target, part_of
from hookscope.dashboard.drawing import numbers
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.exports.report import write
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.left_out import sides_left_out
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels import answer, channels, regions
from hookscope.dashboard.panels.card import cam
from hookscope.dashboard.panels.run.head import run_in_words, run_names
from hookscope.dashboard.panels.toolbar import COLOURS, RANKS
from hookscope.hooks.methods import MAPS
from hookscope.hooks.results.maps import frame_index
from hookscope.hooks.results.targets import Against, Box, Class, Like, Rival

Saved = Callable[[Scene], tuple[list[Any], list[Part]]]


def part(scene: Scene, saved: Saved) -> Part:
    """The part that keeps the link's address.

    Arguments:
        saved: gives the elements of a scene, and the parts that are drawn in them.
    """
    return Part("export", (), (scene, saved), _link)


def _link(scene: Scene, saved: Saved, answers: Answers) -> list[Update]:
    names = run_names(scene) or [PurePath(given.name).stem for given in scene.inputs.values()]
    name = f"hookscope-{'-'.join(names) or 'view'}.html"
    address = scene.file(("page", scene.view, scene.width), partial(_page, scene, saved), "text/html", name)
    return [(ids.EXPORT_VIEW, {"href": address})]


def _page(scene: Scene, saved: Saved) -> bytes:
    now = datetime.datetime.now().astimezone()
    offset = now.strftime("%z")
    when = f"{now:%Y-%m-%d %H:%M} UTC{offset[:3]}:{offset[3:5]}"  # a colleague may live elsewhere
    runs = run_names(scene)
    titles = " and ".join(dict.fromkeys(runs or [info.title for info in scene.models.values()]))
    of_models = [] if runs else [(_facts(scene, side, info)) for side, info in scene.models.items()]
    head = [
        html.H1(f"Hookscope · {titles}"),
        *(html.P(facts, className="muted") for facts in of_models),
        html.P(" · ".join([*(run_in_words(scene) if runs else _settings(scene)), when]), className="muted"),
        *map(html.P, [] if runs else [*regions.reservations(scene), *sides_left_out(scene)]),
    ]
    body, parts = saved(scene)
    names = "" if runs else " and ".join(given.name for given in scene.inputs.values())
    title = " · ".join(filter(None, [names, titles, "Hookscope"]))
    return write(title, head, body, parts, scene.service, scene.gallery)


def _settings(scene: Scene) -> list[str]:
    """What was chosen on the page, in words: without it nobody can make the same view again."""
    view = scene.view
    found = [f"model {info.spec}" for info in scene.models.values()]
    own = scene.inputs if scene.apart else scene.models if scene.own_classes else ["a"]
    explained = [_explained(scene, side) for side in own]
    found.append(f"explained: {' and '.join(explained)}")
    for side in scene.inputs:
        found += [f"{side.upper()} {text[0].lower()}{text[1:]}" for text in channels.in_words(scene, side)]
        count = scene.frames(scene.view.model_of(side))
        found += [f"{side.upper()} frame {frame_index(count, scene.walls.moment) + 1} of {count}"] if count > 1 else []
    if view.tab == "layers" and any(view.layers):
        ranks, colours = ({name: text for name, text, *_ in rows} for rows in (RANKS, COLOURS))
        found += [
            f"map: {MAPS[view.of(cam.Maps).maps].title}",
            f"rank: {ranks[scene.walls.rank]}",
            f"scale: per {scene.walls.scale}",
        ]
        found.append(f"colours: {colours[scene.walls.colours]}")
        found += ["overlay on"] if scene.walls.overlay else []
        found += ["with A restored in B"] if scene.walls.restored else []
    return found


def _facts(scene: Scene, side: str, info: ModelInfo) -> str:
    whose = f"{side.upper()}: {info.title} · " if scene.two_models else ""
    read = answer.in_words(scene, side) if side in scene.inputs else ""
    facts = [f"{whose}{info.weights}", f"{numbers.short_count(info.parameters)} parameters", read]
    return " · ".join(filter(None, facts))


def _explained(scene: Scene, side: str) -> str:
    target = scene.target(side)
    if isinstance(target, Against):
        other = "the runner-up" if isinstance(target.other, Rival) else _named(scene, side, target.other)
        return f"{_named(scene, side, target.target)} against {other}"
    return _named(scene, side, target)


def _named(scene: Scene, side: str, target: Target) -> str:
    if isinstance(target, Like):
        return scene.explained_name(side, 0)
    if isinstance(target, Box):
        return f"box {target.index}" if target.part == "score" else f"{part_of(target)} of box {target.index}"
    return scene.class_name(side, target.index) if isinstance(target, Class) else "the first of each picture"
