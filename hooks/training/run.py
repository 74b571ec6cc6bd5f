"""What a run is: what is written of it as a whole, and whether this process is the one that writes."""

from __future__ import annotations

import numbers
import operator
import os
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.results.feed_lines import LARGEST_STEP
from hookscope.hooks.results.feeds import RunInfo
from hookscope.hooks.training.rules import silenced
from hookscope.hooks.training.weights import OwnWeights
from hookscope.hooks.training.writer import machine

MEGABYTE = 1_000_000
MOST_MEGABYTES = 10**12  # more is no limit, as infinity is


@dataclass(frozen=True)
class Settings:
    """How a training is followed; see `follow.follow`, which is given them.

    Attributes:
        limit_bytes: of the folder. silenced: the rules whose alarms are not told.
    """

    every: int
    title: str
    resume: bool
    owner: str
    pinned: Any
    pinned_layers: Pattern | Iterable[Pattern] | None
    limit_bytes: int
    silenced: Set[str]


def settings_of(
    folder: str | os.PathLike[str],
    every: int,
    pinned: Any = None,
    pinned_layers: Pattern | Iterable[Pattern] | None = None,
    limit_mb: float = 500,
    title: str = "",
    alarms: bool | Mapping[str, Literal["on", "off"]] = True,
    resume: bool = False,
    owner: str = "user",
) -> Settings:
    """Check what a person gave; see `follow.follow`.

    Raises:
        HooksError: a number, a rule or the folder's name is wrong.
    """
    place = os.fspath(folder)
    if isinstance(place, str) and not _is_a_name(place):
        raise HooksError(f"folder is {place!r}: name the folder that the run is written into.")
    try:
        steps = 0 if isinstance(every, bool) else operator.index(every)
    except TypeError:
        steps = 0
    if not 1 <= steps <= LARGEST_STEP:
        raise HooksError(f"every is {every!r}: give the number of steps between two looks, from 1 to {LARGEST_STEP:,}.")
    real: type[Any] = numbers.Real  # numpy's, too
    if not (isinstance(limit_mb, real) and limit_mb > 0):
        raise HooksError(f"limit_mb is {limit_mb!r}: give how many megabytes the folder may take, above 0.")
    limit = int(float(min(limit_mb, MOST_MEGABYTES)) * MEGABYTE)
    name = title or Path(folder).name or Path(folder).absolute().name
    return Settings(steps, name, resume, owner, pinned, pinned_layers, limit, silenced(alarms))


def _is_a_name(place: str) -> bool:
    try:
        os.fsencode(place)
    except UnicodeEncodeError:
        return False
    return bool(place.strip()) and "\0" not in place


def info_of(
    model: nn.Module,
    own: Sequence[OwnWeights],
    layers: Iterable[str],
    optimizers: Sequence[torch.optim.Optimizer],
    settings: Settings,
    scaler: bool,
) -> RunInfo:
    """What is known of a run before it begins; see `RunInfo`."""
    return RunInfo(
        title=settings.title,
        model=type(model).__name__,
        every=settings.every,
        started=time.time(),
        versions={"torch": torch.__version__},
        layers=tuple(dict.fromkeys((*layers, *(each.layer for each in own)))),
        layers_with_weights=tuple(
            each.layer for each in own if any(tensor.ndim > 1 for tensor in each.tensors.values())
        ),
        optimizer=", ".join(type(each).__name__ for each in optimizers),
        scaler=scaler,
        pinned=int(settings.pinned is not None),
        process=os.getpid(),
        machine=machine(),
    )


def is_first_process() -> bool:
    """Whether this is the process of a distributed training that writes: the first one, or the only one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    try:
        return int(os.environ.get("WORLD_SIZE", "1")) < 2 or int(os.environ.get("RANK", "0")) == 0
    except ValueError:
        return True
