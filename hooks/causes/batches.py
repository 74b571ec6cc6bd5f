"""How many copies of a picture go through what follows a layer at once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hookscope.hooks.results.looks import Call, LayerInfo

CACHED_BYTES = 32 << 20  # of the copies of one value: beyond, they leave the processor's cache and slow each other down
HELD_BYTES = 512 << 20  # of the copies of one value, at most
PREFIX_SHARE = 0.1  # of the time, which what lies before the layer may take: it runs once for each batch
FROM_INPUT = 8  # of copies that begin at the input, which gain little from more
MOST = 1024


def copies_from_the_layer(layers: Sequence[LayerInfo], own: Call) -> int:
    """How many copies may begin at a call's output.

    As many as the cache holds of the largest value that follows; more where next to nothing follows, which memory alone
    limits. Measured: ResNet-50's `layer2` is best at 16 to 32, and slower at 64; its `layer4` at 1,024.
    """
    largest = _largest(layers, own.order)
    largest = max(largest, prod(own.shape) * 4, 1)
    before = sum(info.multiply_adds or 0 for info in layers if _is_part(info) and info.calls[-1].order <= own.order)
    after = sum(info.multiply_adds or 0 for info in layers if _is_part(info) and info.calls[-1].order > own.order)
    for_prefix = round(before / max(after, 1) / PREFIX_SHARE)
    return _within(max(CACHED_BYTES // largest, min(for_prefix, HELD_BYTES // largest)))


def copies_from_the_input(layers: Sequence[LayerInfo]) -> int:
    """How many copies may begin at the input."""
    return min(_within(HELD_BYTES // max(_largest(layers, -1), 1)), FROM_INPUT)


def _within(count: int) -> int:
    return max(2, min(count, MOST))


def _largest(layers: Sequence[LayerInfo], after: int) -> int:
    """The bytes of the largest value that is computed after a call ended."""
    return max((prod(call.shape) * 4 for info in layers for call in info.calls if call.order > after), default=0)


def _is_part(info: LayerInfo) -> bool:
    return info.leaf and not info.operation and bool(info.calls)
