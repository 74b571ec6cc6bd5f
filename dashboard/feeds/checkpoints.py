"""The checkpoints of a run that lie in its feed's folder, by the step that their names tell."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from hookscope.hooks.results.feeds import KINDS

ENDINGS = (".pt", ".safetensors")
MOST_OFFERED = 24
MOST_FILES = 200_000  # of a folder that are looked through
SETTLED_SECONDS = 2.0  # for which a file has to be as it is: one that is being written cannot be opened yet
_STEP = re.compile(r"(?:step|steps|iter|iteration)[-_=]?(\d{1,12})(?!\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<!\d)\d{1,12}(?!\d)")


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights.

    Attributes:
        step: how many updates the weights had had, as the name says. name: of the file.
    """

    step: int
    name: str


def step_of(name: str) -> int | None:
    """The step that a file's name tells: the number behind "step", else the last one; None without a number.

    >>> [step_of(name) for name in ("epoch=3-step=1200.pt", "net-9000.safetensors", "best.pt", "step_50_ema2.pt")]
    [1200, 9000, None, 50]
    """
    stem = os.path.splitext(name)[0]
    if told := _STEP.search(stem):
        return int(told[1])
    numbers = _NUMBER.findall(stem)
    return int(numbers[-1]) if numbers else None


def is_checkpoint(name: str) -> bool:
    """Whether a file of that name can be one; what the feed itself writes is none."""
    own = name.startswith(tuple(f"{kind}-" for kind in KINDS))
    return name.endswith(ENDINGS) and not own and not name.startswith(".") and name.isprintable()


def checkpoints_in(folder: Path) -> tuple[Checkpoint, ...]:
    """Those that lie in a folder as plain files, by rising step; of one step the first by name. None where it is gone.

    A link is none of them: it could lead anywhere.
    """
    found: dict[int, str] = {}
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= MOST_FILES:
                    break
                if not is_checkpoint(entry.name) or not entry.is_file(follow_symlinks=False):
                    continue
                step = step_of(entry.name)
                if step is not None:
                    found[step] = min(found.get(step, entry.name), entry.name)
    except OSError:
        return ()
    return tuple(Checkpoint(step, found[step]) for step in sorted(found))


class Settled:
    """The checkpoints of a folder that grows, without those that are being written."""

    def __init__(self) -> None:
        self._were: dict[str, tuple[int, int]] = {}  # size and time of each at the last look

    def look(self, folder: Path) -> tuple[Checkpoint, ...]:
        """As `checkpoints_in`, but for files that were written to since the last look, or a moment ago.

        Not by the age alone: the clock of a mounted disk may be another one.
        """
        found, are = [], dict[str, tuple[int, int]]()
        for each in checkpoints_in(folder):
            try:
                status = os.stat(folder / each.name, follow_symlinks=False)
            except OSError:
                continue
            are[each.name] = status.st_size, status.st_mtime_ns
            if time.time() - status.st_mtime >= SETTLED_SECONDS or self._were.get(each.name) == are[each.name]:
                found.append(each)
        self._were = are
        return tuple(found)


def last_up_to(found: tuple[Checkpoint, ...], step: int) -> Checkpoint | None:
    """The last checkpoint that is not behind a step; None if there is none.

    >>> last_up_to((Checkpoint(50, "a.pt"), Checkpoint(100, "b.pt")), 99)
    Checkpoint(step=50, name='a.pt')
    """
    return next((each for each in reversed(found) if each.step <= step), None)


def spread(found: tuple[Checkpoint, ...], most: int = MOST_OFFERED) -> tuple[Checkpoint, ...]:
    """At most so many, evenly spread, with the first and the last."""
    if len(found) <= most:
        return found
    places = {round(place * (len(found) - 1) / (most - 1)) for place in range(most)}
    return tuple(found[place] for place in sorted(places))


def model_name(feed: str, step: int) -> str:
    """What the page calls the model with these weights."""
    return f"{feed}@{step}"


def named(model: str) -> tuple[str, int] | None:
    """The run and the step of such a name; None of a name that is none.

    >>> named("monday@1000"), named("monday@01"), named("monday")
    (('monday', 1000), None, None)
    """
    feed, _, step = model.rpartition("@")
    if not feed or not re.fullmatch(r"0|[1-9][0-9]{0,11}", step):
        return None
    return feed, int(step)
