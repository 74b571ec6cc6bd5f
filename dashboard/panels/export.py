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
from hookscope.dashboard.asking.questions import box_of
from hookscope.dashboard.drawing import numbers
from hookscope.dashboard.exports.report import write
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.card import cam
from hookscope.dashboard.panels.toolbar import COLOURS, RANKS
from hookscope.hooks.methods import MAPS

Saved = Callable[[Scene], tuple[list[Any], list[Part]]]


def part(scene: Scene, saved: Saved) -> Part:
    """The part that keeps the link's address.

    Arguments:
        saved: gives the elements of a scene, and the parts that are drawn in them.
    """
    return Part("export", (), (scene, saved), _link)


def _link(scene: Scene, saved: Saved, answers: Answers) -> list[Update]:
    names = [PurePath(given.name).stem for given in scene.inputs.values()]
    name = f"hookscope-{'-'.join(names) or 'view'}.html"
    address = scene.file(("page", scene.view, scene.width), partial(_page, scene, saved), "text/html", name)
    return [(ids.EXPORT_VIEW, {"href": address})]


def _page(scene: Scene, saved: Saved) -> bytes:
    info = scene.info
    now = datetime.datetime.now().astimezone()
    offset = now.strftime("%z")
    when = f"{now:%Y-%m-%d %H:%M} UTC{offset[:3]}:{offset[3:5]}"  # a colleague may live elsewhere
    head = [
        html.H1(f"Hookscope · {info.title}"),
        html.P(f"{info.weights} · {numbers.short_count(info.parameters)} parameters", className="muted"),
        html.P(" · ".join([*_settings(scene), when]), className="muted"),
        html.P("random weights", className="badge warn") if info.random else None,
    ]
    body, parts = saved(scene)
    names = " and ".join(given.name for given in scene.inputs.values())
    title = " · ".join(filter(None, [names, info.title, "Hookscope"]))
    return write(title, head, body, parts, scene.service, scene.gallery)


def _settings(scene: Scene) -> list[str]:
    """What was chosen on the page, in words: without it nobody can make the same view again."""
    view = scene.view
    box = box_of(view.target)
    explained = "the first of each picture" if view.target is None else ""
    explained = explained or (f"box {box}" if box is not None else scene.class_name(view.target or 0))
    found = [f"model {scene.info.spec}", f"explained: {explained}"]
    if view.tab == "layers" and any(view.layers):
        ranks, colours = ({name: text for name, text, *_ in rows} for rows in (RANKS, COLOURS))
        found += [
            f"map: {MAPS[view.of(cam.Maps).maps].title}",
            f"rank: {ranks[scene.walls.rank]}",
            f"scale: per {scene.walls.scale}",
        ]
        found.append(f"colours: {colours[scene.walls.colours]}")
        found += ["overlay on"] if scene.walls.overlay else []
    return found
