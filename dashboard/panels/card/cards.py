"""The cards: one per selected layer, with its wall, its distribution, its numbers and its map, for A and B."""

from __future__ import annotations

from math import prod
from typing import Any

import dash
import plotly.graph_objects as go
from dash import ALL, ClientsideFunction, Input, Output, html, no_update

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.charts import HISTOGRAM_PX, histogram_figure
from hookscope.dashboard.exports import wall_files
from hookscope.dashboard.page import ids, wall_source
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MAX_LAYERS, View
from hookscope.dashboard.panels import regions, welcome
from hookscope.dashboard.panels.callbacks import NotAsked
from hookscope.dashboard.panels.card import attention, cam, wall
from hookscope.dashboard.panels.card.frame import card
from hookscope.dashboard.panels.card.head import card_head, shapes_text, status_text, wall_labels
from hookscope.dashboard.panels.card.numbers import statistics_tables, table_part
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import MIN_HEIGHT_PX, keep_room, refuse, show_figure, show_text
from hookscope.dashboard.panels.tree import Bars
from hookscope.hooks.methods import MAPS, METRICS
from hookscope.hooks.results.looks import Activation, Call
from hookscope.hooks.results.maps import why_no_maps


def layout() -> list[Any]:
    """Draw the place where the cards will be, with a guide in it."""
    return [
        Markup(ids.GUIDE, className="guide"),  # what it says depends on the address
        html.Div(
            [
                html.Div([card(0)] if position == 0 else None, id=ids.slot(position), className="slot")
                for position in range(MAX_LAYERS)
            ],
            id=ids.CARDS,
            className="cards",
        ),
    ]


def guide(has_input: bool, has_bars: bool = False) -> list[Any]:
    """What to do next, while no layer is chosen; `has_bars`: the tree's rows show a number."""
    if has_input and has_bars:
        return [
            html.P("The bars in the tree on the left answer it for every layer. Click one to see what it computed.")
        ]
    if not has_input:
        return [html.P("First a picture: drop one above, paste it, or take a sample. Then click a layer in the tree.")]
    return [html.P("Now click a layer in the tree on the left to see what it computed. Ctrl+click adds a second one.")]


def in_order(scene: Scene) -> list[tuple[int, str]]:
    """The cards in the order of the network's depth: (position, layer key); layers that the model lacks are left in."""
    found = [(position, key) for position, key in enumerate(scene.view.layers) if key]

    ends: dict[str, float] = {}
    last = -1.0
    for name, layer in scene.layers.items():  # a layer that never ran stands after the one that is named before it
        last = float(layer.calls[0].order) if layer.calls else last
        ends[name] = last

    def depth(item: tuple[int, str]) -> tuple[float, int]:
        call = scene.call_of(item[1])
        return (float(call[1].order) if call else ends.get(parse_key(item[1])[0], -1.0) + 0.5, item[0])

    return sorted(found, key=depth)


def parts(scene: Scene) -> list[Part]:
    """Three parts per card, walls before maps, and one for each card that is put away."""
    cards = in_order(scene)
    found: list[Part] = [_guide(scene, bool(cards))]
    ready = [(position, key) for position, key in cards if scene.call_of(key) and scene.inputs]
    mapless = {key: _why_no_maps(scene, key) for _, key in ready}
    for place, (position, key) in enumerate(cards):
        found.append(
            _main(scene, position, place, key) if (position, key) in ready else _missing(scene, position, place, key)
        )
    found += [
        _no_cam(scene, position, mapless[key]) if mapless[key] else cam.part(scene, position, key)
        for position, key in ready
    ]
    found += [attention.part(scene, position, key) for position, key in ready if attention.heads(scene, key)]
    found += [table_part(scene, position, key) for position, key in ready]
    open_positions = {position for position, _ in cards}
    found += [_hidden(position) for position in range(scene.mounted) if position not in open_positions]
    return found


def _why_no_maps(scene: Scene, key: str) -> str:
    found = scene.call_of(key)
    return why_no_maps(found[1], found[1].shape) if found else ""


