"""The cache of answers: bytes by key, kept on disk across restarts, and never a reason for an error on the page.

Whatever happens to the folder (damaged, deleted, foreign, full, read-only, slow) is at worst a miss: a damaged folder
is left for a new one beside it, and while no folder can be used, values stay in memory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import diskcache
from cachetools import LRUCache

from hookscope.dashboard.answers.shelf import Shelf, is_ours

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

_SUBFOLDER = re.compile(r"values-(\d{1,9})")
_MEMORY_BYTES = 128 * 2**20
_PAUSE_SECONDS = 30.0
_HANG_PAUSE_SECONDS = 600.0  # each attempt on a disk that hangs costs a thread
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class Cache:
    """Bytes by key. No method raises, and none waits much longer than the deadline.

    Arguments:
        folder: where the values live, in a subfolder with mode 0700; several servers may share it.
        limit_bytes: what the folder may hold; least recently used values go first. A value over half of it is not kept
            on disk.
        deadline_seconds: how long one call may wait for the disk.
    """

    def __init__(self, folder: Path, limit_bytes: int, deadline_seconds: float = 3.0) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._deadline_seconds = deadline_seconds
        self._memory = _Memory(min(limit_bytes, _MEMORY_BYTES))
        self._lock = threading.Lock()
        self._damaged: set[Path] = set()
        self._failures = 0
        self._retry_at = 0.0
        self._closed = False
        self._keeper: _Keeper | None = None
        self._ask(lambda shelf: None, None)

    def get(self, key: str) -> bytes | None:
        """The value kept under `key`; None if there is none."""
        value = self._memory.get(key)
        return value if value is not None else self._ask(lambda shelf: shelf.get(key), None)

    def put(self, key: str, value: bytes) -> None:
        """Keep `value` under `key`."""
        if self._closed:
            return
        fits = len(value) <= self._limit_bytes // 2
        if fits and self._ask(lambda shelf: shelf.put(key, value), False):
            self._memory.discard(key)
        else:
            self._memory.put(key, value)

    def clear(self) -> None:
        """Forget every value."""
        self._memory.clear()
        self._ask(lambda shelf: shelf.clear(), None)

    def size_bytes(self) -> int:
        """What is kept at the moment, on disk and in memory."""
        return self._memory.size_bytes + self._ask(lambda shelf: shelf.size_bytes(), 0)

    def close(self) -> None:
        """Let go of the folder; the values stay in it."""
        self._closed = True
        with self._lock:
            keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
            keeper.join(self._deadline_seconds)
        self._memory.clear()

    def _ask(self, question: Callable[[Shelf], _Answer], otherwise: _Answer) -> _Answer:
        keeper = self._open()
        if keeper is None:
            return otherwise
        try:
            return keeper.submit(question).result(self._deadline_seconds)
        except TimeoutError:
            # A long queue is only a miss; one question that does not come back is a disk that hangs.
            if keeper.busy_seconds() >= self._deadline_seconds:
                self._leave(keeper, "the disk does not answer", damaged=False, pause_seconds=_HANG_PAUSE_SECONDS)
        except diskcache.Timeout:
            pass  # another server holds the database
        except Exception as error:  # whatever it is, a cache has no right to fail
            no_room = _is_no_room(error)
            self._leave(keeper, f"{type(error).__name__}: {error}", damaged=not no_room)
        return otherwise

    def _open(self) -> _Keeper | None:
        """The keeper of the open folder; starts a new one if there is none and the last failure is long enough ago."""
        with self._lock:
            if self._keeper is None and not self._closed and time.monotonic() >= self._retry_at:
                self._keeper = _Keeper(self._folder, self._limit_bytes, frozenset(self._damaged))
            return self._keeper

    def _leave(self, keeper: _Keeper, why: str, damaged: bool, pause_seconds: float = _PAUSE_SECONDS) -> None:
        with self._lock:
            if self._keeper is not keeper:
                return
            self._keeper = None
            self._failures += 1
            if damaged and keeper.subfolder is not None:
                self._damaged.add(keeper.subfolder)
            # A damaged folder is replaced at once, but not for ever: then the trouble is not in the folder.
            if not damaged or keeper.subfolder is None or self._failures > 3:
                self._retry_at = time.monotonic() + pause_seconds
                self._failures = 0
        _log.warning("The cache in %s is left: %s", keeper.subfolder or self._folder, why)
        keeper.stop()


class _Keeper(threading.Thread):
    """The one thread that touches the disk, so that a disk that hangs takes no request with it.

    One connection also means no fight for SQLite's lock between the server's threads, and one place to close it.
    """

    def __init__(self, folder: Path, limit_bytes: int, damaged: frozenset[Path]) -> None:
        super().__init__(name="hookscope-cache", daemon=True)
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.damaged = damaged
        self.subfolder: Path | None = None
        self._questions: queue.SimpleQueue[tuple[Callable[[Shelf], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._since: float | None = None
        self.start()

    def submit(self, question: Callable[[Shelf], _Answer]) -> Future[_Answer]:
        future: Future[_Answer] = Future()
        self._questions.put((question, future))
        return future

    def stop(self) -> None:
        self._questions.put(None)

    def busy_seconds(self) -> float:
        """How long the question at hand has been taking."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def run(self) -> None:
        shelf: Shelf | None = None
        failure: Exception | None = None
        self._since = time.monotonic()
        try:
            self.subfolder = _choose(self.folder, self.damaged)
            shelf = Shelf(self.subfolder, self.limit_bytes)
            shelf.sweep()
            threading.Thread(target=_remove_older, args=(self.subfolder,), daemon=True).start()
        except Exception as error:
            failure = error
        while True:
            self._since = None
            item = self._questions.get()
            if item is None:
                break
            self._since = time.monotonic()
            question, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if shelf is None:
                    raise failure or RuntimeError("the cache's folder did not open")
                future.set_result(question(shelf))
            except Exception as error:
                future.set_exception(error)
        if shelf is not None:
            shelf.close()


