"""Sweeps over sets, run on behalf of nobody in particular: they go on when a page is closed, and after a restart.

A sweep is asked of the engine a part at a time, so that two share a worker fairly and clicks come in between. Each part
brings everything that was found so far, which is written to the disk before the next one is asked for: what stops a
sweep, a cancel, a dead worker or a dead server, costs the part that was under way, and no picture counts twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import secrets
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from cachetools import LRUCache

from hookscope.dashboard.asking.questions import SweepOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.engine.base import AllGone, Engine, Event, NotThere
from hookscope.dashboard.inputs.store import InputMissing, InputRefused
from hookscope.dashboard.sets.later import Later
from hookscope.dashboard.sets.members import PictureSet, SetMissing
from hookscope.dashboard.sets.room import SHORT
from hookscope.dashboard.sets.store import SetStore
from hookscope.dashboard.sets.stored import NO_BASELINES, Baselines
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.codec import CodecError, decode
from hookscope.hooks.results.gaps import LayerGap, gaps_between
from hookscope.hooks.results.sweeps import Sweep, SweepNow, count_firing

Phase = Literal["new", "running", "stopped", "failed", "done"]
PART_SECONDS = (1, 2, 4, 8)  # of the first parts, so that what is found is soon there; the last holds for all others
LOOK_SECONDS = 0.5
TRIES = 3  # parts in a row that may end with a dead worker
LARGE = 6  # of what is computed for every picture and layer
KEPT = 6  # results that are held open, by address in memory: what is looked at is read from the disk as it is looked at

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far the sweep of a set in a model is.

    Attributes:
        phase: where it stands. sentence: why it failed, or what it waits for; "" if there is nothing to say.
        seen, total: pictures. saved: how many of them are on the disk, with what was found of them.
        speed: pictures a second, of the last while; 0 if not known. lost: pictures that were looked at in a part that
            was stopped, and are looked at once more.
        now: what is known of it so far; None if nothing is. changed: a number that rises with every news.
    """

    phase: Phase = "new"
    sentence: str = ""
    seen: int = 0
    total: int = 0
    saved: int = 0
    speed: float = 0.0
    lost: int = 0
    now: SweepNow | None = field(default=None, repr=False, compare=False)
    changed: int = 0

    @property
    def unread(self) -> int:
        """How many of those that were seen could not be read."""
        return len(self.now.unread) if self.now else 0

    @property
    def read(self) -> int:
        """How many pictures the model was shown."""
        return self.seen - self.unread

    @property
    def left_seconds(self) -> float:
        """How long it still takes; NaN if not known."""
        return (self.total - self.seen) / self.speed if self.speed else float("nan")


@dataclass
class _Job:
    """A sweep that runs.

    Attributes:
        deleted: nothing of it is to be written down any more.
    """

    pictures: PictureSet
    side: Side
    path: Path
    progress: Progress
    slot: str = ""
    cancelled: bool = False
    deleted: bool = False
    thread: threading.Thread | None = None


