"""All panels, in the order in which they stand on the page; what they show, most urgent first."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels import (
    attributions,
    depth,
    detail,
    edits,
    export,
    header,
    inputs,
    ladder,
    likeness,
    models,
    painting,
    toolbar,
    tree,
)
from hookscope.dashboard.panels.card import cards
from hookscope.dashboard.panels.findings import tab as findings
from hookscope.dashboard.panels.panel import Panel, Place, Setup, Trying, Waiting
from hookscope.dashboard.panels.pictures import tab as pictures
from hookscope.dashboard.panels.run import elsewhere
from hookscope.dashboard.panels.run import tab as run
from hookscope.hooks.methods import Rows

PANELS = Rows(
    header.PANEL,
    tree.PANEL,
    edits.PANEL,
    elsewhere.PANEL,
    inputs.PANEL,
    painting.PANEL,
    models.PANEL,
    likeness.PANEL,
    attributions.PANEL,
    ladder.PANEL,
    toolbar.PANEL,
    depth.PANEL,
    pictures.PANEL,
    findings.PANEL,
    run.PANEL,
    cards.PANEL,
    detail.PANEL,
    Panel("export", urgency=9, parts=lambda scene: [export.part(replace(scene, mounted=0), saved)]),
)


def layouts(place: Place, setup: Setup) -> list[Any]:
    """The elements of one place of the page."""
    found: list[Any] = []
    for panel in PANELS.values():
        if panel.place == place:
            made = panel.layout(setup)
            found += made if isinstance(made, list) else [made]
    return found


def parts(scene: Scene, mounted: int, prefix: str, *, trying: Trying = "") -> list[Part]:
    """Everything the page shows, most urgent first; what stands behind another tab waits until that is chosen.

    Arguments:
        mounted: how many cards the page has. prefix: the path that it is served under.
        trying: only those that follow a slider while it is being dragged.
    """
    scene = replace(scene, mounted=mounted, prefix=prefix)
    panels = [panel for panel in _urgent() if scene.view.tab in panel.tabs]
    if not trying:
        return [part for panel in panels for part in panel.parts(scene)]
    found = [part for panel in panels for part in panel.live(scene)]
    return found + [part for panel in panels for part in panel.resting(scene) if trying == "rests"]


def waiting(wait: Waiting) -> list[Part]:
    """The same while there is no model."""
    return [part for panel in _urgent() for part in panel.waiting(wait)]


def saved(scene: Scene) -> tuple[list[Any], list[Part]]:
    """What an exported page shows: the elements, and the parts that are drawn in them."""
    scene = replace(scene, mounted=len(scene.view.layers))
    elements: list[Any] = []
    found: list[Part] = []
    for panel in sorted(PANELS.values(), key=lambda panel: panel.place == "side"):  # what stands beside comes below
        if panel.saved is not None and scene.view.tab in panel.tabs:
            made = panel.saved(scene)
            elements += made if isinstance(made, list) else [made]
            found += panel.parts(scene)
    return elements, found


def _urgent() -> list[Panel]:
    return sorted(PANELS.values(), key=attrgetter("urgency"))
