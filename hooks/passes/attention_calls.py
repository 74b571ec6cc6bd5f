"""Attention among the functional calls of a forward pass: where it is computed, and its weights.

Module hooks miss most of it: Swin and MaxViT call functions, timm's fused kernel never makes the weights, and
torchvision's ViT asks `nn.MultiheadAttention` for none. So three kinds of calls are recognised:

    multi_head_attention_forward    called a second time, for its weights
    scaled_dot_product_attention    weights computed again from query, key, mask, scale, is_causal and enable_gqa
    softmax over the last axis      if a matmul or einsum then adds up over that axis of it, possibly after dropout,
                                    turning or mixing its heads (`passes.softmax_axes`)

The weights are the softmax's own, each row a distribution over the keys. Talking heads (in CaiT and EfficientFormerV2;
Shazeer et al., "Talking-Heads Attention", 2020) mix them over the heads afterwards; what is applied to the values is
then no distribution, and is not given here.
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hookscope.hooks.passes.operations import flat, function_name
from hookscope.hooks.passes.running import Running, Stack
from hookscope.hooks.passes.softmax_axes import CARRIES, PRODUCTS, Axes, axes_of_softmax, onward, sums_over_keys
from hookscope.hooks.results.looks import Call

_WAITING = 8  # softmaxes whose product has not come yet; a model has one, and the others never feed one
_HEADS = ("num_heads", "n_heads", "heads")  # what modules call the number of their heads


@dataclass(frozen=True)
class Attended:
    """One attention.

    Attributes:
        running: the module's call whose code computes it.
        shape: of the weights, (..., head, query, key).
        weights: computes (or gives) them, each row a softmax over the keys.
        seen: what is looked at, the keys or the values.
    """

    running: Running
    shape: tuple[int, ...]
    weights: Callable[[], Tensor]
    seen: Tensor

    @property
    def heads(self) -> int:
        """How many heads."""
        return self.shape[-3] if len(self.shape) > 2 else 1


@dataclass(frozen=True)
class _Carried:
    """A softmax whose product has not come yet, and what came of it so far."""

    tensor: Tensor
    axes: Axes
    softmax: Tensor


class AttentionCalls:
    """Finds attention; its `see` is for `passes.operations.Functions`.

    Arguments:
        stack: says where it happens. found: called with each attention, just after it was computed.
    """

    def __init__(self, stack: Stack, found: Callable[[Attended], None]) -> None:
        self.stack = stack
        self.found = found
        self._waiting: deque[_Carried] = deque(maxlen=_WAITING)

    def see(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Look at one call, after it returned."""
        running = self.stack.innermost
        name = function_name(function)
        if running is None:
            return
        if name == "multi_head_attention_forward":
            given = _MHA.bind(*args, **kwargs)
            self._found(running, _mha_shape(given), lambda: _observed(function, given), given.arguments["key"])
        elif name == "scaled_dot_product_attention":
            query, key = _given(args, kwargs, 0, "query"), _given(args, kwargs, 1, "key")
            self._found(running, (*query.shape[:-1], key.shape[-2]), lambda: attention_weights(*args, **kwargs), key)
        elif name == "softmax":
            if isinstance(result, Tensor) and result.ndim >= 3 and _axis(args, kwargs) in (-1, result.ndim - 1):
                self._waiting.append(_Carried(result, axes_of_softmax(result), result))
        elif name in PRODUCTS or name in CARRIES:
            self._follow(running, name, args, kwargs, result)

    def _follow(self, running: Running, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """A function that may take what came of a softmax: it applies it, or hands it on."""
        for value in flat((*args, *kwargs.values())):
            carried = self._carried(value)
            if carried is None:
                continue
            if name in PRODUCTS and sums_over_keys(name, args, kwargs, value, carried.axes):
                tensors = [each for each in flat((*args, *kwargs.values())) if isinstance(each, Tensor)]
                self._applied(running, carried.softmax, next((each for each in tensors if each is not value), value))
            elif name in CARRIES and isinstance(result, Tensor):
                axes = onward(name, args, kwargs, value, carried.axes, result)
                if axes is not None:
                    self._waiting.append(_Carried(result, axes, carried.softmax))
            return

    def _applied(self, running: Running, softmax: Tensor, values: Tensor) -> None:
        self._waiting = deque((each for each in self._waiting if each.softmax is not softmax), _WAITING)
        self._found(running, tuple(softmax.shape), lambda: softmax, values)

    def _found(self, running: Running, shape: tuple[int, ...], weights: Callable[[], Tensor], seen: Tensor) -> None:
        heads = _axis_of_heads(running.module, shape)
        if heads is not None:
            rest = [length for axis, length in enumerate(shape[:-2]) if axis != heads]
            turned = (*rest, shape[heads], *shape[-2:])
            self.found(Attended(running, turned, lambda: weights().movedim(heads, -3), seen))
        else:
            self.found(Attended(running, shape, weights, seen))

    def _carried(self, value: Any) -> _Carried | None:
        # the newest first: what a function in place gives back is the tensor that it was given
        return next((each for each in reversed(self._waiting) if each.tensor is value), None)


def over_channels(attended: Attended, call: Call) -> bool:
    """Whether an attention goes from channels to channels, as cross-covariance attention does (El-Nouby et al., "XCiT",
    2021): a head's queries are its share of the channels, and there are no windows and no position for each.

    Arguments:
        call: that of the module which computes it, as the recorded run saw it.
    """
    sizes = dict(zip(call.axes, call.shape, strict=True))
    *_, queries, keys = attended.shape
    positions = {sizes.get("token", 0), sizes.get("height", 0) * sizes.get("width", 0)}
    own_channels = queries == keys and attended.heads * keys == sizes.get("channel")
    one_map = math.prod(attended.shape[:-2]) == attended.heads * sizes.get("image", 1)
    return own_channels and one_map and keys not in positions


def by_windows(shape: tuple[int, ...], call: Call) -> bool:
    """Whether weights of (n, query, key) are those of n windows of one head, and not of n heads.

    The module that computes them is given the windows as if they were images (timm's EfficientViT of 2023).

    Arguments:
        shape: of the weights. call: the module's, as the recorded run saw it.
    """
    return len(shape) == 3 and call.axes[:1] != ("image",) and call.shape[:1] == shape[:1]


def attention_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights that `scaled_dot_product_attention` applies to the values, without dropout.

    Arguments:
        query: (..., head, query, feature). key: (..., head, key, feature), of fewer heads with `enable_gqa`.
        attn_mask: True where a query may look, or numbers that are added to the scores.
        value, dropout_p: not used; here to take the same arguments as the function in torch.

    Returns:
        (..., head, query, key), in float32 if the query is narrower; a query that may look nowhere has zeros.

    Source: the reference implementation in the documentation of `scaled_dot_product_attention`.
    """
    if query.dtype in (torch.float16, torch.bfloat16):
        query, key = query.float(), key.float()
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    scores = (query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0)


_MHA = inspect.signature(functional.multi_head_attention_forward)


def _mha_shape(given: inspect.BoundArguments) -> tuple[int, ...]:
    query, key = given.arguments["query"], given.arguments["key"]  # (token, feature) or (token, image, feature)
    return (*query.shape[1:-1], int(given.arguments["num_heads"]), query.shape[0], key.shape[0])


def _axis_of_heads(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Which axis before the last three holds the heads, if the module says how many it has; None for the usual one.

    timm's Hiera, NesT and VOLO have (image, head, window, query, key), Swin and MaxViT the windows before the heads.
    """
    said = {heads for heads in (getattr(module, name, None) for name in _HEADS) if isinstance(heads, int)}
    if len(shape) < 4 or shape[-3] in said:
        return None
    found = [axis for axis, length in enumerate(shape[:-3]) if length in said]
    return found[-1] if found else None


def _observed(function: Callable[..., Any], given: inspect.BoundArguments) -> Tensor:
    """The same call once more, now asked for the weights of each head, and without dropout."""
    again = inspect.BoundArguments(given.signature, given.arguments.copy())
    again.arguments.update(need_weights=True, average_attn_weights=False, training=False)
    weights: Tensor = function(*again.args, **again.kwargs)[1]
    return weights


def _axis(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _given(args, kwargs, 1, "dim")


def _given(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str) -> Any:
    return kwargs[name] if name in kwargs else args[place] if len(args) > place else None
