"""Which frame of a clip, or slice of a volume, is shown: everywhere on the page the same moment."""

from __future__ import annotations

import json
import math
from typing import Any

from dash import html

from hookscope.hooks.results.maps import frame_index


def control(depth: int, moment: int) -> list[Any]:
    """The frame that is shown of so many, with what goes to the one before and the one after; nothing of a picture.

    Arguments:
        moment: in thousandths of the way from the first to the last.
    """
    if depth == 1:
        return []
    index = frame_index(depth, moment)
    return [
        html.Span(
            [
                _step("‹", index - 1, depth, "The frame before"),
                html.Span(f"frame {index + 1} of {depth}"),
                _step("›", index + 1, depth, "The next frame"),
            ],
            className="badge note frames",
            title="Pictures, maps and walls show one frame, all the same moment. Numbers and histograms are of all.",
        )
    ]


def _step(sign: str, index: int, depth: int, title: str) -> html.Button:
    there = 0 <= index < depth
    to = {"moment": math.ceil(index * 1000 / depth)} if there else {}
    return html.Button(
        sign,
        className="link",
        title=title,
        disabled=not there,
        **{"data-do": "set", "data-value": json.dumps(to), "aria-label": title},
    )
