"""Visitors' sets on their way in: files come one by one, a zip in pieces, and then all of it is a set, or nothing is.

    begin -> key;  add, for each file;  piece and then unpack, for each zip;  finish, or cancel

What nobody goes on with is removed after a while, and what a server that died had begun, at the next start. All of it
counts to the room for sets from the first byte on, and a set in the making is never seen.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from hookscope.dashboard.inputs.decoder import Decoder, InputRefused
from hookscope.dashboard.inputs.incoming import Incoming, Readable, larger_than, receive
from hookscope.dashboard.inputs.labels import file_label, path_label
from hookscope.dashboard.inputs.unpacking import unpack
from hookscope.dashboard.sets.members import (
    BESIDE,
    LABELS,
    LABELS_BYTES,
    MOST,
    below,
    group_of,
    in_any_order,
    is_beside,
    read_labels,
    too_many,
)
from hookscope.dashboard.sets.room import Room
from hookscope.dashboard.sets.visitors import (
    GONE,
    LONGEST_NAME,
    MOST_REFUSED,
    Entry,
    Record,
    VisitorSets,
    keeping,
    new_key,
)

PIECE_BYTES = 8_000_000
IDLE_SECONDS = 600.0  # after which nobody goes on with it
LOOK_SECONDS = 15.0
MOST_AT_ONCE = 16
LONGEST_WITHIN = 400
UNREAD = "The browser could not read this file."
NOT_UNPACKED = "The server could not unpack this zip; tell whoever runs the server."
_STOPPED = 400  # of `receive`: the browser is gone, or sends it again

Phase = Literal["open", "unpacking", "failed"]
_log = logging.getLogger(__name__)


@dataclass
class _Making:
    """A set in the making.

    Attributes:
        files: the path and the size of each, by number. groups: what those of zips are said to show.
        below: the paths of those of zips, without a folder that is the zip's own.
        refused: why others are not used, by what tells them apart. labels: what a table says of files.
        size: of the files, in bytes. packed: of the zip that is coming. heard: when something came of it.
    """

    key: str
    name: str
    folder: Path
    files: dict[int, tuple[PurePosixPath, int]] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    below: dict[int, PurePosixPath] = field(default_factory=dict)
    refused: dict[object, tuple[str, str]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    size: int = 0
    packed: int = 0
    phase: Phase = "open"
    sentence: str = ""
    stopped: bool = False
    heard: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, number: int, within: PurePosixPath, size: int) -> None:
        """Have a file, in the place of what had its number."""
        self.size += size - self.files.get(number, (within, 0))[1]
        self.files[number] = within, size
        self.refused.pop(number, None)


@dataclass(frozen=True)
class Made:
    """How far a set in the making is."""

    phase: Phase
    sentence: str
    pictures: int
    refused: int


class Arriving:
    """Sets in the making, by key.

    Arguments:
        folder: where they are until they are whole, on the disk of `kept`. kept: gets them then.
        decoder: takes zips apart. file_bytes: the largest picture.
    """

    def __init__(self, folder: Path, kept: VisitorSets, room: Room, decoder: Decoder, file_bytes: int) -> None:
        self.file_bytes = file_bytes
        self._incoming = Incoming(folder)
        self._kept, self._room, self._decoder = kept, room, decoder
        self._lock = threading.Lock()
        self._making: dict[str, _Making] = {}
        self._unpacks = threading.Semaphore(1)
        self._closed = threading.Event()
        self._watch: threading.Thread | None = None

    def begin(self, name: str, size: int = 0) -> str:
        """Begin a set, and return its key.

        Arguments:
            name: "" to call it by how many pictures it has. size: what the browser says of it, in bytes.

        Raises:
            InputRefused: too many are in the making, or it is larger than sets may be.
        """
        with self._lock:
            if len(self._making) >= MOST_AT_ONCE:
                raise InputRefused("Too many sets are being made at the moment; try again in a minute.", 503)
        key = new_key()
        with keeping():
            folder = self._incoming.folder() / key
            folder.mkdir(mode=0o700)
        making = _Making(key, file_label(name)[:LONGEST_NAME] if name else "", folder, heard=time.monotonic())
        try:
            self._room.check(size)
        except InputRefused:
            self._remove(making)
            raise
        with self._lock:
            self._making[key] = making
            if self._watch is None:
                self._watch = threading.Thread(target=self._leave_idle, name="sets in the making", daemon=True)
                self._watch.start()
        return key

    def add(self, key: str, number: int, name: str, stream: Readable, length: int | None) -> str:
        """Take in a file; the same number once more takes its place.

        Arguments:
            name: as the browser has it, with the folders that it lies in.

        Returns:
            Why it is not used; "" if it is, or if it lies beside pictures.

        Raises:
            InputRefused: nothing can be added to the set (now); or the body ended early.
        """
        making = self._of(key)
        within = path_of(name)
        if making.phase == "unpacking":
            raise InputRefused("A zip of this set is being unpacked; wait until that is done.", 409)
        is_table = within == PurePosixPath(LABELS)
        if is_beside(within.name) and not is_table:
            return ""
        if not length:
            return self._refuse(making, number, within, "The file is empty.")
        if not 0 <= number < MOST:
            return self._refuse(making, MOST, within, too_many())
        self._room.promise(key, max(making.size + length, making.packed))
        draft = making.folder / f".{new_key()}"
        try:
            with keeping():
                receive(stream, length, draft, LABELS_BYTES if is_table else self.file_bytes)
                with making.lock:
                    if making.stopped:
                        raise InputRefused(GONE, 404)
                    if is_table:
                        making.labels |= read_labels(draft)
                    else:
                        draft.replace(making.folder / str(number))
                        making.take(number, within, length)
        except InputRefused as refused:
            if refused.status != 413:
                raise
            return self._refuse(making, number, within, str(refused))
        finally:
            draft.unlink(missing_ok=True)
        return ""

    def piece(self, key: str, at: int, stream: Readable, length: int | None) -> int:
        """Take in a piece of a zip; gives how much of it is there, which is where the next one begins.

        Arguments:
            at: where in the zip it begins; 0 begins another zip. One that begins elsewhere than it should is left.

        Raises:
            InputRefused: the zip is larger than there is room for; or the body ended early.
        """
        making = self._of(key)
        if making.phase == "unpacking":
            raise InputRefused("A zip of this set is being unpacked; wait until that is done.", 409)
        if at not in (0, making.packed):
            return making.packed
        self._room.promise(key, max(making.size, at + (length or 0)))
        draft = making.folder / f".{new_key()}"
        try:
            with keeping():
                receive(stream, length, draft, PIECE_BYTES)
                with making.lock, draft.open("rb") as source, (making.folder / "zip").open("ab") as pack:
                    pack.truncate(at)
                    shutil.copyfileobj(source, pack)
                    making.packed = at + (length or 0)
        finally:
            draft.unlink(missing_ok=True)
        return making.packed

    def unpack(self, key: str, name: str) -> None:
        """Begin to take the zip apart that has come; `state` tells how far that is.

        Raises:
            InputRefused: it is being done, or none has come.
        """
        making = self._of(key)
        with making.lock:
            if making.phase == "unpacking" or not making.packed:
                raise InputRefused("No zip of this set waits to be unpacked; send one first.", 409)
            making.phase = "unpacking"
        label = file_label(name)
        threading.Thread(target=self._unpack, args=(making, label), name=f"unpacking {label}", daemon=True).start()

    def state(self, key: str) -> Made:
        """How far it is.

        Raises:
            InputRefused: it is no longer in the making.
        """
        making = self._of(key)
        return Made(making.phase, making.sentence, len(making.files), len(making.refused))

    def finish(self, key: str, too_large: Sequence[str] = (), unread: Sequence[str] = ()) -> str:
        """Have a set of what has come; gives its name.

        Arguments:
            too_large, unread: names of files that the browser did not send, for their size, or because it could not.

        Raises:
            InputRefused: there is no picture in it, or it is not whole yet.
        """
        making = self._of(key)
        with making.lock:
            if making.phase == "unpacking":
                raise InputRefused("A zip of this set is being unpacked; wait until that is done.", 409)
            for name in too_large[:MOST_REFUSED]:
                making.refused[f"large {name}"] = path_label(path_of(name)), str(larger_than(self.file_bytes))
            for name in unread[:MOST_REFUSED]:
                making.refused[f"unread {name}"] = path_label(path_of(name)), UNREAD
            refused = tuple(making.refused.values())
            count = len(making.files)
            if not count:
                reasons = " ".join(f"{label}: {why}" for label, why in refused[:2])
                self.cancel(key)
                raise InputRefused(f"There is no picture in this that can be used. {reasons}".strip())
            order = sorted(making.files, key=lambda number: in_any_order(f"{making.files[number][0]} {number}"))
            entries = tuple(self._entry(making, number) for number in order)
            name = making.name or ("1 picture" if count == 1 else f"{count:,} pictures")
            with keeping():
                for beside in ("zip", "labels"):
                    (making.folder / beside).unlink(missing_ok=True)
                Record(name, entries, refused[:MOST_REFUSED]).write(making.folder)
                self._kept.keep(key, making.folder)
        self._forget(making)
        return name

    def cancel(self, key: str) -> None:
        """Remove a set in the making; nothing if there is none."""
        with self._lock:
            making = self._making.get(key)
        if making is not None:
            making.stopped = True
            self._forget(making)
            self._remove(making)

    def close(self) -> None:
        """Remove all of them."""
        self._closed.set()
        for key in list(self._making):
            self.cancel(key)
        self._incoming.close()

    # --- inside

    def _of(self, key: str) -> _Making:
        with self._lock:
            making = self._making.get(key)
        if making is None:
            raise InputRefused(GONE, 404)
        making.heard = time.monotonic()
        return making

    def _refuse(self, making: _Making, about: object, within: PurePosixPath, why: str) -> str:
        with making.lock:
            if len(making.refused) < MOST:
                making.refused[within if about == MOST else about] = path_label(within), why
        return why

    def _entry(self, making: _Making, number: int) -> Entry:
        within, size = making.files[number]
        group = making.groups[number] if number in making.groups else group_of(within, making.labels)
        return Entry(file_label(within.name), group, number, size, within=below(making.below.get(number, within)))

    def _unpack(self, making: _Making, label: str) -> None:
        """The thread in which a zip is taken apart."""
        phase: Phase = "open"
        try:
            with self._unpacks:
                self._take_apart(making, PurePosixPath(label).stem)
        except InputRefused as refused:
            if refused.status in (503, 507):
                phase, making.sentence = "failed", str(refused)
            with making.lock:
                making.refused[f"zip {label}"] = label, str(refused)
        except Exception:  # a fault of ours must not leave a page waiting for ever
            _log.exception("a zip could not be unpacked")
            phase, making.sentence = "failed", NOT_UNPACKED
        finally:
            making.heard = time.monotonic()
            making.packed = 0
            (making.folder / "zip").unlink(missing_ok=True)
            making.phase = phase
            if making.stopped:
                self._remove(making)

    def _take_apart(self, making: _Making, stem: str) -> None:
        first = 1 + max((each for each in (*making.files, *making.refused) if isinstance(each, int)), default=-1)
        found: dict[int, PurePosixPath] = {}
        refused: dict[str, PurePosixPath] = {}
        files = unpack(
            self._decoder,
            making.folder / "zip",
            making.folder,
            first=first,
            most=MOST - first,
            file_bytes=self.file_bytes,
            all_bytes=max(self._room.limit_bytes - making.size, 0),
            left_out=BESIDE,
        )
        with contextlib.closing(files):
            for each in files:
                if making.stopped or self._closed.is_set():
                    return
                making.heard = time.monotonic()
                within = path_of(each.within)
                if each.refused:
                    about = f"{stem} {each.within} {len(making.refused)}"
                    refused[about] = within
                    self._refuse(making, about, within, each.refused)
                    continue
                self._room.promise(making.key, max(making.size + each.size, making.packed))
                found[each.file] = within
                with making.lock:
                    making.take(each.file, within, each.size)
        labels = read_labels(making.folder / "labels")
        (making.folder / "labels").unlink(missing_ok=True)
        top = common_top(list(found.values()), stem)
        with making.lock:
            for key, within in refused.items():
                if key in making.refused and within.is_relative_to(top):
                    making.refused[key] = path_label(within.relative_to(top)), making.refused[key][1]
        for number, within in found.items():
            making.below[number] = within.relative_to(top)
            making.groups[number] = group_of(making.below[number], labels)

    def _forget(self, making: _Making) -> None:
        with self._lock:
            self._making.pop(making.key, None)
        self._room.take_back(making.key)

    def _remove(self, making: _Making) -> None:
        shutil.rmtree(making.folder, ignore_errors=True)

    def _leave_idle(self) -> None:
        """The thread that removes what nobody goes on with; it ends when nothing is in the making."""
        while not self._closed.wait(LOOK_SECONDS):
            with self._lock:
                if not self._making:
                    self._watch = None
                    return
                now = time.monotonic()
                idle = [key for key, each in self._making.items() if now - each.heard > IDLE_SECONDS]
            for key in idle:
                self.cancel(key)


def path_of(name: str) -> PurePosixPath:
    """Where a file lies by its own account: text, by which labels are found, and never a path of ours."""
    parts = [part for part in name[-LONGEST_WITHIN:].replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return PurePosixPath(*parts) if parts else PurePosixPath("picture")


def common_top(paths: Sequence[PurePosixPath], stem: str) -> PurePosixPath:
    """The one folder in which everything lies, if it is the pack's own and says nothing of what pictures show.

    That is so where it is called like the zip, or has folders in it.
    """
    tops = {path.parts[0] for path in paths}
    if len(tops) != 1 or any(len(path.parts) == 1 for path in paths):
        return PurePosixPath()
    (top,) = tops
    own = top.casefold() == stem.casefold() or any(len(path.parts) > 2 for path in paths)
    return PurePosixPath(top) if own else PurePosixPath()
