"""The horizontal axis of every chart along the depth: the layers, in the order in which the network comes to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hookscope.dashboard.drawing.plain_figures import NEUTRAL

MOST_TICKS = 44
GRID = "rgba(134,142,150,0.25)"


def layer_axis(keys: Sequence[str]) -> dict[str, Any]:
    """Plotly's axis with a place for each layer, of which so many are named that their names do not overlap."""
    count = len(keys)
    ticks = list(range(0, count, max(1, math.ceil(count / MOST_TICKS))))
    return {
        "range": [-0.7, max(count, 1) - 0.3],
        "tickvals": ticks,
        "ticktext": [plain_text(keys[place] if len(keys[place]) <= 22 else f"…{keys[place][-21:]}") for place in ticks],
        "tickangle": -60,
        "tickfont": {"color": NEUTRAL, "size": 10},
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }


def plain_text(text: str) -> str:
    """Plotly reads some tags in texts; a layer's name is none."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
