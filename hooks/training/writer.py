"""Writes a feed's folder, so that it can be read at any moment, also after the process was killed in the middle.

Lines are appended, files of arrays are written under another name and renamed. Nothing here knows torch. What cannot be
written raises `OSError`, and leaves no half a line behind where that can be helped.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import json
import math
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.feeds import (
    FORMAT,
    GROUPS,
    KINDS,
    LINES,
    PLACES,
    RUN,
    VERSION,
    WEIGHT,
    Alarm,
    Given,
    Look,
    RunInfo,
)
from hookscope.hooks.results.tensor_files import pack
from hookscope.hooks.training.lock import Lock

ALL_OF = 200  # looks, of which every file is kept; of the older ones every second, fourth, ...
LEAST_OF = 4  # so many, as long as there is room
WAITING = 20  # lines that could not be written and are kept
OF_LINES, MOST_OF_LINES = 0.5, 0.95  # of the limit may be lines, which are never taken away; then they come more seldom
NO_ROOM = (
    "There is no room in limit_mb for the distributions and maps of one look, so they are not kept. Give hs.follow "
    "more, or follow fewer layers."
)
_FILE = re.compile(rf"({'|'.join(KINDS)})-(\d{{12}})\.safetensors")
Fits = Callable[[Mapping[str, int | None], str], tuple[str, ...]]
_DRAFT = re.compile(rf"\.({'|'.join(KINDS)}|{re.escape(RUN)}).*\.\d+")  # what a killed process left


class Folder:
    """The folder of one run, written by one process.

    Arguments:
        path: made if it is not there. limit_bytes: of everything in it.
    """

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self.path = path
        self._limit = limit_bytes
        self._lock = Lock()
        self._info: RunInfo | None = None
        self._torn = False
        self._lines = 0  # bytes
        self._share = OF_LINES
        self._numbers: dict[int, int] = {}  # of each step with files, the number of its look

    @property
    def lines_are_full(self) -> bool:
        """Whether lines take as much as they may."""
        return self._lines > self._share * self._limit

    def allow_more_lines(self) -> None:
        """Half of what is left of the limit, too, now that fewer come."""
        self._share += (MOST_OF_LINES - self._share) / 2

    def open(
        self, info: RunInfo, resume: bool, fits: Fits = lambda before, folder: ()
    ) -> tuple[int | None, int, tuple[str, ...]]:
        """Take the folder. From now on its path is absolute: the process may change its working directory.

        Arguments:
            fits: is told how many weights the layers of the run have that it goes on with, and the folder's name; it
                gives what there is to say about that, or raises.

        Returns:
            the last step that stands in it, None if there is none; how many looks there were; and what `fits` gave.

        Raises:
            HooksError: it holds a run already, and this one does not go on with it; or somebody else writes there; or
                it cannot be written.
        """
        try:
            self.path = self.path.absolute()
            self.path.mkdir(parents=True, exist_ok=True)
            return self._begin(info, resume, fits)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise HooksError(
                    f"The folder {self.path.name} cannot be written ({error.strerror}). Choose another one, or make "
                    "room."
                ) from error
            raise

    def _begin(self, info: RunInfo, resume: bool, fits: Fits) -> tuple[int | None, int, tuple[str, ...]]:
        there = (self.path / RUN).exists() or (self.path / LINES).exists()
        if there and not resume:
            raise HooksError(
                f"The folder {self.path.name} holds a run already. Give each run a folder of its own, or go on with "
                "this one by resume=True."
            )
        self._lock.take(self.path)
        last, looks, weights = self._last_line()
        notes = fits(weights or self._weights_told(), self.path.name)
        self._info = info
        self._write_info()
        self._lines = _size(self.path / LINES)
        self._numbers = {step: looks.get(step, 0) for _, step in self._files()}
        for name in os.listdir(self.path):
            if _DRAFT.fullmatch(name):
                (self.path / name).unlink(missing_ok=True)
        return last, max(looks.values(), default=-1) + 1, notes

    def close(self) -> None:
        """Let the folder go."""
        self._lock.let_go()

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        self._restore()
        data = json.dumps(line, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
        data = (b"\n" if self._torn else b"") + data + b"\n"
        file = os.open(self.path / LINES, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            before = os.fstat(file).st_size
            try:
                _write_all(file, data)
            except OSError:
                self._torn = True
                with contextlib.suppress(OSError):
                    os.ftruncate(file, before)
                    self._torn = False
                raise
        finally:
            os.close(file)
        self._torn = False
        self._lines = before + len(data)

    def keep(self, kind: str, look: Look, arrays: Mapping[str, np.ndarray], told: Mapping[str, str]) -> None:
        """Write arrays of a look into a file of their own; older ones make room.

        Raises:
            OSError: it cannot be written.
        """
        self._restore()
        target = self.path / f"{kind}-{look.step:012d}.safetensors"
        _replace(target, pack(arrays, {"format": f"{FORMAT} {VERSION}", "look": str(look.number), **told}))
        self._numbers[look.step] = look.number

    def thin(self) -> bool:
        """Take away files of older looks: every second one, then three of four, ...; more where there is no room.

        Returns:
            whether those of the newest look stay.
        """
        files: dict[int, list[Path]] = {}
        for path, step in self._files():
            files.setdefault(step, []).append(path)
        sizes = {step: sum(_size(path) for path in paths) for step, paths in files.items()}
        newest = max(self._numbers.values(), default=0)
        whole = ALL_OF
        room = self._limit - self._lines
        while True:
            kept = {step for step in files if _stays(self._numbers.get(step, 0), newest, whole)}
            if sum(sizes[step] for step in kept) <= room or whole <= LEAST_OF:
                break
            whole //= 2
        newest_first = sorted(kept, key=lambda step: self._numbers.get(step, 0), reverse=True)
        taken = [*itertools.accumulate(sizes[step] for step in newest_first)]
        kept = set(newest_first[: bisect.bisect_right(taken, room)])
        for step in files.keys() - kept:
            for path in files[step]:
                path.unlink(missing_ok=True)
            self._numbers.pop(step, None)
        return bool(kept) or not files

    # --- the folder

    def _write_info(self) -> None:
        assert self._info is not None
        told = {"format": FORMAT, "version": VERSION, **_plain(vars(self._info))}
        _replace(self.path / RUN, json.dumps(told, indent=1).encode())

    def _restore(self) -> None:
        """Somebody may have taken the folder away."""
        if not (self.path / RUN).exists():
            self.path.mkdir(parents=True, exist_ok=True)
            self._write_info()

    def _files(self) -> Iterator[tuple[Path, int]]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if found := _FILE.fullmatch(entry.name):
                    yield Path(entry.path), int(found[2])

    def _last_line(self) -> tuple[int | None, dict[int, int], dict[str, int | None]]:
        """The last step in the lines, the number of each look, and of how many weights the last one tells by layer."""
        last, looks, layers = None, dict[int, int](), None
        with contextlib.suppress(FileNotFoundError), open(self.path / LINES, "rb") as lines:
            whole = b"\n"
            for whole in lines:
                with contextlib.suppress(ValueError, RecursionError):
                    line = json.loads(whole)
                    if not isinstance(line, dict) or type(line.get("step")) is not int or line["step"] < 0:
                        continue
                    if "layers" in line:
                        last, layers = line["step"], line["layers"]
                        looks[last] = int(line.get("look", 0))
                    elif "begin" in line or "end" in line:  # which name the step that comes next
                        last = line["step"] - 1
            self._torn = not whole.endswith(b"\n")
        return last, looks, _weights_in(layers)

    def _weights_told(self) -> dict[str, int | None]:
        """The layers with weights of a run that ended before its first look."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            told = json.loads((self.path / RUN).read_bytes())
            names = told.get("layers_with_weights") if isinstance(told, dict) else None
            return dict.fromkeys(name for name in names if isinstance(name, str)) if isinstance(names, list) else {}
        return {}


