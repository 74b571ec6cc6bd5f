"""What a layer does over the chosen set, in its card: its numbers, which channels never fire, which tell the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from dash import html

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.asking.layer_keys import parse_key
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.numbers import format_count, format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.card.region import Region
from hookscope.dashboard.panels.pictures.against_stored import stored_of, stored_outliers
from hookscope.dashboard.panels.pictures.beside import Beside, Missing, again, beside, count_of
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.sets.layer_numbers import MANY, duplicates_in
from hookscope.hooks.results.duplicates import ALIKE, Duplicates
from hookscope.hooks.results.profiles import NAMES
from hookscope.hooks.results.summaries import LayerSummary
from hookscope.hooks.results.sweeps import SELDOM, Sweep
from hookscope.hooks.results.usual import part_of

LISTED = 12  # channels of one kind that are named
SPREADS = (
    "of the mean, the deviation, the share of zeros and the largest value of each picture, that whose median over the "
    "set is furthest from the baseline's. A spread is from there to the baseline's 95 % quantile, or below to the 5 % "
    "quantile."
)
GROUPS = 6  # of channels that are alike


def part(scene: Scene, position: int, key: str) -> Part:
    """The part that draws one card's block; hidden while no set is chosen."""
    name, region = f"card {position} set", ids.card("set", position)
    if not scene.view.set_a:
        return Part.still(name, [show_text(region, None, hidden=True)])
    there = beside(scene)
    if isinstance(there, Missing):
        return Part.still(name, [show_text(region, html.Div(there.line, className="muted"), hidden=False)])
    return Part.still(name, [show_text(region, _block(scene, there, key), hidden=False)])


def _block(scene: Scene, there: Beside, key: str) -> list[Any]:
    looked = there.looked
    own = scene.key_in(key, scene.view.side)
    running = looked.progress.phase == "running"
    head = [
        html.Strong(f"over the set {looked.pictures.name}"),
        html.Span(f" ({there.over})", className="muted", **again(running)),
    ]
    if len({scene.view.model_of(side) for side in scene.inputs}) > 1:
        head.append(html.Span(f" in {looked.title}", className="muted"))
    if scene.edits(scene.view.side):
        head.append(html.Span(" without the edits", className="muted"))
    title = html.Div(head)
    if not own:
        return [title, html.Div("Its model has no such layer.", className="muted")]
    summary = summary_of(there.found, own)
    if summary is None:
        return [title, html.Div("Nothing is counted of this layer over a set.", className="muted")]
    lines = [title, _numbers(summary), *_firing(key, summary), *_duplicates(there, key, own), _from_stored(there, own)]
    return [each for each in lines if each is not None]


def summary_of(found: Sweep, key: str) -> LayerSummary | None:
    """The statistics of a layer, by its key, without their quantiles, which take a moment; None if there are none."""
    place = found.place_of(*parse_key(key))
    return next((each for each in found.statistics if (each.layer, each.call) == place), None)


def _numbers(summary: LayerSummary) -> html.Div:
    statistics = summary.statistics
    pairs = [(name, format_number(getattr(statistics, name))) for name in ("mean", "std", "min", "max")]
    cells = [html.Span([html.Span(f"{name} ", className="muted"), value], className="mono") for name, value in pairs]
    return html.Div(cells, className="set-numbers", title="Of all values of the layer, over all pictures of the set")


def _firing(key: str, summary: LayerSummary) -> list[html.Div]:
    """Which channels are dead, and which fire rarely, each with in how many pictures it fired."""
    fired, inputs = summary.fired, summary.inputs
    if not len(fired) or not inputs:
        return []
    never = np.flatnonzero(fired == 0)
    seldom = np.flatnonzero((fired > 0) & (fired < SELDOM * inputs))
    seldom = seldom[np.argsort(fired[seldom], kind="stable")]
    total = format_count(len(fired))
    lines = []
    if len(never):
        what = "never fired" if summary.activation else "are 0 in every picture"
        verb = what if len(never) > 1 or summary.activation else "is 0 in every picture"
        said = f"{format_count(len(never))} of {total} channels {verb}: "
        lines.append(html.Div([html.Span(said, className="warning"), *_channels(key, never)]))
    elif summary.activation:
        lines.append(html.Div(f"All {total} channels fired.", className="muted"))
    if len(seldom):
        counts = {int(channel): f" ({int(fired[channel]):,} of {inputs:,})" for channel in seldom[:LISTED]}
        said = f"{format_count(len(seldom))} fired in under 1 %: "
        lines.append(html.Div([html.Span(said, className="warning"), *_channels(key, seldom, counts)]))
    elif summary.activation and inputs <= MANY:
        help_text = f"With {count_of(inputs)} none can fire in under 1 % of them: that takes more than {MANY}."
        fewest = int(np.argmin(np.where(fired > 0, fired, inputs + 1)))
        if 0 < fired[fewest] < inputs:
            text = [channel_button(key, fewest, f"channel {fewest}"), f" fired in the fewest, {int(fired[fewest])}."]
            lines.append(html.Div(text, className="muted", title=help_text))
    return lines


