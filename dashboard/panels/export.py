"""The header's "Export page": the address of the whole view as one file, drawn when it is asked for."""

from __future__ import annotations

import datetime
from pathlib import PurePath

from dash import html

from dashboard import ids
from dashboard.panels import attributions, cards, detail, gradients, header, inputs
from dashboard.parts import Answers, Part, Update
from dashboard.report import write
from dashboard.scene import Scene


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
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    head = [
        html.H1(f"Hookscope · {info.title}"),
        html.P(f"{info.weights} · {header.short_count(info.parameters)} parameters · {now}", className="muted"),
        html.P("random weights", className="badge warn") if info.random else None,
    ]
    body, parts = [inputs.layout(scene.service.inputs, prefix)], inputs.parts(scene)
    if view.tab == "gradients":
        body.append(gradients.layout())
        parts.append(gradients.part(scene))
    else:
        found = html.Div([cards.card(position) for position in range(count)], className="cards")
        body += [attributions.layout(), found, detail.layout()]
        parts += [*cards.parts(scene, count), *detail.parts(scene), attributions.part(scene)]
    return write(head, body, parts, scene.service, scene.gallery)
