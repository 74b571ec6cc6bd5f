"""Uploads on their way in: a body is streamed to a file of its own, within a limit, and the file is gone afterwards."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from hookscope.dashboard.inputs.decoder import InputRefused
from hookscope.dashboard.inputs.rows import SUFFIX

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 2**16
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Readable(Protocol):
    """A request's body."""

    def read(self, size: int, /) -> bytes: ...


class Incoming:
    """A folder for uploads in progress, one subfolder per running server.

    A server holds a lock on its subfolder for as long as it lives, however it dies; what has no lock is left over and
    is removed at the next start.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _is_left_over(path):
                shutil.rmtree(path, ignore_errors=True)
        self._folder = folder / secrets.token_hex(8)
        self._holding = threading.Lock()
        self._lock = _locked(self._folder)

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """A path to write to; it, and what has its name and a suffix, is removed at the end.

        Raises:
            InputRefused: the disk has no room or does not work, or the server is stopping.
        """
        if self._lock < 0:
            raise InputRefused("The server is stopping; upload the picture again when it is back.", 503)
        path = self._folder / secrets.token_hex(8)
        try:
            self._hold()
            yield path
        except OSError as error:
            _log.error("A picture could not be kept: %s", error)
            if error.errno in _NO_ROOM:
                raise InputRefused(
                    "The server's disk has no room for this picture; tell whoever runs the server.", 507
                ) from error
            raise InputRefused("The server could not keep this picture; tell whoever runs the server.", 500) from error
        finally:
            for suffix in ("", SUFFIX, ".jpg", ".json"):
                path.with_suffix(suffix).unlink(missing_ok=True)

    def folder(self) -> Path:
        """The subfolder, for what is there for longer than a request.

        Raises:
            OSError: the disk has no room or does not work. InputRefused: the server is stopping.
        """
        if self._lock < 0:
            raise InputRefused("The server is stopping; upload the picture again when it is back.", 503)
        self._hold()
        return self._folder

    def _hold(self) -> None:
        """Make and lock the subfolder again if it is gone: whoever tidies /tmp may have been here."""
        with self._holding:
            if self._lock < 0:  # it was closed meanwhile
                return
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat((self._folder / "lock").lstat(), os.fstat(self._lock)):
                    return
            lock = _locked(self._folder)
            os.close(self._lock)
            self._lock = lock

    def close(self) -> None:
        """Remove the subfolder."""
        with self._holding:
            if self._lock >= 0:
                shutil.rmtree(self._folder, ignore_errors=True)
                os.close(self._lock)
                self._lock = -1


def receive(stream: Readable, length: int | None, path: Path, limit_bytes: int) -> None:
    """Write a request's body to a new file.

    Arguments:
        stream: the body. length: how many bytes it announces, None if it does not say; no more than those are read.

    Raises:
        InputRefused: it is empty, too large, or ended early.
    """
    if length is not None and length > limit_bytes:
        raise larger_than(limit_bytes)
    received = 0
    with path.open("xb") as file:
        while length is None or received < length:
            wanted = _CHUNK_BYTES if length is None else min(_CHUNK_BYTES, length - received)
            try:
                chunk = stream.read(wanted)
            except OSError:
                chunk = b""
            if not chunk:
                break
            received += len(chunk)
            if received > limit_bytes:
                raise larger_than(limit_bytes)
            file.write(chunk)
    if length is not None and received < length:
        raise InputRefused(f"The upload stopped after {received:,} of {length:,} bytes; send it again.", 400)
    if received == 0:
        raise InputRefused("The file is empty; choose a picture.", 400)


def larger_than(limit_bytes: int) -> InputRefused:
    """What is said of a file that is too large."""
    return InputRefused(
        f"This file is larger than {limit_bytes / 1e6:g} MB; make the picture smaller or save it as JPEG.", 413
    )


def _locked(folder: Path) -> int:
    """Make a subfolder, if it is not there, and hold its lock; the open file that does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def _is_left_over(path: Path) -> bool:
    """Whether no running server holds this subfolder."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
