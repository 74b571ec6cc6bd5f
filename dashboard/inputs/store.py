"""The pictures that people uploaded: received, decoded, kept as pixels, and found again by key.

    folder/incoming/   uploads on their way in; nothing outlives its request
    folder/pixels/     DIGEST.rgb, every pixel, and DIGEST.jpg, small; one pair however often it was uploaded
    folder/keys/       KEY.json, one per upload

Uploaded bytes are never served: what leaves the store was encoded by us from decoded pixels. A key is the only way to a
picture and cannot be guessed; a file name is a label and never part of a path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hookscope.dashboard.inputs import axes
from hookscope.dashboard.inputs.decoder import Decoder, InputRefused
from hookscope.dashboard.inputs.incoming import Incoming, Readable, receive
from hookscope.dashboard.inputs.labels import file_label
from hookscope.dashboard.inputs.rows import SUFFIX
from hookscope.dashboard.inputs.samples import SAMPLES, Sample
from hookscope.dashboard.places import SAMPLES_FOLDER

__all__ = ["Input", "InputMissing", "InputRefused", "InputStore", "Sample"]

_log = logging.getLogger(__name__)

MAX_UPLOAD_BYTES = 50_000_000
MAX_KEYS = 10_000
_KEY = re.compile(r"[A-Za-z0-9_-]{22}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
SAMPLE_PREFIX = "sample-"
_KEY_BYTES = 1024  # what a key's file counts for
_YOUNG_SECONDS = 3600.0


class InputMissing(LookupError):
    """The store holds no such picture (any more); the text says what to do."""


@dataclass(frozen=True)
class Input:
    """One uploaded picture.

    Attributes:
        key: unguessable; who has it may see the picture. A sample's is "sample-" and its name.
        digest: SHA-256 of size and pixels; the same for everyone who uploads the same picture.
        name: the file's name as a label, cleaned.
        width, height: in pixels, the orientation applied.
        notes: what was done to the pixels, e.g. "first of 24 frames", "transparency drawn over white".
        spread: whether its values use less than half of what their type could hold, as 12 of 16 bits do.
        channels: of an array, or of a picture of more than 8 bits; 0 of any other.
        axes: `axes.EITHER` of an array that may be read in two ways; the name of one where that has been decided.
    """

    key: str
    digest: str
    name: str
    width: int
    height: int
    notes: tuple[str, ...] = ()
    spread: bool = False
    channels: int = 0
    axes: str = ""

    def read_for(self, wants: int, chosen: str) -> Input:
        """The same as a model gets it, of an array that may be read in two ways; as it is where nothing says how.

        Arguments:
            wants: how many channels the model takes. chosen: what a person has said of the axes.
        """
        found = axes.decide((self.height, self.width, self.channels), wants, chosen) if self.axes else None
        if found is None:
            return self
        if found == "channels-last":
            return replace(self, axes=found)
        return replace(self, axes=found, width=self.channels, height=self.width, channels=self.height)


class InputStore:
    """Uploaded pictures in a folder, least recently used out first.

    Arguments:
        folder: made with mode 0700; it survives restarts, and several servers may share it.
        limit_bytes: what the pictures may take on disk; the newest one always stays.
        decode_timeout_seconds: how long reading one picture may take.
        max_upload_bytes: the largest file that is received.
        samples_folder: where the built-in samples lie, if not in the `assets` of this package.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        decode_timeout_seconds: float = 10.0,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
        samples_folder: Path | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.max_upload_bytes = max_upload_bytes
        self._samples_folder = samples_folder or SAMPLES_FOLDER
        self._folder = folder / "pixels"
        self._keys = folder / "keys"
        self._make_folders()
        self._incoming = Incoming(folder / "incoming")
        self._decoder = Decoder(decode_timeout_seconds)
        self._lock = threading.RLock()
        self._sample_lock = threading.Lock()
        self._samples: dict[str, Input] = {}
        self._photographs: tuple[tuple[str, ...], str] | None = None
        self._inputs: OrderedDict[str, Input] = OrderedDict()
        self._uses: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._remember()

    def _make_folders(self) -> None:
        """Make what is not there; also later, because a person may delete the folder while the server runs."""
        for path in (self._folder.parent, self._folder, self._keys):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def receive(self, stream: Readable, length: int | None, name: str) -> Input:
        """Take in an upload: stream it to disk, decode it in a child process, keep its pixels.

        Arguments:
            stream: the body. length: how many bytes it announces, None if it does not say.
            name: the file's name as the browser sent it.

        Raises:
            InputRefused: in one sentence; nothing is left behind.
        """
        with self._incoming.place() as place:
            receive(stream, length, place, self.max_upload_bytes)
            return self._decoded(place, place, name)

    def _decoded(self, source: Path, place: Path, name: str) -> Input:
        decoded = self._decoder.decode(source, place)
        key = secrets.token_urlsafe(16)
        label, notes = file_label(name), decoded.notes
        either = axes.EITHER if decoded.either else ""
        size = decoded.width, decoded.height
        found = Input(key, decoded.digest, label, *size, notes, decoded.spread, decoded.channels, either)
        self._keep(found, place)
        return found

    def adopt(self, source: Path, name: str) -> Input:
        """Take in a picture that lies on this machine, as if it had been uploaded.

        Raises:
            InputRefused: in one sentence; nothing is left behind.
        """
        with self._incoming.place() as place:
            return self._decoded(source, place, name)

    def get(self, key: str) -> Input | None:
        """The picture that was given this key, or None if there is none (any more)."""
        if key.startswith(SAMPLE_PREFIX):
            name = key.removeprefix(SAMPLE_PREFIX)
            with contextlib.suppress(InputRefused):
                return self.sample(name)
            return None
        if not _KEY.fullmatch(key):
            return None
        with self._lock:
            found = self._inputs.get(key) or self._load(self._keys / f"{key}.json")
            if found is None:
                return None
            if not self._rows(found.digest).exists():
                self._forget(key)
                return None
            self._inputs.move_to_end(key)
            with contextlib.suppress(OSError):
                os.utime(self._keys / f"{key}.json")
            return found

    def photographs(self) -> tuple[tuple[str, ...], str]:
        """The keys of the samples that are photographs of their own, no crops; and a hash of their files."""
        with self._sample_lock:
            if self._photographs is None:
                chosen = [sample for sample in SAMPLES.values() if not sample.crop_of]
                files = hashlib.sha256(b"".join((self._samples_folder / each.file).read_bytes() for each in chosen))
                self._photographs = tuple(SAMPLE_PREFIX + each.name for each in chosen), files.hexdigest()[:32]
            return self._photographs

    def pixels(self, digest: str) -> bytes:
        """Every pixel of a picture, by its digest or a sample's key, as `inputs.rows` has them, for the worker.

        Raises:
            InputMissing: the picture is no longer there. InputRefused: there is no such sample.
        """
        if digest.startswith(SAMPLE_PREFIX):
            digest = self.sample(digest.removeprefix(SAMPLE_PREFIX)).digest
        return self._read(digest, SUFFIX)

    def preview(self, key: str) -> bytes:
        """A JPEG of at most 640 pixels on the longer side, for the page.

        Raises:
            InputMissing: nobody was given this key, or the picture is no longer there.
        """
        found = self.get(key)
        if found is None:
            raise InputMissing("This picture is no longer kept; upload it again.")
        return self._read(found.digest, ".jpg")

    def samples(self) -> list[Sample]:
        """The built-in pictures, with title and credit."""
        return list(SAMPLES.values())

    def sample(self, name: str) -> Input:
        """A built-in picture, through the same decoder as everything else.

        Raises:
            InputRefused: there is no such sample.
        """
        if name not in SAMPLES:
            raise InputRefused(f"There is no sample {name!r}; the samples are {', '.join(SAMPLES)}.", 404)
        with self._sample_lock:
            found = self._samples.get(name)
            if found is None or not self._is_whole(found.digest):
                sample = SAMPLES[name]
                with self._incoming.place() as place:
                    decoded = self._decoder.decode(self._samples_folder / sample.file, place)
                    found = Input(f"{SAMPLE_PREFIX}{name}", decoded.digest, sample.file, decoded.width, decoded.height)
                    self._keep_pixels(decoded.digest, place)
                self._samples[name] = found
            return found

    def size_bytes(self) -> int:
        """What the uploaded pictures take on disk."""
        with self._lock:
            return sum(self._sizes.values()) + _KEY_BYTES * len(self._inputs)

    def close(self) -> None:
        """End what is being decoded; the pictures stay."""
        self._decoder.close()
        self._incoming.close()

    def _keep(self, found: Input, place: Path) -> None:
        """Keep what was decoded at `place` under a new key, and let older pictures go."""
        with self._lock:
            self._keep_pixels(found.digest, place)  # which also makes the folder of the keys
            draft = place.with_suffix(".json")
            draft.write_text(json.dumps(asdict(found)))
            draft.replace(self._keys / f"{found.key}.json")
            self._register(found)
            self._evict()

    def _keep_pixels(self, digest: str, place: Path) -> None:
        """Move the decoded files to where their digest says, unless the same pixels are there already."""
        with self._lock:
            self._make_folders()
            for suffix in (".jpg", SUFFIX):  # the pixels last: where they are, the preview is too
                target = self._folder / f"{digest}{suffix}"
                if not target.exists():
                    place.with_suffix(suffix).replace(target)

    def _register(self, found: Input) -> None:
        if found.digest not in self._sizes:  # first, because it fails where the pixels are gone
            preview = self._folder / f"{found.digest}.jpg"
            small = preview.stat().st_size if preview.exists() else 0  # it can be made again
            self._sizes[found.digest] = self._rows(found.digest).stat().st_size + small
        self._inputs[found.key] = found
        self._uses[found.digest] += 1

    def _evict(self) -> None:
        while len(self._inputs) > 1 and (self.size_bytes() > self.limit_bytes or len(self._inputs) > MAX_KEYS):
            self._forget(next(iter(self._inputs)))

    def _forget(self, key: str) -> None:
        found = self._inputs.pop(key)
        (self._keys / f"{key}.json").unlink(missing_ok=True)
        self._uses[found.digest] -= 1
        if self._uses[found.digest] == 0:
            del self._uses[found.digest], self._sizes[found.digest]
            if all(sample.digest != found.digest for sample in self._samples.values()):
                for suffix in (SUFFIX, ".jpg", ".png"):
                    (self._folder / f"{found.digest}{suffix}").unlink(missing_ok=True)

    def _remember(self) -> None:
        """Find what earlier runs kept, least recently used first; remove pixels that no key leads to."""
        for path in sorted(self._keys.glob("*.json"), key=_last_used):
            if self._load(path) is None:
                path.unlink(missing_ok=True)
        for path in self._folder.iterdir():
            # A young one may be another server's, on its way to a key; a sample of its is decoded again when asked for.
            if path.stem not in self._uses and time.time() - _last_used(path) > _YOUNG_SECONDS:
                path.unlink(missing_ok=True)
        self._evict()

    def _load(self, path: Path) -> Input | None:
        """The input that a key's file describes, or None if the file is damaged or its pixels are gone."""
        try:
            found = Input(**(fields := json.loads(path.read_bytes())) | {"notes": tuple(fields["notes"])})
            if found.key != path.stem or not _KEY.fullmatch(found.key) or not _DIGEST.fullmatch(found.digest):
                return None
            self._register(found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return found

    def _read(self, digest: str, suffix: str) -> bytes:
        if not _DIGEST.fullmatch(digest):
            raise InputMissing("This is no picture's digest; choose the picture again.")
        path = self._folder / f"{digest}{suffix}"
        with contextlib.suppress(OSError):
            return path.read_bytes()
        with contextlib.suppress(InputRefused, OSError):
            self._restore(digest)
            return path.read_bytes()
        raise InputMissing("This picture is no longer kept; upload it again.")

    def _restore(self, digest: str) -> None:
        """Make again what can be: a sample from its own file, a preview from the picture.

        Another server on this folder may have removed a sample's pixels, which no key of its own leads to, and a person
        any file.
        """
        for name, sample in list(self._samples.items()):
            if sample.digest == digest:
                self.sample(name)
                return
        with self._incoming.place() as place:
            self._decoder.decode(self._rows(digest), place)
            self._keep_pixels(digest, place)

    def _is_whole(self, digest: str) -> bool:
        return all((self._folder / f"{digest}{suffix}").exists() for suffix in (SUFFIX, ".jpg"))

    def _rows(self, digest: str) -> Path:
        """Where every pixel of a picture is: a PNG if an earlier version kept it, until it is first asked for."""
        path, earlier = (self._folder / f"{digest}{suffix}" for suffix in (SUFFIX, ".png"))
        return earlier if earlier.exists() and not path.exists() else path


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
