"""Models that were handed over as objects, under names by which the page's worker finds them in this process.

A model is opened by its spec, `package.module:factory`, and this is such a module: each of its factories gives a model
that is there already, with what is known of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from torch import nn

Factory = Callable[[], tuple[nn.Module, dict[str, Any]]]

_FACTORIES: dict[str, Factory] = {}
_numbers = itertools.count(1)


def hand_over(model: nn.Module, settings: dict[str, Any]) -> str:
    """Keep a model, and give the spec by which it is opened, until `take_back`.

    Arguments:
        settings: what a factory gives beside a model, see `sources.factory.own_model`.
    """
    name = f"model_{next(_numbers)}"
    _FACTORIES[name] = lambda: (model, settings)
    return f"{__name__}:{name}"


def take_back(spec: str) -> None:
    """Forget a model."""
    _FACTORIES.pop(spec.partition(":")[2], None)


def __getattr__(name: str) -> Factory:
    if name in _FACTORIES:
        return _FACTORIES[name]
    raise AttributeError(name)
