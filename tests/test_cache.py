"""Whatever happens to the cache's folder is at worst a miss, and never an error."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import ENVIRON, ROOT
from tempo import limit

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.shelf import Shelf

LARGE = bytes(range(256)) * 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> Iterator[Cache]:
    opened = Cache(folder, 2**24)
    yield opened
    opened.close()


def works(cache: Cache) -> bool:
    """Whether a fresh value of either size comes back."""
    cache.put("fresh", b"value")
    cache.put("large", LARGE)
    return cache.get("fresh") == b"value" and cache.get("large") == LARGE


def subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_values_outlive_the_process(cache: Cache, folder: Path) -> None:
    assert cache.get("key") is None
    cache.put("key", b"value")
    cache.put("large", LARGE)
    cache.put("key", b"newer")
    assert cache.size_bytes() > len(LARGE)
    cache.close()
    again = Cache(folder, 2**24)
    assert (again.get("key"), again.get("large")) == (b"newer", LARGE)
    again.clear()
    assert again.get("key") is None
    again.close()


def test_the_folder_is_ours_alone(cache: Cache, folder: Path) -> None:
    cache.put("large", LARGE)
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "values-1").stat().st_mode & 0o077 == 0


def test_closing_leaves_no_thread_and_no_open_file(folder: Path) -> None:
    def held() -> list[str]:
        descriptors = Path("/proc/self/fd")
        links = [os.readlink(path) for path in descriptors.glob("*") if path.is_symlink()]
        return [link for link in links if str(folder) in link]

    for _ in range(10):
        cache = Cache(folder, 2**24)
        threads = [threading.Thread(target=works, args=(cache,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cache.close()
        cache.close()
        assert cache.get("fresh") is None
        cache.put("fresh", b"x")
        cache.clear()
        assert cache.size_bytes() == 0
    assert not held()
    assert not [thread for thread in threading.enumerate() if thread.name == "hookscope-cache"]


def _overwrite(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def _cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "overwritten": lambda sub: _overwrite(sub / "cache.db"),
    "cut": lambda sub: _cut(sub / "cache.db"),
    "emptied": lambda sub: (sub / "cache.db").write_bytes(b""),
    "foreign": lambda sub: (sub / "cache.db").write_bytes(b"this was never a database " * 400),
    "database deleted": lambda sub: (sub / "cache.db").unlink(),
    "folder deleted": shutil.rmtree,
    "everything deleted": lambda sub: shutil.rmtree(sub.parent),
    "a file in the folder's place": lambda sub: (shutil.rmtree(sub), sub.write_bytes(b"x")),
    "a folder in the database's place": lambda sub: ((sub / "cache.db").unlink(), (sub / "cache.db").mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("while_open", [True, False], ids=["while open", "while closed"])
def test_damage_is_a_miss_and_the_cache_goes_on(cache: Cache, folder: Path, damage: Callable, while_open: bool) -> None:
    for number in range(200):
        cache.put(f"small {number}", os.urandom(2000))
    cache.put("key", LARGE)
    if not while_open:
        cache.close()
    damage(folder / "values-1")
    if not while_open:
        cache = Cache(folder, 2**24)
    for number in range(200):
        value = cache.get(f"small {number}")
        assert value is None or len(value) == 2000
    assert cache.get("key") in (None, LARGE)
    assert works(cache) or works(cache)
    cache.close()
    again = Cache(folder, 2**24)  # not only in memory
    assert again.get("fresh") == b"value"
    again.close()


def test_what_was_left_as_damaged_is_removed(cache: Cache, folder: Path) -> None:
    cache.put("key", LARGE)
    _overwrite(folder / "values-1" / "cache.db")
    assert cache.get("key") is None
    assert works(cache)
    deadline = time.monotonic() + 5
    while subfolders(folder) != ["values-2"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert subfolders(folder) == ["values-2"]


def test_a_folder_that_others_could_have_written_is_left(cache: Cache, folder: Path) -> None:
    cache.put("key", b"value")
    cache.close()
    (folder / "values-1").chmod(0o777)
    again = Cache(folder, 2**24)
    assert again.get("key") is None
    assert works(again)
    again.close()


def test_foreign_tables_are_no_cache(folder: Path) -> None:
    (folder / "values-1").mkdir(mode=0o700, parents=True)
    with sqlite3.connect(folder / "values-1" / "cache.db") as database:
        database.execute("CREATE TABLE Settings (key TEXT, value)")
        database.execute("CREATE VIEW Cache AS SELECT 1 AS key")
    database.close()
    cache = Cache(folder, 2**24)
    assert works(cache) or works(cache)
    cache.close()


@pytest.mark.parametrize("place", ["a file", "below a file", "/proc/hookscope", "a\0b"])
def test_a_path_that_cannot_be_a_folder_keeps_values_in_memory(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_bytes(b"x")
    cache = Cache({"below a file": tmp_path / "a file" / "below"}.get(place, tmp_path / place), 2**20)
    assert works(cache)
    for number in range(100):
        cache.put(str(number), LARGE)
    assert cache.size_bytes() <= 2**20
    cache.close()


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root writes where it likes, so a test of what may not be written runs as somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that its reader may not write to, below folders that anybody may enter."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o555)
    yield place
    place.chmod(0o755)
    shutil.rmtree(place)


def test_a_read_only_folder_keeps_values_in_memory(read_only: Path, nobody: None) -> None:
    cache = Cache(read_only / "cache", 2**20)
    assert works(cache)
    cache.close()
    assert not list(read_only.iterdir())


def test_a_full_disk_keeps_values_in_memory_and_the_old_ones_readable(folder: Path) -> None:
    # A process of its own with a real limit on the size of files: SQLite and we get the errors of a full disk.
    script = f"""
