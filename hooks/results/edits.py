"""Changes of what layers compute, as descriptions: what `hooks.edits.edit` carries out. Nothing here imports torch.

    mute("layer4", 5), scale("layer3", 7, 2.0), level("layer2", 3)

Each is about a channel of a layer, or about all of it; numbers that are not finite are refused where they are written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.errors import EditNotPossible, called, titled

MOST_EDITS = 400  # of a model at once


@dataclass(frozen=True, slots=True)
class Scale:
    """A channel, or a layer, times a number: a <- gain a; with 0 it is muted, whatever stood there.

    Attributes:
        layer: dotted name; an operation's too ("layer1.0/add").
        channel: from 0; None for the whole layer.
        gain: any finite number.
        call: which of the layer's calls in a pass, from 0; None for every one.
    """

    layer: str
    channel: int | None = None
    gain: float = 0.0
    call: int | None = None

    def __post_init__(self) -> None:
        _check_place(self.layer, self.channel, self.call)
        if not math.isfinite(self.gain):
            raise EditNotPossible(f"{titled(self.layer)} cannot be scaled by {self.gain}: give a number.")


@dataclass(frozen=True, slots=True)
class Level:
    """Every position of a channel becomes the channel's mean over the positions of its picture.

    What the channel says of *where* is gone, and how strong it is stays. Of a whole layer each channel becomes its own.

    Attributes: those of `Scale`.
    """

    layer: str
    channel: int | None = None
    call: int | None = None

    def __post_init__(self) -> None:
        _check_place(self.layer, self.channel, self.call)


@dataclass(frozen=True, slots=True, eq=False)
class Replace:
    """A channel, or a layer, becomes a given value.

    Attributes:
        value: a number, or an array of the channel's (of the layer's) shape, or one that broadcasts to it; for a
            channel also one of the whole layer's shape, of which that channel is taken.

    The others are those of `Scale`.
    """

    layer: str
    channel: int | None
    value: float | np.ndarray
    call: int | None = None

    def __post_init__(self) -> None:
        _check_place(self.layer, self.channel, self.call)
        if not np.isfinite(self.value).all():
            raise EditNotPossible(
                f"The value for {called(self.layer)} holds NaN or infinite numbers. Give finite ones only."
            )


Edit = Scale | Level | Replace


def mute(layer: str, channel: int | None = None, *, call: int | None = None) -> Scale:
    """Have a channel, or a layer, be 0 everywhere. See `Scale` for the arguments.

    Zero is what a channel after a ReLU has where it sees nothing; where values are signed, `level` keeps their mean.
    """
    return Scale(layer, channel, 0.0, call)


def scale(layer: str, channel: int | None, gain: float, *, call: int | None = None) -> Scale:
    """Multiply a channel, or with None a layer, by a number: 0 mutes, 1 changes nothing, 2 doubles."""
    return Scale(layer, channel, float(gain), call)


def level(layer: str, channel: int | None = None, *, call: int | None = None) -> Level:
    """Set a channel to its mean over the picture's positions; see `Level`."""
    return Level(layer, channel, call)


def _check_place(layer: str, channel: int | None, call: int | None) -> None:
    for what, number in (("channel", channel), ("call", call)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | np.integer)):
            raise EditNotPossible(f"{titled(layer)} has no {what} {number!r}: give a whole number, counted from 0.")
    if channel is not None and channel < 0:
        raise EditNotPossible(f"{titled(layer)} has no channel {channel}: they are counted from 0.")
    if call is not None and call < 0:
        raise EditNotPossible(f"{titled(layer)} has no call {call}: they are counted from 0.")
