"""How alike the layers of two models are, over a set of pictures: a matrix of layers by layers.

found = likeness(old, new, pictures)
for row, column in enumerate(found.best):
    print(found.first[row].layer, found.second[column].layer, found.cka[row, column])

`results.likeness` has the measures and what they are worth. One picture has no likeness of layers: it takes sixteen.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError, LayerNotFound
from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.names import Pattern, first_names, select
from hookscope.hooks.layers.packed import learnt
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import nested
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.looking import Steps
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.operations import tapping
from hookscope.hooks.results.likeness import LEAST_BATCH, LEAST_PICTURES, Grams, Likeness, Place, compare_grams, gram
from hookscope.hooks.results.looks import LayerInfo

Vectors = Literal["pooled", "flattened"]
BATCH = 256  # pictures whose products are taken together


def likeness(
    first: nn.Module,
    second: nn.Module,
    images: Iterable[Tensor],
    others: Iterable[Tensor] | None = None,
    *,
    patterns: Pattern | Iterable[Pattern] | None = None,
    patterns_second: Pattern | Iterable[Pattern] | None = None,
    vectors: Vectors = "pooled",
) -> Likeness:
    """How alike each layer of one model is to each of another: debiased linear CKA, and orthogonal Procrustes.

    Arguments:
        images: at least 16, each float (1, channel, height, width) or (channel, height, width); a batch is taken apart.
        others: the same pictures as the second model wants them, where that is otherwise.
        patterns, patterns_second: which layers of each; see `layers.names.select`. None for every layer with a matrix
            or filters of its own.
        vectors: how a layer's output becomes one vector per picture: "pooled", the mean over its positions, or
            "flattened", all values.

    >>> nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).eval() for _ in range(2)]
    >>> found = likeness(*nets, torch.rand(16, 3, 8, 8))
    >>> found.cka.shape, [each.layer for each in found.first]
    ((2, 2), ['0', '2'])

    Raises:
        HooksError: there are too few pictures, or other ones in the two.
        LayerNotFound: a pattern means nothing.
    """
    mine = [*_each(images)]
    grams = layer_grams(first, mine, patterns, vectors=vectors)
    theirs = mine if others is None else [*_each(others)]
    return compare_grams(grams, layer_grams(second, theirs, patterns_second, vectors=vectors))


def layer_grams(
    model: nn.Module,
    images: Sequence[Tensor],
    patterns: Pattern | Iterable[Pattern] | None = None,
    layers: Sequence[LayerInfo] = (),
    *,
    vectors: Vectors = "pooled",
) -> Grams:
    """How alike each layer finds each pair of pictures; one forward pass per picture.

    Arguments:
        images: each float (1, channel, height, width). patterns, vectors: as of `likeness`.
        layers: what `layers.describe.describe` said of this model; it is recorded if they are missing.

    Raises:
        HooksError: there are too few pictures. LayerNotFound: a pattern means nothing. Cancelled.
    """
    if len(images) < LEAST_PICTURES:
        raise HooksError(
            f"The likeness of layers needs at least {LEAST_PICTURES} pictures, and these are {len(images)}: over fewer "
            "it says more of the pictures than of the layers. Give it more of them."
        )
    began = time.perf_counter()
    run = _Run(Axes(layers or describe(model, images[0])), vectors)
    batches, places, left_out = [], None, dict[str, None]()
    steps = Steps(len(images))
    for batch in _batches(images):
        run.kept.clear()
        for image in batch:
            with (
                inspecting(model) as inner,
                tapping(_chosen(inner, patterns), first_names(inner), run.look),
                cancelling(),
            ):
                run.calls.clear()
                inner(image.clone())
            steps.count(1)
        whole = {place: rows for place, rows in run.kept.items() if len(rows) == len(batch) and _alike(rows)}
        left_out |= dict.fromkeys(
            f"{place.layer}: not one vector of one length per picture" for place in run.kept if place not in whole
        )
        places = [place for place in whole if places is None or place in places]
        batches.append({place: gram(np.stack(rows)) for place, rows in whole.items()})
    ordered = tuple(places or ())
    if not ordered:
        raise LayerNotFound("None of these layers gives one vector per picture. Choose other layers.")
    stacked = tuple(np.stack([found[place] for place in ordered]) for found in batches)
    milliseconds = (time.perf_counter() - began) * 1000
    return Grams(ordered, stacked, vectors, (*run.left_out, *left_out), milliseconds)


class _Run:
    """Collects one vector per picture and call.

    Arguments:
        axes: of the model's layers.
    """

    def __init__(self, axes: Axes, vectors: Vectors) -> None:
        self.axes = axes
        self.vectors = vectors
        self.kept: dict[Place, list[np.ndarray]] = {}
        self.calls: Counter[str] = Counter()  # of the pass that is running
        self.left_out: dict[str, None] = {}

    def look(self, layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            with torch._C.DisableTorchFunction():  # where functions are watched, ours are not the model's
                call = self.calls[layer]
                self.calls[layer] += 1
                found = nested.first(output)
                if found is None or self.axes.image(layer, call, found[1]) is None:
                    self.left_out[f"{layer}: no tensor with an axis of images"] = None
                    return
                vector = self._vector(layer, call, found[1], module)
                self.kept.setdefault(Place(layer, call, type(module).__name__), []).append(vector)

        return look

    def _vector(self, layer: str, call: int, tensor: Tensor, module: nn.Module) -> np.ndarray:
        values = real(tensor.detach()).double() if tensor.device.type == "cpu" else real(tensor.detach()).cpu().double()
        channel = self.axes.channel(layer, call, tensor, module)
        if self.vectors == "pooled" and channel is not None:
            others = [axis for axis in range(values.ndim) if axis != channel]
            values = values.mean(others) if others else values
        return values.reshape(-1).numpy().copy()  # the next layer may write into its input


def _alike(rows: Sequence[np.ndarray]) -> bool:
    return len({len(row) for row in rows}) == 1 and all(np.isfinite(row).all() for row in rows)


def _chosen(model: nn.Module, patterns: Pattern | Iterable[Pattern] | None) -> dict[str, nn.Module]:
    if patterns is not None:
        return select(model, patterns)
    found = {
        name: module
        for name, module in select(model, "*").items()
        if name and any(each.ndim >= 2 for _, each in learnt(module))
    }
    if not found:
        raise LayerNotFound("The model has no layer with a matrix or filters of its own. Name the layers to compare.")
    return found


def _batches(images: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    """As even as they can be, each of at most `BATCH` pictures and at least `LEAST_BATCH`."""
    count = -(-len(images) // BATCH)
    size = max(-(-len(images) // count), LEAST_BATCH)
    return [images[start : start + size] for start in range(0, len(images), size)]


def _each(images: Iterable[Tensor]) -> Iterable[Tensor]:
    """Pictures one by one, as (1, channel, height, width)."""
    for given in images:
        yield from given.split(1) if given.ndim == 4 else (given[None],)
