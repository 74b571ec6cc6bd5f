"""What a model is, as a hash: the same for the same modules, names and values, whatever they were loaded from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.layers.names import named_layers
from hookscope.hooks.passes.modes import unwrap


def fingerprint(model: nn.Module, values: str = "") -> str:
    """SHA-256 over every module's name and class, and over the values of all parameters and buffers.

    The code of a class does not count: two that are called the same and hold the same are taken for one.

    Arguments:
        values: what `digest_of` gives of the model's state, where that is known already; it takes 0.8 ms per MB.

    >>> one, other = nn.ReLU(), nn.ReLU6()
    >>> fingerprint(one) == fingerprint(nn.ReLU()), fingerprint(one) == fingerprint(other)
    (True, False)
    """
    inner = unwrap(model)
    modules = [
        f"{name} {type(module).__module__}.{type(module).__qualname__};" for name, module in named_layers(inner).items()
    ]
    return hashlib.sha256(f"{''.join(modules)} {values or digest_of(inner.state_dict())}".encode()).hexdigest()


def digest_of(named: Mapping[str, Any]) -> str:
    """SHA-256 over tensors by name, and over whatever else is named by how it is written."""
    hasher = hashlib.sha256()
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor):
            hasher.update(f"{name} {tensor!r};".encode())
            continue
        value = tensor.detach()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        if value.is_quantized:
            value = value.int_repr()
        elif value.layout != torch.strided:
            value = value.to_dense()
        if value.numel():
            flat = value.cpu().contiguous().flatten().view(torch.uint8)
            hasher.update(memoryview(flat.numpy()))  # type: ignore[arg-type]
    return hasher.hexdigest()
