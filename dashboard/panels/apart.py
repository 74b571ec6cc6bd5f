"""Along the depth: how far A and B are apart at every layer, where they part first, and which channels carry it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures, result_of
from hookscope.dashboard.asking.answers import Answers, Failure
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import ActivationOf, Unit
from hookscope.dashboard.drawing.depth_figures import HEIGHT_PX, parting_figure
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.drawing.tables import csv_of
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.distances import distances
from hookscope.dashboard.page.scene import SIDES, Scene
from hookscope.dashboard.panels.regions import (
    MIN_HEIGHT_PX,
    refuse,
    reservations,
    show_figure,
    show_instead,
    show_text,
    stop_button,
)
from hookscope.dashboard.sources.spec import title_of
from hookscope.hooks.results.looks import Activation
from hookscope.hooks.results.parting import (
    Calibration,
    FirstParting,
    PartedCall,
    Parting,
    along_the_depth,
    calibrated,
    first_parting,
    ranked,
    threshold_of,
)

NAME = "apart"
NAMED = 6  # channels in the sentence
LISTED = 12  # channels of the chosen layer
HELP = (
    "How far A and B are apart at every layer and function, each from a pass of its own: relative L2, as a share of "
    "what unrelated photographs have there. 1 is as different as any two pictures; below 0.2 the two are the same up "
    "to here."
)
WITHOUT_B = (
    "With a second side, B, this shows how far the two are apart at every layer, the first layer where they part, and "
    "the channels that carry the difference. Choose a second picture beside A, or A's picture in another model, or "
    "prepared otherwise."
)
RAW = "the raw distance, relative L2"
BY_DISTRIBUTION = "A against B: distributions, mean KS of the channels, 0 to 1"


def parts(scene: Scene) -> list[Part]:
    """The chart with its sentence, and the channels of the chosen layer."""
    units = distances(scene)
    alone = "" if units else why_alone(scene, WITHOUT_B)
    chart = Part(NAME, tuple(units.values()), (scene.only("side"), units, alone), _draw, error=ids.GRADIENTS_TEXT)
    return [chart, _channels(scene)]


def _draw(scene: Scene, units: dict[str, Unit], alone: str, answers: Answers) -> list[Update]:
    if alone:
        return _instead(html.P(alone, className="sentence"))
    found = result_of(answers, units["parting"], Parting)
    if found is None:
        if wrong := failures(answers, [units["parting"]]):
            return _instead(refuse(scene.worded("a", wrong[0]), NAME))
        return _instead(html.P(_waiting(scene, answers.progress.get(units["parting"])), className="muted"), HEIGHT_PX)
    if found.by_distribution:
        return _draw_distributions(scene, units, found)
    usual = result_of(answers, units["usual"], Calibration) if "usual" in units else None
    first = first_parting(found, usual) if usual or found.models == 2 else None
    values = calibrated(found, usual)
    texts: list[Any] = [_head(scene, units, _title(found, usual))]
    if first is not None:
        texts.append(html.P(_sentence(found, first), className="depth-sentence"))
    wrong = failures(answers, [units["usual"]]) if "usual" in units else []
    measured = usual is not None and usual.pairs < usual.total and not wrong
    stop = [" ", stop_button(NAME)] if measured else []
    texts.append(html.P([_how(found, usual, wrong), *stop], className="gradient-text muted"))
    texts += [refuse(scene.worded("a", each), NAME) for each in wrong]
    steps = [step for step in found.steps if not (found.models == 2 and step.reason)]
    if not any(math.isfinite(values[step.place]) for step in steps):
        reason = next((step.reason for step in steps if step.reason), "There is no layer to compare.")
        return _instead([*texts, html.P(reason)])
    figure = parting_figure(
        steps,
        values,
        threshold_of(found) if first else None,
        first.call if first else None,
        called="calibrated" if usual else "distance",
        logarithmic=found.models == 2,
    )
    return [show_text(ids.GRADIENTS_TEXT, texts), show_figure(ids.GRADIENTS, figure)]


def _head(scene: Scene, units: Mapping[str, Unit], title: str) -> html.Div:
    """The title, and a link to all numbers."""
    file = scene.file(("parting", units), partial(_csv, scene, units), "text/csv", "hookscope-a-against-b.csv")
    parts = [
        html.H2([title, " ", *reservations(scene)], title=HELP),
        html.Div(className="spacer"),
        html.A("numbers as CSV", href=file, download="hookscope-a-against-b.csv", className="link save"),
    ]
    return html.Div(parts, className="depth-head")


def _draw_distributions(scene: Scene, units: Mapping[str, Unit], found: Parting) -> list[Update]:
    """Where most sizes differ: nothing is known of such numbers that would say where two sides begin to part."""
    unlike = sum(1 for step in found.steps if step.reason)
    text = (
        f"A and B differ in size at {unlike} of {len(found.steps)} layers, where no value of the one belongs to "
        "one of the other. So each channel's values are compared wherever they stand: 0 is the same distribution, "
        "1 nothing in common. Pictures of one size, or painting on A, give distances and the layer where they part."
    )
    if unlike < len(found.steps):
        text += " Layers of one size have a distance and no bar: point at them."
    texts = [_head(scene, units, BY_DISTRIBUTION), html.P(text, className="gradient-text muted")]
    figure = parting_figure(found.steps, along_the_depth(found, None), None, None, called="")
    return [show_text(ids.GRADIENTS_TEXT, texts), show_figure(ids.GRADIENTS, figure)]


def why_alone(scene: Scene, without_b: str) -> str:
    """Why there are no two sides to compare: a model is on its way, could not be loaded, or there is no B at all.

    Arguments:
        without_b: what there would be with one.
    """
    lacking = [side for side in SIDES if getattr(scene.view, side) and side not in scene.inputs]
    for side in lacking:
        named = f"{side.upper()}'s model, {title_of(scene.view.model_of(side))},"
        if side in scene.awaited:
            return f"{named} is being loaded. A and B are compared once it is there …"
        if scene.service.state(scene.view.model_of(side)).phase == "failed":
            return f"{named} could not be loaded, so there is nothing to compare with. Choose another model for it."
    return without_b


def _waiting(scene: Scene, progress: tuple[int, int] | None) -> list[Any]:
    if progress is not None and progress[1] > 1:  # their values are too many to be kept at once
        done, total = progress
        return [f"Comparing A and B at every layer … {done} of {total} groups of layers ", stop_button(NAME)]
    if not scene.two_models:
        return ["Comparing A and B at every layer …"]
    a, b = (scene.info_of(side).title for side in SIDES)
    return [f"Loading {b} once more beside {a}, to compare the two at every layer …"]


def _instead(element: Any, room_px: int = MIN_HEIGHT_PX) -> list[Update]:
    return show_instead(ids.GRADIENTS_TEXT, ids.GRADIENTS, element, room_px)


def _title(found: Parting, usual: Calibration | None) -> str:
    if found.models == 2:
        return "A against B: two models, relative L2"
    return "A against B: distance, 1 is any two pictures" if usual else f"A against B: {RAW}"


def _sentence(found: Parting, first: FirstParting) -> list[Any]:
    """Where they part, in words; layers and channels are links."""
    same = "Within tolerance" if found.models == 2 else "The same"
    if first.call is None:
        return [f"{same} everywhere: no layer is above {threshold_of(found):g}."]
    if first.before:
        said: list[Any] = [f"{same} up to ", layer_link(first.before), "; from ", layer_link(first.call), " on"]
    else:
        left_out = any(step.reason for step in found.steps[: found.steps.index(first.call)])
        that = " that can be compared" if left_out else ""
        said = [f"They part at the first layer{that}, ", layer_link(first.call)]
    if not first.channels:
        return [*said, ", they differ." if first.before else "."]
    many = len(first.channels)
    carry = "one channel carries" if many == 1 else f"{many} channels carry"
    said.append(f", {'' if first.before else 'where '}{carry} {first.share:.0%} of the difference: ")
    named = [channel_link(key_of(*first.call.place), channel) for channel in first.channels[:NAMED]]
    for place, link in enumerate(named, 1):  # a comma does not begin a line
        said += [html.Span([link, "" if place == len(named) else ","], className="unbroken"), " "]
    return [*said[:-1], f" and {many - NAMED} more." if many > NAMED else "."]


def layer_link(call: PartedCall) -> html.Button:
    """A layer that a click shows."""
    key = key_of(*call.place)
    return html.Button(key, className="link told", title="Show this layer", **{"data-do": "layer", "data-value": key})


def channel_link(key: str, channel: int) -> html.Button:
    """A channel that a click enlarges."""
    chosen = {"layers": [key], "detail": key, "channel": channel, "tab": "layers"}
    more = {"data-do": "set", "data-value": json.dumps(chosen)}
    return html.Button(str(channel), className="link told", title=f"Enlarge channel {channel} of {key}", **more)


def _how(found: Parting, usual: Calibration | None, wrong: Sequence[Failure]) -> str:
    left_out = _left_out(found)
    if found.models == 2:
        return (
            "Layers correspond by name; the first one beyond a relative distance of 0.001 (66 dB SQNR) is where the "
            f"models part.{left_out}"
        )
    passes = f" A's outputs took {found.passes} passes per side." if found.passes > 1 else ""
    passes += left_out
    if usual is None:
        now = "" if wrong else " It is measured now how far apart unrelated photographs are."
        return f"This is {RAW}: two photographs differ everywhere, so it says little by itself.{now}{passes}"
    known = f"{usual.pairs} pairs" if usual.pairs == usual.total else f"{usual.pairs} of {usual.total} pairs so far"
    return (
        f"Divided by the median distance of unrelated photographs at the same layer ({known} of the samples, prepared "
        f"as the model wants them).{passes}"
    )


def _left_out(found: Parting) -> str:
    """How many layers cannot be compared, and why; each says it when it is pointed at."""
    count = sum(1 for step in found.steps if step.reason)
    if not count:
        return ""
    why = ("one model alone has them, or " if found.models == 2 else "") + "A and B differ in size there"
    return f" {count} {'layer is' if count == 1 else 'layers are'} left out, because {why}."


def _csv(scene: Scene, units: Mapping[str, Unit]) -> bytes:
    found = scene.kept(units["parting"], Parting)
    usual = scene.service.value(units["usual"]) if "usual" in units else None
    values = calibrated(found, usual) if isinstance(usual, Calibration) else {}
    header = [
        "layer",
        "call",
        "relative L2",
        "calibrated",
        "cosine distance",
        "SQNR dB",
        "mean KS",
        "left out",
        "why not",
    ]
    rows = []
    for call in found.calls:
        numbers = [call.distance, values.get(call.place, math.nan), call.cosine, call.sqnr, call.shift]
        rows.append([call.layer, call.call, *numbers, call.left_out, call.reason])
    return csv_of(header, rows).encode()


# --- the channels of the chosen layer


def _channels(scene: Scene) -> Part:
    """How far each channel's values are apart, wherever they stand; of the first chosen layer."""
    key = next((key for key in scene.view.layers if key), "")
    units = scene.of_layer(ActivationOf, key) if key else {}
    if len(scene.inputs) < 2:
        return Part.still("depth channels", [show_text(ids.DEPTH_CHANNELS, None)])
    if len(units) < 2:
        hint = (
            "Choose a layer that both sides have to see which of its channels have other values, wherever they stand."
        )
        return Part.still("depth channels", [show_text(ids.DEPTH_CHANNELS, html.P(hint, className="muted"))])
    shows = (scene.only(), key, units)
    return Part("depth channels", tuple(units.values()), shows, _draw_channels, error=ids.DEPTH_CHANNELS, eager=False)


