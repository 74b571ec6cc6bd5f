"""Files that a download is writing: deleted when it fails, and when the process ends in the middle of one.

Imports no torch: the mailbox ends the process, and listens before torch is imported.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_open: set[Path] = set()


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` once it is whole; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    _open.add(partial)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
        _open.discard(partial)


def remove_unfinished() -> None:
    """Delete what is written so far; called before the process ends in the middle of a download."""
    for partial in list(_open):
        with contextlib.suppress(OSError):
            partial.unlink()
