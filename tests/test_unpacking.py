"""A zip is taken apart in a process of its own: what is used, what is refused and why, and what a hostile one costs."""

from __future__ import annotations

import contextlib
import io
import re
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hookscope.dashboard.inputs.decoder import Decoder, InputRefused
from hookscope.dashboard.inputs.unpacking import Unpacked, unpack

FILE_BYTES, ALL_BYTES = 3_000_000, 20_000_000
LEFT_OUT = (".txt", ".csv")


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    found = Decoder(timeout_seconds=5)
    yield found
    found.close()


class Folder:
    """Takes zips apart into a folder of its own."""

    def __init__(self, decoder: Decoder, place: Path) -> None:
        self.decoder, self.place = decoder, place
        self.inside = place / "inside"
        self.inside.mkdir()

    def unpack(self, data: bytes, most: int = 100, all_bytes: int = ALL_BYTES, first: int = 0) -> list[Unpacked]:
        (self.place / "zip").write_bytes(data)
        return list(
            unpack(
                self.decoder,
                self.place / "zip",
                self.inside,
                first=first,
                most=most,
                file_bytes=FILE_BYTES,
                all_bytes=all_bytes,
                left_out=LEFT_OUT,
            )
        )

    def used(self, data: bytes, **more: int) -> dict[str, bytes]:
        return {
            each.within: (self.inside / str(each.file)).read_bytes()
            for each in self.unpack(data, **more)
            if not each.refused
        }


@pytest.fixture
def folder(decoder: Decoder, tmp_path: Path) -> Folder:
    return Folder(decoder, tmp_path)


