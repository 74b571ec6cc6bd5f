"""The header's "Export page": the address of the whole view as one file, drawn when it is asked for."""

from __future__ import annotations

import datetime
from pathlib import PurePath
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import box_of
from hookscope.dashboard.components.layer_tree import LayerTree, tree_nodes
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing import numbers
from hookscope.dashboard.exports.report import write
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.page.view import NO_METRIC
from hookscope.dashboard.panels import attributions, detail, gradients, inputs, tree
from hookscope.dashboard.panels.card import cards, frame
from hookscope.dashboard.panels.toolbar import COLOURS, RANKS
from hookscope.hooks.methods import MAPS


def part(scene: Scene, prefix: str) -> Part:
    """The part that keeps the link's address."""
    view = scene.view

    def draw(_: Answers) -> list[Update]:
        names = [PurePath(given.name).stem for given in scene.inputs.values()]
        name = f"hookscope-{'-'.join(names) or 'view'}.html"
        address = scene.file(("page", view, scene.width), lambda: _page(scene, prefix), "text/html", name)
        return [(ids.EXPORT_VIEW, {"href": address})]

    names = tuple(given.key for given in scene.inputs.values())
    return Part("export", (), (view, names, scene.width, scene.info.fingerprint), draw)


def _page(scene: Scene, prefix: str) -> bytes:
    info, view = scene.info, scene.view
    count = len(view.layers)
    now = datetime.datetime.now().astimezone()
    offset = now.strftime("%z")
    when = f"{now:%Y-%m-%d %H:%M} UTC{offset[:3]}:{offset[3:5]}"  # a colleague may live elsewhere
    head = [
        html.H1(f"Hookscope · {info.title}"),
        html.P(f"{info.weights} · {numbers.short_count(info.parameters)} parameters", className="muted"),
        html.P(" · ".join([*_settings(scene), when]), className="muted"),
        html.P("random weights", className="badge warn") if info.random else None,
    ]
    given = inputs.layout(scene.service.inputs, prefix)
    given.children = [box for box, side in zip(given.children, SIDES, strict=True) if side in scene.inputs]
    body: list[Any] = [given if scene.inputs else html.P("No picture was chosen.", className="sentence")]
    parts = inputs.parts(scene)
    if view.tab == "gradients":
        body.append(gradients.layout())
        parts.append(gradients.part(scene))
    else:
        found = html.Div([frame.card(position) for position in range(count)], className="cards")
        body += [attributions.layout(), found, detail.layout()]
        parts += [*cards.parts(scene, count), *detail.parts(scene), attributions.part(scene)]
    if view.metric != NO_METRIC and scene.inputs:
        shown = LayerTree(id=ids.TREE, nodes=tree_nodes(info.layers, info.title))
        body += [html.Div([html.H2("Layers", className="small-title"), Markup(ids.METRIC_TEXT)]), shown]
        parts.append(tree.part(scene))
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
        found += [f"map: {MAPS[view.maps].title}", f"rank: {ranks[view.rank]}", f"scale: per {view.scale}"]
        found.append(f"colours: {colours[view.colours]}")
        found += ["overlay on"] if view.overlay else []
    return found