import resource, signal
from pathlib import Path
from hookscope.dashboard.answers.cache import Cache
cache = Cache(Path({str(folder)!r}), 2**24)
cache.put("old", b"value")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
for number in range(50):
    cache.put(f"large {{number}}", bytes(100_000))
    cache.put(f"small {{number}}", bytes(10_000))
    assert cache.get(f"large {{number}}") == bytes(100_000)
    assert cache.get(f"small {{number}}") == bytes(10_000)
cache.close()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, env=ENVIRON, timeout=60)
    cache = Cache(folder, 2**24)
    assert cache.get("old") == b"value"
    assert works(cache)
    cache.close()


@pytest.mark.slow  # needs root, for a disk of its own
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_is_really_full_or_read_only(tmp_path: Path, how: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        if how == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        cache = Cache(disk / "cache", 2**24)
        for number in range(40):
            value = os.urandom(100_000)
            cache.put(str(number), value)
            assert cache.get(str(number)) == value
        cache.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_value_over_half_the_limit_is_not_written(cache: Cache, folder: Path) -> None:
    cache.put("key", b"value")
    cache.put("huge", bytes(9 * 2**20))
    assert cache.get("huge") == bytes(9 * 2**20)  # in memory, for as long as the server runs
    assert cache.get("key") == b"value"
    assert not list(folder.glob("*/*/*/*.val"))


def test_the_limit_is_respected(folder: Path) -> None:
    cache = Cache(folder, 2**21)
    for number in range(60):
        cache.put(str(number), os.urandom(150_000))
        on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert on_disk <= 2**21
    assert cache.get("59") is not None
    cache.close()


def test_two_servers_share_a_folder(folder: Path) -> None:
    first, second = Cache(folder, 2**24), Cache(folder, 2**24)
    first.put("key", LARGE)
    assert second.get("key") == LARGE
    errors: list[str] = []

    def hammer(cache: Cache, name: str) -> None:
        for number in range(60):
            cache.put(f"{name} {number}", f"{name} {number}".encode() * 5000)
            value = cache.get(f"{name} {number}")
            if value not in (None, f"{name} {number}".encode() * 5000):
                errors.append(name)

    threads = [threading.Thread(target=hammer, args=(cache, str(n))) for n, cache in enumerate((first, second) * 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert second.get("0 59") == b"0 59" * 5000
    # One of them finds the folder damaged; the other follows it into the new one.
    _overwrite(folder / "values-1" / "cache.db")
    assert first.get("key") is None
    first.put("later", b"value")
    deadline = time.monotonic() + 5
    while second.get("later") != b"value" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert second.get("later") == b"value"
    first.close()
    second.close()


@pytest.mark.parametrize("times", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_while_writing(folder: Path, times: int) -> None:
    script = f"""
import os
from pathlib import Path
from hookscope.dashboard.answers.cache import Cache
cache = Cache(Path({str(folder)!r}), 2**24)
print("ready", flush=True)
while True:
    for number in range(50):
        cache.put(str(number), (b"%d " % number) * (5000 if number % 2 else 20000))
"""
    for _ in range(times):
        child = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=ENVIRON, stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline()
        time.sleep(0.1)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        cache = Cache(folder, 2**24)
        found = 0
        for number in range(50):
            value = cache.get(str(number))
            assert value in (None, (b"%d " % number) * (5000 if number % 2 else 20000))
            found += value is not None
        assert works(cache)
        cache.close()
    assert found > 0
    assert subfolders(folder) == ["values-1"]  # a killed writer damages nothing


def test_a_disk_that_hangs_costs_the_deadline_and_then_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    real = Shelf.get
    monkeypatch.setattr(Shelf, "get", lambda self, key: (release.wait(), real(self, key))[1])
    cache = Cache(folder, 2**24, deadline_seconds=0.3)
    cache.put("key", b"value")
    started = time.monotonic()
    assert cache.get("key") is None
    assert 0.2 < time.monotonic() - started < limit(2)
    started = time.monotonic()
    assert works(cache)  # in memory
    assert time.monotonic() - started < limit(0.2)
    release.set()
    cache._retry_at = 0.0  # as if the pause were over
    assert cache.get("key") == b"value"
    cache.close()


def test_a_locked_database_is_a_miss_and_not_damage(cache: Cache, folder: Path) -> None:
    cache.put("key", b"value")
    other = sqlite3.connect(folder / "values-1" / "cache.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    assert cache.get("key") is None
    assert time.monotonic() - started < limit(4)
    other.execute("COMMIT")
    other.close()
    assert cache.get("key") == b"value"
    assert subfolders(folder) == ["values-1"]
