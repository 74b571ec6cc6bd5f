"""What a training writes of its layers while it runs: looks at steps, their numbers, and alarms; without torch.

A feed is a folder that holds one run: `run.json`, `steps.jsonl` with a line for each step that was looked at, and
`.safetensors` files named by step with distributions and maps. docs/feed.md explains each column; `feed_files` reads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hookscope.hooks.results.findings import Severity
from hookscope.hooks.results.sketches import INFINITE, SHIFT, limits

FORMAT = "hookscope feed"
VERSION = 1  # of the format
RUN, LINES, LOCK = "run.json", "steps.jsonl", ".writing"
KINDS = "bins", "maps"  # what is kept in files of their own, by step

# What stands in a layer's lists, in this order; docs/feed.md says what each is.
ACTIVATION = ("mean", "std", "rms", "zeros", "dead", "channels", "nan", "inf", "inputs")
GRADIENT = ("norm", "rms", "zeros", "nan", "inf")
WEIGHT = ("norm", "rms", "nan", "inf", "count")
GROUPS: Mapping[str, tuple[str, ...]] = {"a": ACTIVATION, "g": GRADIENT, "w": WEIGHT, "u": ("ratio",)}
TITLES: Mapping[str, str] = {"a": "activation", "g": "gradient", "w": "weight", "u": "update"}
COLUMNS = tuple((group, name) for group, names in GROUPS.items() for name in names)
PLACES = {column: place for place, column in enumerate(COLUMNS)}

A_DECADE, DECADES, LEAST = 7, 15, 1e-11  # bins in a decade, decades on either side of 0, and where the first begins
BINS = 2 * A_DECADE * DECADES + 1
DISTRIBUTIONS = ("a", "g", "w")  # of which bins are kept


@dataclass(frozen=True)
class Alarm:
    """Something in a training that a person should know, told once until it is over.

    Attributes:
        rule: a name of `training.rules.TRAINING_RULES`. severity: how bad it is.
        layer: where, the worst of them; "" where it is about the whole model. layers: all that it is about.
        sentence: what was found, with the numbers. why: why it matters. advice: what to do.
        value, limit: the number, and where the rule draws the line; NaN for none.
        step: at which it was seen first. until: the first look at which it was over; -1 while it is on.
    """

    rule: str
    severity: Severity
    layer: str
    sentence: str
    why: str = ""
    advice: str = ""
    layers: tuple[str, ...] = ()
    value: float = math.nan
    limit: float = math.nan
    step: int = 0
    until: int = -1


@dataclass(frozen=True)
class Given:
    """What steps were given by the person, looked at or not.

    Attributes:
        losses: (step, loss), rising. numbers: by name the same of numbers of the person's own.
    """

    losses: tuple[tuple[int, float], ...] = ()
    numbers: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)

    def before(self, step: int) -> Given:
        """The same of the steps before one."""
        losses = tuple(each for each in self.losses if each[0] < step)
        kept = {name: tuple(each for each in rows if each[0] < step) for name, rows in self.numbers.items()}
        return Given(losses, {name: rows for name, rows in kept.items() if rows})


@dataclass(frozen=True)
class Look:
    """One step that was looked at.

    Attributes:
        step: how many updates the weights had had before it. number: how many looks the run had before this one.
        time: seconds since 1970. cost: seconds that looking took.
        loss: NaN where none was given. given: what the steps since the look before were given, this one among them.
        scalars: what the person gave this one besides the loss. rates: the learning rate of each group of the
            optimiser. scale: by which the loss was multiplied; NaN without a scaler. skipped: whether the optimiser
            left the weights as they were.
        layers: their names, in the order in which they ran; a second call of a layer is "name:2". One that only has
            weights, as it is never called, stands where it is in the model.
        numbers: float32 (layer, column), the columns of `COLUMNS`; NaN where there is none.
        own: by the name of a metric of one's own float32 (layer,); NaN where it has none.
        alarms: those that began here. over: (rule, layer) of those that are over.
        notes: sentences about what could not be seen.
    """

    step: int
    number: int
    time: float
    layers: tuple[str, ...]
    numbers: np.ndarray
    cost: float = math.nan
    loss: float = math.nan
    given: Given = Given()
    scalars: Mapping[str, float] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    scale: float = math.nan
    skipped: bool = False
    own: Mapping[str, np.ndarray] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    over: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def column(self, group: str, name: str) -> np.ndarray:
        """One column of all layers, float32 (layer,).

        Arguments:
            group: "a" of activations, "g" of gradients, "w" of weights, "u" of updates. name: see `GROUPS`.
        """
        return self.numbers[:, PLACES[group, name]]

    def of(self, layer: str) -> dict[tuple[str, str], float]:
        """The numbers of one layer, by group and name; only those that there are."""
        row = self.numbers[self.layers.index(layer)]
        return {column: float(value) for column, value in zip(COLUMNS, row, strict=True) if not math.isnan(value)}


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run as a whole.

    Attributes:
        title: what the person called it. model: the class of the model. every: how many steps are between two looks.
        started: seconds since 1970. versions: of the libraries. layers: the layers that are followed.
        layers_with_weights: those of them that have weights of two axes or more, in the order of the model.
        optimizer: its class, "" where none was given. scaler: whether there is one. pinned: how many pictures are
            pinned.
        process, machine: by which it is told whether the run goes on, where the file system knows no locks.
    """

    title: str
    model: str
    every: int
    started: float
    versions: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    layers_with_weights: tuple[str, ...] = ()
    optimizer: str = ""
    scaler: bool = False
    pinned: int = 0
    process: int = 0
    machine: str = ""


