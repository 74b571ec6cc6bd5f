"""Which pictures a check-up looks at: some of a folder's, evenly over its classes, or the built-in photographs.

Which they are follows from the names of the files alone, so that the next check-up, and another machine's, looks at the
same ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hookscope.dashboard.checking.refusals import Unchecked
from hookscope.dashboard.inputs.decoder import Decoder, InputRefused, Many
from hookscope.dashboard.inputs.labels import file_label
from hookscope.dashboard.inputs.rows import SUFFIX
from hookscope.dashboard.inputs.samples import PHOTOGRAPHS, SAMPLES
from hookscope.dashboard.inputs.store import SAMPLE_PREFIX
from hookscope.dashboard.places import SAMPLES_FOLDER
from hookscope.dashboard.sets.feeding import check_file
from hookscope.dashboard.sets.members import LABELS, group_of, in_any_order, is_beside, no_picture, read_labels, walk
from hookscope.dashboard.sets.store import REFERENCE, REFERENCE_NAME, key_of

SPARE = 200  # files of each class that are kept in case those before them cannot be read
MOST_REFUSED = 200  # files that cannot be read, after which no more are tried


@dataclass(frozen=True)
class Candidate:
    """A file that may be a picture.

    Attributes:
        name: as a label. group: what it is said to show; "" if nobody says. path: where it lies.
        key: how a page asks for it as an input; "" where only a set has it.
    """

    name: str
    group: str
    path: Path
    key: str = ""


@dataclass(frozen=True)
class Drawn:
    """The pictures among which a check-up chooses, in the order in which it does.

    Attributes:
        name: of the set, for people. key: how a page that offers it asks for it. built_in: whether nobody named one.
        candidates: so many that some may be unreadable. refused: (a file's name, why it is not opened).
        files: how many there are in all.
    """

    name: str
    key: str
    built_in: bool
    candidates: tuple[Candidate, ...]
    refused: tuple[tuple[str, str], ...] = ()
    files: int = 0


def draw(images: tuple[str, Path] | None, most: int) -> Drawn:
    """Choose pictures.

    Arguments:
        images: a set's name and folder; None for the built-in photographs. most: how many are wanted.

    Raises:
        Unchecked: the folder cannot be read, or holds no picture.
    """
    if images is None:
        samples = [SAMPLES[name] for name in PHOTOGRAPHS]
        built_in = [
            Candidate(each.file, "", SAMPLES_FOLDER / each.file, f"{SAMPLE_PREFIX}{each.name}") for each in samples
        ]
        return Drawn(REFERENCE_NAME, REFERENCE, True, tuple(built_in), files=len(built_in))
    name, folder = images
    try:
        next(folder.iterdir(), None)
    except OSError as error:
        raise Unchecked(f"The folder {folder} cannot be read ({error.strerror}).") from error
    found, refused, files = _found(folder, most + SPARE)
    if not files:
        reason = f" Of {refused[0][0]}: {refused[0][1]}" if refused else " It holds no file that may be one."
        raise Unchecked(f"There is no picture in {folder}.{reason}")
    return Drawn(name, key_of(name), False, tuple(_in_turns(found)), tuple(refused), files)


def _found(folder: Path, of_each: int) -> tuple[dict[str, list[tuple[bytes, Candidate]]], list[tuple[str, str]], int]:
    """The files of each class that come first, what is no file, and how many files there are."""
    labels = read_labels(folder / LABELS)
    groups: dict[str, list[tuple[bytes, Candidate]]] = {}
    refused: list[tuple[str, str]] = []
    files = 0
    for path, status in walk(folder):
        if is_beside(path.name):
            continue
        label = file_label(path.name)
        if reason := no_picture(status):
            refused.append((label, reason))
            continue
        files += 1
        within = path.relative_to(folder)
        group = group_of(within, labels)
        kept = groups.setdefault(group, [])
        kept.append((in_any_order(within.as_posix()), Candidate(label, group, path)))
        if len(kept) >= 2 * of_each:  # a folder may hold millions
            groups[group] = _first(kept, of_each)
    return {group: _first(kept, of_each) for group, kept in groups.items()}, refused, files


def _first(kept: list[tuple[bytes, Candidate]], count: int) -> list[tuple[bytes, Candidate]]:
    return heapq.nsmallest(count, kept, key=lambda each: each[0])


def _in_turns(groups: dict[str, list[tuple[bytes, Candidate]]]) -> Iterator[Candidate]:
    """One of each class after the other, then the second ones, until all are through."""
    turns = [groups[group] for group in sorted(groups, key=in_any_order)]
    for place in range(max(map(len, turns), default=0)):
        yield from (each[place][1] for each in turns if place < len(each))


class Reader:
    """Decodes files in a child process, which no file can harm but itself.

    Arguments:
        folder: where what was decoded is kept, for as long as it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._decoder = Decoder()
        self._child = Many(self._decoder)
        self._count = 0

    def read(self, path: Path) -> Path:
        """Decode a picture into a file, as `inputs.rows` has it.

        Raises:
            InputRefused: it cannot be read; a sentence.
        """
        check_file(path)
        target = self._folder / str(self._count)
        self._count += 1
        self._child.decode(path, target)
        target.with_suffix(".jpg").unlink(missing_ok=True)
        return target.with_suffix(SUFFIX)

    def close(self) -> None:
        """End the child."""
        self._child.end()
        self._decoder.close()


def why_none(drawn: Drawn, refused: list[tuple[str, str]]) -> str:
    """What is to be said where no picture can be read."""
    name, reason = refused[0]
    return f"None of the {drawn.files:,} files of {drawn.name} can be looked at. Of {name}: {reason}"


__all__ = ["Candidate", "Drawn", "InputRefused", "Reader", "draw", "why_none"]
