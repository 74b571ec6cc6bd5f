"""What sets take on the disk, and what goes when that is more than they may.

    folder/used/MARK               the version that a set had when it was last used, and, as the file's time, when
    folder/visitors/KEY/           a visitor's set, see `sets.visitors`; its MARK is KEY
    folder/previews/VERSION/       small copies of a set's pictures
    folder/found/VERSION-*.sweep   what models found in it; VERSION is cut to `SHORT` characters

What belongs to a version that no set has any more goes first. Then the set that was used longest ago goes: a visitor's
with all that is of it; of an operator's, whose pictures are never touched, what can be made again. What is being swept
stays, and so does the set that was used last. Everything is measured anew each time, so that several servers, deleted
files and a crash leave nothing uncounted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hookscope.dashboard.inputs.decoder import InputRefused

SHORT = 32  # characters of a version, in the name of a file of what was found
TOUCHED_SECONDS = 60.0  # after which a use is written down again
TIDIED_SECONDS = 30.0  # between two looks at whether it is too much
YOUNG_SECONDS = 3600.0  # what is being written is no older
_FILE_BYTES = 4096  # what a file takes at least
_AHEAD_BYTES = 32_000_000  # for what comes next of a set in the making; of a small limit a part
_AHEAD_PART = 50
_MOST_SETS = 2000


@dataclass
class _Held:
    """What goes together.

    Attributes:
        mark: of the set; "" of what belongs to no set any more. used: when it was last used, in seconds since 1970.
    """

    mark: str
    version: str
    used: float
    paths: list[Path] = field(default_factory=list)

    @property
    def about(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.mark, self.version


class Room:
    """How much room sets take.

    Arguments:
        folder: as above. limit_bytes: what they may take.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.found = folder / "found"
        self._used, self._visitors, self._previews = (folder / name for name in ("used", "visitors", "previews"))
        self._lock = threading.RLock()
        self._holds: Counter[str] = Counter()
        self._promised: dict[str, int] = {}
        self._touched: dict[str, tuple[float, str]] = {}
        self._tidied = 0.0

    # --- what is used

    def use(self, mark: str, version: str) -> bool:
        """Note that a set is being used, and which version it has; whether it had another one before."""
        now = time.monotonic()
        with self._lock:
            at, known = self._touched.get(mark, (0.0, ""))
            if known == version and now - at < TOUCHED_SECONDS:
                return False
            self._touched[mark] = now, version
        path, before = self._used / mark, ""
        with contextlib.suppress(OSError, ValueError):
            before = path.read_text()
        with contextlib.suppress(OSError):
            if before == version:
                os.utime(path)
            else:
                self._used.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.write_text(version)
        return (before or known) not in ("", version)

    def hold(self, version: str) -> bool:
        """It is being swept: nothing of it goes. Gives whether nobody swept it until now."""
        with self._lock:
            self._holds[version[:SHORT]] += 1
            return self._holds[version[:SHORT]] == 1

    def let_go(self, version: str) -> bool:
        """One sweep less; whether nobody sweeps it any more."""
        with self._lock:
            self._holds[version[:SHORT]] -= 1
            if self._holds[version[:SHORT]] > 0:
                return False
            del self._holds[version[:SHORT]]
            return True

    # --- what there is room for

    def check(self, size: int) -> None:
        """Refuse a set of so many bytes, if there can be no room for it.

        Raises:
            InputRefused: it is larger than all sets may be.
        """
        if size > self.limit_bytes:
            raise InputRefused(
                f"This set is larger than {self.limit_bytes / 1e6:g} MB, which all sets together may take here; "
                "make the pictures smaller, or bring fewer.",
                413,
            )

    def promise(self, key: str, size: int) -> None:
        """Have room for a set in the making, as large as it is by now; older ones go for it.

        Raises:
            InputRefused: it is larger than all sets may be, or what is there cannot go.
        """
        self.check(size)
        with self._lock:
            if size <= self._promised.get(key, 0):
                return
            others = sum(self._promised.values()) - self._promised.get(key, 0)
            ahead = min(_AHEAD_BYTES, self.limit_bytes // _AHEAD_PART)
            for granted in (min(size + ahead, self.limit_bytes), size):
                if self._clear(granted + others):
                    self._promised[key] = granted
                    return
        raise InputRefused(
            "There is no room for this set now: other sets are being swept or made. Try again in a while.", 503
        )

    def take_back(self, key: str) -> None:
        """A set is no longer in the making."""
        with self._lock:
            self._promised.pop(key, None)

    def tidy(self, soon: bool = False) -> None:
        """Let go what is too much, or belongs to no set any more.

        Arguments:
            soon: not if that was done a moment ago.
        """
        with self._lock:
            if soon and time.monotonic() - self._tidied < TIDIED_SECONDS:
                return
            self._tidied = time.monotonic()
            self._remove_drafts()
            held, _ = self._measure()
            newest = max((each for each in held if each.paths), key=lambda each: each.used, default=None)
            self._clear(sum(self._promised.values()), spare=newest.mark if newest else "", gone=True)

    def forget(self, mark: str, version: str) -> None:
        """Remove what is kept of a set beside its pictures: it is deleted."""
        with self._lock:
            self._touched.pop(mark, None)
            paths = [self._used / mark, self._previews / version, *self.found.glob(f"{version[:SHORT]}-*")]
            _remove(paths)

    def size_bytes(self) -> int:
        """What all sets take."""
        return self._measure()[1]

    def _clear(self, wanted: int, *, spare: str = "", gone: bool = False) -> bool:
        """Remove the least recently used until so many bytes are free; whether they are.

        Arguments:
            spare: a set that stays. gone: remove what belongs to no set in any case.
        """
        tried: set[tuple[str, str]] = set()
        while True:
            held, total = self._measure()
            fits = total + wanted <= self.limit_bytes and len(held) <= _MOST_SETS
            may = [each for each in held if each.about not in tried and each.version[:SHORT] not in self._holds]
            leaving = [each for each in may if not each.mark and (gone or not fits)]
            if not leaving and not fits:
                leaving = sorted((each for each in may if each.mark != spare), key=lambda each: each.used)[:1]
            if not leaving:
                return fits
            for each in leaving:
                tried.add(each.about)
                self._touched.pop(each.mark, None)
                _remove(each.paths)

    def _measure(self) -> tuple[list[_Held], int]:
        """What belongs together, and how many bytes all of it takes, each file once however many names it has."""
        marks = {each.mark: each for path in _entries(self._used) if (each := _marked(path))}
        versions: dict[str, _Held] = {}
        for each in sorted(marks.values(), key=lambda each: each.used):
            versions[each.version[:SHORT]] = each
        for path in _entries(self._visitors):
            marks.setdefault(path.name, _Held(path.name, "", _time_of(path))).paths.append(path)
        for path in (*_entries(self._previews), *self.found.glob("*.sweep")):
            version = path.name.partition("-")[0].removesuffix(".sweep")[:SHORT]
            versions.setdefault(version, _Held("", version, _time_of(path))).paths.append(path)
        everything = {id(each): each for each in (*marks.values(), *versions.values())}
        held = [each for each in everything.values() if each.paths]
        for each in held:
            if each.mark:
                each.paths.append(self._used / each.mark)
        seen: set[tuple[int, int]] = set()
        return held, sum(_size(path, seen) for each in held for path in each.paths)

    def _remove_drafts(self) -> None:
        """Remove what a server that was killed was writing."""
        for folder in (self._visitors, self.found):
            for path in folder.glob(".*"):
                if time.time() - _time_of(path) > YOUNG_SECONDS:
                    _remove([path])


def _marked(path: Path) -> _Held | None:
    """The set that a note of its use is about; None if the note is gone."""
    try:
        return _Held(path.name, path.read_text(), path.stat().st_mtime)
    except (OSError, ValueError):
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _size(path: Path, seen: set[tuple[int, int]]) -> int:
    total = 0
    for status in _statuses(str(path)):
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += max(status.st_size, _FILE_BYTES)
    return total


def _statuses(path: str) -> Iterator[os.stat_result]:
    """Of a file, or of the files in a folder."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    yield entry.stat(follow_symlinks=False)
    except NotADirectoryError:
        with contextlib.suppress(OSError):
            yield os.lstat(path)
    except OSError:
        return


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            aside = path.with_name(f".{path.name}")  # at once, however many files it holds
            with contextlib.suppress(OSError):
                path.replace(aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
