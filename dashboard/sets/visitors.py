"""The sets that visitors made, each in a folder under a key that nobody can guess.

    folder/KEY/set.json    its name, its pictures in their order, and what was refused, with reasons
    folder/KEY/NUMBER      a picture as it came; its name stands in set.json and is a label

A set that was chosen out of another one is such a set, too. Pictures of a visitor's set are linked into it, so that
each set can be deleted on its own; those of an operator's folder stay where they are and are named by the folder's set
and their place below it, so that they are seen for as long as that folder is offered.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from hookscope.dashboard.inputs.decoder import InputRefused
from hookscope.dashboard.sets.members import SetMissing

DESCRIBED = "set.json"
MOST_REFUSED = 1000  # files whose reasons are kept
LONGEST_NAME = 40
OPENED = 8  # sets whose pictures' names are held in memory
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_KEY = re.compile(r"[A-Za-z0-9_-]{22}")
GONE = "This set is no longer in the making here: bring the pictures again."
NOT_KNOWN = "This set is not known here, or no more. Choose another one."

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One picture: a file of the set's own, one in an operator's folder, or a built-in photograph.

    Attributes:
        name: as a label. group: what it is said to show; of an operator's, what the folder says now counts.
        file: its number, -1 for none of its own. size: in bytes.
        within: the place below its set's folder; "" where it lies in no folder below that.
        of: the key of the operator's set.
        sample: the photograph's name.
    """

    name: str
    group: str = ""
    file: int = -1
    size: int = 0
    of: str = ""
    within: str = ""
    sample: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of a set without its pictures' files."""

    name: str
    entries: tuple[Entry, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def write(self, folder: Path) -> None:
        """Describe the set in its folder, whole or not at all."""
        rows = [{name: value for name, value in vars(each).items() if value != _PLAIN[name]} for each in self.entries]
        draft = folder / f".{DESCRIBED}"
        draft.write_text(json.dumps({"name": self.name, "pictures": rows, "refused": self.refused}))
        draft.replace(folder / DESCRIBED)

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The set that a folder holds.

        Raises:
            OSError, ValueError, TypeError, KeyError: it holds none, or a damaged one.
        """
        found: dict[str, Any] = json.loads((folder / DESCRIBED).read_text())
        entries = tuple(Entry(**row) for row in found["pictures"])
        return cls(str(found["name"]), entries, tuple((str(name), str(why)) for name, why in found["refused"]))


_PLAIN = vars(Entry("")) | {"name": None}


class VisitorSets:
    """Visitors' sets by key; they survive restarts, and several servers may share the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._opened: LRUCache[str, Record] = LRUCache(OPENED)
        self._make_folder()

    def get(self, key: str) -> Record:
        """What is known of a set.

        Raises:
            SetMissing: there is none, or no more.
        """
        if not _KEY.fullmatch(key):
            raise SetMissing(NOT_KNOWN)
        if not self.there(key):
            with self._lock:
                self._opened.pop(key, None)
            raise SetMissing(NOT_KNOWN)
        with self._lock:
            known = self._opened.get(key)
        if known is not None:
            return known
        try:
            found = Record.read(self.folder / key)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SetMissing(NOT_KNOWN) from error
        with self._lock:
            self._opened[key] = found
        return found

    def there(self, key: str) -> bool:
        """Whether there is such a set."""
        return (self.folder / key / DESCRIBED).exists()

    def path(self, key: str, file: int) -> Path:
        """Where a picture of a set lies."""
        return self.folder / key / str(file)

    def keep(self, key: str, folder: Path) -> None:
        """Have the set that a folder beside this one holds; the folder becomes ours."""
        self._make_folder()
        folder.replace(self.folder / key)

    def choose(self, name: str, entries: Sequence[tuple[str, Entry]]) -> str:
        """Make a set of pictures of others, and return its key.

        Arguments:
            entries: each with the key of the set that has its file, "" where it has none.

        Raises:
            InputRefused: the disk has no room. FileNotFoundError: a file is gone.
        """
        key = new_key()
        draft = self.folder / f".{key}"
        try:
            with keeping(FileNotFoundError):
                self._make_folder()
                draft.mkdir(mode=0o700)
                kept = []
                for number, (of, entry) in enumerate(entries):
                    if of:
                        _link(self.path(of, entry.file), draft / str(number))
                        entry = Entry(entry.name, entry.group, number, entry.size, within=entry.within)
                    kept.append(entry)
                Record(name, tuple(kept)).write(draft)
                draft.replace(self.folder / key)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return key

    def delete(self, key: str) -> None:
        """Remove a set; nothing if there is none."""
        if not _KEY.fullmatch(key):
            return
        with self._lock:
            self._opened.pop(key, None)
        gone = self.folder / f".{new_key()}"  # at once, however many pictures it has
        with contextlib.suppress(OSError):
            (self.folder / key).replace(gone)
            shutil.rmtree(gone, ignore_errors=True)

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(16)


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy, where the disk knows no such thing."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def keeping(*let: type[OSError]) -> Iterator[None]:
    """What the disk refuses, as a sentence.

    Arguments:
        let: what whoever calls says something of.

    Raises:
        InputRefused: in place of any other `OSError`.
    """
    try:
        yield
    except let:
        raise
    except OSError as error:
        _log.error("A set could not be kept: %s", error)
        if error.errno in _NO_ROOM:
            raise InputRefused(
                "The server's disk has no room for this set; tell whoever runs the server.", 507
            ) from error
        if error.errno == errno.ENOENT:
            raise InputRefused(GONE, 404) from error
        raise InputRefused("The server could not keep this set; tell whoever runs the server.", 500) from error