def _guide(scene: Scene, any_card: bool) -> Part:
    has_input, has_bars = bool(scene.inputs), scene.view.of(Bars).metric in METRICS and not any_card
    first = welcome.is_first_visit(scene.view)

    is_detector = scene.info.kind == "detector"
    text = welcome.welcome(scene.info.layers, detector=is_detector) if first else guide(has_input, has_bars)
    return Part.still("guide", [show_text(ids.GUIDE, text, hidden=any_card and has_input)])


def parts_while_loading(view: View, mounted: int, sentence: str) -> list[Part]:
    """No card while there is no model: what the page showed is not that model's. `sentence` says how far it is."""
    first = welcome.is_first_visit(view)

    text = welcome.welcome(wait=sentence) if first else html.P(sentence)
    said = Part.still("guide", [show_text(ids.GUIDE, text, hidden=False)])
    return [said, *(_hidden(position) for position in range(mounted))]


def _hidden(position: int) -> Part:
    return Part.still(f"card {position}", [(ids.card("card", position), {"hidden": True, "style": {}})])


def _missing(scene: Scene, position: int, place: int, key: str) -> Part:
    """A card that cannot be answered: no input, or a layer that the model does not have or did not run."""
    name, number = parse_key(key)
    layer = scene.layers.get(name)
    if layer is None:
        sentence = f"{scene.info.title} has no layer '{name}'. Choose one in the tree."
    elif not layer.calls:
        problem = "was not seen to run" if layer.unseen else "did not run"
        sentence = f"'{key}' {problem}: {layer.reason_not_run or 'the forward pass does not call it.'}"
    elif number >= len(layer.calls):
        sentence = (
            f"'{name}' runs {len(layer.calls)} times in one forward pass; there is no call {number + 1}. "
            "Choose one in the tree."
        )
    else:
        sentence = "Choose a picture above to see what this layer computes."

    shown = {"hidden": False, "className": "panel card missing", "style": {"order": place}}
    updates: list[Update] = [
        (ids.card("card", position), shown),
        show_text(ids.card("head", position), card_head(key, layer.type if layer else "", "", "", [])),
        show_text(ids.card("labels", position), html.Div(sentence, className="sentence")),
    ]
    return Part.still(f"card {position}", updates)


def _main(scene: Scene, position: int, place: int, key: str) -> Part:
    units = scene.units("activation", key)
    needed: list[Unit] = list(scene.units("prediction").values()) if scene.walls.overlay else []
    shown = scene.only("rank", "scale", "colours", "count", "overlay", width=True)
    return Part(
        f"card {position}",
        (*needed, *units.values()),
        (shown, position, place, key, units, needed),
        _draw_main,
        error=ids.card("labels", position),
    )


def _draw_main(
    scene: Scene, position: int, place: int, key: str, units: dict[str, Unit], needed: list[Unit], answers: Answers
) -> list[Update]:
    found = scene.call_of(key)
    assert found is not None
    layer, call = found
    number = parse_key(key)[1]
    wrong = failures(answers, (*needed, *units.values()))
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    if any(unit not in answers or isinstance(answers[unit].result, Failure) for unit in needed):
        there = {}
    badges = regions.notes(scene, layer, call, number, list(there.values()))
    head = card_head(key, layer.type, shapes_text(call, there), status_text(answers, units, there), badges)
    updates: list[Update] = [
        (ids.card("card", position), {"hidden": False, "className": "panel card", "style": {"order": place}}),
        show_text(ids.card("head", position), head),
    ]
    heads_ = attention.heads(scene, key)
    room = attention.room(call, len(scene.inputs)) if heads_ else None
    updates.append(show_text(ids.card("attention-room", position), room, hidden=not heads_))
    if not heads_:
        updates.append(show_text(ids.card("attention", position), None, hidden=True))
    error = [refuse(wrong[0], f"card {position}")] if wrong else []
    if not there:
        return updates + _waiting(scene, position, call, error)
    source = wall_source.WallSource(scene, key, {side: units[side] for side in there})
    reading = scene.readings.get(scene.walls, there)
    labels = [side.upper() for side in there]
    activations = list(there.values())
    if reading.maps:
        shape = next(iter(reading.maps.values())).shape
        geometry = wall_source.geometry_for(scene, shape)
        figure: go.Figure | None = wall.figure(source, reading, geometry)
        bars: list[Any] = wall.colour_bars(reading)
        alone = scene.walls.rank == "difference" and len(scene.inputs) == 1
        order = "; |A − B| needs a second picture" if alone else ""
        heads = wall_labels(scene, f"{geometry.text}, mean framed{order}", there)
    else:
        figure = wall.bars(scene, reading, layer)
        whole = not any(each.whole for each in activations)
        too_many = " Its values are too many for bars: see their distribution." if figure is None and whole else ""
        bars = [html.P(wall.no_maps(activations[0], call) + too_many, className="sentence")]
        heads = wall_labels(scene, f"{prod(activations[0].shape):,} values", there, difference=False)
    graph_id = ids.card("wall", position)
    statistics = [activation.statistics for activation in activations]
    # for bins that A and B share; of values that are not all there each is drawn in the bins of its own
    both = [a.values for a in activations] if len(activations) == 2 and not any(a.whole for a in activations) else None
    histogram = histogram_figure(statistics, labels, both, key=key)
    files = [
        html.A(text, href=address, download="")
        for text, address in wall_files.files(source, layer, number, bool(reading.maps))
    ]
    return [
        *updates,
        show_text(ids.card("labels", position), [*error, heads]),
        show_figure(graph_id, figure) if figure is not None else keep_room(graph_id, MIN_HEIGHT_PX),
        show_text(ids.card("bars", position), bars),
        show_figure(ids.card("histogram", position), histogram),
        show_text(ids.card("statistics", position), statistics_tables(statistics, labels)),
        show_text(ids.card("files", position), files),
    ]


