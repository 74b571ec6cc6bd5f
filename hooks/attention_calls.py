"""Attention among the functional calls of a forward pass: where it is computed, and its weights.

Module hooks miss most of it: Swin and MaxViT call functions, timm's fused kernel never makes the weights, and
torchvision's ViT asks `nn.MultiheadAttention` for none. So three kinds of calls are recognised:

    multi_head_attention_forward    called a second time, for its weights
    scaled_dot_product_attention    weights computed again from query, key, mask, scale, is_causal and enable_gqa
    softmax over the last axis      if a matmul or einsum then takes what it gave, possibly through dropout
"""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hooks.operations import flat, function_name
from hooks.running import Running, Stack

_PRODUCTS = {"matmul", "bmm", "einsum"}
_CARRIES = {"dropout", "to", "type_as", "float", "half", "bfloat16", "contiguous", "clone", "view", "reshape"}
_WAITING = 8  # softmaxes whose product has not come yet; a model has one, and the others never feed one


@dataclass(frozen=True)
class Attended:
    """One attention.

    Attributes:
        running: the module's call whose code computes it. heads: how many.
        weights: computes (or gives) them: (..., head, query, key), each row a softmax over the keys.
    """

    running: Running
    heads: int
    weights: Callable[[], Tensor]


class AttentionCalls:
    """Finds attention; its `see` is for `hooks.operations.Functions`.

    Arguments:
        stack: says where it happens. found: called with each attention, just after it was computed.
    """

    def __init__(self, stack: Stack, found: Callable[[Attended], None]) -> None:
        self.stack = stack
        self.found = found
        self._waiting: deque[tuple[Tensor, Tensor]] = deque(maxlen=_WAITING)  # (what came of it, a softmax)

    def see(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Look at one call, after it returned."""
        running = self.stack.innermost
        name = function_name(function)
        if running is None:
            return
        if name == "multi_head_attention_forward":
            given = _MHA.bind(*args, **kwargs)
            self.found(Attended(running, int(given.arguments["num_heads"]), lambda: _observed(function, given)))
        elif name == "scaled_dot_product_attention":
            query = args[0] if args else kwargs["query"]
            heads = query.shape[-3] if query.ndim > 2 else 1
            self.found(Attended(running, heads, lambda: attention_weights(*args, **kwargs)))
        elif name == "softmax":
            if isinstance(result, Tensor) and result.ndim >= 3 and _axis(args, kwargs) in (-1, result.ndim - 1):
                self._waiting.append((result, result))
        elif name in _CARRIES and isinstance(result, Tensor):
            softmax = self._softmax_of(args[0] if args else kwargs.get("input"))
            if softmax is not None:
                self._waiting.append((result, softmax))
        elif name in _PRODUCTS:
            for value in flat((*args, *kwargs.values())):
                softmax = self._softmax_of(value)
                if softmax is not None:
                    self._waiting = deque((pair for pair in self._waiting if pair[1] is not softmax), _WAITING)
                    self._found(running, softmax)
                    return

    def _found(self, running: Running, weights: Tensor) -> None:
        self.found(Attended(running, int(weights.shape[-3]), lambda: weights))

    def _softmax_of(self, value: Any) -> Tensor | None:
        return next((softmax for carried, softmax in self._waiting if carried is value), None)


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


def _observed(function: Callable[..., Any], given: inspect.BoundArguments) -> Tensor:
    """The same call once more, now asked for the weights of each head, and without dropout."""
    again = inspect.BoundArguments(given.signature, given.arguments.copy())
    again.arguments.update(need_weights=True, average_attn_weights=False, training=False)
    weights: Tensor = function(*again.args, **again.kwargs)[1]
    return weights


def _axis(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return kwargs.get("dim", args[1] if len(args) > 1 else None)
