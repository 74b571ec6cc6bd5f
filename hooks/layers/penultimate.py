"""Which layer's output says what a picture is like to a model: the last one before the head."""

from __future__ import annotations

from collections.abc import Sequence

from hookscope.hooks.results.looks import LayerInfo


def penultimate(layers: Sequence[LayerInfo]) -> tuple[str, int] | None:
    """The layer and the call before the head, which is the last layer with weights; None if there is none.

    Arguments:
        layers: what `layers.describe.describe` said of the model.
    """
    calls = [
        (call.order, layer, number)
        for layer in layers
        if layer.leaf and not layer.operation
        for number, call in enumerate(layer.calls)
        if "image" in call.axes and ("channel" in call.axes or "feature" in call.axes)
    ]
    calls.sort(key=lambda each: each[0])
    head = next((place for place in reversed(range(len(calls))) if calls[place][1].parameters), None)
    if not head:
        return None
    _, layer, number = calls[head - 1]
    return layer.name, number
