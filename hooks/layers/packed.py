"""What a layer has learnt: its parameters, and the weights that a quantised layer keeps packed, which are none."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def learnt(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own weights by name, those of its children left out; packed ones as torch unpacks them, in int8."""
    yield from module.named_parameters(recurse=False)
    if not any(kind.__module__.startswith("torch.ao.nn.") for kind in type(module).__mro__):
        return  # elsewhere a "weight" that can be called may be anything
    for name in ("weight", "bias"):
        unpack = getattr(module, name, None)
        if callable(unpack) and isinstance(tensor := unpack(), Tensor):
            yield name, tensor


def count_learnt(module: nn.Module) -> int:
    """How many numbers a module has learnt, those of its children included; what several share counts once."""
    parts = list(module.modules())
    tensors = {id(tensor): tensor for part in parts for _, tensor in learnt(part)}
    return sum(tensor.numel() for tensor in tensors.values())
