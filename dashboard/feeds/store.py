"""The runs that can be followed: folders of the operator's by name, each read as it grows, when somebody looks at it.

A page asks for a run by its name, never by a path. What is read of it once is kept as long as pages ask for it.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.dashboard.feeds.checkpoints import Checkpoint, Settled
from hookscope.dashboard.feeds.curves import Curve, Curves
from hookscope.dashboard.feeds.series import Column, Series
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feed_files import Feed
from hookscope.hooks.results.feeds import Alarm, Look, PinnedMaps, RunInfo, State

POLL_SECONDS = 0.1  # between two looks into a folder
CHECKPOINT_SECONDS = 2.0  # between two looks for checkpoints
READ_SECONDS, READ_BYTES = 0.25, 2 << 20  # of a long run a part at a time, so that the page can say how far it is
UNSEEN_SECONDS = 900.0  # after which a run that nobody looks at is forgotten
MOST_BYTES = 2 << 30  # of numbers of all runs; those that were looked at longest ago are forgotten first
LARGEST_FILE = 64 << 20  # bytes, of distributions or maps
DISTRIBUTIONS = 4_000  # that are kept: 211 counts each
MADE = 24
GROUPS = ("a", "g", "w")
MOST_KEPT_FILES = 200_000

_FILE = re.compile(r"(bins|maps)-(\d{12})\.safetensors")


@dataclass(frozen=True)
class Followed:
    """What is known of a run at one moment.

    Attributes:
        name: the operator's. mark: changes with what was read. looks: how many steps were looked at by then.
        info: the run as a whole. state: whether it goes on. newest: the newest look, None before there is one.
        share: how much of it was read, 0..1. skipped: lines that could not be.
        alarms: all of them. left_out: how many layers are not shown.
        checkpoints: that lie in the folder, by rising step. openable: whether there is a model to open them in.
        kept: of what was read.
    """

    name: str
    mark: str
    looks: int
    info: RunInfo = field(repr=False)
    state: State
    newest: Look | None = field(repr=False)
    share: float
    skipped: int
    alarms: tuple[Alarm, ...] = field(repr=False)
    left_out: int
    checkpoints: tuple[Checkpoint, ...] = field(repr=False)
    openable: bool
    kept: Kept = field(repr=False, compare=False)

    @property
    def token(self) -> str:
        """Changes when a page has something new to draw."""
        weights = f"{len(self.checkpoints)}-{self.checkpoints[-1].step}" if self.checkpoints else ""
        return f"{self.mark}.{self.state.kind}.{self.share:.3f}.{self.skipped}.{weights}"


class Kept:
    """One run as far as it was read, for several threads.

    Arguments:
        folder: of the run. name: what errors call it. openable: whether its checkpoints can be opened.

    Raises:
        HooksError: there is no feed, or it cannot be read.
    """

    def __init__(self, name: str, folder: Path, openable: bool = False) -> None:
        self.name, self.folder, self.openable = name, folder, openable
        self.used = time.monotonic()
        self._lock = threading.RLock()
        self._feed = Feed(folder, name)
        self._series, self._curves, self._revision = Series(), Curves(), 0
        self._polled = -1.0
        self._now: Followed | None = None
        self._bins: OrderedDict[tuple[int, int, str, str], np.ndarray | None] = OrderedDict()
        self._files: tuple[str, dict[str, np.ndarray]] = ("", {})
        self._settled = Settled()
        self._checkpoints: tuple[float, tuple[Checkpoint, ...]] = (-math.inf, ())
        self._made: OrderedDict[tuple[Hashable, ...], Any] = OrderedDict()
        self._alarms: tuple[str, tuple[Alarm, ...]] = ("", ())

    @property
    def nbytes(self) -> int:
        """How much its numbers take, about twice, with what is made of them."""
        with self._lock:
            looks = self._feed.looks
            return 2 * len(looks) * (looks[-1].numbers.nbytes if looks else 0)

    def look(self) -> Followed:
        """What is known by now.

        Raises:
            HooksError: the folder is gone, or cannot be read.
        """
        with self._lock:
            self.used = time.monotonic()
            if self._now is None or self.used - self._polled > POLL_SECONDS:
                self._now = self._read()
                self._polled = time.monotonic()
            return self._now

    def _read(self) -> Followed:
        feed, until = self._feed, time.monotonic() + READ_SECONDS
        while True:
            before = feed.behind
            feed.poll(READ_BYTES)
            left = feed.behind
            if not left or left >= before or time.monotonic() > until:
                break
        if feed.revision != self._revision:
            self._series, self._curves, self._revision = Series(), Curves(), feed.revision
            self._bins.clear()
        self._series.extend(feed.looks)
        self._curves.extend(feed.looks)
        newest = feed.looks[-1] if feed.looks else None
        # a folder may hold another run by now: it has begun at another time
        mark = f"{feed.run.started:.3f}.{feed.revision}.{len(feed.looks)}.{newest.step if newest else -1}"
        mark += "".join(f".{len(given.losses)}-{len(given.numbers)}" for given in feed.after)
        if self._alarms[0] != mark:
            self._alarms = mark, feed.alarms()
        read = self._size() - left
        return Followed(
            name=self.name,
            mark=mark,
            looks=len(feed.looks),
            info=feed.run,
            state=feed.state(),
            newest=newest,
            share=1.0 if not left else max(read, 0) / max(read + left, 1),
            skipped=feed.skipped,
            alarms=self._alarms[1],
            left_out=self._series.left_out,
            checkpoints=self.checkpoints(),
            openable=self.openable,
            kept=self,
        )

    def _size(self) -> int:
        try:
            return os.stat(self.folder / "steps.jsonl", follow_symlinks=False).st_size
        except OSError:
            return 0

    def once(self, key: tuple[Hashable, ...], make: Callable[[], Any]) -> Any:
        """What is made of the numbers, and asked for again as long as they are the same: the last few."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                while len(self._made) > MADE:
                    self._made.popitem(last=False)
            return self._made[key]

    # --- what is drawn

    def column(self, group: str, name: str) -> Column:
        """One number of every layer over the steps, see `Series.column`."""
        with self._lock:
            return self._series.column(group, name, self._feed.looks)

    def columns(self, *wanted: tuple[str, str]) -> list[Column]:
        """Several of them, all of the same looks, while others read on."""
        with self._lock:
            return [self._series.column(group, name, self._feed.looks) for group, name in wanted]

    def curves(self) -> tuple[str, ...]:
        """What there is over the steps for all layers together, see `Curves.keys`."""
        with self._lock:
            return self._curves.keys(self._feed.after)

    def curve(self, key: str) -> Curve:
        """One of them."""
        with self._lock:
            return self._curves.curve(key, self._feed.after)

    def last_step(self) -> int:
        """The last step of which anything is known, looked at or not; 0 if there is none."""
        with self._lock:
            after = [rows for given in self._feed.after for rows in (given.losses, *given.numbers.values()) if rows]
            return max([*self._series.steps[-1:].tolist(), *(rows[-1][0] for rows in after)], default=0)

    def steps(self) -> np.ndarray:
        """Int64 (look,), rising."""
        with self._lock:
            return self._series.steps

    def layers(self) -> tuple[str, ...]:
        """The layers of all looks."""
        with self._lock:
            return self._series.layers

    def at(self, step: int | None) -> Look | None:
        """The last look that is not behind a step, None for the newest; None if there is none."""
        with self._lock:
            steps = self._series.steps
            place = len(steps) - 1 if step is None else int(np.searchsorted(steps, step, "right")) - 1
            return self._feed.looks[place] if 0 <= place < len(self._feed.looks) else None

    def own_names(self) -> tuple[str, ...]:
        """The names of the person's own metrics, of the first looks and the last."""
        with self._lock:
            looks = [*self._feed.looks[:3], *self._feed.looks[-3:]]
            return tuple(dict.fromkeys(name for look in looks for name in look.own))

    def distribution(self, step: int, group: str, layer: str) -> np.ndarray | None:
        """How a layer's values, gradients or weights were distributed at a step that was looked at.

        Arguments:
            group: "a", "g" or "w".

        Returns:
            int64 (bin,), the bins of `feeds.bin_edges`; None where that is not kept, or the layer has none.
        """
        with self._lock:
            look = self.at(step)
            if look is None or look.step != step:
                return None
            key = step, look.number, group, layer
            if key not in self._bins:
                found = self._feed.bins(step) if self._is_small("bins", step) else None
                for each in GROUPS:
                    self._bins[step, look.number, each, layer] = found[each].get(layer) if found else None
                while len(self._bins) > DISTRIBUTIONS:
                    self._bins.popitem(last=False)
            return self._bins.get(key)

    def maps(self, step: int) -> PinnedMaps | None:
        """What the pinned picture made at a step that was looked at; None where that is not kept."""
        with self._lock:
            return self._feed.maps(step) if self._is_small("maps", step) else None

    def kept(self, kind: str) -> np.ndarray:
        """Int64 (step,), rising: the steps of which "bins" or "maps" are kept."""
        with self._lock:
            mark = self._now.mark if self._now else ""
            if not mark or self._files[0] != mark:
                self._files = mark, _files_in(self.folder)
            return self._files[1][kind]

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that lie in the folder and are not being written."""
        with self._lock:
            if time.monotonic() - self._checkpoints[0] > CHECKPOINT_SECONDS:
                self._checkpoints = time.monotonic(), self._settled.look(self.folder)
            return self._checkpoints[1]

    def _is_small(self, kind: str, step: int) -> bool:
        try:
            path = self.folder / f"{kind}-{step:012d}.safetensors"
            return os.stat(path, follow_symlinks=False).st_size <= LARGEST_FILE
        except OSError:
            return False


class Feeds:
    """The runs by name.

    Arguments:
        folders: of each. They need not be there yet: a page may be opened before the training begins.
        openable: the names of those whose checkpoints can be opened, as there is a model of that name.
    """

    def __init__(self, folders: Mapping[str, Path], openable: Collection[str] = ()) -> None:
        self._folders, self._openable = dict(folders), frozenset(openable)
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called, in the operator's order."""
        return tuple(self._folders)

    def look(self, name: str) -> Followed | str:
        """What is known of a run by now; or a sentence that says why there is none, without its path."""
        folder = self._folders.get(name)
        if folder is None:
            sentence = f"This server follows no run of that name. It follows {', '.join(self._folders) or 'none'}."
            return sentence
        try:
            with self._lock:
                kept = self._kept.get(name)
                if kept is None:
                    kept = self._kept[name] = Kept(name, folder, name in self._openable)
                self._forget(name)
            return kept.look()
        except HooksError as error:
            with self._lock:
                self._kept.pop(name, None)  # so that it is found again when it comes back
            return str(error)

    def _forget(self, name: str) -> None:
        """Let go of what nobody looks at."""
        now = time.monotonic()
        for each, kept in list(self._kept.items()):
            if each != name and now - kept.used > UNSEEN_SECONDS:
                del self._kept[each]
        others = sorted((each for each in self._kept if each != name), key=lambda each: self._kept[each].used)
        while others and sum(kept.nbytes for kept in self._kept.values()) > MOST_BYTES:
            del self._kept[others.pop(0)]


def _files_in(folder: Path) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {"bins": [], "maps": []}
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MOST_KEPT_FILES), entries, strict=False):
                if (told := _FILE.fullmatch(entry.name)) and entry.is_file(follow_symlinks=False):
                    found[told[1]].append(int(told[2]))
    except OSError:
        pass
    return {kind: np.array(sorted(steps), np.int64) for kind, steps in found.items()}
