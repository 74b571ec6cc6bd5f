"""The identity of our own code that makes answers: a version number would not change while we work on it."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from hookscope.dashboard.places import PACKAGE

# Below `hookscope`. In a checkout these are links, which `rglob` follows from their own folder and from none above it.
ANSWERING = ("hooks", "dashboard/asking", "dashboard/checking", "dashboard/sources", "dashboard/worker")


@functools.cache
def code_digest() -> str:
    """SHA-256 of every file of ours on which an answer may depend, and of its place."""
    return digest_of(*(PACKAGE / folder for folder in ANSWERING))


def digest_of(*folders: Path) -> str:
    """SHA-256 of the Python files in some folders and below, each with its path and its length."""
    hasher = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            data = path.read_bytes()
            hasher.update(f"{path.relative_to(folder).as_posix()} {len(data)};".encode())
            hasher.update(data)
    return hasher.hexdigest()
