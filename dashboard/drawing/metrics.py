"""One number per layer as bars in the tree: their lengths, their order, and the words for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hookscope.dashboard.drawing.numbers import format_number
from hookscope.hooks.methods import Metric
from hookscope.hooks.results.summaries import Survey, SurveyedCall

CALLS_SAID = 4
SHORTEST = 0.04  # the bar of the smallest value on a logarithmic scale, which is not nothing


def say(metric: Metric, value: float) -> str:
    """A value with its unit."""
    if math.isnan(value):
        return "none"
    if metric.unit == "%":
        return f"{100 * value:.1f} %"
    return f"{format_number(value)} {metric.unit}".rstrip()


def bars(survey: Survey, metric: Metric, names: Sequence[str]) -> list[float | None]:
    """The lengths of the layers' bars, 0..1; a layer that runs several times shows its first call."""
    of = _of(metric)
    values = {call.layer: of(call) for call in survey.calls if call.call == 0 and not math.isnan(of(call))}
    low, high = _range(list(values.values()), metric)
    return [None if name not in values else _length(values[name], metric, low, high) for name in names]


def worst_first(survey: Survey, metric: Metric, nodes: Sequence[Mapping[str, Any]]) -> tuple[list[int], int]:
    """The nodes that have a number, by place, the most alarming first; and how many have the very worst value.

    Arguments:
        nodes: of the tree. What has children is left out: its number is that of one of them.
    """
    of = _of(metric)
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
    value = _of(metric)
    found = []
    for name in names:
        calls = by_layer.get(name, [])
        said = ", ".join(say(metric, value(call)) for call in calls[:CALLS_SAID])
        more = ", …" if len(calls) > CALLS_SAID else ""
        found.append(f"{metric.title} of {of}: {said}{more}" if calls else "")
    return found


def scale_text(survey: Survey, metric: Metric) -> str:
    """What the shortest and the longest bar stand for."""
    of = _of(metric)
    values = [of(call) for call in survey.calls if call.call == 0 and not math.isnan(of(call))]
    if not values:
        return "no layer has this number"
    low, high = _range(values, metric)
    if metric.highest is not None:
        return f"bars from 0 to {say(metric, high).replace('.0 %', ' %')}"
    if high <= 0:
        return "every value is 0"
    return f"bars from {say(metric, low)} to {say(metric, high)}, logarithmic"


def _of(metric: Metric) -> Callable[[SurveyedCall], float]:
    return lambda call: call.numbers.get(metric.name, math.nan)


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
