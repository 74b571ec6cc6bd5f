"""Attention maps: where each head of a transformer looks from each position, how spread out that is, and rollout.

maps = attention_maps(model, image)        # one per attention, in execution order
maps[11].weights[3, 0]                     # layer 11, head 3: where the class token looks
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError, LayerNotExecuted, NoAttention, StopForward, called, titled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.layers.names import first_names
from hookscope.hooks.layers.shapes import is_reordering
from hookscope.hooks.passes import arguments, nested
from hookscope.hooks.passes.attention_calls import Attended, AttentionCalls, by_windows
from hookscope.hooks.passes.cancelling import cancelling
from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.running import Functions, Running, Stack, following
from hookscope.hooks.results.looks import AttentionMaps, Call, LayerInfo
from hookscope.hooks.results.maps import depth_of, plane_of

Deliver = Callable[[str, int, AttentionMaps | HooksError], None]


def attention_maps(
    model: nn.Module,
    inputs: Any,
    wanted: Sequence[tuple[str, int]] | None = None,
    layers: Sequence[LayerInfo] | None = None,
    deliver: Deliver | None = None,
    *,
    with_rollout: bool = False,
) -> list[AttentionMaps]:
    """The weights of every attention, or of the wanted ones, from one forward pass that stops after the last.

    They are those after the softmax: where heads are mixed afterwards, as in CaiT, the weights before that. Attention
    from channels to channels (XCiT) lies at no positions and is left out. The pass runs under no_grad, with
    `nn.MultiheadAttention` out of its fused kernel; dropout is left out.

    Arguments:
        inputs: the model's argument, or a tuple of positional arguments, of one image; they are copied.
        wanted: (name of the layer whose own code computes attention, 0-based call); None for all. `describe` says
            which these are: their calls have `heads`. Of a wanted call that computes several, the first is given.
        layers: what `layers.describe.describe` said of this model; it is asked if this is None.
        deliver: gets the name and call that were asked, and the result as soon as it is there, or why this pass did not
            compute it; without it the first reason is raised.
        with_rollout: also fill each result's `rollout`, from all attentions before it.

    Returns:
        One result per attention, in execution order.

    >>> net = nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> [maps.weights.shape for maps in attention_maps(net, torch.zeros(1, 5, 8))]  # (head, query, key)
    [(2, 5, 5)]

    Raises:
        Cancelled: `looking`'s `cancelled` said so.
        LayerNotFound: a name is wrong. NoAttention: a layer computes no attention itself. LayerNotExecuted: it did
            not run. The model did not run for them then.
    """
    args = arguments.arguments(inputs)
    if arguments.images(args) != 1:
        raise NoAttention(
            f"Attention is shown for one image at a time; this batch holds {arguments.images(args)}. "
            "Give them one by one."
        )
    infos = describe(model, *args) if layers is None else layers
    reordered = any(map(is_reordering, model.modules()))
    run = _Run(_wanted(model, wanted, infos), infos, deliver, with_rollout, reordered)
    if wanted is not None and not run.open:
        return []
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(inspecting(model))
        names = first_names(model)
        # which module's own code runs is only asked of those that compute attention, so only their parts need hooks
        attend = [module for module, name in names.items() if run.concerns(name)]
        followed = {part: names[part] for module in attend for part in module.modules()}
        running = Stack(followed)
        stack.enter_context(following(followed, running))
        stack.enter_context(cancelling())
        stack.enter_context(Functions(AttentionCalls(running, run.found).see))
        run.began = time.perf_counter()
        with contextlib.suppress(StopForward):
            model(*nested.private(args, requires_grad=False))
        if run.failure is not None:
            raise run.failure
    run.finish()
    return run.results


def rollout(maps: Sequence[AttentionMaps]) -> np.ndarray:
    """How much of each input token reaches each token, when every layer hands on half by attention and half unchanged.

    Arguments:
        maps: self-attention over the same tokens, from the first layer on, in execution order.

    Returns:
        float64 (query, key): each row adds up to 1. Row 0 of a ViT is what reaches the class token.

    Raises:
        NoAttention: there are no maps, or not all are over the same tokens, as in windows.

    Source: Abnar & Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020: the heads' mean, plus the identity,
    halved, and multiplied from layer to layer.
    """
    total: np.ndarray | None = None
    for each in maps:
        step = _step(each.weights)
        if step is None or (total is not None and total.shape != step.shape):
            shape = " x ".join(map(str, each.weights.shape))
            raise NoAttention(
                f"No rollout leads through {called(each.layer)}: its attention ({shape}: {', '.join(each.axes)}) does "
                "not go from all tokens of the image to the same tokens."
            )
        total = step if total is None else step @ total
    if total is None:
        raise NoAttention("There are no attention maps to roll out. Give it those of the layers from the first one on.")
    return total


def entropy(weights: Tensor) -> np.ndarray:
    """The entropy of each head's rows, in nats, averaged over the queries (and windows).

    0 if each query looks at one key, ln(keys) if it looks at all alike. In float64, because log(p + epsilon) is NaN for
    a half-precision 0, and from the weights as they are: they are probabilities already, and softmax of them is the
    same for every input (5.28 of at most 5.28 for 197 tokens).

    Arguments:
        weights: (..., head, query, key), each row a probability distribution over the keys.

    Returns:
        float64 (head,).
    """
    rows = torch.special.entr(weights.detach().cpu().double()).sum(-1)  # (..., head, query)
    values: np.ndarray = rows.mean(-1).reshape(-1, rows.shape[-2]).mean(0).numpy()
    return values


def _step(weights: np.ndarray) -> np.ndarray | None:
    """One layer's part in a rollout, float64 (query, key); None if queries and keys are not the same tokens."""
    if weights.ndim != 3 or weights.shape[-1] != weights.shape[-2]:
        return None
    step: np.ndarray = (weights.mean(0, dtype=np.float64) + np.eye(weights.shape[-1])) / 2
    return step


