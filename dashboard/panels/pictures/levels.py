"""How strongly the levels of a detector's pyramid answer to small, middle and large objects over a set."""

from __future__ import annotations

import json
import math
from typing import Any

from dash import html

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.drawing.numbers import format_count
from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.hooks.results.levels import SIZES, WEAK, LevelStrength, describe_levels
from hookscope.hooks.results.raw_boxes import LEAST_SCORE

TWO_STAGES = "roi_heads"  # the module of torchvision's detectors that takes each box's features from one level
HELP = (
    "The mean size of the level's activation inside a box over that outside of it, in the mean over all boxes: 1 where "
    "the level does not see the object."
)
RANGES = ("below 32 × 32", "", "above 96 × 96")


def strengths(looked: Looked) -> list[Any]:
    """A row for each level; nothing of a model that is no detector, or has no pyramid."""
    levels = () if looked.found is None else looked.found.levels
    if not levels:
        return []
    two_stages = any(TWO_STAGES in layer.name for layer in looked.info.layers)
    said = (
        f"Inside boxes over outside, of the detector's own boxes with a score of at least {LEAST_SCORE}: objects that "
        "it misses count nowhere. Sizes are in pixels of the picture that the model is given."
    )
    columns = [
        html.Th(f"{name} ({format_count(int(levels[0].boxes[size]))})", title=RANGES[size] or None)
        for size, name in enumerate(SIZES)
    ]
    taken = [html.Th("takes", title="Boxes that the second stage takes from this level")] if two_stages else []
    head = html.Tr([html.Th("level"), html.Th("stride"), *columns, *taken])
    return [
        html.H2("Levels of the pyramid", title=HELP),
        html.P(describe_levels(levels)),
        html.P(said, className="muted"),
        html.Table([html.Thead(head), html.Tbody([_row(each, two_stages) for each in levels])], className="classes"),
    ]


def _row(level: LevelStrength, two_stages: bool) -> html.Tr:
    key = key_of(level.layer, level.call)
    change = json.dumps({"layers": [key], "from_channel": 0})
    name = html.Button(
        key, className="link told mono", title="Show its channels", **{"data-do": "set", "data-value": change}
    )
    cells = [
        html.Td("—" if math.isnan(value) else f"× {value:.2f}", className="mono weak" if value < WEAK else "mono")
        for value in level.contrast.tolist()
    ]
    taken = [html.Td(format_count(int(level.taken.sum())), className="mono")] if two_stages else []
    return html.Tr([html.Td(name), html.Td(f"{level.stride:.0f}", className="mono"), *cells, *taken])
