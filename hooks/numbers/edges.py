"""The boxes of pixels on which values depend, handed on through a model's operators; see `passes.following_edges`.

Of a value that is followed through a model, "edges" are four numbers, (top, left, -bottom, -right) of the least box of
pixels that holds all that it depends on. What depends on two values has the lesser of each number: one minimum unites
boxes. The edges of a tensor are float32 (4, *shape); an axis along which all are the same may have length 1 instead.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hookscope.hooks.results.receptive import NOTHING

HIDDEN = math.inf  # the same of a weight that a mask sets to zero: nor does its product with anything else


class Ledger:
    """The edges of a pass's values, kept by where these lie in memory, so that views and what is written agree.

    A place is (bytes of an element, first element, shape, strides in elements). A storage is a key that tells by
    `expired` that its memory is free again; its length is in elements.
    """

    def __init__(self) -> None:
        self._known: dict[Any, dict[Any, np.ndarray]] = {}

    def read(self, storage: Any, place: Any, length: int) -> np.ndarray | None:
        """The edges of what lies at a place; None if nothing in its memory depends on the picture."""
        known = self._known.get(storage)
        if known and place not in known:
            known[place] = _strided(_whole(known, place, length), place)
        return known[place] if known else None

    def add(self, storage: Any, place: Any, edges: np.ndarray) -> None:
        """Keep the edges of a view of memory whose edges are known."""
        self._known.get(storage, {}).setdefault(place, edges)

    def write(self, storage: Any, place: Any, length: int, edges: np.ndarray) -> None:
        """Keep the edges of values that were just written."""
        if storage not in self._known and len(self._known) % 32 == 31:
            self._known = {each: known for each, known in self._known.items() if not each.expired()}
        known = self._known.setdefault(storage, {})
        if known.keys() - {place}:
            whole = _whole(known, place, length)
            _strided(whole, place)[...] = edges
            known.clear()
            place, edges = (place[0], 0, (length,), (1,)), whole
        known[place] = edges


def _whole(known: dict[Any, np.ndarray], place: Any, length: int) -> np.ndarray:
    """The edges of a whole memory, element by element: (4, element)."""
    whole = np.full((4, length), NOTHING, np.float32)
    for other, edges in known.items():
        if other[0] == place[0]:
            _strided(whole, other)[...] = edges
        else:  # now read as elements of another size
            whole = np.minimum(whole, edges.reshape(4, -1).min(axis=1)[:, None])
    return whole


def _strided(whole: np.ndarray, place: Any) -> np.ndarray:
    _, first, shape, strides = place
    steps = whole.strides[0], *(each * whole.itemsize for each in strides)
    return np.lib.stride_tricks.as_strided(whole[:, first:], (4, *shape), steps)


# The arithmetic of edges. An axis is the tensor's, from 0; of the edges, which have one more in front, it is the next.


def edges_of_picture(height: int, width: int) -> np.ndarray:
    """Those of the pixels themselves, (4, 1, 1, height, width)."""
    rows, columns = np.ogrid[:height, :width]
    sides = np.broadcast_arrays(rows, columns, -rows - 1, -columns - 1)
    return np.stack(sides).astype(np.float32)[:, None, None]


def constant(dimensions: int) -> np.ndarray:
    """Those of a tensor that depends on no pixel."""
    return np.full((4,) + (1,) * dimensions, NOTHING, np.float32)


def align(edges: np.ndarray, dimensions: int) -> np.ndarray:
    """With axes of length 1 in front, as broadcasting adds them, for a tensor of so many dimensions."""
    return edges.reshape(4, *(1,) * (dimensions + 1 - edges.ndim), *edges.shape[1:])


def unite(several: Sequence[np.ndarray], dimensions: int) -> np.ndarray:
    """Those of what depends, element by element, on several tensors."""
    return functools.reduce(np.minimum, (align(edges, dimensions) for edges in several))


def multiply(several: Sequence[np.ndarray], dimensions: int) -> np.ndarray:
    """Those of products, element by element: what is hidden in one of the factors is hidden."""
    found = unite(several, dimensions)
    for edges in several:
        found = np.where(align(edges, dimensions) == HIDDEN, np.float32(HIDDEN), found)
    return found


def mix(edges: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """Those of what depends on all positions along some axes, which then have length 1."""
    return edges.min(axis=tuple(axis + 1 for axis in axes), keepdims=True)


def shrink(edges: np.ndarray) -> np.ndarray:
    """The same, with length 1 along each axis along which they are all the same."""
    for axis in range(1, edges.ndim):
        if (edges == (one := edges.take([0], axis))).all():
            edges = one
    return edges


def join(several: Sequence[np.ndarray], lengths: Sequence[int], axis: int) -> np.ndarray:
    """Those of tensors put end to end along an axis, along which they have these lengths."""
    common = np.broadcast_shapes(*((*edges.shape[: axis + 1], 1, *edges.shape[axis + 2 :]) for edges in several))
    shapes = [(*common[: axis + 1], length, *common[axis + 2 :]) for length in lengths]
    return np.concatenate([np.broadcast_to(*each) for each in zip(several, shapes, strict=True)], axis + 1)


def in_groups(edges: np.ndarray, axis: int, groups: int, length: int) -> np.ndarray:
    """Those of what depends on all channels of its group: along the axis of the channels as many as `length`, or 1."""
    if groups == 1 or edges.shape[axis + 1] == 1:
        return mix(edges, [axis])
    shape = edges.shape
    grouped = edges.reshape(*shape[: axis + 1], groups, -1, *shape[axis + 2 :]).min(axis=axis + 2)
    return grouped.repeat(length // groups, axis + 1)


def slide(edges: np.ndarray, axis: int, length: int, seen: np.ndarray) -> np.ndarray:
    """Those of what depends on some positions along an axis of that length, as a kernel moves over it.

    Arguments:
        seen: int64 (place, position), on which positions each place depends; what is not from 0 to `length` is padding.
    """
    inside = (seen >= 0) & (seen < length)
    if edges.shape[axis + 1] == 1:
        if inside.any(axis=1).all():
            return edges
        edges = edges.repeat(length, axis + 1)
    shape = list(edges.shape)
    shape[axis + 1] = 1
    padded = np.concatenate([edges, np.full(shape, NOTHING, edges.dtype)], axis + 1)
    found = padded.take(np.where(inside, seen, length)[:, 0], axis + 1)
    for positions in np.where(inside, seen, length).T[1:]:
        found = np.minimum(found, padded.take(positions, axis + 1))
    return found


def window(places: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """On which positions each place of a convolution or a pooling depends, for `slide`."""
    return np.arange(places)[:, None] * stride - padding + np.arange(kernel) * dilation


def transposed_window(places: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """The same of a transposed convolution."""
    steps = np.arange(places)[:, None] + padding - np.arange(kernel) * dilation
    return np.where(steps % stride == 0, steps // stride, -1)


def adaptive_window(places: int, length: int) -> np.ndarray:
    """The same of adaptive pooling, whose windows are not all of one size."""
    starts, ends = np.arange(places) * length // places, -(-np.arange(1, places + 1) * length // places)
    positions = starts[:, None] + np.arange((ends - starts).max())
    return np.where(positions < ends[:, None], positions, -1)


def matrix_product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Those of (..., row, inner) times (..., inner, column): what is hidden in one matrix hides what it would weigh."""
    turned = second.swapaxes(-1, -2), first.swapaxes(-1, -2)
    return np.minimum(_weighed(first, second), _weighed(*turned).swapaxes(-1, -2))


