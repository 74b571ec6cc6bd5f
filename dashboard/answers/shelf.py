"""One folder of cached bytes: diskcache with everything taken out that could run, follow or remove what it should not.

diskcache unpickles rows that say they are pickles (CVE-2025-69872), opens and removes whatever path a row names, and
maps the database into memory, so that a file cut short under it kills the process (SIGBUS). A `Shelf` keeps str keys
and bytes values only, follows no path that it did not make, and maps nothing. It may raise anything; `cache.Cache`
turns that into a miss. It belongs to one thread.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DBNAME, MODE_BINARY, MODE_RAW, UNKNOWN

_HEADER = b"HSC1"
_HEADER_BYTES = len(_HEADER) + 12
_FILENAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val")
_ORPHAN_SECONDS = 600.0

_SETTINGS: dict[str, Any] = {
    "eviction_policy": "least-recently-used",
    # The default, 10, emptied a cache of a few large values at the first overflow.
    "cull_limit": 2,
    "sqlite_mmap_size": 0,
    # 4 MB. The default, 32 MB, fills over hundreds of clicks, and large values lie beside the database anyway.
    "sqlite_cache_size": 2**10,
    # Not WAL: its index is a memory map too, and a cut of it kills the process like a cut of the database. Without
    # waiting for the disk (synchronous 0) a rollback journal is as fast; what a power cut may damage is a miss.
    "sqlite_journal_mode": "truncate",
    "sqlite_synchronous": 0,
    "statistics": 0,
    "tag_index": 0,
}


class ShelfDamaged(Exception):
    """The folder is not, or is no longer, one that we can use."""


class _BytesDisk(diskcache.Disk):
    """Rows with a str key and a bytes value; a row of any other kind reads as None and nothing in it is interpreted."""

    written: str | None = None

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError(f"a cache key is a str, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> str | None:
        return key if raw and type(key) is str else None

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> tuple[int, int, str | None, Any]:
        if type(value) is not bytes or read:
            raise TypeError(f"a cache value is bytes, not {type(value).__name__}")
        header = seal(key, value)
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, sqlite3.Binary(header + value)
        self.written, full_path = self.filename()
        self._write(full_path, iter((header, value)), "xb")
        return len(header) + len(value), MODE_BINARY, self.written, None

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes | Path | None:
        """The value, or the path that holds it, so that the file is read after the database lock is given back."""
        if mode == MODE_RAW and type(value) is bytes:
            return value
        if mode == MODE_BINARY and type(filename) is str and _FILENAME.fullmatch(filename):
            return Path(self._directory, filename)
        return None

    def remove(self, file_path: Any) -> None:
        if type(file_path) is str and _FILENAME.fullmatch(file_path):
            super().remove(file_path)


class Shelf:
    """An open folder of cached values.

    Arguments:
        folder: made with mode 0700 if it is not there; refused if it belongs to, or is open to, someone else.
        limit_bytes: what the folder may hold; least recently used values go first.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_ours(folder):
            raise ShelfDamaged(f"{folder} belongs to, or is open to, someone else")
        self._cache = diskcache.Cache(str(folder), timeout=2, disk=_BytesDisk, size_limit=limit_bytes, **_SETTINGS)
        if not isinstance(self._cache.disk, _BytesDisk):
            raise ShelfDamaged(f"{folder} replaced its own reader")
        self._identity = self._database_identity()

    def get(self, key: str) -> bytes | None:
        """The value under `key`, or None if it is not there, is damaged, or was never ours."""
        self._check()
        found = self._cache.get(key)
        if isinstance(found, Path):
            found = _read(found, self.limit_bytes)
        return unseal(key, found) if type(found) is bytes else None

    def put(self, key: str, value: bytes) -> bool:
        """Keep `value`, and let the least recently used values go until the folder is within its limit; always True."""
        self._check()
        disk = self._cache.disk
        disk.written = None
        try:
            self._cache.set(key, value)
        except BaseException:
            # A full disk leaves half a file, and a row that could not be written leaves a whole one.
            disk.remove(disk.written)
            raise
        # `set` removes at most two values, which a large one may outweigh; the public `cull` removes ten at a time,
        # which empties a cache of large values. So one by one.
        while self._cache.volume() > self.limit_bytes and len(self._cache) > 0:
            with self._cache._transact() as (sql, cleanup):
                self._cache._cull(time.time(), sql, cleanup, limit=1)
        return True

    def clear(self) -> None:
        """Remove every value."""
        self._check()
        self._cache.clear()

    def size_bytes(self) -> int:
        """What the folder holds, the database itself included."""
        self._check()
        return int(self._cache.volume())

    def sweep(self) -> None:
        """Remove value files that no row names: a process that is killed while writing leaves one."""
        self._check()
        known = {name for (name,) in self._cache._sql("SELECT filename FROM Cache WHERE filename IS NOT NULL")}
        for path in _value_files(self.folder):
            name = path.relative_to(self.folder).as_posix()
            # Another server on this folder may have written its file and not yet its row: leave the young ones.
            if name not in known and time.time() - path.lstat().st_mtime > _ORPHAN_SECONDS:
                self._cache.disk.remove(name)

    def close(self) -> None:
        self._cache.close()

    def _check(self) -> None:
        # A deleted database stays readable through the open file, and what is written to it is lost.
        if self._database_identity() != self._identity:
            raise ShelfDamaged(f"{self.folder} was deleted or replaced")

    def _database_identity(self) -> tuple[int, int]:
        found = (self.folder / DBNAME).lstat()
        return found.st_dev, found.st_ino


def is_ours(folder: Path) -> bool:
    """Whether this is a real folder that only the user we run as can open."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o077 == 0


def seal(key: str, value: bytes) -> bytes:
    """What stands before a value: a mark, its length, and a checksum over key and value."""
    return _HEADER + len(value).to_bytes(8, "little") + _checksum(key, value)


def unseal(key: str, sealed: bytes) -> bytes | None:
    """The value behind its seal, or None if a byte of it, its length or its key is not what was sealed."""
    value = sealed[_HEADER_BYTES:]
    return value if sealed[:_HEADER_BYTES] == seal(key, value) else None


def _checksum(key: str, value: bytes) -> bytes:
    # crc32, 2 GB/s: it is there to find damage. Who can write into the folder could forge any checksum, and gains
    # nothing by it, because values are read by `results.codec` and never run.
    return zlib.crc32(value, zlib.crc32(key.encode())).to_bytes(4, "little")


def _read(path: Path, limit_bytes: int) -> bytes | None:
    """The file's bytes; None if it is gone, is no plain file (a pipe would block for ever) or is over the limit."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > limit_bytes:
            return None
        return file.read()


def _value_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*.val"))
