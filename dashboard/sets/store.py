"""The sets of pictures that can be looked at: the operator's folders, and the built-in photographs as a first one.

    folder/previews/VERSION/NUMBER.jpg    small copies, made as pictures are decoded
    folder/found/NAME.sweep               what was found of a set in a model; see `sets.sweeps`

A picture is asked for by its set and its number, never by a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from hookscope.dashboard.inputs.decoder import Decoder
from hookscope.dashboard.inputs.store import Input, InputMissing, InputRefused, InputStore
from hookscope.dashboard.sets.feeding import Feed
from hookscope.dashboard.sets.members import Member, PictureSet, SetMissing, scan

REFERENCE = "set-reference"
REFERENCE_NAME = "built-in photographs"
FRESH_SECONDS = 3.0  # after which a folder is looked through anew when somebody asks


def key_of(name: str) -> str:
    """How the page asks for an offered set; the name itself may hold anything."""
    return f"set-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class SetStore:
    """Sets of pictures, by key.

    Arguments:
        folder: made with mode 0700. offered: the operator's folders, by name. inputs: has the built-in photographs, and
            takes a picture of a set as an input of its own.
        decode_timeout_seconds: how long reading one picture may take.
    """

    def __init__(
        self, folder: Path, offered: Mapping[str, Path], inputs: InputStore, decode_timeout_seconds: float = 10.0
    ) -> None:
        self.folder = folder
        self._offered = {key_of(name): (name, path) for name, path in offered.items()}
        self._inputs = inputs
        self._decoder = Decoder(decode_timeout_seconds)
        self._lock = threading.Lock()
        self._scanned: dict[str, tuple[float, PictureSet]] = {}
        self._by_version: dict[str, PictureSet] = {}
        self._feeds: dict[str, Feed] = {}
        self._previews = folder / "previews"
        for path in (folder, self._previews):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def offered(self) -> list[tuple[str, str]]:
        """The sets that everybody may look at: (key, name), the operator's first."""
        return [*((key, name) for key, (name, _) in self._offered.items()), (REFERENCE, REFERENCE_NAME)]

    def get(self, key: str) -> PictureSet:
        """A set as it is now.

        Raises:
            SetMissing: there is none of that key, or its folder cannot be read.
        """
        with self._lock:
            at, known = self._scanned.get(key, (0.0, None))
            if known is not None and time.monotonic() - at < FRESH_SECONDS:
                return known
        if key == REFERENCE:
            found = self._reference()
        elif key in self._offered:
            found = scan(key, *self._offered[key])
        else:
            raise SetMissing("This set is not known here, or no more. Choose another one.")
        with self._lock:
            self._scanned[key] = time.monotonic(), found
            self._by_version[found.version] = found
        return found

    def take(self, version: str, number: int) -> bytes:
        """Every pixel of a picture of a set, as `inputs.rows` has them, for the worker; the next ones are begun.

        Raises:
            SetMissing, InputMissing, InputRefused: there is no such picture, or it cannot be read.
        """
        found, member = self._member(version, number)
        if member.path is None:
            return self._inputs.pixels(self._inputs.sample(member.sample).digest)
        with self._lock:
            feed = self._feeds.get(version)
            if feed is None:
                sources = [each.path for each in found.members]
                feed = self._feeds[version] = Feed(sources, self._previews / version, self._decoder)
        return feed.take(number)

    def let_go(self, version: str) -> None:
        """Nobody sweeps this set any more."""
        with self._lock:
            feed = self._feeds.pop(version, None)
        if feed is not None:
            feed.close()

    def preview(self, version: str, number: int) -> bytes:
        """A small JPEG of a picture.

        Raises:
            SetMissing, InputMissing, InputRefused: there is no such picture, or it cannot be read.
        """
        _, member = self._member(version, number)
        if member.path is None:
            return self._inputs.preview(self._inputs.sample(member.sample).key)
        path = self._previews / version / f"{number}.jpg"
        with contextlib.suppress(OSError):
            return path.read_bytes()
        return self._inputs.preview(self._inputs.adopt(member.path, member.name).key)

    def as_input(self, version: str, number: int) -> Input:
        """A picture of a set as an input of its own.

        Raises:
            SetMissing, InputRefused: there is no such picture, or it cannot be read.
        """
        _, member = self._member(version, number)
        if member.path is None:
            return self._inputs.sample(member.sample)
        return self._inputs.adopt(member.path, member.name)

    def close(self) -> None:
        """End what is being decoded."""
        self._decoder.close()
        for version in list(self._feeds):
            self.let_go(version)

    def _member(self, version: str, number: int) -> tuple[PictureSet, Member]:
        with self._lock:
            found = self._by_version.get(version)
        if found is None or not 0 <= number < len(found.members):
            raise SetMissing("This set has changed, or is no longer known here. Choose it again.")
        return found, found.members[number]

    def _reference(self) -> PictureSet:
        keys, version = self._inputs.photographs()
        members = []
        for key in keys:
            with contextlib.suppress(InputRefused, InputMissing):
                sample = self._inputs.sample(key.removeprefix("sample-"))
                members.append(Member(sample.name, sample=key.removeprefix("sample-")))
        return PictureSet(REFERENCE, REFERENCE_NAME, hashlib.sha256(version.encode()).hexdigest(), tuple(members))
