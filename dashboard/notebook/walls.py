"""How a layer's maps are drawn in a notebook: which channels, in which order, on which scale, in which colours."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hookscope.dashboard.drawing import palettes, ranking, scales
from hookscope.dashboard.drawing.geometry import WallGeometry, wall_geometry
from hookscope.dashboard.drawing.ranking import RANKS, TOLD
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.looks import Activation

AUTO = 63  # channels, which with the mean map are 64 cells
PANEL_PX = 600  # of a wall in a notebook's cell
CHOICES: Mapping[str, tuple[str, ...]] = {
    "count": ("auto", "64", "256", "all"),
    "rank": tuple(rank for rank in RANKS if rank not in ("difference", *TOLD)),  # of one picture, by its values alone
    "colours": ("auto", "viridis", "magma", "grey"),
    "scale": ("layer", "channel"),
}


class NotShown(HooksError, ValueError):
    """What was given cannot be shown in a notebook, or not so."""


@dataclass(frozen=True)
class Look:
    """How every wall is drawn; the names are those of the page's address, the values those of `CHOICES`.

    Attributes:
        count: how many channels, or a whole number; "auto" for at most 63.
        rank: their order. colours: a palette. scale: one for the layer, or one for each channel.
    """

    count: str = "auto"
    rank: str = "strongest"
    colours: str = "auto"
    scale: str = "layer"


def read_look(view: Mapping[str, Any]) -> Look:
    """How walls are to be drawn, of what a person wrote.

    Raises:
        NotShown: there is no such choice; the text names those that there are.
    """
    names = [field.name for field in fields(Look)]
    for name, value in view.items():
        if name not in names:
            raise NotShown(f"There is no choice {name!r} of how it is shown. There are {', '.join(names)}.")
        number = name == "count" and str(value).isdecimal() and int(value) > 0
        if not number and str(value) not in CHOICES[name]:
            more = ", or a number of channels from 1 on" if name == "count" else ""
            raise NotShown(f"{name} cannot be {value!r}. Choose one of {', '.join(CHOICES[name])}{more}.")
    return Look(**{name: str(value) for name, value in view.items()})


@dataclass(frozen=True, eq=False)
class Wall:
    """A layer's maps, ready to be drawn.

    Attributes:
        order: the channels shown, first to last. geometry: how they are laid out, after the mean map.
        scale, palette: what the colours mean.
        numbers: float64 (channel,) under "mean", "min", "max" of every channel by index; `mean`: the same three of the
            mean map.
        picture: the PNG with all cells.
    """

    order: np.ndarray
    geometry: WallGeometry
    scale: scales.Scales
    palette: palettes.Palette
    numbers: Mapping[str, np.ndarray]
    mean: tuple[float, float, float]
    picture: bytes

    @property
    def address(self) -> str:
        """The picture as a data address, which needs no server."""
        return data_address(self.picture, "image/png")

    @property
    def text(self) -> str:
        """What the colours mean, in words."""
        return scales.scale_text(self.scale)


def wall_of(maps: np.ndarray, numbers: Mapping[str, np.ndarray], look: Look, panel_px: int = PANEL_PX) -> Wall:
    """Choose, order and draw the channels of one layer.

    Arguments:
        maps: float32 (channel, height, width).
        numbers: of `Statistics.channels`; where they are not of these channels, they are made of the maps.
        panel_px: what the wall may take on the screen, in CSS pixels across.
    """
    from hookscope.dashboard.drawing.pictures import sprite  # which needs Pillow; names and numbers do not

    if len(numbers.get("mean", ())) != len(maps):
        numbers = ranking.channel_numbers(maps)
    wanted: int | str = AUTO if look.count == "auto" else look.count
    geometry = wall_geometry(len(maps), maps.shape[1], maps.shape[2], panel_px, show=wanted)
    order = ranking.order(maps, None, look.rank, numbers)[: geometry.shown]
    scale: scales.Scales = scales.layer_scale(maps) if look.scale == "layer" else scales.channel_scales(maps)
    kind = scale.kind if isinstance(scale, scales.Scale) else scale[0].kind
    palette = palettes.palette_for(kind, look.colours)
    first = ranking.channel_numbers(ranking.mean_map(maps)[None])
    mean = (float(first["mean"][0]), float(first["min"][0]), float(first["max"][0]))
    picture = sprite(maps, order, geometry.columns, scale, palette, geometry.cell_px)
    return Wall(order, geometry, scale, palette, numbers, mean, picture)


def tokens_left_out(found: Activation) -> list[str]:
    """A sentence where a layer's numbers are of tokens that no map shows."""
    if not found.prefix_tokens:
        return []
    text = "1 of its tokens lies" if found.prefix_tokens == 1 else f"{found.prefix_tokens:,} of its tokens lie"
    return [f"{text} nowhere in the picture and in no map; numbers are of all tokens, and so is the order of channels."]


def data_address(data: bytes, kind: str) -> str:
    """A file as an address that holds it; `kind` is its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
