"""A visitor's own sets: how they come, what they may take, who sees them, and how a part of a set becomes one."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline_app import InlineApp
from inline_engine import InlineEngine
from PIL import Image
from served import until
from tempo import limit

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.decoder import InputRefused
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.sets import arriving as arriving_module
from hookscope.dashboard.sets import room as room_module
from hookscope.dashboard.sets.arriving import common_top, path_of
from hookscope.dashboard.sets.members import MOST, PictureSet, SetMissing
from hookscope.dashboard.sets.store import REFERENCE, SetStore, key_of

LIMIT_BYTES = 1_000_000


def png(value: int = 100, side: int = 12, noise: bool = False) -> bytes:
    data = io.BytesIO()
    pixels = np.full((side, side, 3), (value, 255 - value, 0), np.uint8)
    if noise:
        pixels = np.random.default_rng(value).integers(0, 256, pixels.shape, np.uint8)
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


class Desk:
    """A server's sets, in a folder of its own; an operator's folder is one of them."""

    def __init__(self, place: Path, offered: bool = True, limit_bytes: int = LIMIT_BYTES) -> None:
        self.place = place
        folder = place / "folder"
        if not folder.exists():
            for number in range(6):
                (folder / "cat").mkdir(parents=True, exist_ok=True)
                (folder / "cat" / f"{number}.png").write_bytes(png(10 * number))
        self.inputs = InputStore(place / "inputs", 2**26, max_upload_bytes=400_000)
        self.store = SetStore(
            place / "sets", {"line 4": folder} if offered else {}, self.inputs, limit_bytes=limit_bytes
        )
        self.arriving = self.store.arriving

    def add(self, key: str, number: int, name: str, data: bytes) -> str:
        return self.arriving.add(key, number, name, io.BytesIO(data), len(data))

    def make(self, *files: tuple[str, bytes], name: str = "") -> PictureSet:
        """A set of files."""
        key = self.arriving.begin(name)
        for number, (path, data) in enumerate(files):
            self.add(key, number, path, data)
        self.arriving.finish(key)
        return self.store.get(key)

    def unpack(self, key: str, data: bytes, name: str = "photos.zip", piece: int = 30_000) -> None:
        at = 0
        while at < len(data):
            part = data[at : at + piece]
            at = self.arriving.piece(key, at, io.BytesIO(part), len(part))
        self.arriving.unpack(key, name)
        until(lambda: self.arriving.state(key).phase != "unpacking", limit(20.0))

    def values(self, pictures: PictureSet) -> list[int]:
        """What each picture's file shows, through the decoder."""
        found = [self.store.take(pictures.version, number) for number in range(len(pictures.members))]
        self.store.let_go(pictures.version)
        return [int(np.asarray(rows.picture(data))[0, 0, 0]) for data in found]

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.place / "sets" / "visitors").iterdir())

    def making(self) -> list[str]:
        """What is left of sets in the making."""
        return [path.name for path in (self.place / "sets" / "arriving").glob("*/**/*") if path.name != "lock"]

    def close(self) -> None:
        self.store.close()
        self.inputs.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.close()


