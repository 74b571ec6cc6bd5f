"""The panel of a card's fourth wall: what each channel of A alone brings back of A's answer in B's run."""

from __future__ import annotations

import math
from functools import partial
from html import escape
from textwrap import wrap

import numpy as np

from hookscope.dashboard.drawing.geometry import WallGeometry
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.wall_figure import Panel, Words
from hookscope.dashboard.page import restoring
from hookscope.dashboard.page.reading import Reading
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.wall_source import WallSource
from hookscope.hooks.results.restoring import RestoredParts

PLACE = 3  # behind A, B and B - A
LINE = 52  # letters of a line of the hover text
ESTIMATED = " (by the estimate)"


def contrast(scene: Scene, found: RestoredParts) -> str:
    """The two classes whose logits' difference comes back, in words."""
    one, other = (scene.class_name(side, index) for side, index in (("a", found.target), ("b", found.target_b)))
    return f"“{one}” − “{other}”"


def panel(source: WallSource, reading: Reading, geometry: WallGeometry) -> Panel | None:
    """The wall, where it is known what comes back."""
    found = source.restored
    if found is None or reading.difference is None or len(found.best) != len(reading.difference):
        return None
    order = reading.order[: geometry.shown]
    units, known = tuple(source.units.values()), restoring.signature(found)
    shows = (restoring.NAME, units, source.scene.walls.rank, source.scene.walls.moment, known, geometry)
    sides = tuple(reading.activations)
    draw = partial(source.sprite, restoring.NAME, geometry, sides, geometry.cell_px)
    address = source.scene.picture((*shows, source.standing.signature), draw)
    shares = found.best[order]
    words = _words(source.scene, found, order)
    return Panel("A in B", address, np.zeros((len(order) + 1, 3), np.float32), PLACE, shares, words=words)


def _words(scene: Scene, found: RestoredParts, order: np.ndarray) -> Words:
    what = f"B's logit difference {contrast(scene, found)}"
    lines = [escape(line, quote=False).replace("%{", "% {") for line in wrap(what, LINE)]

    def line(moved: str, share: str) -> str:
        begins = "<br>".join([f"with channel %{{z:.0f}} of A, {lines[0]}", *lines[1:]])
        goes = f"goes from {format_number(found.of_b)} to %{{{moved}:+.4~g}}%{{text}}:"
        return f"{begins}<br>{goes}<br><b>%{{{share}:.1%}}</b> of A's answer comes back"

    shares = found.best[order]
    notes = ["" if measured else ESTIMATED for measured in np.isfinite(found.exact[order]).tolist()]
    first = "<b>all channels</b>, each in the strength of what it brings back,<br>on a scale of their own"
    if math.isfinite(found.whole):
        first += f"<br>the whole layer of A: <b>{found.whole:.1%}</b> of A's answer comes back"
        first += "<br>(all paths pass here)" if found.all_paths else ""
    return Words((found.moved(shares), shares), line, notes, first)
