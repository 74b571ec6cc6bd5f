"""Colour tables for pictures with one byte per value: the value's level, and two levels for what is no number.

A table has 256 entries. Levels 0..252 are a palette's colours: zero is the first of a sequential palette and the
middle one, 126, of a diverging one. Level 253 is transparent: there is no cell. Level 254 is NaN (magenta), 255 is +Inf
or -Inf (lime): colours that no palette has, so a broken value is never mistaken for a small or a large one.

The anchor colours, between which the tables are interpolated, are those that Plotly has, written out because pictures
are drawn in notebooks without Plotly, too: viridis and magma are Nathaniel Smith's and Stefan van der Walt's (CC0), the
two diverging ones are Cynthia Brewer's RdBu and PuOr (ColorBrewer 2.0, Apache-2.0), turned so that red and orange are
positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = 253
MIDDLE_LEVEL = LEVELS // 2
BLANK_LEVEL = 253
NAN_LEVEL = 254
INF_LEVEL = 255
NAN_COLOUR = (255, 0, 255)
INF_COLOUR = (50, 255, 50)
NON_FINITE_LEGEND = "magenta: NaN, lime: Inf"


@dataclass(frozen=True, eq=False)
class Palette:
    """A table of 256 colours.

    Attributes:
        name: as the page offers it.
        diverging: whether it has two hues that meet in the middle.
        table: uint8 (256, 3), red, green, blue by level.
    """

    name: str
    diverging: bool
    table: np.ndarray

    def css(self, stops: int = 11) -> str:
        """A `linear-gradient(...)` from the first colour to the last, for a colour bar on the page."""
        return f"linear-gradient(to right, {', '.join(colour for _, colour in self.colorscale(stops))})"

    def colorscale(self, stops: int = 33) -> list[tuple[float, str]]:
        """The palette as Plotly's `colorscale`: pairs of (0..1, "#rrggbb")."""
        places = np.linspace(0, 1, stops)
        return [(float(place), _hex(self.table[round(place * (LEVELS - 1))])) for place in places]

    def overlay_colorscale(self, kind: str, opacity: float, stops: int = 65) -> list[tuple[float, str]]:
        """The same for values over a picture: pairs of (0..1, "rgba(...)"), at most as opaque as `opacity`."""
        share = overlay_opacity(kind) * opacity
        found = []
        for place in np.linspace(0, 1, stops):
            level = round(place * (LEVELS - 1))
            red, green, blue = (int(part) for part in self.table[level])
            found.append((float(place), f"rgba({red},{green},{blue},{share[level]:.3f})"))
        return found


def overlay_opacity(kind: str) -> np.ndarray:
    """How opaque each level lies over a picture, 0..1, float64 (256,): the root of its distance from zero.

    The root, because most values of a layer are far smaller than its largest. What is no number covers the picture.

    Arguments:
        kind: `Scale.kind`.
    """
    zero = MIDDLE_LEVEL if kind == "diverging" else 0
    opacity = np.sqrt(np.abs(np.arange(256) - zero) / (LEVELS - 1 - zero))
    opacity[[NAN_LEVEL, INF_LEVEL]] = 1
    return np.minimum(opacity, 1)


def _hex(colour: np.ndarray) -> str:
    return "#" + bytes(int(part) for part in colour).hex()


def _palette(name: str, anchors: Sequence[str], diverging: bool = False) -> Palette:
    """Make a palette of evenly spaced anchor colours, "#rrggbb"."""
    return Palette(name, diverging, _table(np.array([list(bytes.fromhex(anchor[1:])) for anchor in anchors])))


def _table(points: np.ndarray) -> np.ndarray:
    """Spread colours (point, 3) over the levels, with straight lines between them."""
    table = np.zeros((256, 3), np.uint8)
    places = np.linspace(0, len(points) - 1, LEVELS)
    for part in range(3):
        table[:LEVELS, part] = np.rint(np.interp(places, np.arange(len(points)), points[:, part]))
    table[NAN_LEVEL] = NAN_COLOUR
    table[INF_LEVEL] = INF_COLOUR
    return table


_VIRIDIS = [
    "#440154",
    "#482878",
    "#3e4989",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
]
_MAGMA = ["#000004", "#180f3d", "#440f76", "#721f81", "#9e2f7f", "#cd4071", "#f1605d", "#fd9668", "#feca8d", "#fcfdbf"]
_BLUE_RED = [
    "#053061",
    "#2166ac",
    "#4393c3",
    "#92c5de",
    "#d1e5f0",
    "#f7f7f7",
    "#fddbc7",
    "#f4a582",
    "#d6604d",
    "#b2182b",
    "#67001f",
]
_PURPLE_ORANGE = [
    "#2d004b",
    "#542788",
    "#8073ac",
    "#b2abd2",
    "#d8daeb",
    "#f7f7f7",
    "#fee0b6",
    "#fdb863",
    "#e08214",
    "#b35806",
    "#7f3b08",
]
PALETTES = {
    palette.name: palette
    for palette in (
        _palette("viridis", _VIRIDIS),
        _palette("magma", _MAGMA),
        _palette("grey", ("#000000", "#ffffff")),
        _palette("blue-red", _BLUE_RED, diverging=True),
        _palette("purple-orange", _PURPLE_ORANGE, diverging=True),
    )
}
DIFFERENCE = PALETTES["purple-orange"]
CHOICES = ("auto", *PALETTES)


def palette_for(kind: str, choice: str = "auto") -> Palette:
    """The palette that draws a scale of this kind.

    Arguments:
        kind: `Scale.kind`, "sequential" or "diverging".
        choice: one of `CHOICES`; "auto" is viridis for values of one sign and blue-red for values of both.

    A sequential palette on a diverging scale keeps zero in its middle; of a diverging palette on a sequential scale
    only the upper half is used, so zero is its neutral colour in both.

    Raises:
        ValueError: no palette has that name.
    """
    if choice not in CHOICES:
        raise ValueError(f"there is no palette {choice!r}; choose one of {', '.join(CHOICES)}")
    if choice == "auto":
        return PALETTES["blue-red" if kind == "diverging" else "viridis"]
    palette = PALETTES[choice]
    if kind == "sequential" and palette.diverging:
        return Palette(palette.name, False, _table(palette.table[MIDDLE_LEVEL:LEVELS]))
    return palette
