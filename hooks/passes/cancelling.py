"""Stops a forward pass before its next module once nobody waits for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from hookscope.hooks.errors import Cancelled
from hookscope.hooks.passes.looking import current
from hookscope.hooks.passes.registry import hook


@contextlib.contextmanager
def cancelling() -> Iterator[None]:
    """Ask `looking`'s `cancelled` before every module whether anybody still waits, and raise `Cancelled` if not.

    One hook for all modules, because a layer that nobody looks at may be the slow one. It captures nothing. The first
    question is asked before it is registered.
    """
    ask = current().cancelled
    if ask is None:
        yield
        return

    def check(module: nn.Module, args: Any) -> None:
        if ask():
            raise Cancelled

    stop_if_cancelled()
    with hook(None, "every_forward_pre", check, layer="*", owner="hookscope", purpose="cancelling"):
        yield


def stop_if_cancelled() -> None:
    """Raise `Cancelled` if nobody waits any more; asked before a gradient, which has no modules to ask at."""
    ask = current().cancelled
    if ask is not None and ask():
        raise Cancelled