def _channels(key: str, channels: np.ndarray, after: dict[int, str] | None = None) -> list[Any]:
    """Some channels by name, each of which is enlarged by a click."""
    found: list[Any] = []
    for place, channel in enumerate(channels[:LISTED].tolist()):
        text = str(channel) if after is None else f"channel {channel}"
        found += [", " if place else "", channel_button(key, channel, text), (after or {}).get(channel, "")]
    left = len(channels) - LISTED
    return [*found, html.Span(f" and {left:,} more", className="muted")] if left > 0 else found


def channel_button(key: str, channel: int, text: str) -> html.Button:
    """A channel's name, which enlarges it."""
    action = {"data-do": "set", "data-value": json.dumps({"detail": key, "channel": channel})}
    named = {"aria-label": f"Enlarge channel {channel}"}
    return html.Button(text, className="name-link", title=f"Enlarge channel {channel}", **action, **named)


def _duplicates(there: Beside, key: str, own: str) -> list[html.Div]:
    """Which channels tell the same."""
    looked = there.looked
    sweeps = looked.scene.service.sweeps
    assert sweeps is not None
    found = duplicates_in(sweeps, looked.pictures, looked.model)
    if found is None:
        return [html.Div("looking for channels that are alike …", className="muted", **again(True))]
    if isinstance(found, str):
        return [html.Div(found, className="muted")]
    place = there.found.place_of(*parse_key(own))
    each = next((each for each in found if (each.layer, each.call) == place), None)
    return [] if each is None else _alike(key, each)


def _from_stored(there: Beside, own: str) -> html.Div | None:
    """Which number of the layer parts most from the stored baseline; nothing where the model has none."""
    looked = there.looked
    stored = stored_of(looked)
    if stored is None:
        return None
    found = stored_outliers(looked)
    if found is None:
        return html.Div("holding it against the stored baseline …", className="muted", **again(True))
    if isinstance(found, str) or isinstance(stored, str):
        return html.Div(str(found), className="muted")
    scores, place = found.scores, there.found.place_of(*parse_key(own))
    index = scores.layers.index(place) if place in scores.layers else None
    told = None if index is None else part_of(scores.numbers.profiles[index], scores.usual.profiles[index])
    if told is None:
        return html.Div("The stored baseline knows nothing of this layer.", className="muted")
    which, far, above, middle, usual = told
    text = (
        f"Furthest from {stored.name}: the {NAMES[which]}. Its median over the pictures is {format_number(middle)} and "
        f"not {format_number(usual)}, {far:.2g} spreads {'above' if above else 'below'} it."
    )
    return html.Div(text, title=f"Furthest {SPREADS}")


def _alike(key: str, found: Duplicates) -> list[html.Div]:
    if not found.groups:
        text = "No two channels are alike in every picture." if found.compared > 1 else ""
        return [html.Div(text, className="muted")] if text else []
    help_text = (
        f"Their means of each picture rise and fall together, |correlation| > {ALIKE}, over "
        f"{count_of(found.pictures)}: one follows from the other by a factor and a shift."
    )
    lines = [html.Div(_group(key, group), title=help_text) for group in found.groups[:GROUPS]]
    left = found.groups[GROUPS:]
    if left:
        text = f"and {sum(map(len, left)):,} channels in {len(left):,} groups more."
        lines.append(html.Div(text, className="muted"))
    return lines


def _group(key: str, channels: Sequence[int]) -> list[Any]:
    """ "channels 4 and 17 are alike in every picture"."""
    shown = channels[:LISTED]
    left = len(channels) - len(shown)
    words: list[Any] = ["Channels "]
    for place, channel in enumerate(shown):
        last = place == len(shown) - 1 and not left
        words += ["" if not place else " and " if last else ", ", channel_button(key, channel, str(channel))]
    words += [f" and {left:,} more"] if left else []
    return [*words, " are alike in every picture."]


REGION = Region(
    "over set",
    layout=lambda position: Markup(ids.card("set", position), className="over-set", hidden=True),
    part=part,
)
