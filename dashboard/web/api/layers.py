"""The numbers of a layer for one picture: of everything that a call of it returned, and channel by channel."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.dashboard.asking.questions import ActivationOf
from hookscope.dashboard.drawing import ranking
from hookscope.dashboard.web.api.answers import Refused, address_of, fitting
from hookscope.dashboard.web.api.looking import Asked, about, pictured
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Activation, Call, Statistics
from hookscope.hooks.results.maps import maps

RANKS = ("index", "strongest", "mean", "variance", "zeros")  # that the values of one picture tell
MOST_CHANNELS = 256
COLUMNS = ("mean", "std", "min", "max", "zeros", "nan", "inf")


def layer(asked: Asked) -> dict[str, Any]:
    """The numbers of one call of a layer; those of some channels, where they are asked for."""
    span = asked.given.span("channels")
    rank = asked.given.choice("rank", RANKS, "index")
    scene = asked.one_side()
    info, name = scene.info_of("a"), scene.view.model
    described, call, recorded = asked.layer_call(info)
    found = asked.result(scene.unit("a", ActivationOf(described.name, call)), Activation)
    answer = {
        **about(info, name),
        **pictured(scene),
        "layer": key_of(described.name),
        "call": call,
        "type": described.type,
        "shape": found.shape,
        "axes": found.axes,
        "dtype": found.dtype,
        "overwritten_by": recorded.overwritten_by or None,
        "numbers": numbers(found.statistics),
        "of": of_all(found, recorded),
    }
    return answer if span is None else {**answer, **channels(asked, found, recorded, span, rank)}


def numbers(found: Statistics) -> dict[str, Any]:
    """Of all values of a tensor: NaN and infinite ones are counted, and left out of every other number."""
    names = ("count", "mean", "std", "min", "max", "zeros", "nan", "inf")
    quantiles = dict(zip(map(str, QUANTILE_LEVELS), found.quantiles.tolist(), strict=True))
    told = {each.name: getattr(found, each.name) for each in dataclasses.fields(found) if each.name in names}
    return {**told, "quantiles": quantiles, "quantiles_approximate": found.approximate}


def channels(asked: Asked, found: Activation, recorded: Call, span: tuple[int, int], rank: str) -> dict[str, Any]:
    """The numbers of the channels at some places of an order.

    Raises:
        Refused: there are no channels, or none at these places.
    """
    values, columns, of_them = by_channel(found, recorded)
    order = ranking.order(values, None, rank, columns)
    first, last = span[0], min(span[1], len(order) - 1)
    if first >= len(order):
        raise Refused(f"This layer has {len(order):,} channels, counted from 0. Ask for lower ones.", 404)
    rows = [
        {"place": place, "channel": int(order[place])}
        | {column: float(columns[column][order[place]]) for column in COLUMNS if column in columns}
        for place in range(first, min(last + 1, first + MOST_CHANNELS))
    ]
    shown = fitting(rows)
    end = first + len(shown)
    more = address_of(asked.path, asked.given.texts, channels=f"{end}..{last}") if end <= last else None
    return {"rank": rank, "channels_of": of_them, "channels": shown, "channels_in_all": len(order), "next": more}


def by_channel(found: Activation, recorded: Call) -> tuple[np.ndarray, ranking.Numbers, str]:
    """A layer's values, float32 (channel, ...), the numbers of each channel as the page has them, and of what they are.

    Raises:
        Refused: there are no channels.
    """
    values = maps(found)
    if values is None and "channel" in found.axes and found.values.size:
        values = np.moveaxis(found.values, found.axes.index("channel"), 0)
    known = found.statistics.channels
    if values is None or not len(values):
        sentence = "The output of this layer has no channels, so there are no numbers by channel. Leave channels out."
        raise Refused(sentence, 404)
    if len(known.get("mean", ())) == len(values):
        return values, known, of_all(found, recorded)
    return values, ranking.channel_numbers(values), of_map(found, recorded)


def of_all(found: Activation, recorded: Call) -> str:
    """Of what numbers are that leave nothing out, in words; maps leave out tokens that stand for no place."""
    tokens = _tokens(found, recorded)
    if not tokens:
        return "all values"
    left_out = f", of which {_prefix(recorded)} in no map" if recorded.prefix_tokens else ""
    return f"all {tokens:,} tokens{left_out}"


def of_map(found: Activation, recorded: Call) -> str:
    """Of what the numbers of a channel's map are, in words."""
    squares = ", as means over equal squares of them" if found.whole else ""
    tokens = _tokens(found, recorded)
    if not tokens:
        return f"all values{squares}"
    left_out = f"; {_prefix(recorded)} left out" if recorded.prefix_tokens else ""
    return f"{tokens - recorded.prefix_tokens:,} tokens{squares}{left_out}"


def _tokens(found: Activation, recorded: Call) -> int:
    """How many tokens an output has, in all windows together; 0 if it has none.

    Arguments:
        recorded: tells the axes of an output that was too large to be kept as it is.
    """
    axes = tuple(axis for axis in recorded.axes if axis != "image") if found.whole else found.axes
    if "token" not in axes or len(axes) != len(found.shape):
        return 0
    sizes = dict(zip(axes, found.shape, strict=True))
    return sizes["token"] * sizes.get("window", 1)


def _prefix(recorded: Call) -> str:
    count = recorded.prefix_tokens
    return "1 prefix token is" if count == 1 else f"{count:,} prefix tokens are"
