"""The lock on a feed's folder: one writes, and who reads knows whether somebody does."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feeds import LOCK

# Windows has none; there two runs are not kept apart
fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None

_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()  # which a forked process must not keep


class Lock:
    """It is held until it is let go, nobody has this object any more, or the process ends."""

    def __init__(self) -> None:
        self._file: int | None = None
        self._close: Callable[[], object] = lambda: None

    def take(self, folder: Path) -> None:
        """Take it, where the file system knows locks.

        Raises:
            HooksError: somebody else has it. OSError: it cannot be written there.
        """
        if fcntl is None:
            return
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        for left in (True, True, False):  # who reads holds it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                here = any(each.is_on(file) for each in list(_HELD))
                if left:
                    if here:
                        gc.collect()  # it may be that of a feed which nobody has any more
                    time.sleep(0.05)
                    continue
                os.close(file)
                if here:
                    raise HooksError(
                        f"This process writes into the folder {folder.name} already: a feed of it was not closed. "
                        "Close that one, or give each run a folder of its own."
                    ) from None
                raise HooksError(
                    f"Another process writes into the folder {folder.name}. Give each run a folder of its own."
                ) from None
            except OSError:  # a file system without locks
                os.close(file)
                return
            self._file = file
            self._close = weakref.finalize(self, _close, file)
            _HELD.add(self)
            return

    def let_go(self) -> None:
        """Somebody else may have it. In a process that was forked, this ends no other one's."""
        self._file = None
        self._close()

    def is_on(self, file: int) -> bool:
        """Whether this holds what an open file is."""
        return self._file is not None and os.path.samestat(os.fstat(self._file), os.fstat(file))


def _close(file: int) -> None:
    with contextlib.suppress(OSError):
        os.close(file)


def _let_go() -> None:
    for lock in list(_HELD):
        lock.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