def _weighed(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What a product has of the values, (..., inner, column)."""
    hidden = weights == HIDDEN
    if not hidden.any():
        return values.min(axis=-2, keepdims=True)
    # of each row, and over all columns: those of a value are features, which have seen the same
    least = values.min(axis=-1)[..., None, :]
    return np.where(hidden, np.float32(NOTHING), least).min(axis=-1, keepdims=True)


def softmax(edges: np.ndarray, axis: int, hidden: np.ndarray | None) -> np.ndarray:
    """Those of a softmax: each depends on all along the axis, but for what a mask hides.

    Arguments:
        hidden: bool, where it does; None if there is no mask.
    """
    if hidden is None:
        return mix(edges, [axis])
    found = mix(np.where(hidden, np.float32(HIDDEN), edges), [axis])
    return np.where(hidden, np.float32(HIDDEN), found)


def attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, bias: np.ndarray, hidden: np.ndarray | None
) -> np.ndarray:
    """Those of softmax(query @ key + bias) @ value, each (..., position, feature), and the bias (..., query, key)."""
    query, key, value = (each.min(axis=-1, keepdims=True) for each in (query, key, value))
    key = key.swapaxes(-1, -2)
    if hidden is None:  # no need of a number for each query and each key
        key, bias = (each.min(axis=-1, keepdims=True) for each in (key, bias))
    logits = unite([query, key, bias], query.ndim - 1)
    return matrix_product(softmax(logits, logits.ndim - 2, hidden), value)
