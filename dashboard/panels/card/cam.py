"""A card's map: where the layer speaks for the target, over what the network saw of A and B."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import plotly.graph_objects as go
from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures_by_side, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import ClassMap, Unit
from hookscope.dashboard.drawing.against_pictures import FOR, FOR_OTHER, PALETTE, against_overlay, net_map
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.palettes import PALETTES
from hookscope.dashboard.drawing.pictures import cam_overlay
from hookscope.dashboard.drawing.plain_figures import Draft
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.regions import MIN_HEIGHT_PX, computing, keep_room, refuse, show_figure, show_text
from hookscope.hooks.methods import MAPS
from hookscope.hooks.results.looks import GradCam, Prediction
from hookscope.hooks.results.maps import frame
from hookscope.hooks.results.targets import SIDES, Box

GAP = 0.04  # between A and B, as a share of the figure's width
WIDTH_PX = 264
NET = "what speaks for each, less what speaks for the other"
OF_PART = {**dict.fromkeys(SIDES, "pixels "), "mask": "logits ", "keypoint": "of the keypoint's score "}


@state
@dataclass(frozen=True)
class Maps:
    """The method, of `methods.MAPS`, by which the cards' maps explain the class."""

    maps: Annotated[str, MAPS] = next(iter(MAPS))


def part(scene: Scene, position: int, key: str) -> Part:
    """The part that draws one card's map of every input, by the method that the view names."""
    method = scene.view.of(Maps).maps
    maps = scene.of_layer(ClassMap, key, explained=True, method=method)
    predictions = {side: scene.prediction(side) for side in maps}
    units = (*predictions.values(), *maps.values())
    shows = (scene.only("maps", *EXPLAINED), position, predictions, maps)
    return Part(f"card {position} cam", units, shows, _draw, error=ids.card("cam-text", position))


def live_part(scene: Scene, position: int, key: str) -> Part:
    """The same while a slider is dragged: its pictures alone are exchanged."""
    whole = part(scene, position, key)
    return replace(whole, shows=(*whole.shows, "tried"), draw=_draw_tried)


def _draw_tried(
    scene: Scene,
    position: int,
    predictions: dict[str, Unit],
    maps: dict[str, Unit],
    tried: str,
    answers: Answers,
) -> list[Update]:
    if not all(unit in answers for unit in (*predictions.values(), *maps.values())):
        return []
    updates = _draw(scene, position, predictions, maps, answers)
    figure = updates[0][1].get("figure")
    if figure is None:
        return updates
    pictures = {"images": [image.source for image in figure.layout.images]}
    return [(ids.card("cam", position), {"tried": pictures}), *updates[1:]]


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
            texts.append(_caption(scene, side, unit, cam, prediction))
        elif unit not in answers:
            texts.append(_waiting(side, computing(answers, unit, f"card {position} cam")))
    if len(shown) == 2:
        texts.append(html.Span("A and B: each on a scale of its own.", className="muted"))
    wrong = failures_by_side(answers, predictions, maps)
    texts += [refuse(scene.worded(side, failure), f"card {position} cam") for side, failure in wrong[:1]]
    waiting = [unit for unit in maps.values() if unit not in answers]
    known = [(unit, result_of(answers, unit, Prediction)) for unit in predictions.values()]
    sizes = [scene.frame_of(unit.model, prediction).shape[:2] for unit, prediction in known if prediction is not None]
    height = _height(sizes, len(maps))
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


def _waiting(side: str, text: list[object]) -> html.Div:
    """As high as what will stand there, so that the numbers below keep their place."""
    line = [html.Span(side.upper(), className=f"letter small {side}"), html.Span(text, className="muted")]
    return html.Div([html.Div(line, className="cam-caption"), html.Div(className="cam-scale")], className="cam-side")


