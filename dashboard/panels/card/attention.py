"""A card's attention: where each head of the layer looks from one position, how spread out, and the rollout so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import AttentionOf, Unit
from hookscope.dashboard.drawing.attention_pictures import SIDE_PX, attention_picture
from hookscope.dashboard.drawing.numbers import format_share
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.regions import refuse, show_text
from hookscope.hooks.results.attending import MEAN, ROLLOUT, Query, is_windowed, query_of, shares_of
from hookscope.hooks.results.looks import AttentionMaps, Call, Prediction
from hookscope.hooks.results.maps import plane_of

NO_PATCH = -1
LARGE_PX = 900  # the longer side of one that is enlarged
HELP = {
    MEAN: "The mean over the heads",
    ROLLOUT: "Rollout (Abnar & Zuidema, 2020): what reaches this position from the picture through this layer and all "
    "before it, half by attention and half unchanged",
}


@state
@dataclass(frozen=True)
class Patch:
    """The position from which attention is shown, counted row by row over the grid, of a clip over that of one frame;
    `NO_PATCH` for the class token, or the middle where there is none."""

    patch: int = NO_PATCH


def heads(scene: Scene, key: str) -> int:
    """How many heads of attention the layer's own code computes; 0 if it computes none."""
    found = scene.call_of(key)
    return found[1].heads if found else 0


def room(call: Call, sides: int) -> list[html.Div]:
    """Cells without content: the room that the maps will take above the wall, which must not jump when they come."""
    rows, columns = plane_of(call)
    picture = html.Div(style={"aspectRatio": f"{columns} / {rows}"}, className="blank")
    cell = html.Div([picture, html.Div("\u00a0"), html.Div("\u00a0")], className="cell")
    one_side = [html.Div("\u00a0", className="line"), html.Div([cell] * (call.heads + 2), className="cells")]
    return [html.Div("\u00a0", className="small-title"), *(one_side * sides)]


def part(scene: Scene, position: int, key: str) -> Part:
    """The part that draws one card's attention of every input."""
    units = scene.of_layer(AttentionOf, key)
    predictions = {side: scene.prediction(side) for side in units}
    shows = (scene.only("patch"), position, predictions, units)
    return Part(
        f"card {position} attention",
        (*predictions.values(), *units.values()),
        shows,
        _draw,
        error=ids.card("attention", position),
    )


def _draw(
    scene: Scene, position: int, predictions: dict[str, Unit], units: dict[str, Unit], answers: Answers
) -> list[Update]:
    content: list[Any] = [html.H3("Attention", className="small-title")]
    for side, unit in units.items():
        maps = result_of(answers, unit, AttentionMaps)
        prediction = result_of(answers, predictions[side], Prediction)
        if maps is not None and prediction is not None:
            content += _side(scene, side, unit, predictions[side], maps)
    wrong = failures(answers, (*predictions.values(), *units.values()))
    content += [refuse(failure, f"card {position} attention") for failure in wrong[:1]]
    waiting = [side.upper() for side, unit in units.items() if unit not in answers]
    if waiting:
        content.append(html.Span(f"{' and '.join(waiting)} computing …", className="muted"))
    return [show_text(ids.card("attention", position), content, hidden=False)]


def _side(scene: Scene, side: str, unit: Unit, prediction: Unit, maps: AttentionMaps) -> list[Any]:
    query = query_of(maps, scene.view.of(Patch).patch, scene.walls.moment)
    limit = f"ln {maps.weights.shape[-1]} = {maps.entropy_limit:.2f}"
    entropy_help = (
        "The entropy of each head's attention, in nats, averaged over all positions that look: "
        f"0 if each looks at one position only, {limit} if at all of them alike."
    )
    line: list[Any] = [
        html.Span(side.upper(), className=f"letter small {side}"),
        html.Span(_seen_from(maps, query)),
        html.Abbr(f"entropy {float(maps.entropy.mean()):.2f} of at most {limit} nats", title=entropy_help),
    ]
    if query.place is not None and maps.prefix_tokens:
        line.append(html.Button("class token", className="link", **{"data-do": "patch", "data-value": "-1"}))
    if maps.grid is None:
        return [html.Div(line, className="line"), _entropies(maps)]
    line += _over(scene, unit)
    line.append(html.Span(_left_out(maps, query), className="muted"))
    cells = [MEAN, *map(str, range(len(maps.entropy))), *([ROLLOUT] if maps.rollout is not None else [])]
    return [
        html.Div(line, className="line"),
        html.Div([_cell(scene, unit, prediction, maps, query, which) for which in cells], className="cells"),
    ]


