"""Edges of the autograd graph: where a gradient is tapped, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from hookscope.hooks.errors import NoGradient

NOT_RECORDED = "The value was not part of an autograd graph."
WITHOUT = "Score-CAM needs no gradient."


def differentiate(score: Tensor, edges: Sequence[GradientEdge], retain_graph: bool = False) -> Sequence[Tensor | None]:
    """Gradients of a score at edges taken inside hooks: exact, and nobody's `.grad` changes."""
    try:
        gradients: Sequence[Tensor | None] = torch.autograd.grad(
            score, list(edges), retain_graph=retain_graph, allow_unused=True
        )
    except RuntimeError as error:
        if "use_reentrant" in str(error):
            raise NoGradient(
                "The model uses reentrant checkpointing, which cannot give gradients at layers. Build it with "
                "checkpoint(..., use_reentrant=False), or switch checkpointing off."
            ) from error
        raise
    return gradients


def overwritten_view(watch: tuple[Tensor, int] | None) -> bool:
    """Whether a value is a view whose memory was written to after it was seen.

    Autograd then gives the view a new place in the graph. What the place it had before tells is the gradient by way of
    those who read the view before the write, and a part of a gradient is worse than none.
    """
    return watch is not None and watch[0]._version != watch[1]


def reason_no_gradient(watch: tuple[Tensor, int] | None) -> str:
    """Why a gradient is missing, as far as it can be known."""
    if overwritten_view(watch):
        return (
            "The value is a view that a later layer overwrites in place, and autograd then forgets where it stood. Ask "
            "for the layer before or after it."
        )
    return (
        "No path leads from the layer to the score. The score does not depend on it, or something between them is "
        f"detached or computes in whole numbers, as int8 does. {WITHOUT}"
    )


def why_not_recorded(tensor: Tensor) -> str:
    """Why a value that a layer has just returned is in no graph, and what works all the same; "" if it is in one."""
    if tensor.requires_grad:
        return ""
    if tensor.is_quantized or not (tensor.is_floating_point() or tensor.is_complex()):
        kind = str(tensor.dtype).removeprefix("torch.")
        return f"{NOT_RECORDED} It is computed in whole numbers ({kind}), which have no gradient. {WITHOUT}"
    if not torch.is_grad_enabled():
        return (
            f"{NOT_RECORDED} The model runs this layer under torch.no_grad. Take that out of its forward (freezing the "
            f"weights by requires_grad_(False) does as well), or choose another map: {WITHOUT}"
        )
    return f"{NOT_RECORDED} It was detached, or was made by a layer that computes in whole numbers. {WITHOUT}"


def tap(tensor: Tensor) -> tuple[GradientEdge | None, tuple[Tensor, int] | None]:
    """Where a tensor stands in the graph right now, and what is needed to explain a missing gradient later."""
    if not tensor.requires_grad:
        return None, None
    watch = (tensor.detach(), tensor._version) if tensor._is_view() else None
    return get_gradient_edge(tensor), watch
