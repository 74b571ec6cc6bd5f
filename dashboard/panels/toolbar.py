"""The toolbar over the cards: how every wall is ranked, scaled and coloured; which class is explained, and how."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit, box_of, box_target
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.detections import LISTED, NO_CLASSES
from hookscope.dashboard.panels.panel import Panel
from hookscope.hooks.methods import MAPS, MapMethod
from hookscope.hooks.results.looks import Prediction

RANKS = [
    ("index", "index", "Channels in the order in which the layer has them"),
    ("strongest", "strongest", "Largest |value| first"),
    ("mean", "mean", "Largest mean first"),
    ("variance", "variance", "Largest variance first"),
    ("zeros", "zeros", "Most zeros first: channels that did not answer"),
    ("difference", "|A − B|", "Channels in which A and B differ most first"),
]
SCALES = [
    ("layer", "layer", "One colour scale for the whole layer: channels can be compared"),
    ("channel", "channel", "A scale for each channel: shows faint maps, but makes a dead channel look alive"),
]
COLOURS = [("auto", "auto"), ("viridis", "viridis"), ("magma", "magma"), ("grey", "grey")]
COUNTS = [("auto", "auto"), ("64", "64"), ("256", "256"), ("all", "all")]
BOXES = 300  # as many as torchvision's detectors give at most
LETTER_EM, WIDE_EM = 0.57, 0.78  # how wide letters are, and capitals and signs, in the widest of the page's fonts
BOX_PX = 28  # a box's borders, padding and arrow, see dashboard.css
TOP1 = {"value": "top", "label": "top class"}
BEST_BOX = {"value": "top", "label": "best box"}


def layout() -> html.Div:
    """Draw the controls with their defaults: those of the walls, and those of the maps over the picture."""
    return html.Div(
        className="toolbar",
        role="toolbar",
        children=[_group("wall", "walls", _of_walls()), _group("map", "maps", _of_maps())],
        **{"aria-label": "How the cards are drawn"},
    )


def _group(name: str, class_name: str, controls: list[Any]) -> html.Div:
    """Controls of one thing, under its name; the style sheet hides a group that has nothing to act on."""
    title = html.Span(name, className="group-name")
    return html.Div([title, *controls], className=f"group {class_name}", role="group", **{"aria-label": name})


def _of_walls() -> list[Any]:
    help_text = "auto: blue and red about zero for signed values, viridis from zero else."
    return [
        _select("rank", ids.RANK, [(v, t) for v, t, _ in RANKS], _help(RANKS)),
        _select("scale", ids.SCALE, [(v, t) for v, t, _ in SCALES], _help(SCALES)),
        _select("colours", ids.COLOURS, COLOURS, help_text),
        _select("show", ids.COUNT, COUNTS, "How many channels a wall shows, best ranked first.\nauto: as many as fit."),
        _switch(ids.OVERLAY, "overlay", "Lay every map over what the network saw"),
        _switch(ids.TABLE, "table", "List every channel's numbers under its wall"),
    ]


def _of_maps() -> list[Any]:
    slider = dmc.Slider(
        id=ids.OPACITY,
        value=60,
        min=0,
        max=100,
        step=5,
        w=36,
        size="sm",
        label=None,
        updatemode="drag",
        thumbLabel="Opacity of the map over the picture, in per cent",
    )
    help_text = (
        "The class whose logit is explained. Type to search.\ntop class: of each picture the one that comes first."
    )
    maps = [(row.name, row.title, _of_map(row)) for row in MAPS.values()]
    return [
        _select("", ids.MAPS, [(v, t) for v, t, _ in maps], _help(maps)),
        _select("explain", ids.TARGET, [], help_text, search=True),
        html.Div(
            [html.Span("opacity", className="muted"), slider],
            className="control heat-opacity",
            title="Opacity of the map over the picture",
        ),
    ]


def _of_map(row: MapMethod) -> str:
    source = f" ({row.source})" if row.source else ""
    return f"{row.help[:1].upper()}{row.help[1:]}{source}{'' if row.rule else '; slow'}"


def _help(rows: list[tuple[str, str, str]]) -> str:
    return "\n".join(f"{text}: {help_text}" for _, text, help_text in rows)


def _select(label: str, id: str, options: list[tuple[str, str]], help_text: str, search: bool = False) -> html.Label:
    return html.Label(
        [
            html.Span(label, className="muted") if label else None,  # none: the group's name is its name
            dmc.Select(
                id=id,
                data=[{"value": value, "label": text} for value, text in options] if options else [TOP1],
                value=options[0][0] if options else TOP1["value"],
                allowDeselect=False,
                searchable=search,
                limit=60 if search else None,
                size="xs",
                w=_width([text for _, text in options] or [TOP1["label"]]),
                **({} if label else {"aria-label": "Method of the map"}),
                nothingFoundMessage="No class has this name" if search else None,
                comboboxProps={"width": 260, "position": "bottom-end"} if search else {"width": "max-content"},
            ),
        ],
        className="control",
        title=help_text,
    )


def _width(texts: list[str]) -> str:
    """A box's width for the longest of its texts: in em, so that it grows with the letters."""
    longest = max(sum(LETTER_EM if letter.islower() else WIDE_EM for letter in text) for text in texts)
    return f"calc({longest:.1f}em + {BOX_PX}px)"