def packed(*files: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", how) as made:
        for name, content in files:
            made.writestr(name, content)
    return data.getvalue()


def of_kind(name: str, kind: int) -> zipfile.ZipInfo:
    """A file of a zip that a Unix system packed, of a kind of `stat`."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o644) << 16
    return info


def changed(data: bytes, at: int, value: int, of: bytes = b"PK\x01\x02") -> bytes:
    """The same with two bytes of each header of a kind set, `at` bytes behind its beginning."""
    found = bytearray(data)
    place = found.find(of)
    while place >= 0:
        struct.pack_into("<H", found, place + at, value)
        place = found.find(of, place + 4)
    return bytes(found)


def test_files_come_out_under_numbers_and_what_lies_beside_them_does_not(folder: Folder) -> None:
    pictures = {"cat/1.png": b"one", "cat/2.png": b"two", "dog/1.png": b"three"}
    beside = {"cat/notes.txt": b"x", "__MACOSX/cat/._1.png": b"x", "cat/.DS_Store": b"x", "empty/": b""}
    found = folder.unpack(packed(*pictures.items(), *beside.items()), first=7)
    assert [(each.file, each.within, each.size) for each in found] == [
        (number, name, len(data)) for number, (name, data) in enumerate(pictures.items(), start=7)
    ]
    assert sorted(path.name for path in folder.inside.iterdir()) == ["7", "8", "9"]
    assert [(folder.inside / str(each.file)).read_bytes() for each in found] == list(pictures.values())


def test_a_table_of_labels_lies_at_the_top(folder: Folder) -> None:
    for names, is_there in (
        (("labels.csv", "1.png"), True),
        (("pack/labels.csv", "pack/1.png"), True),
        (("pack/labels.csv", "1.png"), False),
        (("pack/deep/labels.csv", "pack/1.png"), False),
    ):
        found = folder.unpack(packed(*((name, b"1.png,cat") for name in names)))
        assert [each.within for each in found] == [names[1]]
        assert (folder.inside / "labels").exists() == is_there, names
        for path in folder.inside.iterdir():
            path.unlink()


LINK, PIPE, DEVICE = (of_kind("a.png", kind) for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK))
NUMPY = packed(("arr.npy", b"\x93NUMPY"))
# name: (the zip, with "good.png" in it besides; a part of the reason of the other file)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "above": (lambda: packed(("good.png", b"x"), ("../../etc/passwd", b"x")), "leads out of the zip"),
    "absolute": (lambda: packed(("good.png", b"x"), ("/etc/passwd", b"x")), "leads out of the zip"),
    "of Windows": (lambda: packed(("good.png", b"x"), (r"C:\a.png", b"x")), "leads out of the zip"),
    "above, of Windows": (lambda: packed(("good.png", b"x"), (r"a\..\..\a.png", b"x")), "leads out of the zip"),
    "a link": (lambda: packed(("good.png", b"x"), (LINK, b"/etc/passwd")), "links are not followed"),
    "a pipe": (lambda: packed(("good.png", b"x"), (PIPE, b"x")), "a pipe, a socket or a device"),
    "a device": (lambda: packed(("good.png", b"x"), (DEVICE, b"x")), "a pipe, a socket or a device"),
    "empty": (lambda: packed(("good.png", b"x"), ("a.png", b"")), "The file is empty"),
    "a zip": (lambda: packed(("good.png", b"x"), ("a.zip", packed(("b", b"x")))), "unpack it first"),
    "a zip by another name": (lambda: packed(("good.png", b"x"), ("a.png", packed(("b", b"x")))), "unpack it first"),
    "large": (lambda: packed(("good.png", b"x"), ("a.png", bytes(FILE_BYTES + 1))), "larger than 3 MB"),
    "of zeros": (lambda: packed(("good.png", b"x"), ("a.png", bytes(FILE_BYTES - 1))), "more than 200 times as large"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused_with_its_reason_and_the_others_are_used(folder: Folder, name: str) -> None:
    made, reason = REFUSED[name]
    good, other = folder.unpack(made())
    assert (good.within, good.file, good.refused) == ("good.png", 0, "")
    assert reason in other.refused and other.file == -1
    assert [path.name for path in folder.inside.iterdir()] == ["0"]
    assert {path.name for path in folder.place.iterdir()} == {"zip", "inside"}


def test_other_ways_of_packing_and_passwords_are_refused(folder: Folder) -> None:
    for how in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        (one,) = folder.unpack(packed(("a.png", b"x" * 100), how=how))
        assert "packed in a way that is not read" in one.refused
    locked = changed(changed(packed(("a.png", b"x" * 100)), 8, 1), 6, 1, of=b"PK\x03\x04")
    assert "locked with a password" in folder.unpack(locked)[0].refused
    assert not list(folder.inside.iterdir())


def test_an_array_is_no_zip(folder: Folder) -> None:
    assert folder.used(packed(("a.npz", NUMPY))) == {"a.npz": NUMPY}


def test_names_are_text_and_equal_ones_are_both_kept(folder: Folder) -> None:
    names = ["a\x1b[2Jb.png", "same.png", "=cmd().png", "größe.png"]
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = packed(*((name, name.encode()) for name in names), ("same.png", b"another"))
    found = folder.unpack(data)
    assert [each.within for each in found] == [*names, "same.png"]
    assert (folder.inside / "4").read_bytes() == b"another" and (folder.inside / "1").read_bytes() == b"same.png"
    # as systems write it that do not say that it is UTF-8
    unsaid = changed(changed(packed(("größe.png", b"x")), 8, 0), 6, 0, of=b"PK\x03\x04")
    assert zipfile.ZipFile(io.BytesIO(unsaid)).namelist() != ["größe.png"]
    for path in folder.inside.iterdir():
        path.unlink()
    assert [each.within for each in folder.unpack(unsaid)] == ["größe.png"]


def test_a_damaged_file_costs_itself(folder: Folder) -> None:
    data = packed(("a.png", b"first" * 100), ("b.png", b"second" * 100), how=zipfile.ZIP_STORED)
    found = folder.unpack(data.replace(b"firstfirst", b"firstFIRST", 1))
    assert ["damaged in the zip" in each.refused for each in found] == [True, False]
    for each in (b"", b"PK\x03\x04", b"nonsense" * 100, data[: len(data) // 2], b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(InputRefused, match="damaged, cut short, or no zip"):
            folder.unpack(each)


def test_at_most_so_many_are_used(folder: Folder) -> None:
    found = folder.unpack(packed(*((f"{number}.png", b"x") for number in range(5))), most=3)
    assert [each.refused == "" for each in found] == [True] * 3 + [False] * 2
    assert "at most 3 pictures" in found[4].refused and len(list(folder.inside.iterdir())) == 3


# --- bombs


def overlapping(copies: int, kernel: bytes) -> bytes:
    """A zip whose list names one file many times."""
    data = packed(("a.png", kernel))
    place = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[place:end]
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, copies % 2**16, copies % 2**16, len(entry) * copies, place, 0)
    return data[:place] + entry * copies + tail


def test_files_that_lie_over_each_other_are_refused(folder: Folder) -> None:
    assert folder.unpack(overlapping(1, b"x" * 1000))[0].refused == ""
    for copies in (2, 1000):
        with pytest.raises(InputRefused, match="lie over each other"):
            folder.unpack(overlapping(copies, b"x" * 1000))


def test_what_comes_to_too_much_is_refused_before_anything_is_written(folder: Folder) -> None:
    data = packed(*((f"{number}.png", bytes(range(256)) * 4000) for number in range(30)))
    with pytest.raises(InputRefused, match="come to 31 MB, and there is room for 20 MB"):
        folder.unpack(data)
    assert not list(folder.inside.iterdir())


def peak_bytes(folder: Folder, data: bytes) -> int:
    """The most memory that the process which takes a zip apart has had."""
    most = [0]
    start = folder.decoder.start

    def watched(*arguments: str) -> subprocess.Popen[bytes]:
        child = start(*arguments)

        def look() -> None:
            while child.poll() is None:
                with contextlib.suppress(OSError):
                    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text())
                    most[0] = max(most[0], 1024 * int(found[1]) if found else 0)
                time.sleep(0.005)

        threading.Thread(target=look, daemon=True).start()
        return child

    folder.decoder.start = watched  # type: ignore[method-assign]
    try:
        with contextlib.suppress(InputRefused):
            folder.unpack(data)
    finally:
        folder.decoder.start = start  # type: ignore[method-assign]
    return most[0]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_a_bomb_costs_neither_disk_nor_memory(folder: Folder) -> None:
    """200 MB of zeros, told truly, told as little, and as a file that is small enough."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as made:
        with made.open("bomb.png", "w") as file:
            for _ in range(40):
                file.write(bytes(5_000_000))
        made.writestr("good.png", b"x")
    honest = data.getvalue()
    usual = peak_bytes(folder, packed(("good.png", b"x")))
    for told, reason in ((None, "larger than 3 MB"), (1000, "damaged in the zip"), (2_900_000, "damaged in the zip")):
        for path in folder.inside.iterdir():
            path.unlink()
        lying = bytearray(honest)
        if told is not None:
            struct.pack_into("<I", lying, honest.index(b"PK\x01\x02") + 24, told)
        bomb, good = folder.unpack(bytes(lying))
        assert reason in bomb.refused and not good.refused, bomb
        assert sum(path.stat().st_size for path in folder.inside.iterdir()) == 1
    (folder.inside / "0").unlink()
    assert usual < peak_bytes(folder, honest) + 1_000_000 < usual + 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_a_list_without_end_is_refused(folder: Folder) -> None:
    endless = overlapping(500_000, b"x")
    with pytest.raises(InputRefused, match=r"list of files is too long"):
        folder.unpack(endless)
    assert peak_bytes(folder, endless) < 60_000_000
    # where its end tells less than there is, what is told is read
    lying = bytearray(endless)
    struct.pack_into("<I", lying, len(lying) - 22 + 12, 51)
    (one,) = folder.unpack(bytes(lying))
    assert "damaged in the zip" in one.refused


def test_a_server_that_stops_ends_it(tmp_path: Path) -> None:
    decoder = Decoder()
    decoder.close()
    with pytest.raises(InputRefused, match="is stopping"):
        Folder(decoder, tmp_path).unpack(packed(("a.png", b"x")))
