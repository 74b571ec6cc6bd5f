"""How much variety each layer lets through over a set: entropy and width along the depth, bottlenecks named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from urllib.parse import quote

from dash import html

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.components.markup import Markup
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.page import ids
from hookscope.dashboard.panels.pictures.galleries import chosen_layer
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.panels.pictures.pages import Page
from hookscope.dashboard.panels.regions import show_text
from hookscope.dashboard.sets.variety import Variety, variety_of
from hookscope.hooks.results.information import SetInformation, bottlenecks, describe_information

PATIENCE_SECONDS = 0.3
BITS = 6.0  # log2 of the histogram's bins
SPREAD = 0.8  # of a width, times the root of the pictures: the deviation over samples of digits and photographs
WIDTH = (
    "over how many directions the channels vary; pale: at most",
    "The exponential of the entropy of the shares of variance, from one place of each drawn picture. At most the "
    "channels, or one less than the pictures that it is told from, whichever is less; where it comes near the "
    "pictures it is too low, and the participation ratio is not.",
)
RATIO = (
    "the same, where weak directions count less; corrected for the number of pictures",
    "The squared sum of the variances by the sum of their squares, each estimated without bias, so that it may be "
    "larger than the number of pictures.",
)
ENTROPY = (
    "how evenly values are spread, in bits",
    "Of a histogram with 64 equal bins between the layer's extremes over the set: 6 bits if they are filled evenly. It "
    "says how values are spread, not what they know of the picture.",
)
NOT_THERE = "It is told once the set has been looked through."
BRANCHES = "What runs beside a layer, such as a residual addition, may carry more past it."


def _layout() -> html.Div:
    return html.Div(Markup(ids.SET_INFORMATION, className="panel set-information", hidden=True), className="set-page")


def _parts(looked: Looked) -> list[Part]:
    sweeps = looked.scene.service.sweeps
    told: Variety | str | None = NOT_THERE
    if sweeps is not None and looked.found is not None:
        told = variety_of(sweeps, looked.pictures, looked.model, PATIENCE_SECONDS)
    return [Part("set information", (), (looked, told), _draw, error=ids.SET_INFORMATION)]


def _draw(looked: Looked, told: Variety | str | None, answers: Answers) -> list[Update]:
    title = html.H2("Along the depth", title="How much variety each layer lets through, over the set.")
    if not isinstance(told, Variety):
        waits = {"data-again": "1"} if told is None else {}
        said = html.P(told or "computing …", className="muted", **waits)
        return [show_text(ids.SET_INFORMATION, [title, said], hidden=False)]
    flow, chosen = told.flow, chosen_layer(looked)
    narrow = {(each.layer, each.call) for each in bottlenecks(flow)}
    address = f"{looked.scene.prefix}set/{looked.pictures.key}/information.csv?model={quote(looked.model)}"
    link = html.A("CSV", href=address, download="information.csv", className="link")
    pictures = max(step.pictures for step in flow)
    charts = [
        _chart("effective rank", WIDTH, flow, chosen, narrow, lambda step: step.effective_rank, ceilings=True),
        _chart("participation ratio", RATIO, flow, chosen, narrow, lambda step: step.participation_ratio),
        _chart("entropy", ENTROPY, flow, chosen, narrow, lambda step: step.entropy, most=BITS),
    ]
    ends = html.Div([html.Span(flow[0].layer), html.Span(flow[-1].layer)], className="gap-ends muted mono")
    return [
        show_text(
            ids.SET_INFORMATION,
            [
                html.Div([title, link], className="head"),
                html.P([describe_information(flow), " ", html.Span(BRANCHES, className="muted")]),
                *charts,
                ends,
                html.P(
                    [
                        f"Width is told from one place of each of {format_count(pictures)} pictures, drawn at random: "
                        f"by chance it is off by about {SPREAD / pictures**0.5:.0%}. Entropy is told from all.",
                        html.Span(" A click shows the layer.", className="live-only"),
                    ],
                    className="muted",
                ),
            ],
            hidden=False,
        )
    ]


def _chart(
    name: str,
    about: tuple[str, str],
    flow: Sequence[SetInformation],
    chosen: str,
    narrow: set[tuple[str, int]],
    value_of: Callable[[SetInformation], float],
    *,
    ceilings: bool = False,
    most: float = 0.0,
) -> html.Div:
    """A bar for each layer, in execution order; a click chooses it. The keyboard goes through those of one chart."""
    values = [value_of(step) for step in flow]
    highest = [step.ceiling for step in flow] if ceilings else [value for value in values if math.isfinite(value)]
    most = most or max(highest, default=0.0) or 1.0
    bars = []
    for step, value in zip(flow, values, strict=True):
        key = key_of(step.layer, step.call)
        kinds = ["info-bar", "narrow" * ((step.layer, step.call) in narrow), "chosen" * (key == chosen)]
        known = value if math.isfinite(value) else 0.0
        parts = [html.Span(className="value", style={"height": f"{100 * known / most:.1f}%"})]
        if ceilings:
            parts.insert(0, html.Span(className="ceiling", style={"height": f"{100 * step.ceiling / most:.1f}%"}))
        numbers = _numbers(key, step)
        bars.append(
            html.Button(
                parts,
                className=" ".join(filter(None, kinds)),
                title=numbers,
                tabIndex=0 if ceilings else -1,
                **{"data-do": "set", "data-value": json.dumps({"layers": [key]}), "aria-label": numbers},
            )
        )
    what, help_text = about
    said = [html.Span(name, className="what"), html.Span(f"up to {most:.0f} · {what}", className="muted")]
    return html.Div([html.Div(said, title=help_text), html.Div(bars, className="info-bars")], className="info-chart")


def _numbers(key: str, step: SetInformation) -> str:
    """A layer's numbers in words."""
    kind = f" ({step.type})" if step.type else ""
    if math.isfinite(step.effective_rank):
        width = f"effective rank {step.effective_rank:.1f} of at most {step.ceiling} ({step.share:.0%})"
    else:
        width = "does not vary"
    ratio = f", participation ratio {step.participation_ratio:.1f}" if math.isfinite(step.participation_ratio) else ""
    bits = f", entropy {step.entropy:.2f} bits" if math.isfinite(step.entropy) else ""
    return f"{key}{kind}: {width}, {step.channels:,} channels{ratio}{bits}"


PAGE = Page(
    "information",
    "Along the depth",
    "How much variety each layer lets through: entropy, effective rank, bottlenecks",
    _layout,
    _parts,
)
