"""What a sweep can be asked for, but for galleries: each collects something of every batch.

One more is one class with the four methods of `Collector`, and a field of `results.sweeps.Sweep`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hookscope.hooks.datasets.collecting import Collector, Drawing, OfLayers, Patterns, Place
from hookscope.hooks.datasets.layer_batch import LayerBatch
from hookscope.hooks.datasets.summarising import kind_of, summarise
from hookscope.hooks.errors import HooksError, TargetNotFound
from hookscope.hooks.looks.detections import is_detection
from hookscope.hooks.looks.outputs import Answered, choose
from hookscope.hooks.looks.prediction import scores_of
from hookscope.hooks.numbers.rows import NOBODY, Rows, Totals
from hookscope.hooks.numbers.sketch import sketch
from hookscope.hooks.results import sketches
from hookscope.hooks.results.looks import QUANTILE_LEVELS, Statistics
from hookscope.hooks.results.merging import complete, merge_summaries
from hookscope.hooks.results.set_answers import UNLABELLED, Answers
from hookscope.hooks.results.summaries import LayerSummary, Sketch
from hookscope.hooks.results.sweeps import LayerFeatures, drawn_at

BUFFER = 1 << 15  # values that are gathered before they are counted: counting has a cost of its own
RANKS = 5  # classes that are kept of each answer
NO_CLASS = "The model answers boxes, and no class of the whole picture."
NO_CLASSES = "The model answers an embedding: a place among other pictures', and no classes."
PLACES_SEED = 7  # other than that by which pictures are drawn


# --- statistics


def statistics(layers: Patterns = None, *, threshold: float = 0.0, values: int = 256) -> Collector:
    """The numbers of every channel over the set: mean, deviation, extremes, zeros, in how many pictures it fired.

    Arguments:
        layers: see `layers.names.select`; by default every module without children.
        threshold: a channel fires in a picture where the magnitude of a value is above it. 0 is right after ReLU; GELU,
            SiLU and Hardswish saturate near 0 and not at it, so take e.g. 0.01 there.
        values: how many of each picture's values, evenly spread over the layer's output, quantiles and histogram are
            made of; all other numbers are of all. 0 takes all, which costs as much again as everything else.
    """
    return StatisticsCollector(layers, threshold, values)


@dataclass
class _Summed:
    """What is known of one call of a layer."""

    kind: str
    activation: bool
    totals: Totals
    waiting: list[np.ndarray] = field(default_factory=list)  # values that are not counted yet
    held: int = 0  # how many those are
    steps: dict[tuple[int, int], int] = field(
        default_factory=dict
    )  # (channels, positions) -> every how-manieth is drawn
    sketch: Sketch = field(default_factory=lambda: Sketch(np.zeros(0, np.int32), np.zeros(0, np.int64)))

    def count(self) -> None:
        """Count what waits."""
        if self.waiting:
            values = torch.from_numpy(np.concatenate(self.waiting))
            self.sketch, self.waiting, self.held = sketches.merge(self.sketch, sketch(values)), [], 0


class StatisticsCollector(OfLayers):
    """See `statistics`."""

    def __init__(self, layers: Patterns, threshold: float, values: int) -> None:
        super().__init__(layers)
        self._threshold, self._values = threshold, values
        self._summed: dict[Place, _Summed] = {}
        self._whole: dict[Place, LayerSummary] = {}  # of calls whose axes are not known

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        place = batch.layer, batch.call
        rows = batch.rows
        if rows is None:
            new = summarise(batch.layer, batch.call, batch.module, "output", batch.tensor, batch.axes, self._threshold)
            self._whole[place] = merge_summaries(self._whole[place], new) if place in self._whole else new
            return
        known = self._summed.get(place)
        if known is None:
            totals = Totals(rows.values.shape[1], self._threshold)
            known = self._summed[place] = _Summed(*kind_of(batch.layer, batch.module), totals)
        known.totals.add(rows)
        drawn = self._drawn(known, rows.values)
        known.waiting.append(drawn)
        known.held += drawn.size
        if known.held >= BUFFER:
            known.count()

    def _drawn(self, known: _Summed, values: torch.Tensor) -> np.ndarray:
        """Of each picture's values some that lie evenly among them, float32 (value,), their own memory."""
        pictures, channels, positions = values.shape
        step = known.steps.get((channels, positions))
        if step is None:
            step = _step(channels * positions, positions, self._values) if self._values else 1
            known.steps[channels, positions] = step
        array = values.numpy() if values.device.type == "cpu" else values.cpu().numpy()
        return array.reshape(pictures, -1)[:, ::step].astype(np.float32).reshape(-1)

    def fired(self) -> dict[Place, tuple[np.ndarray, int, bool]]:
        """Of each call: in how many pictures each channel fired, of how many, and whether it is an activation's."""
        return {
            place: (known.totals.table[:, 6].astype(np.int64), known.totals.pictures, known.activation)
            for place, known in self._summed.items()
        }

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        summaries = {place: self._summary(place, known) for place, known in self._summed.items()}
        return {"statistics": tuple((summaries | {place: complete(of) for place, of in self._whole.items()}).values())}

    def _summary(self, place: Place, known: _Summed) -> LayerSummary:
        known.count()
        table = known.totals.table
        numbers = _statistics(table)
        return complete(
            LayerSummary(
                *place,
                type=known.kind,
                of="output",
                inputs=known.totals.pictures,
                statistics=numbers,
                sketch=known.sketch,
                fired=table[:, 6].astype(np.int64),
                threshold=self._threshold,
                activation=known.activation,
                norm=float(np.sqrt((table[:, 2] + table[:, 0] * table[:, 1] ** 2).sum())),
            )
        )


