"""The cards: one per selected layer, with its wall, its distribution, its numbers and its map, for A and B."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import dash
import plotly.graph_objects as go
from dash import ALL, ClientsideFunction, Input, Output, html, no_update

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.charts import HISTOGRAM_PX, histogram_figure
from hookscope.dashboard.drawing.geometry import WallGeometry
from hookscope.dashboard.exports import wall_files
from hookscope.dashboard.page import ids, restoring, standing, wall_source
from hookscope.dashboard.page.reading import Reading
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import MAX_LAYERS, View
from hookscope.dashboard.panels import regions, welcome
from hookscope.dashboard.panels.callbacks import NotAsked
from hookscope.dashboard.panels.card import attention, cam, flip, over_set, restored_lines, wall
from hookscope.dashboard.panels.card import ranked as card_ranked
from hookscope.dashboard.panels.card.frame import card
from hookscope.dashboard.panels.card.head import card_head, shapes_text, status_text, wall_labels
from hookscope.dashboard.panels.card.numbers import statistics_tables
from hookscope.dashboard.panels.card.order import REGIONS
from hookscope.dashboard.panels.panel import Panel
from hookscope.dashboard.panels.regions import MIN_HEIGHT_PX, keep_room, refuse, show_figure, show_text
from hookscope.dashboard.panels.tree import Bars
from hookscope.dashboard.sets.layer_numbers import SET_METRICS
from hookscope.hooks.methods import MAPS, METRICS
from hookscope.hooks.results.looks import Activation, Call
from hookscope.hooks.results.maps import plane_of, why_no_maps
from hookscope.hooks.results.restoring import RestoredParts

PAIRED = {"difference": "|A − B|", "back": "A in B"}  # ranks that two sides are needed for


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


def guide(has_input: bool, has_bars: bool = False, offer: Sequence[Any] = ()) -> list[Any]:
    """What to do next, while no layer is chosen.

    Arguments:
        has_bars: the tree's rows show a number. offer: a layer to begin with.
    """
    if has_input and has_bars:
        return [
            html.P("The bars in the tree on the left answer it for every layer. Click one to see what it computed.")
        ]
    if not has_input:
        return [html.P("First a picture: drop one above, paste it, or take a sample. Then click a layer in the tree.")]
    return [
        html.P("Now click a layer in the tree on the left to see what it computed. Ctrl+click adds a second one."),
        *offer,
    ]


def in_order(scene: Scene) -> list[tuple[int, str]]:
    """The cards in the order of the network's depth: (position, layer key); layers that the model lacks are left in."""
    found = [(position, key) for position, key in enumerate(scene.view.layers) if key]

    ends: dict[str, float] = {}
    last = -1.0
    for (
        name,
        layer,
    ) in scene.info.by_name.items():  # a layer that never ran stands after the one that is named before it
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
    ready = [(position, key) for position, key in cards if any(scene.call_of(key, side) for side in scene.inputs)]
    mapless = {key: _why_no_maps(scene, key) for _, key in ready}
    for place, (position, key) in enumerate(cards):
        found.append(
            _main(scene, position, place, key) if (position, key) in ready else _missing(scene, position, place, key)
        )
    found += [
        _no_cam(scene, position, mapless[key]) if mapless[key] else cam.part(scene, position, key)
        for position, key in ready
    ]
    found += [flip.part(scene, position, key) for position, key in ready]
    found += [attention.part(scene, position, key) for position, key in ready if attention.heads(scene, key)]
    found += [region.part(scene, position, key) for region in REGIONS.values() for position, key in ready]
    # a set says something of a layer without a picture, too
    found += [over_set.part(scene, position, key) for position, key in cards if (position, key) not in ready]
    open_positions = {position for position, _ in cards}
    found += [_hidden(position) for position in range(scene.mounted) if position not in open_positions]
    return found


def resting(scene: Scene) -> list[Part]:
    """What follows a slider that is held still: the maps by the methods that take one pass."""
    if MAPS[scene.view.of(cam.Maps).maps].rule is None:
        return []
    ready = [(position, key) for position, key in in_order(scene) if any(scene.call_of(key, s) for s in scene.inputs)]
    return [cam.live_part(scene, position, key) for position, key in ready if not _why_no_maps(scene, key)]


def _why_no_maps(scene: Scene, key: str) -> str:
    found = scene.call_of(key)
    return why_no_maps(found[1], found[1].shape) if found else ""


def _guide(scene: Scene, any_card: bool) -> Part:
    metric = scene.view.of(Bars).metric
    has_input, has_bars = bool(scene.inputs), (metric in METRICS or metric in SET_METRICS) and not any_card
    first = welcome.is_first_visit(scene.view)

    is_detector = scene.info.form() == "boxes"
    offer = [] if any_card else welcome.offer(scene.info.layers, detector=is_detector)
    text = welcome.welcome(scene.info.layers, detector=is_detector) if first else guide(has_input, has_bars, offer)
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
    layer = scene.info.by_name.get(name)
    if layer is None:
        titles = " and ".join(dict.fromkeys(info.title for info in scene.models.values()))
        verb = "have" if scene.two_models else "has"
        sentence = f"{titles} {verb} no layer '{name}'. Choose one in the tree."
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
    units = scene.of_layer(ActivationOf, key)
    needed = [scene.prediction(side) for side in units] if scene.walls.overlay else []
    ranked, restored = wall_source.ranked_units(scene, key), restoring.unit_of(scene, key)
    names = ("rank", "scale", "colours", "count", "overlay", "restored", *wall_source.ranked_fields(scene))
    shown = scene.only(*names, width=True)
    return Part(
        f"card {position}",
        (*needed, *units.values(), *ranked.values(), *([restored] if restored else [])),
        (shown, position, place, key, (units, ranked, restored), needed),
        _draw_main,
        error=ids.card("labels", position),
    )