def packed(*files: tuple[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", how) as made:
        for name, content in files:
            made.writestr(name, content)
    return data.getvalue()


# --- how a set comes


def test_files_become_a_set_with_their_folders_as_labels(desk: Desk) -> None:
    key = desk.arriving.begin("my/../digits\x1b")
    for number, name in enumerate(("cat/1.png", "dog/old/1.png", "3.png", "../../x/../4.png", r"C:\pets\5.png")):
        assert desk.add(key, number, name, png(number)) == ""
    assert desk.add(key, 5, "notes.txt", b"beside") == desk.add(key, 6, ".hidden.png", b"x") == ""
    assert desk.arriving.state(key).pictures == 5
    assert desk.arriving.finish(key) == "digits"
    found = desk.store.get(key)
    assert (found.name, found.offered, found.refused) == ("digits", False, ())
    told = {(member.name, member.group): value for member, value in zip(found.members, desk.values(found), strict=True)}
    assert told == {("1.png", "cat"): 0, ("1.png", "old"): 1, ("3.png", ""): 2, ("4.png", "x"): 3, ("5.png", "pets"): 4}
    names = {path.name for path in (desk.place / "sets" / "visitors" / key).iterdir()}
    assert names == {"0", "1", "2", "3", "4", "set.json"} and desk.making() == []
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", key)


def test_a_table_says_what_pictures_show(desk: Desk) -> None:
    found = desk.make(("cat/1.png", png()), ("2.png", png()), ("labels.csv", b"\xef\xbb\xbf2.png,dog\ncat/1.png,fox\n"))
    assert {(member.name, member.group) for member in found.members} == {("1.png", "fox"), ("2.png", "dog")}
    assert found.name == "2 pictures"
    odd = desk.make(("1.png", png()), ("labels.csv", b'"' + b"x" * 200_000), name="odd")
    assert [member.group for member in odd.members] == [""]


def test_the_first_pictures_tell_of_all(desk: Desk) -> None:
    found = desk.make(*((f"{number:02}.png", png(number)) for number in range(20)))
    order = [int(member.name[:2]) for member in found.members]
    assert sorted(order) == list(range(20)) != order


def test_what_is_refused_is_listed_and_the_rest_is_used(desk: Desk) -> None:
    key = desk.arriving.begin("mine")
    assert desk.add(key, 0, "good.png", png()) == ""
    assert desk.add(key, 1, "empty.png", b"") == "The file is empty."
    assert "larger than 0.4 MB" in desk.add(key, 2, "large.png", bytes(400_001))
    assert "at most 20,000 pictures" in desk.add(key, MOST, "many.png", png())
    desk.arriving.finish(key, ["huge.png"], ["cloud.png"])
    found = desk.store.get(key)
    assert [member.name for member in found.members] == ["good.png"]
    assert {name: why.split()[0] for name, why in found.refused} == {
        "empty.png": "The",
        "large.png": "This",
        "many.png": "A",
        "huge.png": "This",
        "cloud.png": "The",
    }


def test_a_file_that_is_sent_again_takes_its_place(desk: Desk) -> None:
    key = desk.arriving.begin("mine")
    with pytest.raises(InputRefused, match="stopped after 5 of 100 bytes"):
        desk.arriving.add(key, 0, "a.png", io.BytesIO(b"12345"), 100)
    for value in (1, 2):
        desk.add(key, 0, "a.png", png(value))
    desk.arriving.finish(key)
    found = desk.store.get(key)
    assert desk.values(found) == [2] and not found.refused


def test_many_files_at_once(desk: Desk) -> None:
    key = desk.arriving.begin("many")
    threads = [
        threading.Thread(target=lambda first=first: [desk.add(key, n, f"{n}.png", png(n)) for n in range(first, 60, 3)])
        for first in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.arriving.finish(key)
    found = desk.store.get(key)
    assert {int(member.name.split(".")[0]) for member in found.members} == set(range(60))
    assert [int(member.name.split(".")[0]) for member in found.members] == desk.values(found)


def test_without_a_picture_there_is_no_set(desk: Desk) -> None:
    key = desk.arriving.begin("mine")
    desk.add(key, 0, "empty.png", b"")
    with pytest.raises(InputRefused, match=r"no picture in this that can be used\. empty\.png: The file is empty\."):
        desk.arriving.finish(key)
    assert desk.making() == [] and desk.kept() == []
    for act in (lambda: desk.arriving.finish(key), lambda: desk.add(key, 1, "a.png", png())):
        with pytest.raises(InputRefused, match="no longer in the making"):
            act()


def test_one_that_is_cancelled_leaves_nothing(desk: Desk) -> None:
    key = desk.arriving.begin("mine")
    desk.add(key, 0, "a.png", png())
    assert len(desk.making()) == 2
    desk.arriving.cancel(key)
    desk.arriving.cancel(key)
    assert desk.making() == []
    with pytest.raises(SetMissing, match="not known here"):
        desk.store.get(key)


def test_one_that_nobody_goes_on_with_is_removed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving_module, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(arriving_module, "LOOK_SECONDS", 0.05)
    key = desk.arriving.begin("mine")
    for _ in range(5):
        desk.add(key, 0, "a.png", png())
        time.sleep(0.1)
    assert desk.arriving.state(key).pictures == 1
    until(lambda: desk.making() == [], limit(5.0))


def test_what_a_server_that_died_had_begun_is_removed_at_the_next_start(tmp_path: Path) -> None:
    first = Desk(tmp_path)
    kept = first.make(("a.png", png(7)), name="whole")
    key = first.arriving.begin("half")
    first.add(key, 0, "a.png", png())
    os.close(first.arriving._incoming._lock)  # as the system does when a process ends
    first.arriving._incoming._lock = -1
    second = Desk(tmp_path)
    assert second.making() == [] and second.kept() == [kept.key]
    again = second.store.get(kept.key)
    assert (again.name, again.version) == ("whole", kept.version) and second.values(again) == [7]
    second.close()
    first.close()


def test_no_more_than_some_are_made_at_once(desk: Desk) -> None:
    keys = [desk.arriving.begin("") for _ in range(arriving_module.MOST_AT_ONCE)]
    with pytest.raises(InputRefused, match="Too many sets are being made") as caught:
        desk.arriving.begin("")
    assert caught.value.status == 503
    desk.arriving.cancel(keys[0])
    desk.arriving.begin("")


def test_a_full_disk_is_a_sentence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key = desk.arriving.begin("mine")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(arriving_module, "receive", full)
    with pytest.raises(InputRefused, match="no room for this set") as caught:
        desk.add(key, 0, "a.png", png())
    assert caught.value.status == 507
    shutil.rmtree(desk.arriving._incoming._folder)  # somebody tidied
    monkeypatch.undo()
    with pytest.raises(InputRefused, match="no longer in the making"):
        desk.add(key, 0, "a.png", png())


# --- as a zip


def test_a_zip_becomes_a_set(desk: Desk) -> None:
    data = packed(
        ("photos/cat/1.png", png(1)),
        ("photos/dog/2.png", png(2)),
        ("photos/labels.csv", b"2.png,wolf"),
        ("photos/inner.zip", b"PK\x03\x04"),
        ("__MACOSX/photos/._1.png", b"x"),
    )
    key = desk.arriving.begin("photos")
    desk.add(key, 0, "beside.png", png(3))
    desk.unpack(key, data, piece=100)
    state = desk.arriving.state(key)
    assert (state.phase, state.pictures, state.refused) == ("open", 3, 1)
    desk.arriving.finish(key)
    found = desk.store.get(key)
    told = {member.name: (member.group, value) for member, value in zip(found.members, desk.values(found), strict=True)}
    assert told == {"1.png": ("cat", 1), "2.png": ("wolf", 2), "beside.png": ("", 3)}
    assert found.refused == (("inner.zip", "A zip within a zip is not opened; unpack it first."),)
    assert {path.name for path in (desk.place / "sets" / "visitors" / key).iterdir()} == {"0", "1", "2", "set.json"}


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["photos/1.png", "photos/2.png"], ["", ""]),  # the zip's own folder
        (["cat/1.png", "cat/2.png"], ["cat", "cat"]),
        (["top/cat/1.png", "top/2.png"], ["cat", ""]),
        (["cat/1.png", "dog/2.png"], ["cat", "dog"]),
        (["cat/1.png", "2.png"], ["cat", ""]),
    ],
)
def test_the_folder_in_which_everything_lies_may_be_no_label(names: list[str], groups: list[str]) -> None:
    paths = [path_of(name) for name in names]
    top = common_top(paths, "Photos")
    inside = [path.relative_to(top) for path in paths]
    assert [path.parent.name for path in inside] == groups


