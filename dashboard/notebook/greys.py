"""Whether a model takes grey pictures: found by a run that ends at its first layer with weights."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from hookscope.hooks.passes.modes import inspecting
from hookscope.hooks.passes.registry import hook


class _ReachedError(BaseException):
    """The run has come to the layer that was looked for; a model's own `except Exception` does not see it."""


def takes_grey(model: nn.Module, height: int, width: int) -> bool:
    """Whether the first layer that a picture of this size reaches wants one channel of it, and none of three.

    A model that has no layer which could want that is not run.
    """
    if not any(_wants_one(module, height * width) for module in model.modules()):
        return False
    with inspecting(model) as inner:
        for channels in (3, 1):
            reached = _first_layer(inner, channels, height, width)
            if reached is not None:
                module, given = reached
                return _wants_one(module, height * width) and (channels == 1 or not _fits(module, given))
    return False


def _wants_one(module: nn.Module, positions: int) -> bool:
    """One channel, or a row of as many pixels as there are positions."""
    wanted = [getattr(module, name, 0) for name in ("in_channels", "num_features", "num_channels")]
    return 1 in wanted or (isinstance(module, nn.Linear) and module.in_features == positions)


def _fits(module: nn.Module, given: tuple[int, ...]) -> bool:
    """Whether a layer can be run on this shape, of one picture; three rows are those of three channels."""
    if isinstance(module, nn.Linear):
        return given[0] == 1 and given[-1] == module.in_features
    return given[1:2] == (1,)


def _first_layer(inner: nn.Module, channels: int, height: int, width: int) -> tuple[nn.Module, tuple[int, ...]] | None:
    """The first layer with weights that a picture reaches, and the shape that comes to it."""
    reached: list[tuple[nn.Module, tuple[int, ...]]] = []

    def look(module: nn.Module, args: Any, kwargs: Any = None) -> None:
        given = next((each for each in args if isinstance(each, Tensor) and each.is_floating_point()), None)
        if given is not None:
            reached.append((module, tuple(given.shape)))
            raise _ReachedError

    weights = next((each for each in inner.parameters() if each.is_floating_point()), torch.zeros(()))
    picture = torch.zeros(1, channels, height, width, dtype=weights.dtype, device=weights.device)
    with contextlib.ExitStack() as stack:
        for name, module in inner.named_modules():
            own = any(each.is_floating_point() for each in module.parameters(recurse=False))
            if own and not any(module.children()) and not isinstance(module, torch.jit.ScriptModule):
                stack.enter_context(hook(module, "forward_pre", look, layer=name))
        with contextlib.suppress(
            _ReachedError, Exception
        ):  # what the model raises it raises again, and it is told then
            inner(picture)
    return reached[0] if reached else None
