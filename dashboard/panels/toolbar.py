"""The toolbar over the cards: how every wall is ranked, scaled and coloured; which class is explained, and how."""

from __future__ import annotations

import json
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, html

from hookscope.dashboard.answers.parts import Part, Update, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.asking.targets import NEXT, part_of, write_other, write_target
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.page import ids, restoring
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import View
from hookscope.dashboard.panels.detections import LISTED, NO_CLASSES
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import show_text
from hookscope.hooks.methods import MAPS, MapMethod
from hookscope.hooks.results.looks import Prediction
from hookscope.hooks.results.outputs import AS_FOUND, Reading
from hookscope.hooks.results.targets import Box

RANKS = [
    ("index", "index", "Channels in the order in which the layer has them"),
    ("strongest", "strongest", "Largest |value| first"),
    ("mean", "mean", "Largest mean first"),
    ("variance", "variance", "Largest variance first"),
    ("zeros", "zeros", "Most zeros first: channels that did not answer"),
    ("difference", "|A − B|", "Channels in which A and B differ most first"),
    ("class", "for the class", "Largest share of the explained number first: activation × gradient, one pass"),
    ("effect", "measured effect", "Each channel is muted in turn: those first without which the number changes most"),
    ("back", "A in B", "Each channel of A is put into B's run in turn: those first that bring back most of A's answer"),
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
LIKENESS = {"value": "top", "label": "likeness to the other"}
TOP1 = {"value": "top", "label": "top class"}
ALONE = {"value": "off", "label": "nothing"}
RUNNER_UP = {"value": NEXT, "label": "runner-up"}
BEST_CAPTION = {"value": "top", "label": "top caption"}
VS_HELP = "Why this class and not another: explain it against the runner-up, or one of your choice"
AGAINST_HELP = (
    "Why this class and not that one: the difference of their two logits is explained; what speaks for both is left "
    "out. Type to search.\nrunner-up: of each picture the one that comes first of all others."
)
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
        _select(
            "against", ids.AGAINST, [(each["value"], each["label"]) for each in (ALONE, RUNNER_UP)], AGAINST_HELP, True
        ),
        html.Button(
            "vs", className="chip vs", title=VS_HELP, **{"data-do": "against", "aria-label": "against another"}
        ),
        Markup(ids.WHOSE, className="whose"),
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


def targets(info: ModelInfo, reading: Reading = AS_FOUND, boxes: int = BOXES) -> list[dict[str, str]]:
    """What can be explained, the model's own first choice on top; equal names are told apart by number.

    Arguments:
        reading: how its answer is read.
        boxes: how many of a detector's; as many as it may find while that is not known.
    """
    seen: dict[str, int] = {}
    names, boxed = info.names(reading), info.form(reading) == "boxes"
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    named = [
        {"value": str(index), "label": name if seen[name] == 1 else f"{name} ({index})"}
        for index, name in enumerate(names)
        if not boxed or name not in NO_CLASSES
    ]
    if info.found(reading).reading.reads == "embedding":
        return [LIKENESS]
    if info.compares(reading):
        return [BEST_CAPTION, *({**each, "label": f"caption: {each['label']}"} for each in named)]
    if not boxed:
        return [TOP1, *named]
    numbered = [{"value": write_target(Box(n)), "label": f"box {n}"} for n in range(boxes)]
    return [BEST_BOX, *numbered[:LISTED], *named, *numbered[LISTED:]]


def others(listed: list[dict[str, str]]) -> list[dict[str, str]]:
    """What something can be held against, of all that can be explained."""
    return [ALONE] if listed == [LIKENESS] else [ALONE, RUNNER_UP, *listed[1:]]


def parts(scene: Scene) -> list[Part]:
    """What can be explained, and of which side; of a detector the boxes that it has found, not all that it may find."""
    ranks = Part.still("ranks", [(ids.RANK, {"data": ranks_of(scene)})])
    return [_targets(scene), Part("apart", (), (scene.only(*EXPLAINED, "side"),), _whose), ranks]


def ranks_of(scene: Scene) -> list[dict[str, str]]:
    """The ranks that a wall can have here, and the one that is chosen: where that cannot be, the wall says why."""
    without = {"difference"} if len(scene.inputs) < 2 else set()
    without |= set() if restoring.can_be_answered(scene) else {"back"}
    return [{"value": name, "label": text} for name, text, _ in RANKS if name not in without - {scene.walls.rank}]


def _targets(scene: Scene) -> Part:
    info, reading = scene.info, scene.reading(scene.view.side)
    sides = [side for side in scene.inputs if scene.info_of(side) is info]
    if info.form(reading) != "boxes" or not sides:
        return Part("targets", (), (info, reading), _listed)
    units = {side: scene.prediction(side) for side in sides}
    return Part("targets", tuple(units.values()), (scene.only(*EXPLAINED, "side"), units), _found, eager=False)


def _whose(scene: Scene, answers: Answers) -> list[Update]:
    """Whose target is chosen here, where each side has its own; beside B's picture the way to that and back."""
    two, own = len(scene.inputs) == 2, scene.own_classes
    letters: list[Any] = []
    if two and (scene.apart or own):
        help_text = "Whose class is chosen here: each of the two explains its own."
        for side in scene.inputs:
            chosen = side == scene.view.side
            looks = {"data-do": "look", "data-value": side, "aria-pressed": "true" if chosen else "false"}
            letters.append(
                html.Button(side.upper(), className="chip chosen" if chosen else "chip", title=help_text, **looks)
            )
    apart: list[Any] = []
    if two and not own:
        view = scene.view
        changes: dict[str, Any] = {"apart": False, "target_b": "", "against_b": ""}
        text, help_text = "A's class", "Explain the same class of B as of A again"
        if not scene.apart:
            changes = {"apart": True, "target_b": write_target(view.target), "against_b": write_other(view.against)}
            text, help_text = "own class", "Explain another class of B than of A"
        changes["side"] = "a" if scene.apart else "b"
        action = {"data-do": "set", "data-value": json.dumps(changes)}
        apart.append(html.Button(text, className="link", title=help_text, **action))
    return [show_text(ids.WHOSE, letters), show_text(ids.APART, apart)]


def _found(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    predictions = [result_of(answers, unit, Prediction) for unit in units.values()]
    counts = [len(each.detections.scores) for each in predictions if each is not None and each.detections is not None]
    chosen = scene.aim(scene.view.side)  # stays in the list: it says that this picture has no such box
    most = max([*counts, chosen.index + 1 if isinstance(chosen, Box) else 0])
    listed = targets(scene.info, scene.reading(scene.view.side), most)
    if isinstance(chosen, Box) and chosen.part != "score":
        listed.insert(1, {"value": write_target(chosen), "label": f"box {chosen.index}, its {part_of(chosen)}"})
    return [(ids.TARGET, {"data": listed}), (ids.AGAINST, {"data": others(listed)})]


def _listed(info: ModelInfo, reading: Reading, answers: Answers) -> list[Update]:
    listed = targets(info, reading)
    return [(ids.TARGET, {"data": listed}), (ids.AGAINST, {"data": others(listed)})]


def values(view: View) -> dict[str, Any]:
    """What each control shows for a view, by control id."""
    found = view.to_dict()
    found[ids.TARGET] = found["target"] or TOP1["value"]
    found[ids.AGAINST] = found["against"] or ALONE["value"]
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