def test_pieces_come_in_their_order_and_a_second_time_do_no_harm(desk: Desk) -> None:
    data = packed(("a.png", png(5, 64, noise=True)), ("b.png", png(6)))
    key = desk.arriving.begin("z")

    def piece(first: int, last: int) -> int:
        return desk.arriving.piece(key, first, io.BytesIO(data[first:last]), last - first)

    with pytest.raises(InputRefused, match="No zip of this set waits"):
        desk.arriving.unpack(key, "z.zip")
    assert piece(0, 50) == 50 and piece(50, 90) == 90
    assert piece(50, 90) == 90 and piece(200, 300) == 90  # not where the next one begins: left
    assert piece(0, 60) == 60  # from the beginning
    with pytest.raises(InputRefused, match="stopped after"):
        desk.arriving.piece(key, 60, io.BytesIO(b"x"), 10)
    assert piece(60, len(data)) == len(data)
    desk.arriving.unpack(key, "z.zip")
    until(lambda: desk.arriving.state(key).phase != "unpacking", limit(20.0))
    desk.arriving.finish(key)
    assert {member.name for member in desk.store.get(key).members} == {"a.png", "b.png"}


def test_a_zip_that_is_none_is_refused_and_what_else_came_is_used(desk: Desk) -> None:
    key = desk.arriving.begin("z")
    desk.unpack(key, b"nonsense" * 20)
    assert desk.arriving.state(key).refused == 1
    with pytest.raises(InputRefused, match=r"no picture in this .* photos\.zip: This zip is damaged"):
        desk.arriving.finish(key)
    key = desk.arriving.begin("z")
    desk.add(key, 0, "a.png", png())
    desk.unpack(key, packed(*((f"{n}.png", bytes(300_000)) for n in range(4)), how=zipfile.ZIP_DEFLATED))
    desk.arriving.finish(key)  # of the zip all would be too much
    found = desk.store.get(key)
    assert [member.name for member in found.members] == ["a.png"]
    assert "come to 1 MB, and there is room for" in found.refused[0][1]