def _draw_channels(scene: Scene, key: str, units: dict[str, Unit], answers: Answers) -> list[Update]:
    title = html.H2(["Distributions of ", key, "'s channels"], title=DISTRIBUTIONS)
    there = {side: result_of(answers, unit, Activation) for side, unit in units.items()}
    if wrong := failures(answers, list(units.values())):
        return [show_text(ids.DEPTH_CHANNELS, [title, refuse(scene.worded("a", wrong[0]), "depth channels")])]
    if any(each is None for each in there.values()):
        return [show_text(ids.DEPTH_CHANNELS, [title, html.P("computing …", className="muted")])]
    kept = {side: each for side, each in there.items() if each is not None}
    found = scene.readings.get(scene.walls, kept).distributions
    if found is None:
        text = f"{key} has not the same maps on both sides, or they are too large to be kept whole."
        return [show_text(ids.DEPTH_CHANNELS, [title, html.P(text, className="muted")])]
    wasserstein, smirnov = found
    order = ranked(smirnov)[:LISTED]
    head = html.Tr([html.Th(text) for text in ("channel", "KS", "Wasserstein")])
    rows = [
        html.Tr(
            [
                html.Td(channel_link(key, channel)),
                *(html.Td(format_number(each[channel])) for each in (smirnov, wasserstein)),
            ]
        )
        for channel in order
    ]
    more = f"The {len(order)} of {len(smirnov)} channels whose values differ most; the card's table has all."
    words = html.P(f"{more} An object that only moved leaves them the same.", className="muted")
    return [show_text(ids.DEPTH_CHANNELS, [title, words, html.Table([html.Thead(head), html.Tbody(rows)])])]


DISTRIBUTIONS = (
    "Kolmogorov-Smirnov, 0 to 1: the largest difference of the shares of values up to a number. Wasserstein, in the "
    "layer's units: how far values have to move for A's distribution to become B's. Neither sees where a value stands."
)
