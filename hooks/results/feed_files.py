"""Reads a feed while it is written, or afterwards: `hs.read_feed("runs/monday")`; numpy only, no torch.

    feed = hs.read_feed("runs/monday")
    feed.steps, feed.layers
    feed.column("g", "norm")                  # float32 (look, layer)
    feed.alarms()
    feed.poll()                               # later: what has come since

A folder may be anybody's. Only plain files that lie in it are opened (no links, no pipes), what is too large is left
out, and a line that cannot be read is counted in `skipped`. The last line may be half written: it is read when it is
whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib.util
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results import feed_lines
from hookscope.hooks.results.feeds import (
    BINS,
    FORMAT,
    LINES,
    LOCK,
    RUN,
    VERSION,
    Alarm,
    Given,
    Look,
    PinnedMaps,
    RunInfo,
    State,
)
from hookscope.hooks.results.tensor_files import unpack

# Windows has none; then nobody can tell whether a run goes on
fcntl: Any = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None

INFO_LIMIT, LINE_LIMIT, FILE_LIMIT = 4 << 20, 16 << 20, 256 << 20  # bytes
NUMBERS_LIMIT = 2 << 30  # bytes of numbers that are kept
ENDS = 100  # of a run, of which it is kept what the last steps were given
PIECE = 1 << 20


def read_feed(folder: str | os.PathLike[str], called: str = "") -> Feed:
    """Read what `follow` has written into a folder until now.

    Arguments:
        called: what errors call it, to whom its path is not told; the path by default.

    Raises:
        HooksError: there is no feed, or it is of a newer version, or damaged.
    """
    feed = Feed(folder, called)
    feed.poll()
    return feed


class Feed:
    """One run, as far as it was read.

    Arguments:
        folder: of the run. called: see `read_feed`.

    Attributes:
        run: what is known of it as a whole. looks: the steps that were looked at, rising.
        skipped: how many lines could not be read. revision: rises when looks that had been read are taken back, because
            the run went on from an earlier step, or another one stands in the folder.

    Raises:
        HooksError: as `read_feed`.
    """

    def __init__(self, folder: str | os.PathLike[str], called: str = "") -> None:
        self._folder, self._called = Path(folder).absolute(), called or str(folder)  # whatever os.chdir does later
        self.run: RunInfo = self._read_run()
        self.looks: list[Look] = []
        self.skipped, self.revision = 0, 0
        self._offset, self._file = 0, (0, 0)
        self._discarding = False  # inside a line that is too long
        self._kept = 0
        self._names = feed_lines.Names()
        self._begun: list[int] = []  # the steps at which the run began, and went on
        self._ended: tuple[float, str] | None = None
        self._after: list[Given] = []  # what the steps behind the last look were given, where the run ended
        self._table: tuple[tuple[int, int], tuple[str, ...], np.ndarray] | None = None

    # --- reading

    def poll(self, most_bytes: int | None = None) -> tuple[Look, ...]:
        """Read what has come since; gives the looks that are new.

        Arguments:
            most_bytes: after about so many it comes back, and `behind` says how many are left.

        Raises:
            HooksError: the folder is gone, or cannot be read.
        """
        before, revision = len(self.looks), self.revision
        try:
            with _opened(self._folder, LINES) as file:
                self._poll(file, most_bytes)
        except FileNotFoundError:
            if not self._folder.is_dir():
                raise HooksError(f"The feed {self._called} is gone. Start it again, or choose another one.") from None
        except OSError as error:
            raise HooksError(f"The feed {self._called} cannot be read ({error.strerror}). Check the folder.") from error
        return tuple(self.looks[before if revision == self.revision else 0 :])

    @property
    def behind(self) -> int:
        """How many bytes of lines were not read yet."""
        with contextlib.suppress(OSError):
            return max(0, os.stat(self._folder / LINES, follow_symlinks=False).st_size - self._offset)
        return 0

    def _poll(self, file: int, most_bytes: int | None) -> None:
        status = os.fstat(file)
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
            if self._offset:
                self.run = self._read_run()
                self._forget()
            self._file = status.st_dev, status.st_ino
        if status.st_size == self._offset:
            return
        read, rest, start = 0, b"", self._offset
        os.lseek(file, self._offset, os.SEEK_SET)
        while most_bytes is None or read < most_bytes or self._offset == start:  # a whole line at least
            piece = os.read(file, PIECE)
            if not piece:
                break
            read += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                self._take(line)
            if len(rest) > LINE_LIMIT or (self._discarding and rest):
                self._offset += len(rest)
                self.skipped += not self._discarding
                self._discarding, rest = True, b""

    def _take(self, line: bytes) -> None:
        if self._discarding:  # the end of what was too long
            self._discarding = False
            return
        if not line.strip():
            return
        try:
            found = json.loads(line) if len(line) <= LINE_LIMIT else None
            self._add(found)
        except (ValueError, RecursionError, TypeError, OverflowError):
            self.skipped += 1

    def _add(self, line: Any) -> None:
        """One line.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(line, dict):
            raise ValueError("no table")
        if "begin" in line:
            self._begun.append(feed_lines.whole(line.get("step")))
            self._ended = None
        elif "end" in line:
            given = feed_lines.given_in(line)
            if type(line.get("step")) is int:
                self._go_back_to(line["step"])
            self._ended = feed_lines.number(line["end"]), feed_lines.text(line.get("stopped_by", ""), 100)
            self._after = [*self._after, given][-ENDS:]
        elif "layers" in line:
            look = feed_lines.in_place(feed_lines.look_of(line, self._names), self.run.layers_with_weights)
            self._kept += look.numbers.nbytes
            if self._kept > NUMBERS_LIMIT:
                self._kept -= look.numbers.nbytes
                raise ValueError("too much")
            self._go_back_to(look.step)
            if look.given.losses:
                self._after = [each.before(look.given.losses[0][0]) for each in self._after]
            self.looks.append(look)
        else:
            raise ValueError("nothing that is known")

    def _go_back_to(self, step: int) -> None:
        """Take back what is known of a step and of those behind it: the run went on from an earlier one."""
        while self.looks and self.looks[-1].step >= step:
            self._kept -= self.looks.pop().numbers.nbytes
            self.revision += 1
        self._after = [each.before(step) for each in self._after]

    def _forget(self) -> None:
        self.looks, self._begun, self._ended, self._after, self._table = [], [], None, [], None
        self._offset, self.skipped, self._kept, self._discarding = 0, 0, 0, False
        self.revision += 1

    def _read_run(self) -> RunInfo:
        try:
            with _opened(self._folder, RUN) as file:
                data = _read(file, INFO_LIMIT)
            told = json.loads(data)
        except (FileNotFoundError, NotADirectoryError):
            raise HooksError(
                f"There is no feed in {self._called}: no {RUN} is there. Name the folder that was given to hs.follow."
            ) from None
        except OSError as error:
            raise HooksError(f"The feed {self._called} cannot be read ({error.strerror}). Check the folder.") from error
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict) or told.get("format") != FORMAT or type(told.get("version")) is not int:
            raise HooksError(f"{RUN} in {self._called} is not what hs.follow writes, or it is damaged.")
        if told["version"] > VERSION:
            raise HooksError(
                f"The feed {self._called} was written by a newer Hookscope (version {told['version']:,.0f} of the "
                f"format, and this one reads {VERSION}). Update this one."
            )
        try:
            return feed_lines.run_of(told)
        except (ValueError, TypeError, OverflowError):
            raise HooksError(f"{RUN} in {self._called} is not what hs.follow writes, or it is damaged.") from None

    # --- what was read

    @property
    def steps(self) -> np.ndarray:
        """Int64 (look,), rising: the steps that were looked at."""
        return np.array([look.step for look in self.looks], np.int64)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of all looks, in the order in which they ran."""
        return self._all()[0]

    def column(self, group: str, name: str) -> np.ndarray:
        """One column over the steps, float32 (look, layer); NaN where a layer has none. See `feeds.GROUPS`."""
        layers, numbers = self._all()
        return (
            numbers[:, :, feed_lines.place(group, name)] if len(layers) else np.zeros((len(self.looks), 0), np.float32)
        )

    def own(self, name: str) -> np.ndarray:
        """A metric of the person's own over the steps, float32 (look, layer); NaN where a layer has none."""
        where = {layer: index for index, layer in enumerate(self.layers)}
        found = np.full((len(self.looks), len(where)), np.nan, np.float32)
        for row, look in zip(found, self.looks, strict=True):
            if name in look.own:
                row[[where[layer] for layer in look.layers]] = look.own[name]
        return found

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the person's own metrics."""
        return tuple(dict.fromkeys(name for look in self.looks for name in look.own))

    def at(self, step: int) -> Look | None:
        """The last look that is not behind a step; None if there is none."""
        place = int(np.searchsorted(self.steps, step, "right")) - 1
        return self.looks[place] if place >= 0 else None

    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """The steps of which a loss is known, int64 (step,), and the losses, float64 (step,)."""
        of_looks = (each for look in self.looks for each in look.given.losses)
        return feed_lines.by_step(of_looks, (each for given in self._after for each in given.losses))

    def scalars(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A number of the person's own that `feed.step` was given: the steps, int64 (step,), and float64 (step,)."""
        of_looks = (each for look in self.looks for each in look.given.numbers.get(name, ()))
        return feed_lines.by_step(of_looks, (each for given in self._after for each in given.numbers.get(name, ())))

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The names of those numbers."""
        there = [*(look.given for look in self.looks), *self._after]
        return tuple(dict.fromkeys(name for given in there for name in given.numbers))

    def rates(self) -> np.ndarray:
        """The learning rates over the steps, float64 (look, group of the optimiser); NaN where there is none."""
        found = np.full((len(self.looks), max((len(look.rates) for look in self.looks), default=0)), np.nan)
        for row, look in zip(found, self.looks, strict=True):
            row[: len(look.rates)] = look.rates
        return found

    @property
    def after(self) -> tuple[Given, ...]:
        """What the steps behind the last look were given, each time that the run ended."""
        return tuple(self._after)

    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm, in the order in which they were told, with the step at which each was over."""
        told: list[Alarm] = []
        open_: dict[tuple[str, str], int] = {}
        waits: list[set[str]] = []
        restarts = sorted(self._begun)[1:]
        for look in self.looks:
            while restarts and restarts[0] <= look.step:  # who goes on tells again what is still there
                at = restarts.pop(0)
                for place in set(open_.values()):
                    told[place] = dataclasses.replace(told[place], until=at)
                open_ = {}
            for key in look.over:
                if key in open_:
                    place = open_.pop(key)
                    waits[place].discard(key[1])
                    if not waits[place]:
                        told[place] = dataclasses.replace(told[place], until=look.step)
            for alarm in look.alarms:
                told.append(dataclasses.replace(alarm, step=look.step))
                waits.append(set(alarm.layers or (alarm.layer,)))
                open_.update({(alarm.rule, layer): len(told) - 1 for layer in waits[-1]})
        return tuple(told)

    def state(self) -> State:
        """Whether the run goes on."""
        last = self.looks[-1].time if self.looks else self.run.started
        if self._ended is not None:
            when, by = self._ended
            return State("ended", f"The run was ended by {by}." if by else "The run has ended.", when)
        running = self._is_running()
        if running is None:
            return State("unknown", "Nobody can tell from here whether the run goes on.", last)
        if running:
            return State("running", "The run goes on.", last)
        return State("ended", "The run's process has ended without saying so: it was killed, or it crashed.", last)

    def bins(self, step: int) -> dict[str, dict[str, np.ndarray]] | None:
        """The distributions at a step that was looked at; None where they are not kept (any more), or damaged.

        Returns:
            by "a", "g" and "w" and layer, int64 (bin,), the bins of `feeds.bin_edges`.
        """
        found = self._arrays("bins", step)
        if found is None:
            return None
        kept: dict[str, dict[str, np.ndarray]] = {"a": {}, "g": {}, "w": {}}
        for name, values in found.items():
            group, _, layer = name.partition("/")
            if group in kept and values.shape == (BINS,) and values.dtype.kind in "ui":
                kept[group][feed_lines.name_of(layer)] = values.astype(np.int64)
        return kept

    def maps(self, step: int) -> PinnedMaps | None:
        """What the pinned picture made at a step that was looked at; None where that is not kept (any more)."""
        found = self._arrays("maps", step)
        if found is None:
            return None
        maps, channels = dict[str, np.ndarray](), dict[str, np.ndarray]()
        for name, values in found.items():
            kind, _, layer = name.partition("/")
            of = found.get(f"channels/{layer}")
            fits = values.ndim == 3 and values.size and values.dtype.kind == "f" and of is not None
            if kind == "map" and fits and of is not None and of.shape == (len(values),) and of.dtype.kind == "i":
                layer = feed_lines.name_of(layer)
                maps[layer], channels[layer] = values.astype(np.float32), of.astype(np.int64)
        answer = found.get("answer")
        usable = answer is not None and answer.ndim == 1 and answer.dtype.kind == "f"
        return PinnedMaps(step, maps, channels, answer.astype(np.float32) if usable and answer is not None else None)

    # --- files

    def _all(self) -> tuple[tuple[str, ...], np.ndarray]:
        """All layers, and float32 (look, layer, column); made anew only when there are new looks."""
        key = self.revision, len(self.looks)
        if self._table is None or self._table[0] != key:
            kinds = list(dict.fromkeys(look.layers for look in self.looks))
            layers = kinds[0] if len(kinds) == 1 else tuple(dict.fromkeys(layer for kind in kinds for layer in kind))
            where = {layer: index for index, layer in enumerate(layers)}
            places = {kind: [where[layer] for layer in kind] for kind in kinds}
            table = np.full((len(self.looks), len(layers), feed_lines.WIDTH), np.nan, np.float32)
            for row, look in zip(table, self.looks, strict=True):
                row[places[look.layers]] = look.numbers
            self._table = key, layers, table
        return self._table[1], self._table[2]

    def _arrays(self, kind: str, step: int) -> Mapping[str, np.ndarray] | None:
        look = self.at(step)
        if look is None or look.step != step:
            return None
        try:
            with _opened(self._folder, f"{kind}-{step:012d}.safetensors") as file:
                arrays, told = unpack(_read(file, FILE_LIMIT))
        except (OSError, ValueError):
            return None
        return arrays if told.get("look") == str(look.number) else None

    def _is_running(self) -> bool | None:
        """Whether somebody writes; None where that cannot be known."""
        if fcntl is not None:
            try:
                with _opened(self._folder, LOCK) as file:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return False
            except BlockingIOError:
                return True
            except FileNotFoundError:
                return False
            except OSError:
                pass
        return None


@contextlib.contextmanager
def _opened(folder: Path, name: str) -> Iterator[int]:
    """A plain file that lies in a folder.

    Raises:
        OSError: there is none of that name, or it is a link, a pipe or the like.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    path = folder / name
    if not getattr(os, "O_NOFOLLOW", 0) and path.is_symlink():
        raise OSError(errno.ENOENT, "no plain file")
    file = os.open(path, flags | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.ENOENT, "no plain file")
        yield file
    finally:
        os.close(file)


def _read(file: int, most: int) -> bytes:
    """All of a file.

    Raises:
        ValueError: it is larger than `most` bytes.
    """
    if os.fstat(file).st_size > most:
        raise ValueError("it is too large")
    parts = []
    while part := os.read(file, min(PIECE, most)):
        parts.append(part)
        most -= len(part)
        if most <= 0:
            break
    return b"".join(parts)