def _seen_from(maps: AttentionMaps, query: Query) -> list[Any]:
    """Who looks, and how another one is chosen."""
    if maps.grid is None:
        return ["How these heads' keys lie on the picture is not known, so there is no map. The entropy of each head:"]
    if is_windowed(maps):
        rows, columns = maps.grid
        return [
            f"from {query.text}, of each window: the mean over {len(maps.weights)} windows of {rows} × {columns} "
            "positions, which are not laid out as the picture is.",
            _live(" Click one to look from there."),
        ]
    queries, keys = maps.weights.shape[-2:]
    if queries == 1:
        return [f"from {query.text}, which alone looks here"]
    if queries != keys:
        return [f"from {query.text}, at {keys} positions: those that look lie on another grid than what they see"]
    return [f"from {query.text}", _live("; click a patch, or use the arrow keys on a map, to look from there.")]


def _over(scene: Scene, unit: Unit) -> list[html.Span]:
    """Over which of two pictures the maps lie, where these are not the ones that look."""
    attends = scene.attends(unit)
    if attends is None:
        return []
    names = scene.infos[unit.model].pictures
    if attends.crosses:
        seen = attends.keys[0]
        text = f"It looks from {names[1 - seen]} at {names[seen]}, over which its maps lie."
    elif len(attends.keys) == 2:
        text = f"What it looks at is made of both pictures; its maps lie over {names[0]}."
    else:
        return []
    return [html.Span(text, className="muted")]


def _live(text: str) -> html.Span:
    """What can be done on the page, and not in a file."""
    return html.Span(text, className="live-only")


def _left_out(maps: AttentionMaps, query: Query) -> str:
    if not maps.prefix_tokens:
        return ""
    share = float(maps.weights[:, query.index, : maps.prefix_tokens].sum(-1).mean())
    tokens = "the class token" if maps.prefix_tokens == 1 else f"{maps.prefix_tokens} tokens before the patches"
    verb = "is" if maps.prefix_tokens == 1 else "are"
    return f"{format_share(share)} of it goes to {tokens}, which {verb} not on the picture."


def _cell(scene: Scene, unit: Unit, prediction: Unit, maps: AttentionMaps, query: Query, which: str) -> html.Div:
    shares = shares_of(maps, which, query.index, scene.walls.moment)
    assert shares is not None
    title = HELP.get(which) or f"Head {which}: entropy {float(maps.entropy[int(which)]):.4f} nats"
    peak = f"{float(shares.max()):.2g}"
    address = scene.picture(
        ("attention", unit, prediction, which, query, scene.walls.moment),
        partial(_picture, scene, unit, prediction, which, query),
        "image/webp",
    )
    large = scene.picture(
        ("attention", unit, prediction, which, query, scene.walls.moment, LARGE_PX),
        partial(_picture, scene, unit, prediction, which, query, LARGE_PX),
        "image/webp",
    )
    rows, columns = shares.shape
    room = {"aspectRatio": f"{columns} / {rows}"}  # before it is loaded too: a click must not meet another patch
    image = html.Img(src=address, alt=f"{title}, from {query.text}", style=room)
    grid = f"{rows},{columns}"
    name = which if which in HELP else f"head {which}"
    entropy = "" if which in HELP else f"{float(maps.entropy[int(which)]):.2f}"
    return html.Div(
        [
            html.Button(image, title=f"{title}, from {query.text}", **{"data-do": "patch", "data-value": grid}),
            html.Button(
                [html.Span(name), html.Span(entropy, className="mono", title="Entropy, in nats")],
                className="cell-name",
                title="Click to enlarge it.",
                **{"data-large": large, "aria-label": f"Enlarge {name}"},
            ),
            html.Div(f"0 to {peak}", className="muted", title="What the darkest and the brightest colour stand for"),
        ],
        className="cell",
    )


def _picture(scene: Scene, unit: Unit, prediction: Unit, which: str, query: Query, side_px: int = SIDE_PX) -> bytes:
    maps = scene.kept(unit, AttentionMaps)
    shares = shares_of(maps, which, query.index, scene.walls.moment)
    assert shares is not None
    attends = scene.attends(unit)
    second = scene.sees_second(unit) if attends is None else attends.keys == (1,)
    marked = None if attends is not None and attends.crosses else query.place  # which is a place of the other picture
    seen = None if is_windowed(maps) else scene.kept(prediction, Prediction)
    pixels = scene.frame_of(unit.model, seen, second=second) if seen else None
    return attention_picture(shares, pixels, marked, side_px)


def _entropies(maps: AttentionMaps) -> html.Div:
    return html.Div(
        [html.Span(f"head {head}: {float(value):.2f}", className="mono") for head, value in enumerate(maps.entropy)],
        className="line",
    )
