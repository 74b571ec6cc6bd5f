"""The chosen set beside what is shown of one picture: what was found of it in a model, or how that comes to be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from dash import html

from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.pictures.looked import Looked, look_at
from hookscope.hooks.results.sweeps import Sweep


@dataclass(frozen=True, repr=False)
class Beside:
    """A set of which something is written down.

    Attributes:
        looked: the set in the model that the header is about. found: what is written down.
    """

    looked: Looked
    found: Sweep

    def __repr__(self) -> str:
        """Short, and different for whatever is drawn differently; what of the view matters is said beside it."""
        looked = self.looked
        about = (looked.pictures.key, looked.pictures.version, looked.model, looked.progress.phase)
        return f"Beside{(*about, looked.progress.saved, looked.scene.prefix)!r}"

    @property
    def over(self) -> str:
        """Of how many pictures it tells, in words."""
        return f"{count_of(len(self.found.pictures))}{self.so_far}"

    @property
    def so_far(self) -> str:
        """What stands behind a number that still changes."""
        return "" if self.looked.progress.phase == "done" else " so far"


@dataclass(frozen=True)
class Missing:
    """What stands where there is nothing of a set yet.

    Attributes:
        children: text and buttons. again: whether something comes by itself.
    """

    children: list[Any]
    again: bool = False

    @property
    def line(self) -> html.Span:
        """In one line, for which the page asks again while something comes."""
        return html.Span(self.children, **again(self.again))


def beside(scene: Scene) -> Beside | Missing:
    """The view's set."""
    if not scene.view.set_a:
        return Missing(["Choose a set of pictures first: ", open_tab("in Pictures")])
    return looked_through(look_at(scene))


def looked_through(looked: Looked | str) -> Beside | Missing:
    """What is written down of a set; or how it comes to be."""
    if isinstance(looked, str):
        return Missing([f"{looked} ", open_tab("Pictures")])
    if looked.found is not None:
        return Beside(looked, looked.found)
    name = looked.pictures.name
    if looked.progress.phase == "running":
        return Missing([f"{name}: with the first saved part …"], again=True)
    return Missing([f"{name} has not been looked through. ", start_button(looked)])


def start_button(looked: Looked) -> html.Button:
    """What has a set looked through."""
    value = json.dumps({"what": "start", "set": looked.pictures.key, "model": looked.model})
    action = {"data-do": "sweep", "data-value": value}
    about = "Run the model over every picture. It goes on when this page is closed, and you can go on clicking."
    return html.Button("Look through it", className="link live-only", title=about, **action)


def open_tab(text: str) -> html.Button:
    """What leads to where sets are chosen."""
    action = {"data-do": "set", "data-value": json.dumps({"tab": "pictures"})}
    return html.Button(text, className="link live-only", title="Open the tab Pictures, where sets are chosen", **action)


def again(comes: bool) -> dict[str, str]:
    """What an element has for which the page asks again shortly."""
    return {"data-again": "1"} if comes else {}


def count_of(pictures: int) -> str:
    """A number of pictures, in words."""
    return "one picture" if pictures == 1 else f"{pictures:,} pictures"
