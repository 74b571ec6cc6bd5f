"""What takes a moment is computed beside the requests that ask for it, once, and kept for whoever asks again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

from cachetools import LRUCache

from hookscope.hooks.errors import HooksError

KEPT = 32
AT_ONCE = 2  # what is asked for beyond that is begun when somebody asks again
FAULT = "This could not be computed, which is a fault of the server's; its output says more."

log = logging.getLogger(__name__)
T = TypeVar("T")


class Later:
    """Results by key.

    Arguments:
        kept: how many. at_once: how many are computed at the same time.
    """

    def __init__(self, kept: int = KEPT, at_once: int = AT_ONCE) -> None:
        self._results: LRUCache[Hashable, Future[Any]] = LRUCache(kept)
        self._lock = threading.Lock()
        self._free = at_once

    def get(self, key: Hashable, compute: Callable[[], T], patience: float = 0.0) -> T | str | None:
        """What was computed, or None while it is not there yet; a sentence, where it cannot be had.

        Arguments:
            key: everything that the result depends on. compute: called at most once while it is kept; what it raises
                as a `HooksError` is the sentence.
            patience: seconds for which it is waited.
        """
        with self._lock:
            result = self._results.get(key)
            if result is None:
                if not self._free:
                    return None
                self._free -= 1
                result = self._results[key] = Future()
                threading.Thread(target=self._run, args=(result, compute), name="computing", daemon=True).start()
        try:
            found: T | str = result.result(patience)
        except NotYet:
            return None
        return found

    def kept(self, key: Hashable) -> Any:
        """What is there of a key, or None; nothing is begun."""
        with self._lock:
            result = self._results.get(key)
        return result.result() if result is not None and result.done() else None

    def keep(self, key: Hashable, value: Any) -> None:
        """Keep something else under a key."""
        result: Future[Any] = Future()
        result.set_result(value)
        with self._lock:
            self._results[key] = result

    def _run(self, result: Future[Any], compute: Callable[[], Any]) -> None:
        found: Any
        try:
            found = compute()
        except HooksError as problem:
            found = str(problem)
        except Exception:  # a fault of ours must not leave a page waiting for ever
            log.exception("computing beside the requests failed")
            found = FAULT
        with self._lock:
            self._free += 1
        result.set_result(found)
