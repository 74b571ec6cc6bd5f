"""Which layer of one model stands where another does in another model: by how far down it lies, and by its stride.

Two architectures have no layers in common, and names that happen to be the same mean nothing. What can be compared is a
layer at the same relative depth whose positions stand for as much of the picture. A person may choose another one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock

import numpy as np
from cachetools import LRUCache, cached

from hookscope.dashboard.asking.layer_keys import canonical, key_of, parse_key
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.hooks.results.looks import Call, LayerInfo
from hookscope.hooks.results.maps import plane_of, why_no_maps

OCTAVE = 10.0  # a stride that is twice as large counts for more than any depth
OTHER_KIND = 0.1  # of the whole depth: a convolution that much further off is taken before a normalisation
KINDS = (("conv", "linear"), ("norm",), ("relu", "gelu", "silu", "act", "swish", "sigmoid"), ("pool",), ("attention",))
_BETWEEN, _IS = "~", "="
MOST_PAIRS = 24


@dataclass(frozen=True)
class Rungs:
    """The layers of a model that can be matched, in the order in which they end.

    Attributes:
        keys: as `key_of` writes them. strides: log2 of the input's pixels per position, NaN of what has no maps.
        depths: 0..1 of the run. kinds: the place in `KINDS`, -1 for others.
    """

    keys: tuple[str, ...]
    strides: np.ndarray
    depths: np.ndarray
    kinds: np.ndarray


@cached(LRUCache(32), key=lambda info: info.fingerprint, lock=Lock())
def rungs(info: ModelInfo) -> Rungs:
    """A model's; kept, because every click asks for them."""
    pixels = _pixels(info)
    last = max((call.order for layer in info.layers for call in layer.calls), default=0) or 1
    calls = [
        (layer, number, call)
        for layer in info.layers
        if layer.leaf and not layer.operation
        for number, call in enumerate(layer.calls)
    ]
    calls.sort(key=lambda each: each[2].order)
    return Rungs(
        tuple(key_of(layer.name, number) for layer, number, _ in calls),
        np.array([_stride(call, pixels) for _, _, call in calls], np.float64),
        np.array([call.order / last for _, _, call in calls], np.float64),
        np.array([_kind(layer) for layer, _, _ in calls], np.int64),
    )


def call_of(info: ModelInfo, key: str) -> tuple[LayerInfo, Call] | None:
    """The layer and the recorded call that a key names in a model; None if it has no such call."""
    name, call = parse_key(key)
    layer = info.by_name.get(name)
    return (layer, layer.calls[call]) if layer and call < len(layer.calls) else None


def in_place_of(key: str, info: ModelInfo, other: ModelInfo, chosen: str = "") -> str:
    """The key that a layer's has in a model; "" if that has no such layer, and none in its place.

    Arguments:
        other: the model that the key is of where `info` has no layer of that name.
        chosen: which layer a person has put beside it.
    """
    if other is not info and parse_key(key)[0] not in info.by_name:
        if chosen and call_of(info, chosen):
            return chosen
        return match(found, other, info) if (found := call_of(other, key)) else ""
    return key if call_of(info, key) else ""


def match(key: tuple[LayerInfo, Call], source: ModelInfo, target: ModelInfo) -> str:
    """The key of the layer of `target` that stands where a call of `source` does; "" if it has none of that kind.

    Of those with the nearest stride it is the one at the nearest relative depth, of the same kind if one is near. What
    has no maps is matched with what has none, by its depth.
    """
    layer, call = key
    there = rungs(target)
    stride = _stride(call, _pixels(source))
    usable = np.isnan(there.strides) == math.isnan(stride)
    if not usable.any():
        return ""
    last = max((each.order for one in source.layers for each in one.calls), default=0) or 1
    apart = np.zeros(len(there.keys)) if math.isnan(stride) else np.round(2 * np.abs(there.strides - stride)) / 2
    cost = OCTAVE * apart + np.abs(there.depths - call.order / last) + OTHER_KIND * (there.kinds != _kind(layer))
    return there.keys[int(np.argmin(np.where(usable, cost, np.inf)))]


def beside(key: str, info: ModelInfo, step: int) -> str:
    """The key of the layer before (-1) or after (1) one in a model; "" at its end."""
    keys = rungs(info).keys
    place = keys.index(key) + step if key in keys else -1
    return keys[place] if 0 <= place < len(keys) else ""


def _pixels(info: ModelInfo) -> float:
    """Along a side of what the model is given, the geometric mean of both; 1 where nobody knows."""
    size = info.preprocessing.crop if any(info.preprocessing.crop) else info.preprocessing.resize
    height, width = size if isinstance(size, tuple) else (size or 1, size or 1)
    return math.sqrt(height * width)


def _stride(call: Call, pixels: float) -> float:
    """log2 of how many of the input's pixels lie between two positions; NaN of what has no maps."""
    if why_no_maps(call, call.shape):
        return math.nan
    rows, columns = plane_of(call)
    return math.log2(pixels / math.sqrt(rows * columns))


def _kind(layer: LayerInfo) -> int:
    name = layer.type.lower()
    return next((place for place, words in enumerate(KINDS) if any(word in name for word in words)), -1)


# --- what a person has chosen instead, as an address holds it


def read_pairs(text: object) -> str:
    """The pairs of a text, in one way of writing: "layer3=features.7~...".

    >>> read_pairs("layer3:0=features.7~nonsense~=~layer3=other"), read_pairs(7)
    ('layer3=other', '')
    """
    return write_pairs(pairs_of(text if isinstance(text, str) else ""))


def pairs_of(text: str) -> dict[str, str]:
    """The layer that stands beside another in the other side's model, by the key that was chosen."""
    found: dict[str, str] = {}
    for each in text[:4_000].split(_BETWEEN):
        key, _, chosen = each.partition(_IS)
        if key and chosen:
            found[canonical(key)] = canonical(chosen)
    return dict(list(found.items())[:MOST_PAIRS])


def write_pairs(pairs: dict[str, str]) -> str:
    """The text that `pairs_of` reads."""
    return _BETWEEN.join(f"{key}{_IS}{chosen}" for key, chosen in pairs.items())


def chosen_pair(text: str, key: str, chosen: str) -> str:
    """The same text with another layer beside `key`; "" takes back what was chosen.

    >>> chosen_pair("a=b", "c", "d"), chosen_pair("a=b", "a", "")
    ('a=b~c=d', '')
    """
    pairs: dict[str, str] = {**pairs_of(text), key: chosen}
    return write_pairs({one: other for one, other in pairs.items() if other})