def test_a_set_that_is_cancelled_while_its_zip_is_unpacked_leaves_nothing(desk: Desk) -> None:
    key = desk.arriving.begin("z")
    data = packed(*((f"{number}.png", png(number % 250)) for number in range(500)))
    desk.arriving.piece(key, 0, io.BytesIO(data), len(data))
    desk.arriving.unpack(key, "z.zip")
    with pytest.raises(InputRefused, match="is being unpacked"):
        desk.add(key, 0, "a.png", png())
    desk.arriving.cancel(key)
    until(lambda: not any(thread.name == "unpacking z.zip" for thread in threading.enumerate()), limit(10.0))
    assert desk.making() == [] and not desk.store._decoder._running


# --- how much room they take


def noisy(value: int) -> bytes:
    """A picture of about 120 kB."""
    return png(value, 200, noise=True)


def test_a_set_that_is_larger_than_all_may_be_is_refused(desk: Desk) -> None:
    with pytest.raises(InputRefused, match="larger than 1 MB, which all sets together may take") as caught:
        desk.arriving.begin("mine", LIMIT_BYTES + 1)
    assert caught.value.status == 413 and desk.making() == []
    key = desk.arriving.begin("mine", 10)
    with pytest.raises(InputRefused, match="larger than 1 MB"):  # it told less than it has
        for number in range(10):
            desk.add(key, number, f"{number}.png", noisy(number))
    assert desk.arriving.state(key).pictures == LIMIT_BYTES // len(noisy(0))
    with pytest.raises(InputRefused, match="larger than 1 MB"):
        desk.arriving.piece(key, 0, io.BytesIO(b"x"), LIMIT_BYTES + 1)


