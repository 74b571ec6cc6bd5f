"""A model by name for a benchmark, at random weights, and something to show it."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError


def load(spec: str) -> nn.Module:
    """A model by "torchvision:NAME" or "timm:NAME", at random weights, or by "package.module:factory".

    Raises:
        HooksError: nothing of that name can be built; the text says what went wrong.
    """
    source, _, name = spec.partition(":")
    if not name:
        raise HooksError(f"{spec!r} names no model. Write torchvision:resnet50, timm:NAME or package.module:factory.")
    try:
        if source == "torchvision":
            model = importlib.import_module("torchvision.models").get_model(name, weights=None)
        elif source == "timm":
            model = importlib.import_module("timm").create_model(name, pretrained=False)
        else:
            model = getattr(importlib.import_module(source), name)()
    except Exception as error:
        raise HooksError(f"{spec!r} cannot be built: {type(error).__name__}: {error}") from error
    if isinstance(model, tuple):  # a factory may give settings too, as the page takes them
        model = model[0]
    if not isinstance(model, nn.Module):
        raise HooksError(f"{spec!r} gave a {type(model).__name__} and not an nn.Module.")
    return model


def noise(size: tuple[int, int], channels: int = 3) -> Tensor:
    """A float32 (1, channel, height, width) input of seeded noise; `size` is (height, width)."""
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(0))
