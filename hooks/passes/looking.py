"""What every look shares: in whose name it looks, who may stop it, and what the model's answer is.

    with looking(owner="me", cancelled=lambda: time.monotonic() > deadline):
        gradients(model, image)

It holds for the looks that begin in the `with` block, in this thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from hookscope.hooks.results.outputs import AS_FOUND, Reading


@dataclass(frozen=True)
class Look:
    """Under which circumstances a look is taken.

    Attributes:
        owner, purpose: what `passes.registry.live_hooks` shows of its hooks.
        cancelled: asked before every module of the model, and before a gradient; `errors.Cancelled` is raised if it
            says so.
        progress: gets (pictures done, pictures in all) between two passes of a look that has several. No hook of the
            look is on the model then, so it may run the model itself.
        reading: which of the model's outputs is its answer, and how that is read.
    """

    owner: str = "user"
    purpose: str = "analysis"
    cancelled: Callable[[], bool] | None = None
    progress: Callable[[int, int], None] | None = None
    reading: Reading = AS_FOUND


_DEFAULT = Look()
_CURRENT: ContextVar[Look] = ContextVar("look", default=_DEFAULT)


def current() -> Look:
    """The circumstances of a look that begins now.

    >>> with looking(owner="me"):
    ...     current().owner
    'me'
    """
    return _CURRENT.get()


@contextlib.contextmanager
def looking(**circumstances: Any) -> Iterator[None]:
    """Take looks under other circumstances than those around; see `Look` for their names.

    >>> with looking(owner="me"), looking(purpose="a test"):
    ...     current()
    Look(owner='me', purpose='a test', cancelled=None, progress=None, reading=Reading(output='', reads=''))
    """
    token = _CURRENT.set(replace(_CURRENT.get(), **circumstances))
    try:
        yield
    finally:
        _CURRENT.reset(token)


class Steps:
    """How far a look of several passes is, told to `looking`'s `progress`."""

    def __init__(self, total: int) -> None:
        self.done, self.total = 0, total

    def count(self, pictures: int) -> None:
        """So many pictures more were run; called where no hook of the look is on the model."""
        self.done += pictures
        tell = current().progress
        if tell is not None:
            tell(min(self.done, self.total), self.total)