def _caption(scene: Scene, side: str, unit: Unit, cam: GradCam, prediction: Prediction) -> html.Div:
    second = scene.sees_second(unit)
    size = scene.frame_of(unit.model, prediction, second=second).shape[:2]
    values, two = _values(scene, unit, cam), _is_of_two(cam)
    unit_text = _unit_text(scene, side, cam)
    row = MAPS[cam.method]
    source = f" ({row.source})" if row.source else ""
    about = f"{row.title}{source}: {row.help}, and summed"
    if two:
        against = against_overlay(values, size)
        note = against.note
        help_text = (
            f"{about}. Red speaks for the first and blue for the other: {NET}. "
            f"Both colours end at {format_number(against.limit)}{unit_text}. {cam.note}"
        ).rstrip()
        scale = _scale("", PALETTE.css(), f"±{format_number(against.limit)}{unit_text}")
    else:
        overlay = cam_overlay(values, size)
        note = overlay.note
        help_text = (
            f"{about}; only what speaks for the class is drawn. "
            f"Strongest: {format_number(overlay.peak)}{unit_text}. {cam.note}"
        ).rstrip()
        scale = _scale("0", PALETTES["magma"].css(), f"{format_number(overlay.peak)}{unit_text}")
    line = [
        html.Span(side.upper(), className=f"letter small {side}"),
        html.Span(
            _named(scene, side, cam), className="class", title=f"{scene.explained(side).capitalize()}. {help_text}"
        ),
        html.Span(cam.note.rstrip("."), className="muted") if cam.note else None,
        html.Span(f"over {scene.info_of(side).pictures[1]}", className="muted") if second else None,
    ]
    clipped = two and not np.array_equal(cam.opposite, -cam.values)
    return html.Div(
        [
            html.Div(line, className="cam-caption"),
            html.Div(note or scale, className="muted" if note else "cam-scale", title=help_text),
            html.Div(f"{NET[:1].upper()}{NET[1:]}", className="muted") if clipped else None,
        ],
        className="cam-side",
    )


def _is_of_two(cam: GradCam) -> bool:
    """Whether it is a map of one target against another."""
    return cam.opposite.size > 0


def _named(scene: Scene, side: str, cam: GradCam) -> list[object] | str:
    """What is explained; of one against another each with its colour."""
    name = scene.explained_name(side, cam.target, cam.against)
    if not _is_of_two(cam):
        return name
    first, _, other = name.partition(" against ")
    colours = (html.Span(className="swatch", style={"background": colour}) for colour in (FOR, FOR_OTHER))
    return [next(colours), f"{first} against ", next(colours), other]


def _unit_text(scene: Scene, side: str, cam: GradCam) -> str:
    """The unit of a map's values, after a number."""
    words = {"logit": "logits ", "sum of logits": "logits ", "score": "of the score "}.get(scene.called(side), "")
    target = scene.aim(side)
    words = OF_PART.get(target.part, words) if isinstance(target, Box) else words
    unit = MAPS[cam.method].unit
    return f" {words}{unit}" if unit else ""


def _scale(low: str, colours: str, high: str) -> list[object]:
    return [html.Span(low), html.Span(className="gradient", style={"background": colours}), html.Span(high)]


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
    cam = scene.kept(unit, GradCam)
    values = _values(scene, unit, cam)
    return against_overlay(values, size).png if _is_of_two(cam) else cam_overlay(values, size).png


def _values(scene: Scene, unit: Unit, cam: GradCam) -> np.ndarray:
    """The map, (height, width); of several frames the one that is shown."""
    values = net_map(cam.values, cam.opposite) if _is_of_two(cam) else cam.values
    return frame(values, scene.depth(unit), scene.walls.moment)


def _add_side(
    draft: Draft, scene: Scene, number: str, unit: Unit, side: str, prediction: Prediction, cam: GradCam
) -> None:
    second = scene.sees_second(unit)
    size = scene.frame_of(unit.model, prediction, second=second).shape[:2]
    values = _values(scene, unit, cam)
    heat = scene.picture(("cam", unit, size, scene.walls.moment), partial(_heat, scene, unit, size))
    for place, source in ((0, scene.seen(side, second=second)), (1e-9, heat)):  # Plotly draws one image per place
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
    rows, columns = values.shape
    draft.add_trace(
        "heatmap",
        z=values.astype(np.float32),
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
