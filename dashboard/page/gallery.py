"""Pictures and files that the page links to: drawn when they are asked for, under keys that nobody can guess.

A key is an HMAC of what the picture shows, with a secret of this server: the same picture has the same address as long
as the server runs, so a browser may keep it for ever, and nobody who was not told an address can make one up.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

MAX_ENTRIES = 4_000  # a page with 24 cards has about 400
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Item:
    """A drawn picture or file: its bytes, media type, and the name under which a browser saves it ("" to show it)."""

    data: bytes
    media_type: str
    file_name: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    draw: Callable[[], bytes]
    media_type: str
    file_name: str


class Gallery:
    """Addresses for things that can be drawn, and the newest drawings themselves."""

    def __init__(self, prefix: str, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        """`prefix` is the path that addresses start with, e.g. "/picture/"; `max_bytes` is for what was drawn."""
        self._prefix = prefix
        self._secret = secrets.token_bytes(32)
        self._entries: LRUCache[str, _Entry] = LRUCache(max_entries)
        self._drawn: LRUCache[str, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._lock = threading.Lock()

    def add(self, shows: tuple[object, ...], draw: Callable[[], bytes], media_type: str, file_name: str = "") -> str:
        """Make an address.

        Arguments:
            shows: everything that the drawing depends on; values with a stable `repr`.
            draw: makes the bytes; called when the address is first read, in the reader's thread.
            file_name: a name to save under; "" if the browser shows it.
        """
        key = hmac.digest(self._secret, repr((shows, media_type, file_name)).encode(), "sha256").hex()[:40]
        with self._lock:
            self._entries[key] = _Entry(draw, media_type, file_name)
        return self._prefix + key

    def get(self, key: str) -> Item | None:
        """The thing at an address (its last part), or None if there is none, or no more."""
        with self._lock:
            entry, data = self._entries.get(key), self._drawn.get(key)
        if entry is None:
            return None
        if data is None:
            data = entry.draw()
            if not entry.file_name:
                with self._lock, contextlib.suppress(ValueError):  # it is larger than all that may be kept
                    self._drawn[key] = data
        return Item(data, entry.media_type, entry.file_name)
