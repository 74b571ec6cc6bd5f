"""The regions of a segmenter's classes on the picture: a click on one makes its class what is explained."""

from __future__ import annotations

from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.region_pictures import colour_of, regions_png, runs
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.detections import NO_CLASSES, place
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.outputs import Scores
from hookscope.hooks.results.targets import Class


def draw_regions(
    scene: Scene, side: str, unit: Unit, prediction: Prediction, frame: tuple[float, float, float, float]
) -> list[Any]:
    """The regions over a picture that shows a part of the original.

    Arguments:
        unit: of the prediction. frame: (left, top, right, bottom) of what it shows, in pixels of the original.
    """
    scores = prediction.scores
    if scores is None or not scores.regions.size:
        return []
    chosen = chosen_class(scene, side)
    names = scene.classes(side)
    left_out = tuple(index for index, name in enumerate(names) if name in NO_CLASSES)
    address = scene.picture(
        ("regions", unit, chosen, left_out),
        lambda: regions_png(_kept(scene, unit), chosen, left_out),
    )
    rows, columns = scores.regions.shape
    cells = {
        "data-grid": f"{rows},{columns}",
        "data-cells": runs(scores.regions),
        "data-target": scene.target_field(side),
    }
    return [
        html.Button(
            html.Img(src=address, alt=""),
            className="segments",
            style=place(np.array(prediction.crop), frame),
            title="The regions of the classes, in the colours of the list. Click to explain a class.",
            tabIndex="-1",  # its row in the list is where the keyboard stops
            **{"data-do": "region", "aria-label": "Regions of the classes; the list beside has them too", **cells},
        )
    ]


def _kept(scene: Scene, unit: Unit) -> np.ndarray:
    scores = scene.kept(unit, Prediction).scores
    return np.empty((0, 0), np.int16) if scores is None else scores.regions


def chosen_class(scene: Scene, side: str) -> int | None:
    """The class that is explained of a side, None if none was chosen."""
    target = scene.aim(side)
    return target.index if isinstance(target, Class) else None


def swatch(index: int) -> html.Span:
    """A class's colour, before its name."""
    red, green, blue = colour_of(index)
    return html.Span(className="swatch", style={"background": f"rgb({red}, {green}, {blue})"})


def threshold(scene: Scene, side: str, scores: Scores) -> list[Any]:
    """From which number on a position belongs to a region, where that is a threshold and not the largest of several."""
    output = scene.info_of(side).output(scene.reading(side))
    alone = output is not None and output.length == 1
    what = "Foreground: where" if alone else "In a layer: where its"
    the = "the " if alone else ""
    if scores.reads == "sigmoid":
        text = f"{what} {the}sigmoid is above 0.5, its logit above 0."
    elif scores.reads == "probabilities" and output is not None and (alone or output.ending == "sigmoid"):
        text = f"{what} {the}probability is above 0.5."
    else:
        return []
    overlap = "" if alone else " Where layers overlap, the smallest is drawn."
    return [html.P(text + overlap, className="threshold")]
