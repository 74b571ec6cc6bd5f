"""Layer by layer how many channels could go, and what is asked for that; see `could_go`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import PrunableOf, PruningOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.drawing.numbers import format_count, format_share, short_count
from hookscope.dashboard.drawing.pruning_figure import indices_json
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.view import state
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.panels.regions import computing, refuse, show_text, stop_button
from hookscope.dashboard.sets.sweeps import Progress
from hookscope.hooks.results.importance import indices, table
from hookscope.hooks.results.outputs import AS_FOUND
from hookscope.hooks.results.prunable import Prunable, Prunables, Pruned

PART = "pruning of all"
ORDERS = 3  # random ones beside a layer that is measured by itself
LABELLED = 2  # times as many pictures as are measured, of which the labels go along: some may not be readable
Choices = Sequence[tuple[str, str, str]]


@state
@dataclass(frozen=True)
class Pruning:
    """What is measured of the channels that could go.

    Attributes:
        prune: whether the chosen layer is. prune_every: whether every layer is.
        prune_by: what ranks the channels. prune_at: how many percent of the answers may change.
        prune_over: how many pictures are asked. from_ranked: the first channel of the table.
    """

    prune: bool = False
    prune_every: bool = False
    prune_by: Literal["taylor", "gate"] = "taylor"
    prune_at: Literal["0", "1", "5"] = "1"
    prune_over: Literal["64", "256"] = "64"
    from_ranked: int = 0


def limit_of(pruning: Pruning) -> float:
    """The share of the answers that may change."""
    return int(pruning.prune_at) / 100


def amount(looked: Looked, pruning: Pruning) -> int:
    """How many pictures are asked, if all can be read."""
    return min(int(pruning.prune_over), len(looked.pictures.members))


def choice(field: str, title: str, options: Choices, chosen: str, *, anew: bool = True) -> html.Div:
    """Buttons of which one is pressed.

    Arguments:
        anew: whether what is measured is another thing then, and not begun unasked.
    """
    more = {"from_ranked": 0, "prune": False, "prune_every": False} if anew else {}
    buttons = [
        html.Button(
            text,
            title=help_text,
            **{"data-do": "set", "data-value": json.dumps({field: name, **more})},
            **{"aria-pressed": "true" if name == chosen else "false"},
        )
        for name, text, help_text in options
    ]
    group = html.Div(buttons, className="tabs", role="group", **{"aria-label": title})
    return html.Div([html.Span(title, className="muted"), group], className="going-choice live-only")


def steady(looked: Looked) -> Looked:
    """The same without what is not measured from: where a sweep is, and what else is chosen.

    What somebody has stopped is asked again as soon as its part shows something else.
    """
    return replace(looked, scene=looked.scene.only("side", "set_a"), progress=Progress())


def listed(looked: Looked) -> Unit:
    """What asks which layers there are."""
    return Unit(Side(looked.model, looked.pictures.version), PrunableOf(len(looked.pictures.members)))


def measured(looked: Looked, key: str, orders: int) -> Unit:
    """What asks how many of a layer's channels could go.

    Arguments:
        orders: random ones that are measured beside it.
    """
    scene, pruning = looked.scene, looked.scene.view.of(Pruning)
    info, side = scene.infos[looked.model], scene.view.side
    reading = scene.reading(side)
    read = AS_FOUND if info.found(reading) == info.answer else reading
    wanted = amount(looked, pruning)
    labels = tuple(looked.labels[: LABELLED * wanted].tolist()) if looked.labelled else ()
    asked = PruningOf(key, len(looked.pictures.members), wanted, pruning.prune_by, orders, labels)
    return Unit(replace(Side(looked.model, looked.pictures.version), reading=read), asked)


def wanted(looked: Looked, listing: Unit) -> tuple[Unit, ...]:
    """What asks that of every layer, the largest first; nothing if nobody wants it, or the layers are not known yet."""
    there = looked.scene.service.value(listing) if looked.scene.view.of(Pruning).prune_every else None
    if not isinstance(there, Prunables):
        return ()
    return tuple(measured(looked, key_of(each.layer, each.call), 0) for each in there.largest_first)


def every(looked: Looked, listing: Unit) -> Part:
    """The table of layers."""
    units = wanted(looked, listing)
    pruning = replace(looked.scene.view.of(Pruning), prune=False, from_ranked=0)
    shows = (steady(looked), pruning, listing, units)
    return Part(PART, (listing, *units), shows, _draw, error=ids.SET_GOING_LAYERS)


def _draw(looked: Looked, pruning: Pruning, listing: Unit, units: tuple[Unit, ...], answers: Answers) -> list[Update]:
    there = result_of(answers, listing, Prunables)
    title = html.H2("Layer by layer")
    if there is None:
        wrong = failures(answers, (listing,))
        instead = [refuse(each, PART) for each in wrong] or [html.P(computing(answers, listing, PART))]
        return [show_text(ids.SET_GOING_LAYERS, [title, *instead], hidden=False)]
    if not there.layers:
        text = "This model has no convolution and no linear layer before its answer of which channels could go."
        return [show_text(ids.SET_GOING_LAYERS, [title, html.P(text, className="muted")], hidden=False)]
    by_key = {unit.question.place: unit for unit in units}
    rows = [_row(each, by_key, answers, limit_of(pruning)) for each in there.largest_first]
    heads = ("layer", "channels", "can go", "", "parameters", "multiply-adds", "disagreement")
    head = html.Thead(html.Tr([html.Th(text) for text in heads]))
    found = [
        html.Div([title, *_head(looked, pruning, there, units, answers)], className="head"),
        *([_most(units, answers, limit_of(pruning))] if units else []),
        *_wrong(units, answers),
        html.Table([head, html.Tbody(rows)], className="classes going"),
        *_kept(there),
    ]
    # once the layers are known the page asks again, for what is measured of them
    more = {"data-again": "1"} if pruning.prune_every and not units and there.largest_first else {}
    return [show_text(ids.SET_GOING_LAYERS, html.Div(found, **more), hidden=False)]


def _head(looked: Looked, pruning: Pruning, there: Prunables, units: tuple[Unit, ...], answers: Answers) -> list[Any]:
    """A button that begins, or how far it is, and all of it as files."""
    count = len(there.largest_first)
    if not units:
        if pruning.prune_every or not count:
            return []
        text = f"Measure every layer ({count}) over {amount(looked, pruning):,} pictures"
        help_text = (
            "Layer after layer, the largest first, without random orders. It takes minutes; it goes on while this page "
            "is open, and what is measured stays."
        )
        action = {"data-do": "set", "data-value": json.dumps({"prune_every": True})}
        return [html.Button(text, className="pill primary live-only", title=help_text, **action)]
    done = _done(units, answers)
    said: list[Any] = [f"{len(done):,} of {len(units):,} layers"]
    if left := [unit for unit in units if unit not in done and not failures(answers, (unit,))]:
        now = next((unit for unit in left if unit in answers.progress), None)
        if now is not None:
            pictures = "{:,} of {:,} pictures".format(*answers.progress[now])
            said += [" · ", html.Span(now.question.place, className="mono"), f" {pictures}"]
        said += [" ", stop_button(PART)]
    return [html.Span(said, className="muted"), *_files(looked, pruning, done)]


def _files(looked: Looked, pruning: Pruning, done: dict[Unit, Pruned]) -> list[Any]:
    if not done:
        return []
    limit, found = limit_of(pruning), list(done.values())
    removable = {each.curve.layer: indices(each.curve, limit) for each in found if each.curve.removal.exact}
    files = (
        ("CSV", "layers.csv", "text/csv", partial(_csv, found, limit)),
        ("indices for Torch-Pruning", "indices.json", "application/json", partial(indices_json, removable)),
    )
    links: list[Any] = []
    for text, ending, media_type, draw in files:
        name = f"hookscope-could-go-{ending}"
        address = looked.scene.file((PART, tuple(done), limit, ending), draw, media_type, name)
        links.append(html.A(text, href=address, download=name, className="link"))
    return links


def _csv(found: list[Pruned], limit: float) -> bytes:
    return table([each.importance for each in found], [each.curve for each in found], limit).to_csv().encode()


def _done(units: tuple[Unit, ...], answers: Answers) -> dict[Unit, Pruned]:
    """What is measured to the end."""
    found = {unit: result_of(answers, unit, Pruned) for unit in units}
    return {unit: each for unit, each in found.items() if each is not None and each.complete}


def _most(units: tuple[Unit, ...], answers: Answers, limit: float) -> html.P:
    """Where most can be saved, and what these numbers are not."""
    curves = [each.curve for each in _done(units, answers).values()]
    said: list[Any] = []
    if curves:
        best = max(curves, key=lambda curve: curve.removable(limit).parameters)
        can_go = best.removable(limit)
        so_far = "" if len(curves) == len(units) else " so far"
        saved = f"{short_count(can_go.parameters)} parameters, {short_count(can_go.multiply_adds)} multiply-adds."
        channels = f": {format_count(can_go.count)} of {format_count(best.channels)} channels, {saved} "
        said = [f"Most goes{so_far} at ", html.Strong(key_of(best.layer, best.call)), channels]
    note = "Each layer by itself: what goes in several of them at once was not measured."
    return html.P([*said, html.Span(note, className="muted")])


def _wrong(units: tuple[Unit, ...], answers: Answers) -> list[Any]:
    """Why layers have no answer, where asking again may help."""
    wrong = [each for each in failures(answers, units) if not each.final]
    return [refuse(wrong[0], PART)] if wrong else []


def _row(each: Prunable, by_key: dict[str, Unit], answers: Answers, limit: float) -> html.Tr:
    key = key_of(each.layer, each.call)
    change = {"layers": [key], "prune": False, "from_ranked": 0}
    action = {"data-do": "set", "data-value": json.dumps(change)}
    name = html.Button(key, className="going-link mono", title="Show this layer above", **action)
    unit = by_key.get(key)
    cells: list[Any] = [html.Td(name), html.Td(format_count(each.channels), className="mono")]
    found: Pruned | None = result_of(answers, unit, Pruned)
    if unit is not None and (final := [each for each in failures(answers, (unit,)) if each.final]):
        return html.Tr([*cells, html.Td(final[0].sentence, colSpan=5, className="muted")])
    if found is None:
        with_all = f"{short_count(each.parameters)} with all"
        rest = [html.Td("…" if unit else ""), html.Td(), html.Td(with_all, className="muted"), html.Td(), html.Td()]
        return html.Tr([*cells, *rest])
    can_go = found.curve.removable(limit)
    share = can_go.count / found.curve.channels
    bar = html.Span(html.Span(style={"width": f"{100 * share:.1f}%"}), className="going-bar")
    numbers = (short_count(can_go.parameters), short_count(can_go.multiply_adds), format_share(can_go.disagreement))
    return html.Tr(
        [
            *cells,
            html.Td(format_count(can_go.count), className="mono"),
            html.Td(bar, title=f"{share:.0%} of its channels"),
            *(html.Td(number, className="mono") for number in numbers),
        ],
        className="" if found.complete else "so-far",
        title=None if found.complete else f"After {found.curve.pictures:,} of {found.pictures:,} pictures",
    )


def _kept(there: Prunables) -> list[html.Details]:
    """The layers whose channels cannot be removed by themselves, by the reason."""
    by_note: dict[str, list[str]] = {}
    for each in there.layers:
        if not each.removal.exact:
            by_note.setdefault(each.removal.note, []).append(key_of(each.layer, each.call))
    if not by_note:
        return []
    count = sum(map(len, by_note.values()))
    said = "One layer has" if count == 1 else f"{count:,} layers have"
    lines = [html.P([f"{note} ", html.Span(", ".join(keys), className="mono")]) for note, keys in by_note.items()]
    summary = html.Summary(f"{said} channels that cannot go by themselves, and why")
    return [html.Details([summary, html.Div(lines, className="each muted")])]
