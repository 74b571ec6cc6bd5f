"""Callbacks that do not keep alive what they call: a model outlives those who look at it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


def loosely(method: Callable[..., Any]) -> Callable[..., Any]:
    """A bound method as a function that does nothing once the method's object is gone.

    >>> class Bell:
    ...     def ring(self): return "ring"
    >>> bell = Bell()
    >>> ring = loosely(bell.ring)
    >>> ring()
    'ring'
    >>> del bell
    >>> ring()
    """
    known = weakref.WeakMethod(method)

    def call(*given: Any) -> Any:
        found = known()
        return None if found is None else found(*given)

    return call