def _draw_main(
    scene: Scene,
    position: int,
    place: int,
    key: str,
    asked: tuple[dict[str, Unit], dict[str, Unit], Unit | None],
    needed: list[Unit],
    answers: Answers,
) -> list[Update]:
    found, (units, ranked, restored) = scene.call_of(key), asked
    assert found is not None
    layer, call = found
    number = parse_key(key)[1]
    wrong = failures(answers, (*needed, *units.values()))
    results = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    there = {side: result for side, result in results.items() if result is not None}
    if any(unit not in answers or isinstance(answers[unit].result, Failure) for unit in needed):
        there = {}
    badges = regions.notes(scene, key, layer, call, list(there.values()))
    head = card_head(key, layer.type, shapes_text(call, there), status_text(answers, units, there), badges)
    error = [refuse(wrong[0], f"card {position}")] if wrong else []
    looks = "panel card refused" if error and not there else "panel card"
    updates: list[Update] = [
        (ids.card("card", position), {"hidden": False, "className": looks, "style": {"order": place}}),
        show_text(ids.card("head", position), head),
    ]
    heads_ = attention.heads(scene, key)
    room = attention.room(call, len(units)) if heads_ else None
    updates.append(show_text(ids.card("attention-room", position), room, hidden=not heads_))
    if not heads_:
        updates.append(show_text(ids.card("attention", position), None, hidden=True))
    if not there:
        return updates + _waiting(scene, position, key, call, error)
    told = standing.standing(answers, ranked, restoring.ranking_unit(scene, restored))
    parts = result_of(answers, restored, RestoredParts)
    source = wall_source.WallSource(scene, key, {side: units[side] for side in there}, told, parts)
    reading = scene.readings.get(scene.walls, there, told)
    labels = [side.upper() for side in there]
    activations = list(there.values())
    if reading.maps:
        geometry = wall_source.geometry_of(scene, key, reading)
        refused = restored_lines.refusal(scene, restored, answers)
        figure: go.Figure | None = wall.figure(source, reading, geometry, refused)
        bars: list[Any] = wall.colour_bars(reading, parts if scene.walls.restored else None)
        alone = len(scene.inputs) == 1 and PAIRED.get(scene.walls.rank)
        order = f"; {alone} needs a second picture" if alone else ""
        shown = {side: _shown(reading, side, geometry) for side in there}
        if wall_source.places(scene, key) == 4:  # above four walls there is room for the numbers alone
            texts = {side: text.replace(" channels", "") + order for side, text in shown.items()}
        else:
            texts = {side: f"{text}, mean framed{order}" for side, text in shown.items()}
        unlike = "none: their sizes differ" if len(there) == 2 and not reading.comparable else ""
        heads = [
            wall_labels(scene, key, texts, unlike, restored_lines.label(parts, refused)),
            *restored_lines.lines(scene, position, key, restored, answers, parts),
            *card_ranked.lines(scene, position, ranked, answers, told),
        ]
    else:
        figure = wall.bars(scene, reading, layer)
        whole = not any(each.whole for each in activations)
        too_many = " Its values are too many for bars: see their distribution." if figure is None and whole else ""
        bars = [html.P(wall.no_maps(activations[0], call) + too_many, className="sentence")]
        heads = [wall_labels(scene, key, {side: f"{prod(a.shape):,} values" for side, a in there.items()}, None)]
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
        show_text(ids.card("labels", position), [*error, *heads]),
        show_figure(graph_id, figure) if figure is not None else keep_room(graph_id, MIN_HEIGHT_PX),
        show_text(ids.card("bars", position), bars),
        show_figure(ids.card("histogram", position), histogram),
        show_text(ids.card("statistics", position), statistics_tables(statistics, labels, reading.of_frames)),
        show_text(ids.card("files", position), files),
    ]


def _shown(reading: Reading, side: str, geometry: WallGeometry) -> str:
    """What a wall shows of a side; by index where A and B have not as many channels: there is no order of both."""
    if reading.aligned:
        return geometry.text
    total = len(reading.maps[side])
    return f"{min(geometry.shown, total):,} of {total:,} channels, by index"


def _waiting(scene: Scene, position: int, key: str, call: Call, error: list[Any]) -> list[Update]:
    """Take the room that the answer will need, so that nothing jumps when it comes; none if there will be no answer."""
    height = 240
    if not why_no_maps(call, call.shape):
        sizes = dict(zip(call.axes, call.shape, strict=True))
        height = wall_source.geometry_for(scene, key, (sizes["channel"], *plane_of(call))).height_px
    return [
        keep_room(ids.card("wall", position), MIN_HEIGHT_PX if error else height),
        show_text(
            ids.card("labels", position), error or wall_labels(scene, key, dict.fromkeys(scene.inputs, "computing …"))
        ),
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
    resting=resting,
)