@dataclass(frozen=True)
class State:
    """Whether a run goes on.

    Attributes:
        kind: "running"; "ended", in good order or not, as `sentence` says; "unknown" where nobody can tell.
        sentence: for people. time: of the last that is known of it, seconds since 1970.
    """

    kind: Literal["running", "ended", "unknown"]
    sentence: str
    time: float


@dataclass(frozen=True)
class PinnedMaps:
    """What layers made of the pinned picture at one step.

    Attributes:
        step: at which. maps: by layer float32 (channel, height, width), made smaller by averaging where they were
            large. channels: by layer int64 (channel,), which of the layer's channels they are, the same in every step.
        answer: float32 (class,), what the model answered to it; None where that is no row of numbers.
    """

    step: int
    maps: Mapping[str, np.ndarray]
    channels: Mapping[str, np.ndarray]
    answer: np.ndarray | None = None


@functools.cache
def bin_edges() -> np.ndarray:
    """Float64 (edge,), rising: where one bin ends and the next begins; the outermost bins have no end.

    Seven in a decade, as 1e-11 * 10 ** (n / 7) and the same below 0, each moved by up to 1 % to where the counting of
    float32 values can tell values apart exactly. A value on an edge belongs to the bin that is further from 0. Values
    nearer to 0 than 1e-11 are in the middle bin, with 0.
    """
    edges = limits(_cuts())[0]
    return np.concatenate([-edges[::-1], edges])


@functools.cache
def _cuts() -> np.ndarray:
    """Int64 (edge,): the keys of `results.sketches` at which the bins above 0 begin."""
    wanted = LEAST * 10.0 ** (np.arange(A_DECADE * DECADES) / A_DECADE)
    return np.rint(wanted.astype(np.float32).view(np.int32) / (1 << SHIFT)).astype(np.int64)


def to_bins(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """Int64 (bin,): finite values that were counted by their first bits, in the bins of `bin_edges`.

    Arguments:
        positive, negative: int64 (key,), how many values of that sign have each key of `results.sketches`.
    """
    starts = np.concatenate([[0], _cuts()])
    above, below = (np.add.reduceat(counts[:INFINITE], starts) for counts in (positive, negative))
    return np.concatenate([below[:0:-1], [above[0] + below[0]], above[1:]])


def shorten(name: Any, most: int = 300) -> str:
    """A name as it is shown: no control characters, and the middle left out where it is too long.

    >>> shorten("layer1.0"), len(shorten("x" * 100_000)), shorten("a\\nb")
    ('layer1.0', 300, 'a b')
    """
    text = str(name)
    if len(text) > most:
        text = text[: most - 60] + "…" + text[-59:]
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)