def _wanted(
    model: nn.Module, wanted: Sequence[tuple[str, int]] | None, layers: Sequence[LayerInfo]
) -> dict[tuple[str, int], list[str]] | None:
    """(first name, call) -> the names it was asked by; refuses what the recorded run already tells."""
    if wanted is None:
        return None
    names: dict[tuple[str, int], list[str]] = {}
    finder = Finder(model, layers)
    for asked, call in dict.fromkeys(wanted):
        name = finder.find(asked)[0]
        if problem := finder.not_executed(name, call) or no_attention(layers, name, call):
            raise problem
        names.setdefault((name, call), []).append(asked)
    return names


def no_attention(layers: Sequence[LayerInfo], name: str, call: int) -> NoAttention | None:
    """Why the recorded run says that (name, call) has no attention, or None if it says nothing of the kind."""
    info = next((info for info in layers if name == info.name or name in info.aliases), None)
    if info is None or call >= len(info.calls) or info.calls[call].heads:
        return None
    if info.calls[call].channel_heads:
        return NoAttention(
            f"{titled(name)} attends from channels to channels (cross-covariance), and not from positions to positions "
            "of the image: its weights cannot be shown on it."
        )
    heads = [other.name for other in layers if any(each.heads for each in other.calls)]
    near = [other for other in heads if not info.name or other.startswith(f"{info.name}.")] or heads
    if not near:
        return NoAttention(f"{titled(name)} computes no attention, and neither does any other layer of this model.")
    names = ", ".join(repr(other) for other in near[:3])
    more = " ..." if len(near) > 3 else ""
    return NoAttention(f"{titled(name)} computes no attention itself. These do: {names}{more}.")