def test_the_least_recently_used_go_first_and_what_is_swept_stays(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_module, "TOUCHED_SECONDS", 0.0)
    monkeypatch.setattr("hookscope.dashboard.sets.store.FRESH_SECONDS", 0.0)
    made = [desk.make((f"{number}.png", noisy(number)), ("b.png", noisy(number + 50))) for number in range(3)]
    for age, number in enumerate((1, 0, 2)):  # 1 was used longest ago
        os.utime(desk.place / "sets" / "used" / made[number].key, (1e9 + age, 1e9 + age))
    desk.store.hold(made[1])
    fourth = desk.make(("d.png", noisy(9)), ("e.png", noisy(10)))
    assert set(desk.kept()) == {made[1].key, made[2].key, fourth.key}
    with pytest.raises(SetMissing, match="not known here"):
        desk.store.get(made[0].key)
    desk.store.let_go(made[1].version)
    assert desk.store.room.size_bytes() <= LIMIT_BYTES
    for each in (made[1], made[2], fourth):
        desk.store.hold(each)
    key = desk.arriving.begin("fifth")
    with pytest.raises(InputRefused, match="There is no room for this set now") as caught:
        for number in range(7):
            desk.add(key, number, f"{number}.png", noisy(number))
    assert caught.value.status == 503 and len(desk.kept()) == 3


def test_small_copies_and_what_was_found_count_and_go_with_their_set(desk: Desk) -> None:
    mine = desk.make(("a.png", noisy(1)), name="mine")
    line = desk.store.get(key_of("line 4"))
    found = desk.place / "sets" / "found"
    found.mkdir()
    names = {each.key: found / f"{each.version[: room_module.SHORT]}-0123.sweep" for each in (mine, line)}
    for path in names.values():
        path.write_bytes(bytes(100_000))
    desk.values(mine), desk.values(line)
    previews = {each.key: desk.place / "sets" / "previews" / each.version for each in (mine, line)}
    assert all(path.is_dir() for path in previews.values())
    sizes = [path.stat().st_size for path in (desk.place / "sets").rglob("*") if path.is_file()]
    assert sum(sizes) <= desk.store.room.size_bytes() <= sum(sizes) + 4096 * len(sizes)
    desk.store.delete(mine.key)
    assert not names[mine.key].exists() and not previews[mine.key].exists() and names[line.key].exists()
    # an operator's pictures stay, and what was found of them makes room
    os.utime(desk.place / "sets" / "used" / next((desk.place / "sets" / "used").iterdir()).name, (1e9, 1e9))
    for number in range(8):
        desk.make((f"{number}.png", noisy(number)))
    assert not names[line.key].exists() and not previews[line.key].exists()
    assert len(list((desk.place / "folder" / "cat").iterdir())) == 6
    assert desk.store.room.size_bytes() <= LIMIT_BYTES


