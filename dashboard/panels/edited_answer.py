"""What the edits make of the answer, in one line: beside the sliders, because the answer itself may be out of sight."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.regions import show_text
from hookscope.hooks.results.looks import Detections, Prediction
from hookscope.hooks.results.outputs import Scores
from hookscope.hooks.results.scores import top_classes
from hookscope.hooks.results.targets import Against, Class, Rival

SURE = 0.5  # a box of this score is counted


def part(scene: Scene) -> Part:
    """The line; without edits it is empty."""
    units = {}
    for side in scene.inputs:
        if scene.edits(side):
            changed = scene.prediction(side)
            units[side] = (replace(changed, side=replace(changed.side, edits=())), changed)
    if not units:
        return Part.still("detail answer", [show_text(ids.detail("answer"), None)])
    asked = tuple(unit for pair in units.values() for unit in pair)
    return Part("detail answer", asked, (scene.only(*EXPLAINED), units), _draw, error=ids.detail("answer"))


def _draw(scene: Scene, units: dict[str, tuple[Unit, Unit]], answers: Answers) -> list[Update]:
    lines = []
    for side, pair in units.items():
        before, after = (result_of(answers, unit, Prediction) for unit in pair)
        said = _said(scene, side, before, after) if before is not None and after is not None else None
        if said is None and any(unit not in answers for unit in pair):
            said = ["…"]
        if said:
            lines.append(html.Span([html.Span(side.upper(), className=f"letter small {side}"), " ", *said]))
    return [show_text(ids.detail("answer"), lines)]


def _said(scene: Scene, side: str, before: Prediction, after: Prediction) -> list[Any] | None:
    if before.detections is not None and after.detections is not None:
        return _of_boxes(scene, side, before.detections, after.detections)
    if before.scores is not None and after.scores is not None:
        return _of_classes(scene, side, before.scores, after.scores)
    return None


def _of_classes(scene: Scene, side: str, before: Scores, after: Scores) -> list[Any] | None:
    if not len(before.shares) or len(before.shares) != len(after.shares):
        return None
    firsts = top_classes(before.shares, 1), top_classes(after.shares, 1)
    if not firsts[1]:
        return ["with the edits the answer holds NaN or infinite values"]
    if not firsts[0]:
        return None
    target = scene.aim(side)
    chosen = target.index if isinstance(target, Class) and target.index < len(before.shares) else firsts[0][0][0]
    found: list[Any] = [*_moved(scene, side, chosen, before, after)]
    if (other := _held_against(scene, side, chosen, before)) is not None:
        found += [" against ", *_moved(scene, side, other, before, after)]
    index, share = firsts[1][0]
    if index != firsts[0][0][0]:
        return [*found, "; first is now ", html.Strong(scene.class_name(side, index)), f" with {share:.3f}"]
    same = f"; first is still {scene.class_name(side, index)}" if index != chosen else "; it stays the first"
    return [*found, same]


def _moved(scene: Scene, side: str, index: int, before: Scores, after: Scores) -> list[Any]:
    return [html.Strong(scene.class_name(side, index)), f" {before.shares[index]:.3f} → {after.shares[index]:.3f}"]


def _held_against(scene: Scene, side: str, chosen: int, before: Scores) -> int | None:
    """The class that the explained one is held against: of the plain answer, which the edits are compared with."""
    target = scene.target(side)
    if not isinstance(target, Against):
        return None
    if isinstance(target.other, Rival):
        return next((index for index, _ in top_classes(before.shares, 2) if index != chosen), None)
    other = target.other
    return other.index if isinstance(other, Class) and other.index < len(before.shares) else None


def _of_boxes(scene: Scene, side: str, before: Detections, after: Detections) -> list[Any]:
    counts = [int(np.count_nonzero(each.scores >= SURE)) for each in (before, after)]
    bests = [_best(scene, side, each) for each in (before, after)]
    return [f"boxes of score {SURE} or more: {counts[0]} → {counts[1]}; the best: ", *bests[0], " → ", *bests[1]]


def _best(scene: Scene, side: str, found: Detections) -> list[Any]:
    if not len(found.scores):
        return ["none"]
    place = int(found.scores.argmax())
    name = scene.class_name(side, int(found.labels[place]))
    return [html.Strong(name), f" {float(found.scores[place]):.3f}"]
