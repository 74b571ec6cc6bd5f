"""A view as a short Python program that prints its numbers by `hookscope`, zipped with the pictures that it is about.

`KINDS` lists what a program may reproduce, in the order in which it does; each is a function that writes its lines.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import get_args

from hookscope.dashboard.asking.texts import file_name
from hookscope.dashboard.exports import script_depth as depth
from hookscope.dashboard.exports import script_layers as layers
from hookscope.dashboard.exports import script_run as runs
from hookscope.dashboard.exports import script_sets as sets
from hookscope.dashboard.exports.script_code import Script
from hookscope.dashboard.page.left_out import sides_left_out
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import Tab
from hookscope.hooks.methods import Rows

PROGRAM = "view.py"
MADE = (1980, 1, 1, 0, 0, 0)  # of each file: the same view is the same zip
_OF_PICTURE: tuple[Tab, ...] = ("layers", "depth")


@dataclass(frozen=True)
class Kind:
    """One thing that a view may show.

    Attributes:
        name: unique among the kinds. tabs: behind which it stands.
        there: whether a scene shows it. write: adds what reproduces it to a program.
    """

    name: str
    tabs: tuple[Tab, ...]
    there: Callable[[Scene], bool]
    write: Callable[[Script, Scene], None]


KINDS = Rows(
    Kind("answers", _OF_PICTURE, layers.has_pictures, layers.answers),
    Kind("cards", ("layers",), layers.has_cards, layers.cards),
    Kind("maps", ("layers",), layers.has_cards, layers.maps),
    Kind("attention", ("layers",), layers.has_attention, layers.attentions),
    Kind("weights", ("layers",), layers.shows_weights, layers.learnt),
    Kind("attributions", ("layers",), layers.shows_attributions, layers.attributed),
    Kind("models", ("layers",), layers.compares_models, layers.every_model),
    Kind("likeness", ("layers",), layers.compares_layers, layers.alike),
    Kind("what the cards leave out", ("layers",), layers.has_pictures, layers.left_out),
    Kind("gradients", ("depth",), depth.shows_gradients, depth.gradients),
    Kind("parting", get_args(Tab), depth.shows_parting, depth.parting),
    Kind("back", ("depth",), depth.shows_back, depth.back),
    Kind("metric", get_args(Tab), depth.shows_metric, depth.metric),
    Kind("what the tree leaves out", get_args(Tab), sets.always, depth.left_out),
    Kind("overview", ("pictures",), sets.shows_overview, sets.overview),
    Kind("outliers", ("pictures",), sets.shows_outliers, sets.outliers),
    Kind("map", ("pictures",), sets.shows_map, sets.plane),
    Kind("information", ("pictures",), sets.shows_information, sets.information),
    Kind("pruning", ("pictures",), sets.shows_pruning, sets.pruning),
    Kind("what the set leaves out", ("pictures",), sets.always, sets.left_out),
    Kind("findings", ("findings",), sets.always, sets.findings),
    Kind("run", ("run",), runs.shows_run, runs.run),
)


def written(scene: Scene) -> Script | None:
    """A scene as a program, not yet put together; None where it shows nothing that one could reproduce.

    Raises:
        Gone: a picture is no longer kept.
    """
    script = Script(scene)
    for sentence in sides_left_out(scene):
        script.note(sentence)
    for kind in KINDS.values():
        if scene.view.tab in kind.tabs and kind.there(scene):
            kind.write(script, scene)
    script.settle()
    return script if script.body else None


def zipped(scene: Scene) -> bytes:
    """The program and its pictures.

    Raises:
        Gone: a picture is no longer kept.
    """
    script = written(scene)
    text = script.text(_head(scene)) if script else "# The page showed nothing yet.\n"
    files = {PROGRAM: text.encode()}
    for each in script.pictures.values() if script else ():
        files[each.file_name] = each.draw()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, MADE), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _head(scene: Scene) -> list[str]:
    if scene.view.tab == "run" and (asked := runs.asked_of(scene)):
        names = " and ".join(each.name for each in asked.runs)
        return [f"The training {names}, as the tab Run shows it."]
    titles = " and ".join(info.title for info in scene.models.values())
    return [f"{titles}, as the tab {scene.view.tab.capitalize()} shows it."]


def name_of(scene: Scene) -> str:
    """What the zip is called."""
    stems = [file_name(PurePath(given.name).stem) for given in scene.inputs.values()]
    if scene.view.tab == "run" and (asked := runs.asked_of(scene)):
        stems = [file_name(each.name) for each in asked.runs]
    return f"hookscope-{'-'.join(stems) or 'view'}.zip"


def address(scene: Scene) -> str:
    """Where the zip is."""
    asked = runs.asked_of(scene) if scene.view.tab == "run" else None
    inputs = [(side, given.key) for side, given in scene.inputs.items()]
    about = (scene.view, scene.offered, inputs, asked.marks if asked else ())
    return scene.file(("script", about), partial(zipped, scene), "application/zip", name_of(scene))
