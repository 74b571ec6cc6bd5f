"""A card's map: where the layer speaks for the target, over what the network saw of A and B."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import plotly.graph_objects as go
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import PALETTES
from hookscope.dashboard.drawing.pictures import cam_overlay
from hookscope.dashboard.drawing.plain_figures import Draft
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.regions import MIN_HEIGHT_PX, keep_room, refuse, show_figure, show_text
from hookscope.hooks.methods import MAPS
from hookscope.hooks.results.looks import GradCam, Prediction

GAP = 0.04  # between A and B, as a share of the figure's width
WIDTH_PX = 264


@state
@dataclass(frozen=True)
class Maps:
    """The method, of `methods.MAPS`, by which the cards' maps explain the class."""

    maps: Annotated[str, MAPS] = next(iter(MAPS))


def part(scene: Scene, position: int, key: str) -> Part:
    """The part that draws one card's map of every input, by the method that the view names."""
    predictions, maps = scene.units("prediction"), scene.units(scene.view.of(Maps).maps, key)
    units = (*predictions.values(), *maps.values())
    shows = (scene.only("target", "maps"), position, predictions, maps)
    return Part(f"card {position} cam", units, shows, _draw, error=ids.card("cam-text", position))


def _draw(
    scene: Scene, position: int, predictions: dict[str, Unit], maps: dict[str, Unit], answers: Answers
) -> list[Update]:
    shown: list[tuple[str, Prediction, GradCam]] = []
    texts: list[object] = []
    for side, unit in maps.items():
        prediction = result_of(answers, predictions[side], Prediction)
        cam = result_of(answers, unit, GradCam)
        if prediction is not None and cam is not None:
            shown.append((side, prediction, cam))
            texts.append(_caption(scene, side, cam, prediction))
        elif unit not in answers:
            texts.append(_waiting(side))
    if len(shown) == 2:
        texts.append(html.Span("A and B: each on a scale of its own.", className="muted"))
    wrong = failures(answers, (*predictions.values(), *maps.values()))
    texts += [refuse(scene.worded(failure), f"card {position} cam") for failure in wrong[:1]]
    waiting = [unit for unit in maps.values() if unit not in answers]
    known = [result_of(answers, unit, Prediction) for unit in predictions.values()]
    height = _height([prediction.pixels.shape[:2] for prediction in known if prediction is not None], len(maps))
    graph = ids.card("cam", position)
    room = height if waiting else MIN_HEIGHT_PX
    return [
        show_figure(graph, _figure(scene, shown, maps, height)) if shown else keep_room(graph, room),
        show_text(ids.card("cam-title", position), _title(scene, bool(shown))),
        show_text(ids.card("cam-text", position), texts),
    ]


def _title(scene: Scene, has_map: bool) -> list[object]:
    enlarge = html.Button("enlarge", className="link", **{"data-do": "enlarge"})
    return [html.Span(MAPS[scene.view.of(Maps).maps].title), *([enlarge] if has_map else [])]


def _waiting(side: str) -> html.Div:
    """As high as what will stand there, so that the numbers below keep their place."""
    line = [html.Span(side.upper(), className=f"letter small {side}"), html.Span("computing …", className="muted")]
    return html.Div([html.Div(line, className="cam-caption"), html.Div(className="cam-scale")], className="cam-side")


def _caption(scene: Scene, side: str, cam: GradCam, prediction: Prediction) -> html.Div:
    overlay = cam_overlay(cam.values, prediction.pixels.shape[:2])
    words = {"classifier": "logits", "segmenter": "logits", "detector": "of the score"}[scene.info.kind]
    row = MAPS[cam.method]
    unit = f" {words} {row.unit}" if row.unit else ""
    source = f" ({row.source})" if row.source else ""
    help_text = (
        f"{row.title}{source}: {row.help}, and summed; only what speaks for the class is drawn. "
        f"Strongest: {format_number(overlay.peak)}{unit}. {cam.note}"
    ).rstrip()
    line = [
        html.Span(side.upper(), className=f"letter small {side}"),
        html.Span(scene.class_name(cam.target), className="class", title=help_text),
        html.Span(cam.note.rstrip("."), className="muted") if cam.note else None,
    ]
    scale: list[object] = [
        html.Span("0"),
        html.Span(className="gradient", style={"background": PALETTES["magma"].css()}),
        html.Span(f"{format_number(overlay.peak)}{unit}"),
    ]
    return html.Div(
        [
            html.Div(line, className="cam-caption"),
            html.Div(overlay.note or scale, className="muted" if overlay.note else "cam-scale", title=help_text),
        ],
        className="cam-side",
    )


def _share(sides: int) -> float:
    """Of the graph's width, for each side's picture."""
    return (1 - GAP * (sides - 1)) / max(sides, 1)


def _height(sizes: list[tuple[int, int]], sides: int) -> int:
    """Of the graph in CSS pixels, for pictures of these heights and widths; square ones while none is known."""
    tallest = max((height / width for height, width in sizes), default=1.0)
    return round(min(WIDTH_PX * _share(sides) * tallest, 200))


def _figure(
    scene: Scene, shown: list[tuple[str, Prediction, GradCam]], maps: dict[str, Unit], height_px: int
) -> go.Figure:
    """Per side the picture, the heat over it (its opacity is the page's), and the map's own values on hover."""
    sides = list(maps)
    share = _share(len(sides))
    draft = Draft(height_px, "cam")
    for place, side in enumerate(sides):
        number = "" if place == 0 else str(place + 1)
        left = place * (share + GAP)
        hidden = {"visible": False, "fixedrange": True}
        draft.update_layout(
            **{
                f"xaxis{number}": {"domain": [left, left + share], "range": [0, 1], **hidden},
                f"yaxis{number}": {"range": [1, 0], "anchor": f"x{number}", **hidden},
            }
        )
        found = [(prediction, cam) for which, prediction, cam in shown if which == side]
        if found:
            _add_side(draft, scene, number, maps[side], side, *found[0])
    return draft.figure()


def _heat(scene: Scene, unit: Unit, size: tuple[int, int]) -> bytes:
    return cam_overlay(scene.kept(unit, GradCam).values, size).png


def _add_side(
    draft: Draft, scene: Scene, number: str, unit: Unit, side: str, prediction: Prediction, cam: GradCam
) -> None:
    heat = scene.picture(
        ("cam", unit, prediction.pixels.shape[:2]), partial(_heat, scene, unit, prediction.pixels.shape[:2])
    )
    for place, source in ((0, scene.seen(side)), (1e-9, heat)):  # Plotly draws one image per place
        draft.add_layout_image(
            source=source,
            xref=f"x{number}",
            yref=f"y{number}",
            x=place,
            y=0,
            sizex=1,
            sizey=1,
            sizing="stretch",
            layer="below",
        )
    rows, columns = cam.values.shape
    draft.add_trace(
        "heatmap",
        z=cam.values.astype(np.float32),
        x0=0.5 / columns,
        dx=1 / columns,
        y0=0.5 / rows,
        dy=1 / rows,
        xaxis=f"x{number}",
        yaxis=f"y{number}",
        opacity=0,
        showscale=False,
        hovertemplate=f"{side.upper()}: %{{z:.4g}}<extra></extra>",
    )
