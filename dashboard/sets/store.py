"""The sets of pictures that can be looked at: the operator's folders, the built-in photographs, and visitors' own.

    folder/visitors/                      visitors' sets, see `sets.visitors`
    folder/arriving/                      those in the making, see `sets.arriving`
    folder/previews/VERSION/NUMBER.jpg    small copies, made as pictures are decoded
    folder/found/NAME.sweep               what was found of a set in a model, see `sets.sweeps`

A picture is asked for by its set and its number, never by a path. What all of it takes on the disk, `sets.room` says.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hookscope.dashboard.inputs.decoder import Decoder
from hookscope.dashboard.inputs.labels import file_label
from hookscope.dashboard.inputs.store import Input, InputMissing, InputRefused, InputStore
from hookscope.dashboard.sets.arriving import Arriving
from hookscope.dashboard.sets.feeding import Feed
from hookscope.dashboard.sets.members import Member, PictureSet, SetMissing, scan
from hookscope.dashboard.sets.reading import Reader
from hookscope.dashboard.sets.room import Room
from hookscope.dashboard.sets.visitors import LONGEST_NAME, Entry, Record, VisitorSets

REFERENCE = "set-reference"
REFERENCE_NAME = "built-in photographs"
FRESH_SECONDS = 3.0  # after which a folder is looked through anew when somebody asks
LIMIT_BYTES = 2_000_000_000
REMEMBERED = 24  # versions of sets whose pictures can be asked for, besides those that are swept
CHANGED = "Files of this folder were added, changed or removed since it was looked at last, so it is another set now."


def key_of(name: str) -> str:
    """How the page asks for an offered set; the name itself may hold anything."""
    return f"set-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class SetStore:
    """Sets of pictures, by key.

    Arguments:
        folder: made with mode 0700. offered: the operator's folders, by name. inputs: has the built-in photographs, and
            takes a picture of a set as an input of its own.
        decode_timeout_seconds: how long reading one picture may take.
        limit_bytes: what visitors' sets, small copies and what was found may take on the disk.

    Attributes:
        arriving: visitors' sets in the making. room: what all of it takes.
    """

    def __init__(
        self,
        folder: Path,
        offered: Mapping[str, Path],
        inputs: InputStore,
        decode_timeout_seconds: float = 10.0,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.folder = folder
        self._offered = {key_of(name): (name, path) for name, path in offered.items()}
        self._inputs = inputs
        self._decoder = Decoder(decode_timeout_seconds)
        self._reader = Reader(self._decoder)
        self._lock = threading.Lock()
        self._scanned: dict[str, tuple[float, PictureSet]] = {}
        self._by_version: OrderedDict[str, PictureSet] = OrderedDict()
        self._swept: dict[str, PictureSet] = {}
        self._feeds: dict[str, Feed] = {}
        self._previews = folder / "previews"
        for path in (folder, self._previews):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.room = Room(folder, limit_bytes)
        self._visitors = VisitorSets(folder / "visitors")
        self.arriving = Arriving(folder / "arriving", self._visitors, self.room, self._decoder, inputs.max_upload_bytes)
        self.room.tidy()

    def offered(self) -> list[tuple[str, str]]:
        """The sets that everybody may look at: (key, name), the operator's first."""
        return [*((key, name) for key, (name, _) in self._offered.items()), (REFERENCE, REFERENCE_NAME)]

    def named(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Those of some keys that are visitors' sets: (key, name)."""
        found = []
        for key in dict.fromkeys(keys):
            with contextlib.suppress(SetMissing):
                found.append((key, self._visitors.get(key).name))
        return found

    def get(self, key: str) -> PictureSet:
        """A set as it is now; while it is swept, as it was when that began.

        Raises:
            SetMissing: there is none of that key, or its folder cannot be read.
        """
        with self._lock:
            swept = self._swept.get(key)
            at, known = self._scanned.get(key, (0.0, None))
        if swept is not None:
            return swept
        if known is not None and time.monotonic() - at < FRESH_SECONDS:
            return known
        if key == REFERENCE:
            mark, found = key, self._reference()
        elif key in self._offered:
            name, folder = self._offered[key]
            mark, found = hashlib.sha256(f"{key} {folder}".encode()).hexdigest()[:40], scan(key, name, folder)
        else:
            mark, found = key, self._visitor(key)
        found = replace(found, note=known.note if known is not None and known.version == found.version else "")
        if self.room.use(mark, found.version):
            found = replace(found, note=CHANGED)
            self.room.tidy()
        with self._lock:
            self._scanned[key] = time.monotonic(), found
            self._remember(found)
        return found

    def take(self, version: str, number: int) -> bytes:
        """Every pixel of a picture of a set, as `inputs.rows` has them, for the worker; the next ones are begun.

        Raises:
            SetMissing: there is no such picture, or the folder that holds it is gone.
            InputMissing, InputRefused: it cannot be read.
        """
        found, member = self._member(version, number)
        if member.sample:
            return self._inputs.pixels(self._inputs.sample(member.sample).digest)
        with self._lock:
            feed = self._feeds.get(version)
            if feed is None:
                sources = [each.path for each in found.members]
                feed = self._feeds[version] = Feed(sources, self._previews / version, self._decoder)
        try:
            return feed.take(number)
        except InputRefused:
            self._check_folder(found.key, member)
            raise

    def read(self, version: str, number: int) -> bytes:
        """The same of one of a few pictures, whatever is swept meanwhile.

        Raises:
            SetMissing, InputMissing, InputRefused: there is no such picture, or it cannot be read.
        """
        _, member = self._member(version, number)
        if member.sample:
            return self._inputs.pixels(self._inputs.sample(member.sample).digest)
        if member.path is None:
            raise InputRefused("This file is no longer there.", 404)
        return self._reader.read(member.path, self._previews / version / f"{number}.jpg")

    def hold(self, pictures: PictureSet) -> None:
        """It is being swept, as it is now."""
        first = self.room.hold(pictures.version)
        with self._lock:
            self._swept[pictures.key] = pictures
            self._remember(pictures)
            left = self._feeds.pop(pictures.version, None) if first else None
        if left is not None:  # of a worker that asked for more when nobody wanted it
            left.close()

    def let_go(self, version: str) -> None:
        """It is swept once less; once nobody sweeps it, what is decoded ahead goes."""
        if not self.room.let_go(version):
            return
        with self._lock:
            feed = self._feeds.pop(version, None)
            self._swept = {key: each for key, each in self._swept.items() if each.version != version}
        if feed is not None:
            feed.close()

    def preview(self, version: str, number: int) -> bytes:
        """A small JPEG of a picture.

        Raises:
            SetMissing, InputMissing, InputRefused: there is no such picture, or it cannot be read.
        """
        _, member = self._member(version, number)
        if member.sample:
            return self._inputs.preview(self._inputs.sample(member.sample).key)
        path = self._previews / version / f"{number}.jpg"
        with contextlib.suppress(OSError):
            return path.read_bytes()
        return self._inputs.preview(self._adopt(member).key)

    def as_input(self, version: str, number: int) -> Input:
        """A picture of a set as an input of its own.

        Raises:
            SetMissing, InputRefused: there is no such picture, or it cannot be read.
        """
        _, member = self._member(version, number)
        return self._inputs.sample(member.sample) if member.sample else self._adopt(member)

    # --- sets of visitors

    def subset(self, pictures: PictureSet, numbers: Sequence[int], name: str) -> str:
        """Make a set of some pictures of another one, and return its key; it lives on without that one.

        Arguments:
            numbers: of the pictures, each counted once. name: "" to call it by how many they are.

        Raises:
            InputRefused: there are none of these numbers, or the disk has no room. SetMissing: the set is gone.
        """
        chosen = list(dict.fromkeys(numbers))
        if not chosen or not all(0 <= number < len(pictures.members) for number in chosen):
            raise InputRefused("A set is made of pictures of another one, by their numbers, and of at least one.", 400)
        own = None if pictures.offered else self._visitors.get(pictures.key)
        entries = [self._entry(pictures, own, number) for number in chosen]
        label = file_label(name) if name.strip() else f"{len(chosen):,} of {pictures.name}"
        self.room.check(sum(entry.size for _, entry in entries))
        try:
            key = self._visitors.choose(label[:LONGEST_NAME], entries)
        except FileNotFoundError as error:
            raise SetMissing("This set has changed, or is no longer known here. Choose it again.") from error
        self.get(key)
        self.room.tidy(soon=True)
        return key

    def delete(self, key: str) -> None:
        """Remove a visitor's set, with its small copies; nobody may sweep it any more.

        Raises:
            InputRefused: it is no visitor's.
        """
        if key == REFERENCE or key in self._offered:
            raise InputRefused("This set is offered by whoever runs the server, and is not deleted here.", 403)
        with self._lock:
            self._swept.pop(key, None)
            _, known = self._scanned.pop(key, (0.0, None))
            if known is not None:
                self._by_version.pop(known.version, None)
        if known is None:
            with contextlib.suppress(SetMissing):
                known = self._visitor(key)
        self._visitors.delete(key)
        if known is not None:
            self.room.forget(key, known.version)

    def close(self) -> None:
        """End what is being decoded, and what is in the making."""
        self._decoder.close()
        self._reader.close()
        self.arriving.close()
        with self._lock:
            feeds = list(self._feeds.values())
            self._feeds.clear()
        for feed in feeds:
            feed.close()

    # --- inside

    def _remember(self, found: PictureSet) -> None:
        """Its pictures can be asked for; holds the lock."""
        self._by_version[found.version] = found
        self._by_version.move_to_end(found.version)
        swept = {each.version for each in self._swept.values()}
        old = [version for version in self._by_version if version not in swept]
        for version in old[: max(0, len(old) - REMEMBERED)]:
            del self._by_version[version]

    def _member(self, version: str, number: int) -> tuple[PictureSet, Member]:
        with self._lock:
            found = self._by_version.get(version)
        if found is None or not 0 <= number < len(found.members):
            raise SetMissing("This set has changed, or is no longer known here. Choose it again.")
        return found, found.members[number]

    def _adopt(self, member: Member) -> Input:
        if member.path is None:
            raise InputRefused("This file is no longer there.", 404)
        return self._inputs.adopt(member.path, member.caption)

    def _check_folder(self, key: str, member: Member) -> None:
        """Say so where a picture cannot be read because its whole folder is gone.

        Raises:
            SetMissing: it is.
        """
        if member.path is None or member.path.exists():
            return
        roots = [(name, folder) for name, folder in self._offered.values() if member.path.is_relative_to(folder)]
        for name, folder in roots:
            try:
                gone = not os.listdir(folder)  # as where a disk was taken away from under it
            except OSError:
                gone = True
            if gone:
                raise SetMissing(
                    f"The folder of the set {name!r} is gone. What was found of it stays; tell whoever runs the server."
                )
        if not roots and not self._visitors.there(key):
            raise SetMissing("This set was deleted.")

    def _reference(self) -> PictureSet:
        keys, version = self._inputs.photographs()
        members = []
        for key in keys:
            with contextlib.suppress(InputRefused, InputMissing):
                sample = self._inputs.sample(key.removeprefix("sample-"))
                members.append(Member(sample.name, sample=key.removeprefix("sample-")))
        return PictureSet(REFERENCE, REFERENCE_NAME, hashlib.sha256(version.encode()).hexdigest(), tuple(members))

    def _visitor(self, key: str) -> PictureSet:
        """A visitor's set, with those of its pictures that lie in an operator's folder as they are now."""
        record = self._visitors.get(key)
        folders: dict[str, dict[Path, Member]] = {}
        for of in {entry.of for entry in record.entries if entry.of}:
            if of not in self._offered:
                raise SetMissing("The set that this one was chosen from is not offered any more. Choose another one.")
            folders[of] = {member.path: member for member in self.get(of).members if member.path is not None}
        members = tuple(self._as_member(key, entry, folders) for entry in record.entries)
        digest = hashlib.sha256(key.encode())
        for member in members:
            digest.update(f"{member.name!r} {member.group!r} {member.sample!r} {member.stamp}\n".encode())
        return PictureSet(key, record.name, digest.hexdigest(), members, record.refused, offered=False)

    def _as_member(self, key: str, entry: Entry, folders: Mapping[str, Mapping[Path, Member]]) -> Member:
        if entry.sample:
            return Member(entry.name, entry.group, sample=entry.sample)
        if not entry.of:
            path = self._visitors.path(key, entry.file)
            return Member(entry.name, entry.group, path, stamp=str(entry.size), within=entry.within)
        path = self._offered[entry.of][1] / entry.within
        return folders[entry.of].get(path, Member(entry.name, stamp="gone", within=entry.within))

    def _entry(self, pictures: PictureSet, own: Record | None, number: int) -> tuple[str, Entry]:
        """A picture as one of another set, with the key of the set that has its file."""
        if own is not None:
            entry = own.entries[number]
            return ("" if entry.of or entry.sample else pictures.key), entry
        member = pictures.members[number]
        if member.path is None:
            return "", Entry(member.name, sample=member.sample)
        within = member.path.relative_to(self._offered[pictures.key][1]).as_posix()
        return "", Entry(member.name, of=pictures.key, within=within)
