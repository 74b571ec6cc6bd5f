"""Baselines that the operator has stored, one for a model: what each is, and its numbers where they are asked for.

A file is read again when it has changed. Nobody is told its path: errors call it by the model's name.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.baseline_files import Written, read_baseline, read_written
from hookscope.hooks.results.baselines import BaselineNumbers, check_model

STORED = "stored-baseline"  # stands in a view and an address where a second set's key may; no set has it
KEPT = 2  # baselines whose numbers are held: 100 MB each of 50,000 pictures and 150 layers


@dataclass(frozen=True)
class Stored:
    """What a stored baseline is.

    Attributes:
        made: the day, as 2026-11-20; "" if it is not told. pictures: how many it is made of.
        fingerprint: of the model on which it was fitted, as the library has it; "" if it is not told.
        version: changes when one of its files does.
    """

    made: str
    pictures: int
    fingerprint: str
    version: Hashable

    @property
    def name(self) -> str:
        """What it is, in words."""
        made = f"{self.made}, " if self.made else ""
        return f"the stored baseline ({made}{self.pictures:,} pictures)"


class Baselines:
    """The stored baselines.

    Arguments:
        paths: of the file of each, by the name of its model.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = dict(paths)
        self._lock = threading.Lock()
        self._read: dict[str, tuple[Hashable, Written | str]] = {}
        self._numbers: LRUCache[Hashable, BaselineNumbers] = LRUCache(KEPT)

    def of(self, model: str, fingerprint: str) -> Stored | str | None:
        """What a model can be held against; a sentence, where it cannot; None if it has no baseline.

        Arguments:
            fingerprint: of the model that is loaded, as the library has it.
        """
        found = self.about(model)
        if isinstance(found, Stored):
            try:
                check_model(found.fingerprint, fingerprint)
            except HooksError as other:
                return str(other)
        return found

    def about(self, model: str) -> Stored | str | None:
        """What the baseline of a model is, whether or not it was fitted on that; see `of`."""
        path = self._paths.get(model)
        if path is None:
            return None
        mark = _mark(path)
        with self._lock:
            known, written = self._read.get(model, (None, ""))
            if mark is None or mark != known:
                written = _written(path, model)
                self._read[model] = mark, written
        if isinstance(written, str):
            return written
        return Stored(written.made, written.pictures, written.model, (mark, _mark(path.with_name(written.file))))

    def numbers(self, model: str, stored: Stored) -> BaselineNumbers:
        """Its numbers, which may take a second.

        Raises:
            HooksError: a file is missing, damaged or changed.
        """
        key = (model, stored.version)
        with self._lock:
            found: BaselineNumbers | None = self._numbers.get(key)
        if found is None:
            found = read_baseline(self._paths[model], called=f"of {model}")
            with self._lock:
                self._numbers[key] = found
        return found


def _mark(path: Path) -> Hashable:
    """What changes with a file, and with who may read it; None if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_mtime_ns, state.st_ctime_ns, state.st_size


def _written(path: Path, model: str) -> Written | str:
    try:
        return read_written(path, called=f"of {model}")
    except HooksError as error:
        return str(error)


NO_BASELINES = Baselines({})