def _switch(id: str, label: str, help_text: str) -> html.Span:
    return html.Span(dmc.Switch(id=id, label=label, size="xs", checked=False), className="control", title=help_text)


def targets(info: ModelInfo, boxes: int = BOXES) -> list[dict[str, str]]:
    """What can be explained, the model's own first choice on top; equal names are told apart by number.

    Arguments:
        boxes: how many of a detector's; as many as it may find while that is not known.
    """
    seen: dict[str, int] = {}
    for name in info.classes:
        seen[name] = seen.get(name, 0) + 1
    named = [
        {"value": str(index), "label": name if seen[name] == 1 else f"{name} ({index})"}
        for index, name in enumerate(info.classes)
        if info.kind != "detector" or name not in NO_CLASSES
    ]
    if info.kind != "detector":
        return [TOP1, *named]
    numbered = [{"value": str(box_target(n)), "label": f"box {n}"} for n in range(boxes)]
    return [BEST_BOX, *numbered[:LISTED], *named, *numbered[LISTED:]]


def parts(scene: Scene) -> list[Part]:
    """The boxes that a detector has found, in place of as many as it may find."""
    if scene.info.kind != "detector" or not scene.inputs:
        return []
    units = scene.units("prediction")
    return [Part("targets", tuple(units.values()), (scene.only("target"), units), _found, eager=False)]


def _found(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    predictions = [result_of(answers, unit, Prediction) for unit in units.values()]
    counts = [len(each.detections.scores) for each in predictions if each is not None and each.detections is not None]
    chosen = box_of(scene.view.target)  # stays in the list: it says that this picture has no such box
    return [(ids.TARGET, {"data": targets(scene.info, max([*counts, 0 if chosen is None else chosen + 1]))})]


def values(view: View) -> dict[str, Any]:
    """What each control shows for a view, by control id."""
    found = view.to_dict()
    found[ids.TARGET] = TOP1["value"] if view.target is None else str(view.target)
    return {name: found[name] for name in ids.CONTROLS}


def property_of(control: str) -> str:
    """The property that holds a control's value."""
    return "checked" if control in (ids.OVERLAY, ids.TABLE) else "value"


def register(app: dash.Dash) -> None:
    """Controls change the view, in the browser."""
    app.clientside_callback(
        ClientsideFunction("hookscope", "controls"),
        *(Input(control, property_of(control)) for control in ids.CONTROLS),
        prevent_initial_call=True,
    )
    app.clientside_callback(ClientsideFunction("hookscope", "opacity"), Input(ids.OPACITY, "value"))


PANEL = Panel("toolbar", "main", urgency=1.5, layout=lambda setup: layout(), parts=parts, register=register)
