"""Sets of pictures: what is in a folder, whose class it shows, and how its pictures come out of the decoder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tempo import limit
from torchvision.models._meta import _IMAGENET_CATEGORIES

from hookscope.dashboard.inputs import rows
from hookscope.dashboard.inputs.decoder import Decoder, InputRefused
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.sets.feeding import AHEAD, Feed
from hookscope.dashboard.sets.labels import match
from hookscope.dashboard.sets.members import MOST, SetMissing, scan
from hookscope.dashboard.sets.store import REFERENCE, SetStore, key_of


def picture(path: Path, value: int = 100, side: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (value, 255 - value, 0)).save(path)
    return path


# --- what is in a folder


def test_class_folders_say_what_their_pictures_show(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/old/2.png", "dog/1.png", "3.png", ".hidden/4.png", "cat/.5.png"):
        picture(tmp_path / name)
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    found = scan("key", "mine", tmp_path)
    assert {(member.name, member.group) for member in found.members} == {
        ("1.png", "cat"),
        ("2.png", "old"),
        ("1.png", "dog"),
        ("3.png", ""),
    }
    assert set(found.groups) == {"cat", "old", "dog"} and not found.refused


def test_a_table_beside_them_says_it_instead(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c/a.png"):
        picture(tmp_path / name)
    (tmp_path / "labels.csv").write_text('\ufeffa.png,cat\nc/a.png,"dog, hot"\nlost.png,cow\nb.png\n')
    found = {
        str(member.path.relative_to(tmp_path)): member.group
        for member in scan("k", "n", tmp_path).members
        if member.path
    }
    assert found == {"a.png": "cat", "b.png": "", "c/a.png": "dog, hot"}
    (tmp_path / "labels.csv").unlink()
    os.symlink("/etc/passwd", tmp_path / "labels.csv")
    assert {member.group for member in scan("k", "n", tmp_path).members} == {"", "c"}


def test_what_is_no_file_is_refused_with_its_reason_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    picture(outside / "secret.png")
    inside = tmp_path / "inside"
    picture(inside / "good.png")
    os.symlink(outside / "secret.png", inside / "link.png")
    os.symlink(outside, inside / "folder")
    os.mkfifo(inside / "pipe.png")
    (inside / "empty.png").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(inside / "socket.png"))
        found = scan("key", "mine", inside)
    assert [member.name for member in found.members] == ["good.png"]
    reasons = dict(found.refused)
    assert reasons.keys() == {"link.png", "folder", "pipe.png", "empty.png", "socket.png"}
    assert "links are not followed" in reasons["link.png"] and "links are not followed" in reasons["folder"]
    assert "a pipe, a socket or a device" in reasons["pipe.png"] and "is empty" in reasons["empty.png"]


def test_names_are_harmless_labels(tmp_path: Path) -> None:
    names = ["a\x1b[2Jb.png", "right\u202eleft.png", "=cmd().png", "<img src=x>.png", "x" * 200 + ".png"]
    for name in names:
        picture(tmp_path / name)
    found = [member.name for member in scan("k", "n", tmp_path).members]
    assert len(found) == len(names) and all(name.isprintable() and len(name) <= 80 for name in found)
    assert "<img src=x>.png" in found  # whoever draws it escapes it


def test_another_folder_is_another_version_and_a_lost_one_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "a.png")
    first = scan("k", "n", tmp_path / "set")
    assert scan("k", "n", tmp_path / "set").version == first.version
    picture(tmp_path / "set" / "a.png", side=13)
    second = scan("k", "n", tmp_path / "set")
    assert second.version != first.version
    (tmp_path / "set" / "labels.csv").write_text("a.png,cat")
    assert scan("k", "n", tmp_path / "set").version not in (first.version, second.version)
    with pytest.raises(SetMissing, match=r"folder of the set 'n' cannot be read \(No such file"):
        scan("k", "n", tmp_path / "gone")


def test_a_folder_that_was_moved_is_the_same_set_in_the_same_order(tmp_path: Path) -> None:
    for number in range(20):
        picture(tmp_path / "one" / str(number % 3) / f"{number}.png")
    first = scan("k", "n", tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    second = scan("k", "n", tmp_path / "two")
    assert second.version == first.version
    assert [member.name for member in second.members] == [member.name for member in first.members]
    assert [member.name for member in first.members] != sorted(member.name for member in first.members)


def test_a_table_that_is_none_is_left(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_bytes(b'"' + b"x" * 200_000)
    assert [member.group for member in scan("k", "n", tmp_path).members] == [""]


def test_a_set_has_a_limit_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.dashboard.sets.members.MOST", 3)
    for number in range(5):
        picture(tmp_path / f"{number}.png")
    found = scan("k", "n", tmp_path)
    assert len(found.members) == 3 and len(found.refused) == 2 and "at most 3 pictures" in found.refused[0][1]
    assert MOST == 20_000


def test_groups_are_matched_by_name_by_index_and_by_wordnet() -> None:
    classes = ["tench", "goldfish, Carassius auratus", "great white shark", "tiger-shark"]
    assert match(["Goldfish", "great_white  shark", "TIGER SHARK", "cow"], classes) == {
        "Goldfish": 1,
        "great_white  shark": 2,
        "TIGER SHARK": 3,
        "cow": -1,
    }
    assert match(["Carassius auratus"], classes) == {"Carassius auratus": 1}
    assert match(["0", "3", "2"], classes) == {"0": 0, "3": 3, "2": 2}
    assert match(["0", "4"], classes) == {"0": -1, "4": -1}  # not all are indices
    assert match(["7", "3"], [str(digit) for digit in range(10)]) == {"7": 7, "3": 3}  # names first
    assert match(["n01440764", "n02123045", "n99999999"], _IMAGENET_CATEGORIES) == {
        "n01440764": 0,
        "n02123045": _IMAGENET_CATEGORIES.index("tabby"),
        "n99999999": -1,
    }
    assert match(["n01440764"], classes) == {"n01440764": -1}
    assert match([], classes) == {}


# --- out of the decoder


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    found = Decoder(timeout_seconds=5)
    yield found
    found.close()


def value_of(data: bytes) -> int:
    return int(np.asarray(rows.picture(data))[0, 0, 0])


def test_pictures_come_in_order_with_small_copies_and_a_broken_one_costs_itself(
    tmp_path: Path, decoder: Decoder
) -> None:
    files = [picture(tmp_path / f"{number}.png", number) for number in range(60)]
    files[7].write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    files[8].unlink()
    feed = Feed([*files, None], tmp_path / "small", decoder)
    for number in range(60):
        if number in (7, 8):
            with pytest.raises(InputRefused, match=r"damaged|no longer there"):
                feed.take(number)
        else:
            assert value_of(feed.take(number)) == number
    with pytest.raises(InputRefused, match="has no file"):
        feed.take(60)
    assert {int(path.stem) for path in (tmp_path / "small").iterdir()} == set(range(60)) - {7, 8}
    for number in (3, 40, 41, 2):  # another worker, from the beginning or from the middle
        assert value_of(feed.take(number)) == number
    folder = feed._folder
    feed.close()
    assert not folder.exists()


def test_it_decodes_ahead_and_not_without_end(tmp_path: Path, decoder: Decoder) -> None:
    files = [picture(tmp_path / f"{number}.png", number) for number in range(3 * AHEAD)]
    feed = Feed(files, tmp_path / "small", decoder)
    feed.take(0)
    small = tmp_path / "small"
    tempo_wait(lambda: len(list(small.iterdir())) > AHEAD)
    assert len(list(small.iterdir())) <= AHEAD + 2
    feed.close()


def tempo_wait(ready: object) -> None:
    from served import until

    until(ready, limit(20.0))  # type: ignore[arg-type]


def test_a_decoder_that_is_killed_costs_one_picture(tmp_path: Path, decoder: Decoder) -> None:
    files = [picture(tmp_path / f"{number}.png", number) for number in range(4)]
    with decoder.many() as child:
        child.decode(files[0], tmp_path / "0")
        process = child._child
        assert isinstance(process, subprocess.Popen)
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(InputRefused, match="ended the reading of this picture"):
            child.decode(files[1], tmp_path / "1")
        assert child.decode(files[2], tmp_path / "2").width == 12
    assert not decoder._running


def test_a_picture_that_takes_too_long_is_left(tmp_path: Path) -> None:
    decoder = Decoder(timeout_seconds=0.2)
    os.mkfifo(tmp_path / "pipe.png")  # nobody ever writes into it
    with decoder.many() as child:
        with pytest.raises(InputRefused, match="takes longer than"):
            child.decode(tmp_path / "pipe.png", tmp_path / "0")
        assert child.decode(picture(tmp_path / "good.png"), tmp_path / "1").height == 12


# --- the store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SetStore]:
    for number in range(6):
        picture(tmp_path / "folder" / "cat" / f"{number}.png", 10 * number)
    inputs = InputStore(tmp_path / "inputs", 2**26)
    found = SetStore(tmp_path / "sets", {"line 4": tmp_path / "folder"}, inputs)
    yield found
    found.close()
    inputs.close()


def test_offered_sets_and_the_built_in_one_are_found_by_key(store: SetStore) -> None:
    assert store.offered() == [(key_of("line 4"), "line 4"), (REFERENCE, "built-in photographs")]
    mine, built_in = store.get(key_of("line 4")), store.get(REFERENCE)
    assert len(mine.members) == 6 and mine.groups == ("cat",)
    assert len(built_in.members) > 12 and not built_in.groups
    for number, member in enumerate(mine.members):
        assert member.path is not None
        assert value_of(store.take(mine.version, number)) == 10 * int(member.path.stem)
    assert rows.picture(store.take(built_in.version, 0)).width > 100
    for key in ("set-unknown", "", "../../etc"):
        with pytest.raises(SetMissing, match="not known here"):
            store.get(key)
    for version, number in ((mine.version, 6), (mine.version, -1), ("0" * 64, 0)):
        with pytest.raises(SetMissing, match="has changed, or is no longer known"):
            store.take(version, number)


def test_a_picture_of_a_set_becomes_an_input_of_its_own(store: SetStore) -> None:
    mine = store.get(key_of("line 4"))
    given = store.as_input(mine.version, 2)
    assert given.name == mine.members[2].caption == "3.png, labelled cat" and (given.width, given.height) == (12, 12)
    assert store.preview(mine.version, 2)[:2] == b"\xff\xd8"
    built_in = store.get(REFERENCE)
    assert store.as_input(built_in.version, 0).key.startswith("sample-")
    assert store.preview(built_in.version, 0)[:2] == b"\xff\xd8"
