"""Pictures and files that the page links to: drawn when they are asked for, under keys that nobody can guess.

A key is an HMAC of what the picture shows, with a secret of this server: the same picture has the same address as long
as the server runs, so a browser may keep it for ever, and nobody who was not told an address can make one up.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_ENTRIES = 4_000  # a page with 24 cards has about 400
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Item:
    """A drawn picture or file: its bytes, media type, and the name under which a browser saves it ("" to show it)."""

    data: bytes
    media_type: str
    file_name: str = ""


@dataclass(slots=True)
class _Entry:
    draw: Callable[[], bytes]
    media_type: str
    file_name: str
    data: bytes | None = None


class Gallery:
    """Addresses for things that can be drawn, and the newest drawings themselves."""

    def __init__(self, prefix: str) -> None:
        """`prefix` is the path that addresses start with, e.g. "/picture/"."""
        self._prefix = prefix
        self._secret = secrets.token_bytes(32)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._drawn: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0
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
            entry = self._entries.setdefault(key, _Entry(draw, media_type, file_name))
            entry.draw = draw
            self._entries.move_to_end(key)
            while len(self._entries) > MAX_ENTRIES:
                oldest, _ = self._entries.popitem(last=False)
                self._bytes -= self._drawn.pop(oldest, 0)
        return self._prefix + key

    def get(self, key: str) -> Item | None:
        """The thing at an address (its last part), or None if there is none, or no more."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None:
            return None
        data = entry.data
        if data is None:
            data = entry.draw()
            if not entry.file_name:
                self._keep(key, entry, data)
        return Item(data, entry.media_type, entry.file_name)

    def _keep(self, key: str, entry: _Entry, data: bytes) -> None:
        with self._lock:
            if key not in self._entries or key in self._drawn:
                return
            entry.data = data
            self._drawn[key] = len(data)
            self._bytes += len(data)
            while self._bytes > MAX_BYTES and self._drawn:
                oldest, size = self._drawn.popitem(last=False)
                self._entries[oldest].data = None
                self._bytes -= size