def test_what_is_of_a_version_that_is_gone_goes(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.dashboard.sets.store.FRESH_SECONDS", 0.0)
    line = desk.store.get(key_of("line 4"))
    desk.values(line)
    found = desk.place / "sets" / "found"
    found.mkdir()
    old, older = found / f"{line.version[: room_module.SHORT]}-0123.sweep", found / "0123456789.sweep"
    for path in (old, older):
        path.write_bytes(b"x")
    desk.store.room.tidy()
    assert old.exists() and not older.exists()
    (tmp_path / "folder" / "cat" / "7.png").write_bytes(png())
    changed = desk.store.get(key_of("line 4"))
    assert "it is another set now" in changed.note and not line.note
    assert desk.store.get(key_of("line 4")).note == changed.note
    assert not old.exists() and not (desk.place / "sets" / "previews" / line.version).exists()
    # a server that offers other folders does not take this one's for gone
    new = found / f"{changed.version[: room_module.SHORT]}-0123.sweep"
    new.write_bytes(b"x")
    other = Desk(tmp_path, offered=False)
    assert new.exists()
    other.close()


# --- whose they are


def test_only_whoever_has_the_key_sees_it(desk: Desk) -> None:
    mine = desk.make(("a.png", png()), name="secret")
    assert [name for _, name in desk.store.offered()] == ["line 4", "built-in photographs"]
    assert desk.store.named([mine.key, "x" * 22, "../../etc", REFERENCE, mine.key]) == [(mine.key, "secret")]
    twin = desk.make(("a.png", png()), name="secret")
    assert twin.version != mine.version  # nothing of one is told by the other
    for key in ("x" * 22, "../" + mine.key, mine.key + "/", "", "."):
        with pytest.raises(SetMissing, match="not known here"):
            desk.store.get(key)


def test_a_picture_of_it_is_seen_and_becomes_an_input(desk: Desk) -> None:
    mine = desk.make(("cat/a.png", png(77)))
    assert desk.store.preview(mine.version, 0)[:2] == b"\xff\xd8"
    given = desk.store.as_input(mine.version, 0)
    assert (given.name, given.width) == ("a.png, labelled cat", 12)
    assert int(np.asarray(rows.picture(desk.store.read(mine.version, 0)))[0, 0, 0]) == 77


def test_it_is_deleted(desk: Desk) -> None:
    mine = desk.make(("a.png", png()))
    desk.values(mine)
    desk.store.delete(mine.key)
    assert desk.kept() == [] and not (desk.place / "sets" / "used" / mine.key).exists()
    for act in (lambda: desk.store.get(mine.key), lambda: desk.store.take(mine.version, 0)):
        with pytest.raises(SetMissing):
            act()
    desk.store.delete(mine.key)
    for key in (REFERENCE, key_of("line 4")):
        with pytest.raises(InputRefused, match="offered by whoever runs the server"):
            desk.store.delete(key)
    assert len(desk.store.get(key_of("line 4")).members) == 6


def test_a_damaged_one_is_not_known(desk: Desk) -> None:
    mine = desk.make(("a.png", png()))
    for text in ("", "{", "[]", '{"name": 1, "pictures": [{"path": "/etc/passwd"}], "refused": []}'):
        (desk.place / "sets" / "visitors" / mine.key / "set.json").write_text(text)
        desk.store._scanned.clear(), desk.store._visitors._opened.clear()
        with pytest.raises(SetMissing, match="not known here"):
            desk.store.get(mine.key)


# --- a part of a set is a set


def test_a_part_of_a_visitors_set_lives_on_without_it(desk: Desk, tmp_path: Path) -> None:
    mine = desk.make(*((f"cat/{number}.png", noisy(number)) for number in range(5)), name="mine")
    before = desk.store.room.size_bytes()
    key = desk.store.subset(mine, [3, 1, 3], "two\x00 of them")
    part = desk.store.get(key)
    assert (part.name, part.offered, part.groups) == ("two of them", False, ("cat",))
    assert [member.name for member in part.members] == [mine.members[number].name for number in (3, 1)]
    assert desk.store.room.size_bytes() - before < 20_000  # the files are the same
    expected = [desk.values(mine)[number] for number in (3, 1)]
    desk.store.delete(mine.key)
    assert desk.values(part) == expected
    smaller = desk.store.get(desk.store.subset(part, [1], ""))
    assert smaller.name == "1 of two of them" and desk.values(smaller) == expected[1:]
    again = Desk(tmp_path)
    assert again.store.get(key).version == part.version and again.values(again.store.get(key)) == expected
    again.close()


def test_a_part_of_an_operators_folder_names_its_files_and_lasts_as_long(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookscope.dashboard.sets.store.FRESH_SECONDS", 0.0)
    line = desk.store.get(key_of("line 4"))
    key = desk.store.subset(line, [0, 2, 5], "three")
    part = desk.store.get(key)
    assert desk.values(part) == [desk.values(line)[number] for number in (0, 2, 5)] and part.groups == ("cat",)
    assert [path.name for path in (desk.place / "sets" / "visitors" / key).iterdir()] == ["set.json"]
    nested = desk.store.get(desk.store.subset(part, [1], ""))
    assert desk.values(nested) == desk.values(part)[1:2]
    assert desk.store.get(key).version == part.version
    # what the folder says now, counts: a file that has changed, and one that is gone
    first, second = (part.members[number].path for number in (0, 1))
    assert first is not None and second is not None
    first.write_bytes(png(200))
    second.unlink()
    changed = desk.store.get(key)
    assert changed.version != part.version and len(changed.members) == 3
    assert int(np.asarray(rows.picture(desk.store.take(changed.version, 0)))[0, 0, 0]) == 200
    with pytest.raises(InputRefused, match="has no file"):
        desk.store.take(changed.version, 1)
    with pytest.raises(InputRefused, match="no longer there"):
        desk.store.as_input(changed.version, 1)
    os.symlink("/etc/passwd", second)
    assert desk.store.get(key).members[1].path is None
    again = Desk(tmp_path)
    assert len(again.store.get(key).members) == 3
    again.close()
    other = Desk(tmp_path, offered=False)
    with pytest.raises(SetMissing, match="not offered any more"):
        other.store.get(key)
    other.close()


def test_a_part_of_the_built_in_photographs(desk: Desk) -> None:
    built_in = desk.store.get(REFERENCE)
    part = desk.store.get(desk.store.subset(built_in, [4, 0], "two"))
    assert [member.sample for member in part.members] == [built_in.members[number].sample for number in (4, 0)]
    assert desk.store.take(part.version, 1) == desk.store.take(built_in.version, 0)
    assert desk.store.preview(part.version, 1) == desk.store.preview(built_in.version, 0)


def test_a_part_that_cannot_be_is_refused(desk: Desk) -> None:
    mine = desk.make(("a.png", png()))
    for numbers in ([], [1], [-1], [0, 7]):
        with pytest.raises(InputRefused, match="by their numbers"):
            desk.store.subset(mine, numbers, "x")
    desk.store.delete(mine.key)
    with pytest.raises(SetMissing):
        desk.store.subset(mine, [0], "x")
    assert desk.kept() == []


def test_settings_have_a_limit_of_their_own() -> None:
    from hookscope.dashboard.settings.parse import parse

    assert parse([], {}).sets_limit_mb == 2000
    assert parse(["--sets-limit-mb", "7"], {}).sets_limit_mb == 7


# --- over HTTP


LINE = key_of("line 4")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    place = tmp_path_factory.mktemp("app")
    (place / "line").mkdir()
    (place / "line" / "1.png").write_bytes(png())
    app = InlineApp(place / "app", InlineEngine(at_once=True), offered={"line 4": place / "line"}, sets_limit_mb=1)
    yield app.client
    app.close()


def test_a_set_comes_over_http_and_goes(client: Any) -> None:
    begun = client.post("/sets", json={"name": "mine", "bytes": 100}).get_json()
    key = begun["key"]
    assert begun["file_bytes"] == 50_000_000 and begun["piece_bytes"] == 8_000_000 and ".txt" in begun["left_out"]
    assert client.post(f"/set/{key}/add?number=0&name=cat%2F1.png", data=png()).get_json() == {"refused": ""}
    assert client.post(f"/set/{key}/add?number=1&name=2.png", data=b"").get_json() == {"refused": "The file is empty."}
    data = packed(("z/3.png", png(3)))
    assert client.post(f"/set/{key}/piece?at=0", data=data).get_json() == {"at": len(data)}
    assert client.post(f"/set/{key}/unpack?name=z.zip").status_code == 204
    until(lambda: client.get(f"/set/{key}/making").get_json()["phase"] == "open", limit(20.0))
    assert client.get(f"/set/{key}/making").get_json() == {"phase": "open", "sentence": "", "pictures": 2, "refused": 1}
    assert client.post(f"/set/{key}/close", json={"too_large": ["huge.png"]}).get_json() == {"key": key, "name": "mine"}
    assert client.get(f"/set/{key}/making").status_code == 404
    part = client.post(f"/set/{key}/subset", json={"numbers": [1], "name": "one"}).get_json()["key"]
    assert part != key
    assert client.post(f"/set/{key}/delete").status_code == 204
    assert client.post(f"/set/{key}/subset", json={"numbers": [0], "name": "x"}).status_code == 404
    assert client.post(f"/set/{part}/subset", json={"numbers": [0]}).status_code == 200
    assert client.post(f"/set/{key}/delete").status_code == 204


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("sets", None, 400),
        ("sets", [], 400),
        ("sets", {"name": "x", "bytes": -1}, 400),
        ("sets", {"name": "x", "bytes": "many"}, 400),
        ("sets", {"name": "x", "bytes": 2_000_000}, 413),
        ("set/KEY/add?number=x&name=a.png", None, 400),
        ("set/KEY/add?name=a.png", None, 400),
        ("set/KEY/add?number=-1&name=a.png", None, 400),
        ("set/KEY/piece?at=%C2%B2", None, 400),
        ("set/KEY/unpack", None, 409),
        ("set/KEY/close", None, 400),
        ("set/KEY/close", {"too_large": 5}, 422),
        ("set/xxxxxxxxxxxxxxxxxxxxxx/add?number=0&name=a.png", None, 404),
        ("set/..%2F..%2Fetc/add?number=0&name=a.png", None, 405),
        (f"set/{LINE}/delete", None, 403),
        (f"set/{LINE}/subset", {"numbers": "0"}, 400),
        (f"set/{LINE}/subset", {"numbers": [True]}, 400),
        (f"set/{LINE}/subset", {"numbers": [0.5]}, 400),
        (f"set/{LINE}/subset", {"numbers": []}, 400),
        (f"set/{LINE}/subset", {"numbers": [99]}, 400),
        (f"set/{LINE}/subset", {"numbers": [0], "version": "another"}, 404),
        ("set/nothing/subset", {"numbers": [0]}, 404),
    ],
)
def test_a_request_that_makes_no_sense_is_a_sentence(client: Any, path: str, body: Any, status: int) -> None:
    key = client.post("/sets", json={"name": "x"}).get_json()["key"]
    answer = client.post("/" + path.replace("KEY", key), **({} if body is None else {"json": body}))
    client.post(f"/set/{key}/cancel")
    assert answer.status_code == status
    if status != 405:
        assert re.fullmatch(r"[A-Z].*[.]\n", answer.get_data(as_text=True))