class _Memory:
    """Bytes by key in memory, least recently used out first; safe from any thread."""

    def __init__(self, limit_bytes: int) -> None:
        self._values: LRUCache[str, bytes] = LRUCache(limit_bytes, getsizeof=len)
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        return int(self._values.currsize)

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._values.get(key)

    def put(self, key: str, value: bytes) -> None:
        with self._lock, contextlib.suppress(ValueError):  # it is larger than all that may be kept
            self._values[key] = value

    def discard(self, key: str) -> None:
        with self._lock:
            self._values.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()


def _choose(folder: Path, damaged: frozenset[Path]) -> Path:
    """The newest subfolder, or a new one if that is damaged or not ours alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    numbers = _numbers(folder)
    newest = max(numbers, default=0)
    path = folder / f"values-{newest}"
    usable = newest > 0 and path not in damaged and is_ours(path)
    return path if usable else folder / f"values-{newest + 1}"


def _remove_older(subfolder: Path) -> None:
    """Remove what was left as damaged. A server that still uses it notices, and follows into the new subfolder."""
    for number in _numbers(subfolder.parent):
        path = subfolder.parent / f"values-{number}"
        if path.name != subfolder.name and number < int(subfolder.name.split("-")[1]):
            shutil.rmtree(path, ignore_errors=True)


def _numbers(folder: Path) -> list[int]:
    return [int(match[1]) for path in folder.iterdir() if (match := _SUBFOLDER.fullmatch(path.name))]


def _is_no_room(error: Exception) -> bool:
    """Whether the disk is full or read-only, so that a new folder on it would not help."""
    if isinstance(error, sqlite3.Error):
        return "full" in str(error) or "readonly" in str(error)
    return isinstance(error, OSError) and error.errno in _NO_ROOM