class _Run:
    """What is still to be found in one forward pass."""

    def __init__(
        self,
        wanted: dict[tuple[str, int], list[str]] | None,
        layers: Sequence[LayerInfo],
        deliver: Deliver | None,
        with_rollout: bool,
        reordered: bool,
    ) -> None:
        self.wanted = wanted
        self.open = set(wanted or ())
        self.infos = {info.name: info for info in layers}
        self.deliver = deliver
        self.with_rollout = with_rollout
        self.results: list[AttentionMaps] = []
        self.began = 0.0
        self.failure: BaseException | None = None
        self.reordered = reordered  # then even a window's own positions do not lie row by row
        self._seen: Counter[Running] = Counter()
        self._through = with_rollout  # whether a rollout leads through everything so far
        self._total: np.ndarray | None = None

    def concerns(self, name: str) -> bool:
        """Whether the layer's attention is wanted, or is on the way of a rollout."""
        info = self.infos.get(name)
        if info is None or not any(call.heads or call.channel_heads for call in info.calls):
            return False
        return self.with_rollout or self.wanted is None or any(name == layer for layer, _ in self.wanted)

    def found(self, attended: Attended) -> None:
        try:
            self._take(attended)
        except BaseException as error:
            self.failure = error  # kept, because a model may catch what is raised inside it
        if self.failure is not None or (self.wanted is not None and not self.open):
            raise StopForward

    def _take(self, attended: Attended) -> None:
        running = attended.running
        index = self._seen[running]
        self._seen[running] += 1
        key = (running.name, running.call)
        recorded = self._call(key)
        asked = key in self.open if self.wanted is not None else not (recorded and recorded.channel_heads)
        if not (asked or self.with_rollout):
            return
        given = attended.weights()
        windows = recorded is not None and by_windows(attended.shape, recorded)
        weights, axes = arranged(given[:, None] if windows else given)
        grid, prefix_tokens, frames = self._grid(key, weights)
        if self.with_rollout:
            self._roll(weights, grid)
        if not asked:
            return
        self.open.discard(key)
        for layer in self.wanted[key] if self.wanted is not None else [running.name]:
            result = AttentionMaps(
                layer=layer,
                call=running.call,
                index=index,
                weights=weights,
                axes=axes,
                entropy=entropy(torch.from_numpy(weights)),
                entropy_limit=math.log(weights.shape[-1]),
                grid=grid,
                prefix_tokens=prefix_tokens,
                frames=frames,
                rollout=None if self._total is None else self._total.astype(np.float32),
                milliseconds=(time.perf_counter() - self.began) * 1000,
            )
            self.results.append(result)
            if self.deliver is not None:
                self.deliver(layer, running.call, result)

    def _call(self, key: tuple[str, int]) -> Call | None:
        """The call as the recorded run saw it, if it did."""
        calls = self.infos[key[0]].calls if key[0] in self.infos else ()
        return calls[key[1]] if key[1] < len(calls) else None

    def _roll(self, weights: np.ndarray, grid: tuple[int, int] | None) -> None:
        # without a grid the keys may be anything: XCiT attends from channels to channels
        step = _step(weights) if grid is not None else None
        fits = step is not None and (self._total is None or self._total.shape == step.shape)
        self._through = self._through and fits
        if not self._through or step is None:
            self._total = None
        else:
            self._total = step if self._total is None else step @ self._total

    def _grid(self, key: tuple[str, int], weights: np.ndarray) -> tuple[tuple[int, int] | None, int, int]:
        """How the keys lie, on the image's patch grid or on their window's: (grid, prefix tokens, frames)."""
        keys, own = weights.shape[-1], self._call(key)
        if self.reordered:
            return None, 0, 1
        if weights.ndim == 4:
            side = math.isqrt(keys)
            of_clip = own is not None and depth_of(own, own.shape) > 1  # a window of several frames is no square
            return ((side, side), 0, 1) if side * side == keys and not of_clip else (None, 0, 1)
        if own is None:
            return None, 0, 1
        # its own output lies as the keys do in self-attention; else one of its parts made them, as `attn.k` of CaiT
        parts = [part for name, info in self.infos.items() if name.startswith(f"{key[0]}.") for part in info.calls]
        before = [part for part in parts if part.order < own.order]
        for seen in (own, *sorted(before, key=lambda part: -part.order)):
            if seen.grid is None and not {"height", "width"} <= {*seen.axes}:
                continue
            (rows, columns), depth = plane_of(seen), depth_of(seen, seen.shape)
            if depth * rows * columns + seen.prefix_tokens == keys:
                return (depth * rows, columns), seen.prefix_tokens, depth
        return None, 0, 1

    def finish(self) -> None:
        for key in sorted(self.open):
            problem = self._not_computed(*key)
            if self.deliver is None:
                raise problem
            for asked in (self.wanted or {})[key]:
                self.deliver(asked, key[1], problem)

    def _not_computed(self, name: str, call: int) -> LayerNotExecuted:
        return LayerNotExecuted(
            f"{titled(name)} computed no attention in call {call + 1} for this input, although it did in the recorded "
            "run. The model's path depends on its input."
        )


def arranged(weights: Tensor) -> tuple[np.ndarray, tuple[str, ...]]:
    """Weights of one image as float32 (head, query, key), or (window, head, query, key), and the names of the axes."""
    if weights.ndim < 3:
        raise HooksError(
            f"Attention weights of shape {tuple(weights.shape)} have no axis of heads. Give them as (head, query, key)."
        )
    with torch.no_grad():
        values: np.ndarray = weights.detach().to("cpu", torch.float32, copy=True).contiguous().numpy()
    values = values.reshape(-1, *values.shape[-3:])
    if len(values) == 1:
        return values[0], ("head", "query", "key")
    return values, ("window", "head", "query", "key")
