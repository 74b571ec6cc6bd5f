"""What belongs to a detector's boxes, to lay over the picture: masks as tints with outlines, keypoints as figures."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

COLOURS = ("#4dabf7", "#ffa94d", "#69db7c", "#f783ac", "#b197fc", "#ffe066", "#3bc9db", "#ff8787")  # light, for photos
TINT = 105  # of 255: the picture stays visible under a mask
COCO_POINTS = (
    *("nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder", "left elbow"),
    *("right elbow", "left wrist", "right wrist", "left hip", "right hip", "left knee", "right knee", "left ankle"),
    "right ankle",
)
_COCO_BONES = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)


def colour_of(index: int) -> str:
    """The colour of what belongs to a box; every eighth has the same."""
    return COLOURS[index % len(COLOURS)]


def point_name(point: int, points: int) -> str:
    """What a keypoint is called: of 17 as COCO numbers a person's; "" of other counts.

    >>> point_name(5, 17), point_name(5, 21)
    ('left shoulder', '')
    """
    return COCO_POINTS[point] if points == len(COCO_POINTS) else ""


def mask_png(mask: np.ndarray, colour: str) -> bytes:
    """A mask as a PNG with transparency: its outline in a colour, and a tint of it within.

    Arguments:
        mask: bool (row, column). colour: as "#rrggbb".
    """
    inner = np.pad(mask, 1)
    for axis in (0, 1):
        for step in (-1, 1):
            inner = inner & np.roll(np.pad(mask, 1), step, axis)
    opacity = np.where(mask & ~inner[1:-1, 1:-1], 255, np.where(mask, TINT, 0)).astype(np.uint8)
    red_green_blue = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)
    pixels = np.concatenate([np.broadcast_to(red_green_blue, (*mask.shape, 3)), opacity[..., None]], axis=2)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def keypoints_svg(places: np.ndarray, colour: str, marked: int | None = None) -> bytes:
    """Keypoints as an SVG that covers a picture; 17 of them are joined as COCO joins a person's.

    Arguments:
        places: float (point, 2): x and y, as shares of the picture's width and height. marked: a point to stand out.
    """
    shares = [(f"{x * 100:.2f}", f"{y * 100:.2f}") for x, y in np.nan_to_num(places, posinf=-1, neginf=-1).tolist()]
    bones = _COCO_BONES if len(places) == len(COCO_POINTS) else ()
    lines = [_stroke((*shares[a], *shares[b])) for a, b in bones]
    dots = [_stroke((*each, *each)) for each in shares]
    mark = [] if marked is None or marked >= len(dots) else [dots[marked]]
    drawn = [
        *(_group(lines, "#1b1f24", 3.5), _group(lines, colour, 1.5)),
        *(_group(dots, "#1b1f24", 5.5), _group(dots, colour, 4)),
        *(_group(mark, "#1b1f24", 10), _group(mark, "#ff6b6b", 8)),
    ]
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" preserveAspectRatio="none">'
    return f"{head}{''.join(drawn)}</svg>".encode()


def _stroke(ends: Sequence[str]) -> str:
    x1, y1, x2, y2 = ends
    return f'<path vector-effect="non-scaling-stroke" d="M{x1} {y1}L{x2} {y2}"/>'


def _group(strokes: list[str], colour: str, width: float) -> str:
    if not strokes:
        return ""
    look = f'stroke="{colour}" stroke-width="{width}" stroke-linecap="round" fill="none"'
    return f"<g {look}>{''.join(strokes)}</g>"
