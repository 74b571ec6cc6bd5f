"""Layers of A and B side by side, in one order."""

from __future__ import annotations

from hookscope.dashboard.asking.layer_keys import key_of
from hookscope.hooks.results.looks import LayerGradient


def aligned(found: list[tuple[LayerGradient, ...]]) -> tuple[list[list[LayerGradient]], list[str]] | None:
    """What every input has, of each layer's call the first tensor: the same calls in the first input's order, and keys.

    A model may take another path for another input.
    """
    by_call = [
        {(layer.layer, layer.call): layer for layer in reversed(layers) if layer.side == "output"} for layers in found
    ]
    if not by_call:
        return None
    calls = dict.fromkeys((layer.layer, layer.call) for layer in found[0])
    shared = [call for call in calls if all(call in layers for layers in by_call)]
    return [[layers[call] for call in shared] for layers in by_call], [key_of(*call) for call in shared]
