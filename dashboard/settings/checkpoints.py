"""The checkpoints of a run as models: what `--feed NAME=FOLDER` and `--model NAME=SPEC` of one name offer together."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.feeds.checkpoints import Checkpoint, checkpoints_in, model_name, named, spread
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.table import TABLE, Settings
from hookscope.dashboard.sources.spec import name_of, spec_of

OF_ITS_OWN = ("weights", "baseline")  # what is not taken over from the model that the run is called after
LIST_SECONDS = 2.0  # between two looks into the folders
AGAIN_SECONDS = 0.2  # the same for a name that was not found


def with_checkpoints(settings: Settings) -> Settings:
    """The same with a model "NAME@STEP" for checkpoints that lie in the folder of a run called like a model, not all
    of them where there are many.

    All that was said of that model holds for these, but for its weights.
    """
    return _with(settings, {name: spread(checkpoints_in(folder)) for name, folder in _openable(settings).items()})


def _openable(settings: Settings) -> dict[str, Path]:
    """The folders of the runs that are called like a model."""
    models = {name_of(model) for model in settings.models}
    return {name: folder for name, folder in settings.feeds if name in models}


def _with(settings: Settings, found: Mapping[str, Sequence[Checkpoint]]) -> Settings:
    """The same with models of these checkpoints, by the run's name."""
    specs = {name_of(model): spec_of(model) for model in settings.models}
    models, folders = list(settings.models), dict(settings.feeds)
    more: dict[str, list[Any]] = {row.name: list(getattr(settings, row.name)) for row in TABLE if row.names}
    for name, checkpoints in found.items():
        for each in checkpoints:
            called = model_name(name, each.step)
            if called in specs:
                continue
            models.append(f"{called}={specs[name]}")
            for row, values in more.items():
                if row not in OF_ITS_OWN:
                    values += [(called, value) for whose, value in getattr(settings, row) if whose == name]
            more["weights"].append((called, str(folders[name] / each.name)))
    given: dict[str, Any] = {row: tuple(values) for row, values in more.items()}
    return dataclasses.replace(settings, models=tuple(models), **given)


class Offered:
    """The models that can be chosen: those of the settings, and checkpoints that have come since.

    Every checkpoint of a run can be opened by its name, NAME@STEP; where there are many, not all of them are listed.
    For several threads.

        offered = Offered(settings)
        offered.names[0], "monday@1200" in offered.names
        LocalEngine(options_for(settings), later=offered.options)
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._folders = settings, _openable(settings)
        self._known = set(settings.names)
        self._lock = threading.Lock()
        self._listed: tuple[float, tuple[str, ...]] = (0.0, settings.models)
        self._found: dict[str, tuple[float, dict[int, Checkpoint]]] = {}
        self.models, self.names = _Listed(self, by_name=False), _Listed(self, by_name=True)

    @property
    def openable(self) -> tuple[str, ...]:
        """The runs whose checkpoints can be opened."""
        return tuple(self._folders)

    def listed(self) -> tuple[str, ...]:
        """Those that are listed, as the operator writes them."""
        if not self._folders:
            return self._settings.models
        with self._lock:
            if time.monotonic() - self._listed[0] > LIST_SECONDS:
                self._listed = time.monotonic(), with_checkpoints(self._settings).models
            return self._listed[1]

    def has(self, name: str) -> bool:
        """Whether there is a model of that name: for a checkpoint its folder is asked."""
        return name in self._known or self._checkpoint(name) is not None

    def options(self, name: str) -> ModelOptions | None:
        """What there is to know of a checkpoint; None of what is none."""
        found = self._checkpoint(name)
        if found is None:
            return None
        run, checkpoint = found
        return next(each for each in options_for(_with(self._settings, {run: [checkpoint]})) if each.name == name)

    def _checkpoint(self, name: str) -> tuple[str, Checkpoint] | None:
        run, step = named(name) or ("", -1)
        if run not in self._folders:
            return None
        with self._lock:  # a folder of many files takes a while, and a page may ask for any name
            when, there = self._found.get(run, (-math.inf, {}))
            if step not in there and time.monotonic() - when > AGAIN_SECONDS:
                there = {each.step: each for each in checkpoints_in(self._folders[run])}
                self._found[run] = time.monotonic(), there
            return (run, there[step]) if step in there else None


class _Listed(Sequence[str]):
    """Of the offered models those that are listed; `in` knows the others, too."""

    def __init__(self, offered: Offered, *, by_name: bool) -> None:
        self._offered, self._by_name = offered, by_name

    def __contains__(self, model: object) -> bool:
        if not isinstance(model, str):
            return False
        return self._offered.has(model) if self._by_name else model in self._offered.listed()

    def __iter__(self) -> Iterator[str]:
        return iter([name_of(each) if self._by_name else each for each in self._offered.listed()])

    def __len__(self) -> int:
        return len(self._offered.listed())

    def __getitem__(self, place: Any) -> Any:
        return tuple(self)[place]