class Lines:
    """Writes lines and arrays into a folder that may be full for a while: lines that could not be written wait."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._waiting: list[Mapping[str, Any]] = []

    def write(
        self,
        line: Mapping[str, Any],
        look: Look | None = None,
        bins: Mapping[str, np.ndarray] | None = None,
        maps: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[str, ...]:
        """Write what can be written, and what could not be before.

        Returns:
            a sentence about what could not be, if anything could not.
        """
        self._waiting = [*self._waiting, line][-WAITING:]
        try:
            while self._waiting:
                self._folder.append(self._waiting[0])
                del self._waiting[0]
            if look is not None:
                for kind, arrays in (("bins", bins), ("maps", maps)):
                    if arrays:
                        self._folder.keep(kind, look, arrays, {})
                if not self._folder.thin():
                    return (NO_ROOM,)
        except OSError as error:
            return (
                f"The feed {self._folder.path.name} cannot be written ({error.strerror}). The training goes on, and it "
                "is tried again at the next look.",
            )
        return ()


def as_line(look: Look) -> dict[str, Any]:
    """A look as its line."""
    layers: dict[str, dict[str, Any]] = {}
    for layer, row in zip(look.layers, look.numbers.tolist(), strict=True):
        groups = {}
        for group, names in GROUPS.items():
            values = [_number(row[PLACES[group, name]]) for name in names]
            if any(value is not None for value in values):
                groups[group] = values if len(values) > 1 else values[0]
        layers[layer] = groups
    for name, numbers in look.own.items():
        for layer, value in zip(look.layers, numbers.tolist(), strict=True):
            if not math.isnan(value):
                layers[layer].setdefault("m", {})[name] = _number(value)
    line: dict[str, Any] = {"v": VERSION, "step": look.step, "look": look.number, "time": round(look.time, 3)}
    there = not math.isnan(look.loss) or any(step == look.step for step, _ in look.given.losses)
    line |= {"cost": _number(look.cost), "loss": _exact(look.loss) if there else None}
    line |= as_given(look.given, look.step)
    line |= {"scalars": {name: _exact(value) for name, value in look.scalars.items()}} if look.scalars else {}
    line |= {"lr": [_exact(rate) for rate in look.rates]} if look.rates else {}
    line |= {} if math.isnan(look.scale) else {"scale": look.scale}
    line |= {"skipped": True} if look.skipped else {}
    line |= {"alarms": [_alarm(alarm) for alarm in look.alarms]} if look.alarms else {}
    line |= {"over": [list(each) for each in look.over]} if look.over else {}
    line |= {"notes": list(look.notes)} if look.notes else {}
    line["layers"] = layers
    return line


def _weights_in(layers: Any) -> dict[str, int | None]:
    """How many weights each layer of a line has."""
    found: dict[str, int | None] = {}
    for name, groups in layers.items() if isinstance(layers, dict) else ():
        own = groups.get("w") if isinstance(groups, dict) else None
        if isinstance(own, list) and len(own) == len(WEIGHT):
            count = own[WEIGHT.index("count")]
            found[name] = int(count) if isinstance(count, int | float) else None
    return found


def as_given(given: Given, looked: int = -1) -> dict[str, Any]:
    """What steps were given, as keys of a line; what only the step was given that is looked at stands there already."""
    numbers = {name: rows for name, rows in given.numbers.items() if [step for step, _ in rows] != [looked]}
    found: dict[str, Any] = {"losses": _rows(given.losses)} if given.losses else {}
    return found | ({"given": {name: _rows(rows) for name, rows in numbers.items()}} if numbers else {})


def _rows(values: tuple[tuple[int, float], ...]) -> list[list[Any]]:
    return [[step, _exact(value)] for step, value in values]


def machine() -> str:
    """This computer since it was started, as a name that tells nobody which it is."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    return hashlib.sha256(f"{platform.node()} {boot}".encode()).hexdigest()[:16]


def _alarm(alarm: Alarm) -> dict[str, Any]:
    fields = {name: value for name, value in vars(alarm).items() if name not in ("step", "until")}
    return _plain(fields)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _exact(value) if isinstance(value, float) else value for name, value in fields.items()}


def _number(value: float) -> float | int | str | None:
    """Five digits are enough for a picture; whole numbers stay whole."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e15:
        return int(value)
    return float(f"{value:.5g}")


def _exact(value: float) -> float | str | None:
    """Eight digits; NaN and infinities, which JSON does not have, by name."""
    return float(f"{value:.8g}") if math.isfinite(value) else str(value)


def _stays(number: int, newest: int, whole: int) -> bool:
    """Whether the files of a look are kept: all of the last ones, every second of as many before, ..."""
    age = newest - number
    apart = 1
    while age >= whole:
        apart, whole = apart * 2, whole * 2
    return number % apart == 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _replace(target: Path, data: bytes) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