def _step(count: int, columns: int, wanted: int) -> int:
    """Every how-manieth of a picture's values is taken: no divisor of a row, or it would hit one column of each."""
    step = -(-count // wanted)
    while step > 1 and np.gcd(step, max(columns, 1)) > 1 and count >= 2 * step:
        step += 1
    return step


def _statistics(table: np.ndarray) -> Statistics:
    """The numbers of a table as `Totals` has it, without quantiles and histogram."""
    count, mean, squares, least, most, zeros, _, nan, inf = table.T.copy()
    finite = count.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = float((count @ mean) / finite)
        spread = float(np.sqrt((squares.sum() + count @ (mean - centre) ** 2) / finite))
        some = count > 0
        channels = {
            "mean": np.where(some, mean, np.nan),
            "std": np.sqrt(np.where(some, squares, np.nan) / count),
            "min": np.where(some, least, np.nan),
            "max": np.where(some, most, np.nan),
            "zeros": np.where(some, zeros, np.nan) / count,
            "nan": nan,
            "inf": inf,
        }
    return Statistics(
        count=int(finite + nan.sum() + inf.sum()),
        mean=centre,
        std=spread,
        min=float(least.min()) if finite else float("nan"),
        max=float(most.max()) if finite else float("nan"),
        zeros=float(zeros.sum() / finite) if finite else float("nan"),
        nan=int(nan.sum()),
        inf=int(inf.sum()),
        quantiles=np.full(len(QUANTILE_LEVELS), np.nan),
        histogram=np.zeros(0, np.int64),
        edges=np.zeros(0),
        channels=channels,
    )


# --- features


class SampleCollector(OfLayers):
    """The channels' means of some pictures that are drawn at random: what `gaps.gap` compares sets by."""

    def __init__(self, layers: Patterns, drawn: int) -> None:
        super().__init__(layers)
        self._drawing = Drawing(drawn)
        self._known: dict[Place, tuple[np.ndarray, np.ndarray]] = {}  # which picture each row is of, and its means

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """See `Collector`."""
        self._drawing.begin(pictures)

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        rows = batch.rows if self._drawing.new else None
        if rows is None:
            return
        place, size = (batch.layer, batch.call), self._drawing.size
        if place not in self._known:
            self._known[place] = np.full(size, NOBODY, np.int64), np.zeros((size, rows.values.shape[1]), np.float32)
        drawn, kept = self._known[place]
        for index, row in self._drawing.new:
            drawn[row], kept[row] = batch.pictures[index], self._of(rows, index, int(batch.pictures[index]))

    def _of(self, rows: Rows, index: int, picture: int) -> np.ndarray:
        """Float32 (channel,): what is kept of one picture of the batch."""
        return rows.means[index]

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        return {"sample": self._drawn()}

    def _drawn(self) -> tuple[LayerFeatures, ...]:
        found = []
        for place, (drawn, kept) in self._known.items():
            rows = self._drawing.rows(drawn)
            found.append(LayerFeatures(*place, self._drawing.size, drawn[rows], kept[rows]))
        return tuple(found)


class PlacesCollector(SampleCollector):
    """What the channels give at one place of each of some pictures, drawn at random: what `information` is told from.

    One place of each picture, the same share of the way through every layer's positions: so the pictures are a sample
    of all positions of all pictures, and independent of each other.
    """

    def _of(self, rows: Rows, index: int, picture: int) -> np.ndarray:
        positions = rows.values.shape[2]
        if not positions:
            return np.full(rows.values.shape[1], np.nan, np.float32)
        share = float(drawn_at(np.array([picture]), PLACES_SEED)[0]) / 2**64
        values = rows.values[index, :, min(int(share * positions), positions - 1)]
        return values.cpu().numpy().astype(np.float32)

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        return {"places": self._drawn()}


def features(layers: Patterns) -> Collector:
    """The channels' means of a few layers for every picture; four bytes for each channel of each picture are kept.

    Arguments:
        layers: see `layers.names.select`, e.g. the last one before the head, whose features say what is alike.
    """
    return FeaturesCollector(layers)


class FeaturesCollector(OfLayers):
    """See `features`."""

    def __init__(self, layers: Patterns) -> None:
        super().__init__(layers)
        self._known: dict[Place, list[tuple[np.ndarray, np.ndarray]]] = {}

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        if batch.rows is not None:
            self._known.setdefault((batch.layer, batch.call), []).append((batch.pictures, batch.rows.means))

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        found = []
        for place, parts in self._known.items():
            pictures = np.concatenate([part[0] for part in parts])
            values = np.concatenate([part[1] for part in parts])
            self._known[place] = [(pictures, values)]
            order = np.argsort(pictures, kind="stable")
            found.append(LayerFeatures(*place, 0, pictures[order], values[order]))
        return {"features": tuple(found)}


# --- answers


def answers() -> Collector:
    """What the model answers to each picture, and whether that is its label, where the batches have labels."""
    return AnswersCollector()


class AnswersCollector:
    """See `answers`."""

    layers: Patterns = ()

    def __init__(self, *, beyond: bool = False) -> None:
        """Arguments: beyond: take a label that is no class of the model as none, instead of refusing it."""
        self._beyond = beyond
        self._pictures = self._labels = np.zeros(0, np.int64)
        self._known: Answers | None = None
        self._parts: list[Answers] = []
        self._reason = ""

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """See `Collector`."""
        self._pictures, self._labels = pictures, labels.copy() if self._beyond else labels

    def look(self, batch: LayerBatch) -> None:
        """It looks at no layer."""

    def end(self, answered: Answered) -> None:
        """See `Collector`."""
        try:
            chosen = choose(answered, len(self._pictures))
        except TargetNotFound as reason:
            self._reason = NO_CLASS if is_detection(answered.value) else str(reason)
            return
        if chosen.reads == "embedding":
            self._reason = NO_CLASSES
            return
        rows = []
        for index, label in enumerate(self._labels):
            one = slice(index, index + 1)
            read = scores_of(chosen.only(one))
            numbers = read.shares if read.shares.size else read.logits
            if label >= len(numbers) and self._beyond:
                self._labels[index] = UNLABELLED
                label = self._labels[index]
            if label >= len(numbers):
                raise HooksError(
                    f"A picture's label is class {label}, and the model answers {len(numbers)} classes, from 0 on. "
                    "Give the labels in the model's own order, or -1 where a picture has none."
                )
            best = np.argsort(-np.nan_to_num(numbers, nan=-np.inf), kind="stable")[:RANKS]
            excludes = read.reads == "softmax" and read.numbers.size > 0
            rows.append((best, numbers[best], numbers[label] if label >= 0 else np.nan, _energy(read, excludes)))
        best, shares, of_label, energy = (np.array(column) for column in zip(*rows, strict=True))
        self._parts.append(
            Answers(
                reads=read.reads,
                classes=len(numbers),
                pictures=self._pictures,
                labels=self._labels,
                best=best.astype(np.int32),
                shares=shares.astype(np.float32),
                of_label=of_label.astype(np.float32),
                energy=energy.astype(np.float32),
            )
        )

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        for part in self._parts:
            self._known = part if self._known is None else self._known.merged(part)
        self._parts = []
        return {"answers": self._known, "notes": (self._reason,) if self._reason and self._known is None else ()}


def _energy(read: Any, excludes: bool) -> float:
    """Of an answer whose classes exclude one another; NaN of any other."""
    if not excludes:
        return float("nan")
    with np.errstate(invalid="ignore", over="ignore"):  # an answer that is not finite has none either
        return -float(np.logaddexp.reduce(read.logits.astype(np.float64)))
