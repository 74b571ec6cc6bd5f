"""Share links: a view kept on disk under a key that nobody can guess."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path

from hookscope.dashboard.page.view import View

MAX_SHARES = 10_000


class Shares:
    """Views by key, in one folder; the oldest go when there are too many."""

    def __init__(self, folder: Path) -> None:
        """`folder` is made if it is not there, readable by its owner only."""
        self._folder = folder
        self._make_folder()

    def add(self, view: View) -> str:
        """Keep a view and return its key."""
        self._make_folder()  # a person may have deleted it meanwhile
        key = secrets.token_urlsafe(16)
        path = self._folder / f"{key}.json"
        path.write_text(json.dumps(view.to_dict()))
        os.chmod(path, 0o600)
        self._trim()
        return key

    def get(self, key: str) -> View | None:
        """The view of a key; None if there is none, or no more."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{16,64}", key):
            return None
        try:
            return View.from_dict(json.loads((self._folder / f"{key}.json").read_text()))
        except (OSError, ValueError, RecursionError):
            return None

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _trim(self) -> None:
        paths = sorted(self._folder.glob("*.json"), key=_made_at)
        for path in paths[: max(0, len(paths) - MAX_SHARES)]:
            path.unlink(missing_ok=True)


def _made_at(path: Path) -> float:
    """When a share was made; one that is deleted at this moment counts as the oldest."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