class Sweeps:
    """Which sets were swept in which models, and what was found.

    Arguments:
        engine: runs the models. store: has the sets. folder: where what is found is kept.
        baselines: that are stored.
    """

    def __init__(self, engine: Engine, store: SetStore, folder: Path, baselines: Baselines = NO_BASELINES) -> None:
        self._engine = engine
        self.store, self.baselines = store, baselines
        self._folder = store.room.found = folder
        self._lock = threading.RLock()
        self._jobs: dict[Path, _Job] = {}
        self._open: LRUCache[tuple[Path, int], Sweep] = LRUCache(KEPT)
        self._tellings: LRUCache[Path, tuple[Sweep, SweepNow]] = LRUCache(KEPT)
        self._closed = threading.Event()
        self.later, self.large = Later(), Later(kept=LARGE)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def progress(self, pictures: PictureSet, model: str) -> Progress:
        """How far the sweep of a set in a model is."""
        path = self._path(pictures, model)
        total = len(pictures.members)
        if path is None:
            return Progress(total=total, sentence="The model is being loaded.")
        with self._lock:
            job = self._jobs.get(path)
            if job is not None and (job.progress.phase == "running" or not job.progress.saved or path.exists()):
                return job.progress
        found = self._read(path)
        if found is None:
            return Progress(total=total)
        now = self._told(path, found)
        return Progress("done" if now.seen >= total else "stopped", "", now.seen, total, now.seen, now=now)

    def _told(self, path: Path, found: Sweep) -> SweepNow:
        """What is told of a result that is held open: it takes 5 ms, and a page asks several times."""
        with self._lock:
            of, now = self._tellings.get(path, (None, None))
            if now is None or of is not found:
                now = _now(found)
                self._tellings[path] = found, now
            return now

    def start(self, pictures: PictureSet, model: str) -> None:
        """Begin the sweep, or go on where it stopped; nothing if it runs, or the model is not loaded."""
        path = self._path(pictures, model)
        if path is None or self._closed.is_set():
            return
        with self._lock:
            running = self._jobs.get(path)
            if running is not None and running.progress.phase == "running":
                return
            before = self.progress(pictures, model)
            going = replace(before, phase="running", sentence="", seen=before.saved, changed=before.changed + 1)
            job = _Job(pictures, Side(model, pictures.version), path, going)
            self._jobs[path] = job
            self.store.hold(pictures)
            job.thread = threading.Thread(target=self._run, args=(job,), name=f"sweep {pictures.name}", daemon=True)
            job.thread.start()

    def stop(self, pictures: PictureSet, model: str) -> None:
        """Stop the sweep; what was found up to the last part stays."""
        path = self._path(pictures, model)
        with self._lock:
            job = self._jobs.get(path) if path is not None else None
        if job is not None:
            self._cancel(job)

    def forget(self, pictures: PictureSet) -> None:
        """Stop what sweeps a set, in whatever model, and remove what was found of it."""
        version = pictures.version
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.pictures.version == version]
            self._jobs = {path: job for path, job in self._jobs.items() if job.pictures.version != version}
        for job in jobs:
            job.deleted = True
            self._cancel(job)
        for job in jobs:
            if job.thread is not None:
                job.thread.join(5 * LOOK_SECONDS)
        for path in self._folder.glob(f"{version[:SHORT]}-*"):
            path.unlink(missing_ok=True)

    def found(self, pictures: PictureSet, model: str) -> Sweep | None:
        """What was found and written down so far; None if nothing was."""
        path = self._path(pictures, model)
        return None if path is None else self._read(path)

    def written(self, pictures: PictureSet, model: str) -> Hashable:
        """What stands for everything that is written down of a sweep by now; None if nothing is."""
        path = self._path(pictures, model)
        try:
            return None if path is None else (path, path.stat().st_mtime_ns)
        except OSError:
            return None

    def gaps(self, first: PictureSet, second: PictureSet, model: str) -> tuple[LayerGap, ...] | str | None:
        """How far two sets are apart at each layer, of what is written down of both; None while that is computed.

        Returns:
            Or a sentence, where it cannot be said.
        """
        paths = [self._path(pictures, model) for pictures in (first, second)]
        files = [path for path in paths if path is not None and path.exists()]
        if len(files) < 2:
            return "Look through both sets first."
        key = ("gaps", *((path, path.stat().st_mtime_ns) for path in files))
        return self.later.get(key, lambda: self._compare(files))

    def _compare(self, files: list[Path]) -> tuple[LayerGap, ...]:
        """
        Raises:
            HooksError: what was found of one is gone, or the two cannot be compared.
        """
        one, other = (self._read(path) for path in files)
        if one is None or other is None:
            raise HooksError("What was found of one of the sets is gone. Look through it again.")
        return gaps_between(one, other)

    def read(self, name: str) -> bytes:
        """What a question that needs some of a set's pictures asks for by name, whatever is swept meanwhile.

        Arguments:
            name: "VERSION/NUMBER".

        Raises:
            NotThere: why it is not.
        """
        version, _, number = name.partition("/")
        try:
            return self.store.read(version, int(number))
        except (SetMissing, InputMissing, InputRefused) as error:
            raise NotThere(str(error)) from error

    def close(self) -> None:
        """Stop every sweep."""
        self._closed.set()
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            self._cancel(job)
        for job in jobs:
            if job.thread is not None:
                job.thread.join(1.0)

    # --- the thread of a job

    def _run(self, job: _Job) -> None:
        tries = part = 0
        try:
            while not job.cancelled and job.progress.saved < job.progress.total:
                seconds = PART_SECONDS[min(part, len(PART_SECONDS) - 1)]
                failure = self._part(job, seconds)
                if failure is None:
                    tries, part = 0, part + 1
                    continue
                tries += 1
                if failure.final or tries == TRIES:
                    saved = self._read(job.path)
                    now = None if saved is None else _now(saved)
                    self._tell(job, phase="failed", sentence=failure.sentence, now=now, seen=job.progress.saved)
                    return
            self._tell(job, phase="stopped" if job.cancelled else "done")
        except Exception as error:  # a fault of ours must not leave a page waiting for ever
            log.exception("sweeping %s failed", job.pictures.name)
            self._tell(job, phase="failed", sentence=f"The sweep ended in a fault of the server ({error}).")
        finally:
            self.store.let_go(job.pictures.version)

    def _part(self, job: _Job, seconds: int) -> Event | None:
        """Ask for one part, and write down what it brings; gives the failure, if it is one."""
        progress = job.progress
        unit = Unit(job.side, SweepOf(progress.total, progress.saved, seconds))
        job.slot = secrets.token_urlsafe(12)
        began = time.monotonic()
        self._engine.submit(job.slot, [unit], self._fetch_for(job))
        try:
            return self._follow(job, began)
        finally:
            self._engine.cancel(job.slot)  # which would hold a hundred megabytes of answer for a while

    def _follow(self, job: _Job, began: float) -> Event | None:
        """Wait for what a part brings; see `_part`."""
        cursor = 0
        while True:
            events, cursor = self._engine.events(job.slot, cursor, LOOK_SECONDS)
            for event in events:
                if event.kind == "partial":
                    self._take(job, event.data, began)
                elif event.kind == "done":
                    if not job.deleted:
                        self._save(job, event.data)
                    return None
                elif event.kind == "failed":
                    lost = job.progress.lost + job.progress.seen - job.progress.saved
                    self._tell(job, seen=job.progress.saved, lost=lost)
                    return None if job.cancelled else event
                elif event.kind == "end":
                    self._tell(job, seen=job.progress.saved)
                    job.cancelled = job.cancelled or self._closed.is_set()
                    return None if job.cancelled else Event("failed", None, sentence="The sweep was withdrawn.")
            if job.cancelled:
                lost = job.progress.lost + job.progress.seen - job.progress.saved
                self._tell(job, seen=job.progress.saved, lost=lost)
                return None

    def _take(self, job: _Job, data: bytes, began: float) -> None:
        with contextlib.suppress(CodecError):  # the part itself will come
            now: SweepNow = decode(data, SweepNow)
            speed = (now.seen - job.progress.saved) / max(time.monotonic() - began, 1e-3)
            self._tell(job, now=now, seen=now.seen, speed=speed)

    def _save(self, job: _Job, data: bytes) -> None:
        """Write down what was found, whole or not at all; then it counts."""
        draft = job.path.with_name(f".{job.path.name}.{secrets.token_hex(4)}")
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(job.path)
        finally:
            draft.unlink(missing_ok=True)
        found = self._read(job.path)
        if found is None:
            raise OSError("what was found cannot be read again")
        now = _now(found)
        self._tell(job, seen=now.seen, saved=now.seen, now=now)
        self.store.room.tidy(soon=True)

    def _fetch_for(self, job: _Job) -> Callable[[str], bytes]:
        def fetch(name: str) -> bytes:
            if name.endswith("/found"):
                return job.path.read_bytes() if job.path.exists() else b""
            return self._taken(name)

        return fetch

    def _taken(self, name: str) -> bytes:
        """What a sweep's worker asks for by name: "VERSION/NUMBER", a picture's pixels.

        Raises:
            NotThere: why it is not. AllGone: why none of the others is, either.
        """
        version, _, number = name.partition("/")
        try:
            return self.store.take(version, int(number))
        except SetMissing as gone:
            raise AllGone(str(gone)) from gone
        except (InputMissing, InputRefused) as error:
            raise NotThere(str(error)) from error

    def _cancel(self, job: _Job) -> None:
        job.cancelled = True
        if job.slot:
            self._engine.cancel(job.slot)

    def _tell(self, job: _Job, **news: object) -> None:
        with self._lock:
            job.progress = replace(job.progress, changed=job.progress.changed + 1, **news)  # type: ignore[arg-type]

    # --- what is kept

    def _path(self, pictures: PictureSet, model: str) -> Path | None:
        info = self._engine.info(model)
        if info is None:
            return None
        about = f"{info.fingerprint} {pictures.version}"
        name = f"{pictures.version[:SHORT]}-{hashlib.sha256(about.encode()).hexdigest()[:SHORT]}"
        return self._folder / f"{name}.sweep"

    def _read(self, path: Path) -> Sweep | None:
        """What a file holds; its arrays stay on the disk until they are looked at."""
        try:
            with path.open("rb") as file:
                written = os.fstat(file.fileno()).st_mtime_ns
                with self._lock:
                    known = self._open.get((path, written))
                if known is not None:
                    return known
                found: Sweep = decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), Sweep)
        except (OSError, ValueError):  # it is not there, empty, or none
            return None
        with self._lock:
            for former in [key for key in self._open if key[0] == path]:  # each is a hundred megabytes of memory
                del self._open[former]
            self._open[path, written] = found
        return found


def _now(found: Sweep) -> SweepNow:
    """What is told of a sweep, of what was written down."""
    seen = len(found.pictures) + len(found.unread)
    firing = tuple(
        count_firing(each.layer, each.call, each.fired, each.inputs, each.activation) for each in found.statistics
    )
    return SweepNow(seen, found.answers, firing, found.unread, found.notes)