def test_json_without_end_is_refused(client: Any) -> None:
    answer = client.post("/sets", data="[" * 100_000, content_type="application/json")
    assert answer.status_code == 400


def test_the_page_lists_the_sets_that_its_browser_made_and_the_one_it_looks_at(client: Any) -> None:
    def names(sets: list[str], **view: str) -> list[str]:
        asked = {
            "view": {"model": "toy", "tab": "pictures", **view},
            "page": "p",
            "number": 1,
            "drawn": {},
            "mounted": 0,
            "width": 800,
            "sets": sets,
            "ahead": True,
        }
        first = client.post("/ask", json=asked).get_json()["first"]
        text = json.dumps(next(each["updates"] for each in first if each["part"] == "set choice"))
        found = re.findall(r'"className": "pill".*?\}, \["([^"]+)"\]\]', text)
        return found[: found.index(found[0], 1)] if found[0] in found[1:] else found  # without those to compare with

    keys = []
    for name in ("first", "second"):
        key = client.post("/sets", json={"name": name}).get_json()["key"]
        client.post(f"/set/{key}/add?number=0&name=1.png", data=png())
        client.post(f"/set/{key}/close", json={})
        keys.append(key)
    offered = ["line 4", "built-in photographs"]
    assert names([]) == offered
    assert names(keys) == [*offered, "first", "second"]
    assert names(["x" * 22, "<script>", keys[1]]) == [*offered, "second"]
    assert names([], set_a=keys[0])[:3] == [*offered, "first"]  # with its address
    assert (
        client.post(
            "/ask", json={"view": {}, "page": "p", "number": 1, "drawn": {}, "mounted": 0, "width": 8, "sets": 5}
        ).status_code
        == 400
    )
