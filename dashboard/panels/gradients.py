"""Along the depth: how large the class's gradient is at every layer of the network, and where that is a problem."""

from __future__ import annotations

from typing import Any

from dash import html

from hookscope.dashboard.answers.parts import Part, Update, failures_by_side, result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import GradientsOf, Unit
from hookscope.dashboard.drawing.aligning import aligned
from hookscope.dashboard.drawing.gradient_figures import HEIGHT_PX, gradient_figure
from hookscope.dashboard.drawing.gradient_words import Finding, find_words, odd_keys
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.dashboard.page import ids
from hookscope.dashboard.page.explaining import EXPLAINED
from hookscope.dashboard.page.scene import Scene
from hookscope.dashboard.panels.regions import keep_room, refuse, reservations, show_figure, show_text
from hookscope.hooks.results.looks import Gradients

MOST_DETAILS = 200
NAME = "gradients"
HELP = (
    "The gradient of the class's logit with respect to what each layer that has weights produced, before any change in "
    "place; layers stand in the order in which the network comes to them."
)


def part(scene: Scene) -> Part:
    """The part that draws every input's gradients."""
    units = {side: scene.unit(side, GradientsOf(scene.target(side))) for side in scene.inputs}
    return Part(NAME, tuple(units.values()), (scene.only(*EXPLAINED), units), _draw, error=ids.GRADIENTS_TEXT)


def while_loading(sentence: str) -> Part:
    """The same while the model is not there; `sentence` says how far it is."""
    return Part.still(NAME, _instead(sentence))


def _instead(sentence: str) -> list[Update]:
    text = html.P(sentence, className="sentence")
    return [show_text(ids.GRADIENTS_TEXT, text), keep_room(ids.GRADIENTS, HEIGHT_PX)]


def _draw(scene: Scene, units: dict[str, Unit], answers: Answers) -> list[Update]:
    if not units:
        return _instead("Choose a picture above to see how large the gradient of its class is at every layer.")
    results = {side: result_of(answers, unit, Gradients) for side, unit in units.items()}
    found = {side: result for side, result in results.items() if result is not None}
    texts: list[Any] = [html.H2(["Gradients by layer ", *reservations(scene)], title=HELP)]
    texts += [refuse(scene.worded(side, failure), NAME) for side, failure in failures_by_side(answers, units)]
    words = {side: find_words(result) for side, result in found.items()}
    texts += [_said_of(scene, side, result, words[side][0]) for side, result in found.items()]
    hints = dict.fromkeys(hint for _, hint in words.values() if hint)
    texts += [html.P(hint, className="gradient-text muted") for hint in hints]
    waiting = [side.upper() for side, unit in units.items() if unit not in answers]
    if waiting:
        texts.append(html.P(f"{' and '.join(waiting)} computing …", className="muted"))
    columns = aligned([result.layers for result in found.values()])
    if columns is None:
        return [show_text(ids.GRADIENTS_TEXT, texts), keep_room(ids.GRADIENTS, HEIGHT_PX)]
    layers, keys = columns
    odd = set().union(*(odd_keys(result) for result in found.values()))
    marked = [place for place, key in enumerate(keys) if key in odd]
    figure = gradient_figure(layers, [side.upper() for side in found], keys, marked)
    return [show_text(ids.GRADIENTS_TEXT, texts), show_figure(ids.GRADIENTS, figure)]


def _said_of(scene: Scene, side: str, result: Gradients, findings: list[Finding]) -> html.Div:
    head = [
        html.Span(side.upper(), className=f"letter small {side}"),
        html.Span(scene.explained_name(side, result.target, result.against), className="class"),
        html.Span(f"{scene.explained(side)} {format_number(result.score)}", className="muted"),
        html.Span("" if findings else "nothing vanishes or explodes", className="muted"),
    ]
    return html.Div([html.Div(head, className="cam-caption"), *map(_found, findings)], className="gradient-text")


def _found(finding: Finding) -> html.P | html.Details:
    """A sentence, over what it sums up."""
    if not finding.details:
        return html.P(finding.sentence, className="warning")
    each: list[Any] = [html.P(sentence) for sentence in finding.details[:MOST_DETAILS]]
    if len(finding.details) > MOST_DETAILS:
        each.append(html.P(f"… and {len(finding.details) - MOST_DETAILS} more such layers."))
    return html.Details([html.Summary(finding.sentence, className="warning"), html.Div(each, className="each muted")])
