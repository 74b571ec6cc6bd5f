"""A set of pictures: what is in a folder, which of it can be looked at, and why the rest cannot.

Names are labels: a picture is asked for by its number, and no name of a visitor's ever becomes a path.
"""

from __future__ import annotations

import csv
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from hookscope.dashboard.inputs.labels import file_label, path_label

MOST = 20_000  # pictures of a set
DEEPEST = 4  # folders below each other
LABELS = "labels.csv"
LABELS_BYTES = 4 << 20
# of files that lie beside pictures and are none: they are left out without a word
BESIDE = (".csv", ".txt", ".json", ".md", ".xml", ".yaml", ".yml", ".db", ".ini")


class SetMissing(LookupError):
    """There is no such set, or it is gone; the text says what to do."""


@dataclass(frozen=True)
class Member:
    """One picture of a set.

    Attributes:
        name: its file's, as a label. group: what it is said to show: its folder's name, or what `labels.csv` says.
        within: the same with the folders of the set that it lies in, as a label; "" if it lies in none.
        path: where it lies; None of a built-in sample, whose name `sample` is, and of a file that is gone.
        stamp: of a file in a folder: another one where it has changed.
    """

    name: str
    group: str = ""
    path: Path | None = None
    sample: str = ""
    stamp: str = field(default="", repr=False)
    within: str = ""

    @property
    def place(self) -> str:
        """Its file's name, with the folders of the set that it lies in: two may have the same name."""
        return self.within or self.name

    @property
    def caption(self) -> str:
        """What it is called where it stands alone: its file's name, and what it is said to show."""
        return f"{self.name}, labelled {self.group}" if self.group else self.name


@dataclass(frozen=True)
class PictureSet:
    """A set of pictures.

    Attributes:
        key: how the page asks for it; unguessable, of a visitor's own. name: for people.
        version: a hash of what is in it: what was computed of another version is not its own.
        members: by number. refused: (a file's name with its folders, why it is not used).
        offered: whether everybody sees it. note: what is to be said of it; "" for nothing.
    """

    key: str
    name: str
    version: str
    members: tuple[Member, ...] = field(repr=False)
    refused: tuple[tuple[str, str], ...] = ()
    offered: bool = True
    note: str = ""

    @property
    def groups(self) -> tuple[str, ...]:
        """What its pictures are said to show, each once, in their order."""
        return tuple(dict.fromkeys(member.group for member in self.members if member.group))


def scan(key: str, name: str, folder: Path) -> PictureSet:
    """The set that a folder is; class subfolders, or a `labels.csv` of names and classes, say what pictures show.

    Links are not followed, wherever they lead. What is no regular file is refused with its reason.

    Raises:
        SetMissing: the folder cannot be read.
    """
    digest = hashlib.sha256()
    members: list[Member] = []
    order: list[tuple[bytes, int]] = []  # by the places in the folder: the same of a folder that was moved
    refused: list[tuple[str, str]] = []
    labels = read_labels(folder / LABELS)
    try:
        os.listdir(folder)
    except OSError as error:
        raise SetMissing(
            f"The folder of the set {name!r} cannot be read ({error.strerror}). Tell whoever runs the server."
        ) from error
    for path, status in walk(folder):
        if is_beside(path.name):
            continue
        within = path.relative_to(folder)
        if reason := no_picture(status):
            refused.append((path_label(within), reason))
        elif len(members) == MOST:
            refused.append((path_label(within), too_many()))
        else:
            order.append((in_any_order(within.as_posix()), len(members)))
            stamp = f"{within.as_posix()!r} {status.st_size} {status.st_mtime_ns}"
            shown = Member(file_label(path.name), group_of(within, labels), path, stamp=stamp, within=below(within))
            members.append(shown)
            digest.update(f"{stamp} {members[-1].group!r}\n".encode())
    in_order = tuple(members[place] for _, place in sorted(order))
    return PictureSet(key, name, digest.hexdigest(), in_order, tuple(refused))


def in_any_order(name: str) -> bytes:
    """What pictures are ordered by, so that the first of them tell of all."""
    return hashlib.sha256(os.fsencode(name)).digest()


def in_turns(groups: Sequence[str]) -> list[int]:
    """The places of pictures that are said to show these: one of each after the other, then the second ones.

    >>> in_turns(["cat", "cat", "cup", "cat"])
    [0, 2, 1, 3]
    """
    places: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    turns = [places[group] for group in sorted(places, key=in_any_order)]
    most = max(map(len, turns), default=0)
    return [each[turn] for turn in range(most) for each in turns if turn < len(each)]


def is_beside(name: str) -> bool:
    """Whether a file lies beside pictures and is none, by its name alone."""
    return name.startswith(".") or os.path.splitext(name)[1].lower() in BESIDE


def too_many() -> str:
    """Why a picture beyond the last one is not used."""
    return f"A set holds at most {MOST:,} pictures; this one is left out."


def group_of(within: PurePath, labels: Mapping[str, str]) -> str:
    """What a file is said to show, by a table of labels, else by its folder."""
    return labels.get(within.as_posix()) or labels.get(within.name) or file_group(within)


def file_group(within: PurePath) -> str:
    """The class that a file's folder says it shows: the innermost one's name; "" of a file that lies in no folder."""
    return file_label(within.parts[-2]) if len(within.parts) > 1 else ""


def below(within: PurePath) -> str:
    """A file's name with its folders, as a label; "" of one that lies in none."""
    return path_label(within) if len(within.parts) > 1 else ""


def walk(folder: Path, depth: int = 0) -> Iterator[tuple[Path, os.stat_result]]:
    """Every entry that is no folder, by name, folder by folder; hidden ones left out."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # it went away, or may not be read: what it holds is not there
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            if depth < DEEPEST:
                yield from walk(Path(entry.path), depth + 1)
        else:
            yield Path(entry.path), status


def no_picture(status: os.stat_result) -> str:
    """Why an entry of a folder is not opened; "" of a file that may be a picture."""
    if stat.S_ISLNK(status.st_mode):
        return "It is a link, and links are not followed."
    if not stat.S_ISREG(status.st_mode):
        return "It is no file: a pipe, a socket or a device."
    return "" if status.st_size else "The file is empty."


def read_labels(path: Path) -> dict[str, str]:
    """What a table says of files, by their names or paths below the folder; nothing if there is none."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LABELS_BYTES:
            return {}
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        rows = [row for row in csv.reader(text.splitlines()) if len(row) >= 2]
    except (OSError, csv.Error):  # it is no table
        return {}
    return {row[0].strip(): file_label(row[1].strip()) for row in rows if row[1].strip()}