def _waiting(scene: Scene, position: int, call: Call, error: list[Any]) -> list[Update]:
    """Take the room that the answer will need, so that nothing jumps when it comes; none if there will be no answer."""
    height = 240
    if not why_no_maps(call, call.shape):
        sizes = dict(zip(call.axes, call.shape, strict=True))
        rows, columns = call.grid or (sizes["height"], sizes["width"])
        height = wall_source.geometry_for(scene, (sizes["channel"], rows, columns)).height_px
    return [
        keep_room(ids.card("wall", position), MIN_HEIGHT_PX if error else height),
        show_text(ids.card("labels", position), error or wall_labels(scene, "computing …", scene.inputs)),
        show_text(ids.card("bars", position), None),
        keep_room(ids.card("histogram", position), MIN_HEIGHT_PX if error else HISTOGRAM_PX),
        show_text(ids.card("statistics", position), None),
        show_text(ids.card("files", position), html.Span("Nothing to save yet.", className="muted")),
    ]


def _no_cam(scene: Scene, position: int, reason: str) -> Part:
    title = MAPS[scene.view.of(cam.Maps).maps].title

    text = html.Span(f"No map to lay over the picture: {reason[0].lower()}{reason[1:]}", className="muted")
    updates = [
        keep_room(ids.card("cam", position), MIN_HEIGHT_PX),
        show_text(ids.card("cam-title", position), title),
        show_text(ids.card("cam-text", position), text),
    ]
    return Part.still(f"card {position} cam", updates)


def register(app: dash.Dash) -> None:
    """Cards are added when a page has too few; clicks and hover on a wall are the browser's own business."""

    @app.callback(
        [Output(ids.slot(position), "children") for position in range(MAX_LAYERS)],
        Input(ids.MORE_CARDS, "data"),
        prevent_initial_call=True,
    )
    def add(more: dict[str, int]) -> list[Any]:
        """Put cards into places of their own: one more child of a common parent would have all of them made anew."""
        try:
            first, last = int(more["first"]), int(more["last"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise NotAsked from error
        return [[card(position)] if first <= position < last else no_update for position in range(MAX_LAYERS)]

    app.clientside_callback(
        ClientsideFunction("hookscope", "wallClick"),
        Input(ids.card("wall", ALL), "clickData"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("hookscope", "wallHover"),
        Input(ids.card("wall", ALL), "hoverData"),
        prevent_initial_call=True,
    )


PANEL = Panel(
    "cards",
    "main",
    urgency=2,
    layout=lambda setup: layout(),
    parts=parts,
    waiting=lambda wait: parts_while_loading(wait.view, wait.mounted, wait.sentence),
    saved=lambda scene: html.Div([card(position) for position in range(scene.mounted)], className="cards"),
    register=register,
    tabs=("layers",),
)
