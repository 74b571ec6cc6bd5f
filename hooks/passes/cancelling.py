"""Stops a forward pass before its next module once nobody waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from hookscope.hooks.errors import Cancelled
from hookscope.hooks.passes.registry import hook


@contextlib.contextmanager
def cancelling(cancelled: Callable[[], bool] | None) -> Iterator[None]:
    """Ask before every module whether anybody still waits, and raise `Cancelled` if not.

    One hook for all modules, because a layer that nobody looks at may be the slow one. It captures nothing. The first
    question is asked before it is registered.
    """
    if cancelled is None:
        yield
        return
    ask = cancelled

    def check(module: nn.Module, args: Any) -> None:
        if ask():
            raise Cancelled

    if ask():
        raise Cancelled
    with hook(None, "every_forward_pre", check, layer="*", owner="hookscope", purpose="cancelling"):
        yield
