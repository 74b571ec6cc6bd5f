"""One number per layer as bars in the tree: which numbers there are, their scales, and the words for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from hookscope.dashboard.asking.metrics import Metric as MetricName
from hookscope.dashboard.drawing.numbers import format_number
from hookscope.hooks.results.looks import HISTOGRAM_BINS
from hookscope.hooks.results.summaries import Survey, SurveyedCall

CALLS_SAID = 4
SHORTEST = 0.04  # the bar of the smallest value on a logarithmic scale, which is not nothing


@dataclass(frozen=True)
class Metric:
    """A number that a survey has of every layer.

    Attributes:
        field: of `SurveyedCall`. title, help: for people. unit: behind a value; "%" for a share 0..1.
        highest: where a linear scale from 0 ends; None for a logarithmic one between the model's own extremes.
        worst: the value at which nothing of a layer is left: 1 of a share of zeros, 0 of a size.
    """

    field: str
    title: str
    help: str
    unit: str
    highest: float | None
    worst: float = 0.0

    def say(self, value: float) -> str:
        """A value with its unit."""
        if math.isnan(value):
            return "none"
        if self.unit == "%":
            return f"{100 * value:.1f} %"
        return f"{format_number(value)} {self.unit}".rstrip()


METRICS: dict[MetricName, Metric] = {
    "magnitude": Metric(
        "magnitude", "activation magnitude", "Root mean square of the layer's output, in its own unit.", "", None
    ),
    "zeros": Metric(
        "zeros", "share of zeros", "Share of the output's finite values that are exactly 0.", "%", 1.0, 1.0
    ),
    "dead": Metric(
        "dead",
        "silent channels",
        "Share of the output's channels that are 0 everywhere for this picture. Another picture may wake them: only "
        "over a set of pictures can a channel be called dead.",
        "%",
        1.0,
        1.0,
    ),
    "gradient": Metric(
        "gradient",
        "gradient norm",
        "L2 norm of the gradient of the explained class's logit with respect to the layer's output.",
        "",
        None,
    ),
    "entropy": Metric(
        "entropy",
        "entropy",
        f"Shannon entropy of the histogram of the output's values in {HISTOGRAM_BINS} equal bins between its extremes.",
        "bits",
        math.log2(HISTOGRAM_BINS),
    ),
}


def bars(survey: Survey, metric: Metric, names: Sequence[str]) -> list[float | None]:
    """The lengths of the layers' bars, 0..1; a layer that runs several times shows its first call."""
    of = attrgetter(metric.field)
    values = {call.layer: of(call) for call in survey.calls if call.call == 0 and not math.isnan(of(call))}
    low, high = _range(list(values.values()), metric)
    return [None if name not in values else _length(values[name], metric, low, high) for name in names]


def worst_first(survey: Survey, metric: Metric, nodes: Sequence[Mapping[str, Any]]) -> tuple[list[int], int]:
    """The nodes that have a number, by place, the most alarming first; and how many have the very worst value.

    Arguments:
        nodes: of the tree. What has children is left out: its number is that of one of them.
    """
    of = attrgetter(metric.field)
    values = {call.layer: of(call) for call in survey.calls if call.call == 0 and not math.isnan(of(call))}
    there = [(place, values[node["name"]]) for place, node in enumerate(nodes) if node["name"] in values]
    found = [(abs(value - metric.worst), place) for place, value in there if not nodes[place]["children"]]
    found.sort()
    return [place for _, place in found], sum(distance == 0 for distance, _ in found)


def texts(survey: Survey, metric: Metric, names: Sequence[str], of: str) -> list[str]:
    """What the bars stand for, call by call, one line per layer."""
    by_layer: dict[str, list[SurveyedCall]] = {}
    for call in survey.calls:
        by_layer.setdefault(call.layer, []).append(call)
    value = attrgetter(metric.field)
    found = []
    for name in names:
        calls = by_layer.get(name, [])
        said = ", ".join(metric.say(value(call)) for call in calls[:CALLS_SAID])
        more = ", …" if len(calls) > CALLS_SAID else ""
        found.append(f"{metric.title} of {of}: {said}{more}" if calls else "")
    return found


def scale_text(survey: Survey, metric: Metric) -> str:
    """What the shortest and the longest bar stand for."""
    of = attrgetter(metric.field)
    values = [of(call) for call in survey.calls if call.call == 0 and not math.isnan(of(call))]
    if not values:
        return "no layer has this number"
    low, high = _range(values, metric)
    if metric.highest is not None:
        return f"bars from 0 to {metric.say(high).replace('.0 %', ' %')}"
    if high <= 0:
        return "every value is 0"
    return f"bars from {metric.say(low)} to {metric.say(high)}, logarithmic"


def _range(values: Sequence[float], metric: Metric) -> tuple[float, float]:
    if metric.highest is not None:
        return 0.0, metric.highest
    positive = [value for value in values if value > 0 and math.isfinite(value)]
    return min(positive, default=0.0), max(positive, default=0.0)


def _length(value: float, metric: Metric, low: float, high: float) -> float:
    if metric.highest is not None:
        return min(value / high, 1.0)
    if value <= 0:
        return 0.0
    if value >= high or low == high:
        return 1.0
    return SHORTEST + (1 - SHORTEST) * math.log(value / low) / math.log(high / low)
