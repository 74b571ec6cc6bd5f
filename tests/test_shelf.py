"""A folder of cached bytes runs, follows and removes nothing that it did not make."""

from __future__ import annotations

import os
import pickle
import sqlite3
import time
from pathlib import Path

import pytest

from hookscope.dashboard.answers.shelf import Shelf, ShelfDamaged, seal, unseal

LARGE = bytes(range(256)) * 400  # over diskcache's 32 KB, so in a file of its own


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "values-1", 2**24)


class Planted:
    """Unpickling this makes a file, as a planted pickle would run anything."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def _value_file(folder: Path) -> Path:
    (found,) = folder.glob("*/*/*.val")
    return found


def _plant(shelf: Shelf, **columns: object) -> None:
    shelf.close()
    with sqlite3.connect(shelf.folder / "cache.db") as database:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        database.execute(f"UPDATE Cache SET {assignments}", tuple(columns.values()))
    database.close()


def test_what_is_put_is_got(shelf: Shelf) -> None:
    for value in (b"", b"x", LARGE):
        assert shelf.put("key", value)
        assert shelf.get("key") == value
    assert shelf.get("other") is None
    shelf.close()
    again = Shelf(shelf.folder, shelf.limit_bytes)
    assert again.get("key") == LARGE
    again.clear()
    assert again.get("key") is None
    assert not list(shelf.folder.glob("*/*/*.val"))


def test_only_text_keys_and_bytes_values(shelf: Shelf) -> None:
    with pytest.raises(TypeError):
        shelf.put("key", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        shelf.get(b"key")  # type: ignore[arg-type]


def test_a_planted_pickle_never_runs(shelf: Shelf, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    data = pickle.dumps(Planted(proof))
    shelf.put("key", b"x")
    _plant(shelf, mode=4, value=data)
    assert shelf.get("key") is None
    shelf.put("key", LARGE)
    _value_file(shelf.folder).write_bytes(data)
    _plant(shelf, mode=4, value=None)
    assert shelf.get("key") is None
    # A pickled key, which stock diskcache reads when it lists or evicts.
    _plant(shelf, key=data, raw=0)
    assert list(shelf._cache) == [None]
    assert not proof.exists()
    assert pickle.loads(data) is None and proof.exists()  # the pickle was live


@pytest.mark.parametrize(
    "column", [{"mode": 3}, {"mode": 9}, {"mode": "x"}, {"value": "text"}, {"value": 7}, {"value": None}]
)
def test_a_row_of_any_other_kind_is_a_miss(shelf: Shelf, column: dict[str, object]) -> None:
    shelf.put("key", b"x")
    _plant(shelf, **column)
    assert shelf.get("key") is None
    shelf.put("key", b"y")
    assert shelf.get("key") == b"y"


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "ab/../../../secret", "", "ab/cd/../../../../x.val"])
def test_a_planted_path_is_neither_read_nor_removed(shelf: Shelf, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(seal("key", LARGE) + LARGE)
    shelf.put("key", LARGE)
    _plant(shelf, filename=name)
    assert shelf.get("key") is None
    shelf.put("key", b"x")
    shelf.clear()
    assert secret.exists()


def test_a_link_or_a_pipe_in_a_values_place_is_a_miss(shelf: Shelf, tmp_path: Path) -> None:
    shelf.put("key", LARGE)
    path = _value_file(shelf.folder)
    copy = tmp_path / "copy"
    path.rename(copy)
    path.symlink_to(copy)
    assert shelf.get("key") is None
    path.unlink()
    os.mkfifo(path)
    assert shelf.get("key") is None  # and does not wait for a writer


@pytest.mark.parametrize("value", [b"small", LARGE])
def test_every_flipped_bit_and_every_cut_is_a_miss(value: bytes) -> None:
    whole = seal("key", value) + value
    assert unseal("key", whole) == value
    assert unseal("other", whole) is None
    for position in {*range(20), len(whole) // 2, len(whole) - 1}:
        damaged = bytearray(whole)
        damaged[position] ^= 1
        assert unseal("key", bytes(damaged)) is None
    for length in (0, 3, 15, 16, len(whole) - 1):
        assert unseal("key", whole[:length]) is None
    assert unseal("key", whole + b"\0") is None


def test_a_damaged_value_file_is_a_miss(shelf: Shelf) -> None:
    shelf.put("key", LARGE)
    path = _value_file(shelf.folder)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:10], b"", whole[:50] + b"!" + whole[51:]):
        path.write_bytes(damaged)
        assert shelf.get("key") is None
    path.unlink()
    assert shelf.get("key") is None


def test_the_limit_holds_and_the_least_recently_used_go_first(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "values-1", 2**20)
    for number in range(30):
        shelf.put(str(number), os.urandom(100_000))
        shelf.get("0")
        assert shelf.size_bytes() <= 2**20
    kept = [number for number in range(30) if shelf.get(str(number))]
    assert kept[0] == 0
    assert kept[1:] == list(range(30 - len(kept) + 1, 30))
    assert len(kept) >= 8  # a large value does not empty the folder
    shelf.put("large", os.urandom(500_000))
    assert shelf.get("large") and shelf.size_bytes() <= 2**20
    assert len([number for number in range(30) if shelf.get(str(number))]) >= 3


def test_what_a_killed_writer_left_is_swept(shelf: Shelf) -> None:
    shelf.put("key", LARGE)
    kept = _value_file(shelf.folder)
    old, young = (shelf.folder / "ab" / "cd" / (letter * 28 + ".val") for letter in "ef")
    old.parent.mkdir(parents=True)
    for path in (old, young):
        path.write_bytes(b"x")
    for path in (old, kept):
        os.utime(path, (time.time() - 3600,) * 2)
    shelf.sweep()
    assert not old.exists() and young.exists() and kept.exists()


def test_a_failed_write_leaves_no_file(shelf: Shelf) -> None:
    shelf.put("key", b"x")
    other = sqlite3.connect(shelf.folder / "cache.db", isolation_level=None)
    other.execute("CREATE TRIGGER no BEFORE UPDATE ON Cache BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    other.close()
    with pytest.raises(sqlite3.Error):
        shelf.put("key", LARGE)
    assert not list(shelf.folder.glob("*/*/*.val"))


def test_a_deleted_or_replaced_database_is_noticed(shelf: Shelf) -> None:
    shelf.put("key", b"x")
    database = shelf.folder / "cache.db"
    data = database.read_bytes()
    database.unlink()
    with pytest.raises(OSError):
        shelf.get("key")
    database.write_bytes(data)
    with pytest.raises(ShelfDamaged):
        shelf.put("key", b"y")


def test_a_folder_that_others_can_open_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "values-1"
    folder.mkdir(mode=0o755)
    with pytest.raises(ShelfDamaged):
        Shelf(folder, 2**20)
    link = tmp_path / "values-2"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShelfDamaged):
        Shelf(link, 2**20)


def test_nothing_of_the_database_is_mapped_into_memory(shelf: Shelf) -> None:
    shelf.put("key", b"x")
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux lists a process's maps")
    assert str(shelf.folder) not in maps.read_text()
    assert {path.name for path in shelf.folder.iterdir()} <= {"cache.db", "cache.db-journal"}


def test_settings_planted_in_the_database_do_not_matter(shelf: Shelf) -> None:
    shelf.close()
    with sqlite3.connect(shelf.folder / "cache.db") as database:
        for key, value in (("sqlite_mmap_size", 2**26), ("cull_limit", 0), ("eviction_policy", "none")):
            database.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (key, value))
    database.close()
    again = Shelf(shelf.folder, 2**20)
    for number in range(20):
        again.put(str(number), os.urandom(100_000))
    assert again.size_bytes() <= 2**20
    again.close()
    for planted in ("get", "_disk", "disk_extra", "volume"):
        with sqlite3.connect(shelf.folder / "cache.db") as database:
            database.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (planted, "x"))
        database.close()
        with pytest.raises((TypeError, AttributeError, ShelfDamaged)):
            spoilt = Shelf(shelf.folder, 2**20)
            spoilt.put("key", LARGE)
            spoilt.get("key")
            spoilt.size_bytes()
        with sqlite3.connect(shelf.folder / "cache.db") as database:
            database.execute("DELETE FROM Settings WHERE key = ?", (planted,))
        database.close()
