"""What a model did over a set of pictures: parts that add up exactly, whatever the batches were and in whatever order.

    whole = one + other                       # two sweeps over different pictures of one set
    whole.save("line-4.sweep")
    read_sweep("line-4.sweep").top("layer4").by_max.pictures[5]

Nothing here imports torch. Every picture has a number in its set, and a sweep knows which it has seen, so that none
counts twice.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from hookscope.hooks.errors import HooksError, LayerNotExecuted
from hookscope.hooks.results.codec import CodecError, decode, encode
from hookscope.hooks.results.merging import complete, merge_summaries
from hookscope.hooks.results.summaries import LayerSummary

NOWHERE = -1  # the row and column of a value that lies nowhere on the picture, and the number of no picture
RANDOM_SEED = np.uint64(0x9E3779B97F4A7C15)


class _OfLayer(Protocol):
    """A part that is about one call of a layer."""

    @property
    def layer(self) -> str: ...
    @property
    def call(self) -> int: ...


@dataclass(frozen=True)
class Ranked:
    """The pictures for which each channel of a layer has its largest numbers.

    Attributes:
        values: float32 (channel, rank), the largest first; -inf where the set has fewer pictures.
        pictures: int64 (channel, rank), their numbers in the set; -1 there. Of equal values the lower number is first.
        spots: int16 (channel, rank, 2), the row and the column of the largest value in the layer's map; -1 where it
            lies nowhere on the picture, as a class token or a layer without positions.
    """

    values: np.ndarray
    pictures: np.ndarray
    spots: np.ndarray

    def merged(self, other: Ranked) -> Ranked:
        """The largest of both."""
        values, pictures, spots = (
            np.concatenate([getattr(self, name), getattr(other, name)], 1) for name in ("values", "pictures", "spots")
        )
        order = np.lexsort((pictures, -values), axis=1)[:, : self.values.shape[1]]
        return Ranked(
            np.take_along_axis(values, order, 1),
            np.take_along_axis(pictures, order, 1),
            np.take_along_axis(spots, order[..., None], 1),
        )


@dataclass(frozen=True)
class Sampled:
    """What each channel gave for some pictures that were drawn from all, the same ones for every layer.

    Attributes:
        size: how many are drawn at most.
        pictures: int64 (drawn,), their numbers, in the order in which they were drawn.
        maxima: float32 (drawn, channel), the largest value of each; -inf of a map that holds nothing but NaN.
        spots: int16 (drawn, channel, 2), where that is, as `Ranked` has it.
    """

    size: int
    pictures: np.ndarray
    maxima: np.ndarray
    spots: np.ndarray

    def merged(self, other: Sampled) -> Sampled:
        """What would have been drawn of all: drawing goes by the pictures' numbers alone."""
        pictures = np.concatenate([self.pictures, other.pictures])
        order = np.argsort(drawn_at(pictures), kind="stable")[: self.size]
        maxima = np.concatenate([self.maxima, other.maxima])[order]
        return Sampled(self.size, pictures[order], maxima, np.concatenate([self.spots, other.spots])[order])


@dataclass(frozen=True)
class Shown:
    """Some pictures for one channel, to be shown.

    Attributes:
        pictures: int64 (picture,), their numbers in the set. values: float32 (picture,), the channel's largest value
            there, or its mean where they were ranked by that.
        spots: int16 (picture, 2), as `Ranked` has it.
    """

    pictures: np.ndarray
    values: np.ndarray
    spots: np.ndarray


@dataclass(frozen=True)
class LayerTop:
    """What the channels of one call of a layer answer to most strongly, and to what else they answer.

    Attributes:
        layer, call: where.
        by_max: ranked by the largest value of the map. by_mean: by the mean over the positions.
        sample: of pictures drawn at random, because those alone which a channel answers to most strongly mislead
            (Bolukbasi et al., "An Interpretability Illusion for BERT", 2021).
    """

    layer: str
    call: int
    by_max: Ranked
    by_mean: Ranked
    sample: Sampled

    def merged(self, other: LayerTop) -> LayerTop:
        """Of both sets together."""
        return LayerTop(
            self.layer,
            self.call,
            self.by_max.merged(other.by_max),
            self.by_mean.merged(other.by_mean),
            self.sample.merged(other.sample),
        )

    def strongest(self, channel: int, *, by: str = "max") -> Shown:
        """The pictures with a channel's largest values, the largest first; `by` "max" or "mean"."""
        ranked = self.by_mean if by == "mean" else self.by_max
        there = ranked.pictures[channel] != NOWHERE
        return Shown(ranked.pictures[channel][there], ranked.values[channel][there], ranked.spots[channel][there])

    def median(self, channel: int, count: int = 3) -> Shown:
        """The drawn pictures whose largest values are nearest to the median of the drawn, in rising order."""
        values = self.sample.maxima[:, channel]
        known = np.flatnonzero(np.isfinite(values))
        ordered = known[np.argsort(values[known], kind="stable")]
        start = max(0, (len(ordered) - count) // 2)
        return self._drawn(channel, ordered[start : start + count])

    def random(self, channel: int, count: int = 3) -> Shown:
        """Some of the drawn pictures, others for each channel."""
        known = np.flatnonzero(np.isfinite(self.sample.maxima[:, channel]))
        order = np.argsort(drawn_at(self.sample.pictures[known], channel + 1), kind="stable")
        return self._drawn(channel, known[order[:count]])

    def _drawn(self, channel: int, rows: np.ndarray) -> Shown:
        sample = self.sample
        return Shown(sample.pictures[rows], sample.maxima[rows, channel], sample.spots[rows, channel])


@dataclass(frozen=True)
class LayerFeatures:
    """The channels' means of one call of a layer, picture by picture.

    Attributes:
        layer, call: where. size: how many pictures are drawn at most; 0 for all of them.
        pictures: int64 (picture,), their numbers: rising, or in the order in which they were drawn.
        values: float32 (picture, channel).
    """

    layer: str
    call: int
    size: int
    pictures: np.ndarray
    values: np.ndarray

    def merged(self, other: LayerFeatures) -> LayerFeatures:
        """Of both sets together."""
        pictures = np.concatenate([self.pictures, other.pictures])
        order = np.argsort(drawn_at(pictures) if self.size else pictures, kind="stable")
        order = order[: self.size] if self.size else order
        values = np.concatenate([self.values, other.values])[order]
        return dataclasses.replace(self, pictures=pictures[order], values=values)


@dataclass(frozen=True)
class Answers:
    """What the model answered to each picture.

    Attributes:
        reads: how the answer is read, one of `methods.READINGS`. classes: how many the model has.
        pictures: int64 (picture,), rising. labels: int64 (picture,), the class each is said to show, -1 where nobody
            says it.
        best: int32 (picture, rank), the classes that it ranks first. shares: float32 (picture, rank), theirs, 0..1; of
            numbers that have no shares, the numbers.
        of_label: float32 (picture,), the share of the label's class; NaN where there is none.
        energy: float32 (picture,), -log of the sum of the exponentials of the logits, which is lower for what looks
            like the training set (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).
    """

    reads: str
    classes: int
    pictures: np.ndarray
    labels: np.ndarray
    best: np.ndarray
    shares: np.ndarray
    of_label: np.ndarray
    energy: np.ndarray

    def merged(self, other: Answers) -> Answers:
        """Of both sets together."""
        if (self.reads, self.classes) != (other.reads, other.classes):
            raise HooksError(
                f"The two sweeps read other answers ({self.classes} classes by {self.reads}, {other.classes} by "
                f"{other.reads}), so they are not of one model. Add sweeps of the same model, read in the same way."
            )
        order = np.argsort(np.concatenate([self.pictures, other.pictures]), kind="stable")
        names = ("pictures", "labels", "best", "shares", "of_label", "energy")
        both = (np.concatenate([getattr(self, name), getattr(other, name)])[order] for name in names)
        return Answers(self.reads, self.classes, *both)

    @property
    def margin(self) -> np.ndarray:
        """Float32 (picture,): by how much the first class is ahead of the second; NaN of a single class."""
        if self.shares.shape[1] < 2:
            return np.full(len(self.pictures), np.nan, np.float32)
        return np.asarray(self.shares[:, 0] - self.shares[:, 1])

    @property
    def right(self) -> np.ndarray:
        """Bool (picture,): whether the first class is the label; False where there is no label."""
        return np.asarray((self.best[:, 0] == self.labels) & (self.labels != NOWHERE))

    @property
    def accuracy(self) -> float:
        """The share of the labelled pictures whose first class is the label; NaN if none is labelled."""
        labelled = self.labels != NOWHERE
        return float(self.right[labelled].mean()) if labelled.any() else float("nan")

    def mistakes(self) -> np.ndarray:
        """Int64 (mistake,): the labelled pictures that are answered wrongly, the most confident first; rows, not
        numbers.
        """
        wrong = np.flatnonzero(~self.right & (self.labels != NOWHERE))
        return wrong[np.argsort(-self.shares[wrong, 0], kind="stable")]

    def confusion(self) -> tuple[np.ndarray, np.ndarray]:
        """Which classes occur, as labels or answers, int64 (class,), and how often each is answered for each.

        Returns:
            the classes, rising, and int64 (label, answer) counts of the labelled pictures.
        """
        labelled = self.labels != NOWHERE
        labels, answers = self.labels[labelled], self.best[labelled, 0].astype(np.int64)
        classes = np.unique(np.concatenate([labels, answers]))
        counts = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(counts, (np.searchsorted(classes, labels), np.searchsorted(classes, answers)), 1)
        return classes, counts


Part = TypeVar("Part", bound=Any)


@dataclass(frozen=True)
class Sweep:
    """What was found over a set of pictures, as `datasets.sweeping.sweep` makes it.

    Attributes:
        pictures: int64 (picture,), the numbers of those that were seen, rising.
        same: calls of layers that returned what another one had just returned, (layer, call, that layer, its call): a
            container's last child. What is known of the one is known of the other.
        statistics, top, sample, features: one entry per call of a layer, in execution order; empty if not asked for.
            `sample` is of drawn pictures and every layer, `features` of all pictures and some layers.
        answers: None if not asked for, or `notes` say why there are none.
    """

    pictures: np.ndarray
    same: tuple[tuple[str, int, str, int], ...] = ()
    statistics: tuple[LayerSummary, ...] = ()
    tops: tuple[LayerTop, ...] = ()
    sample: tuple[LayerFeatures, ...] = ()
    features: tuple[LayerFeatures, ...] = ()
    answers: Answers | None = None
    notes: tuple[str, ...] = ()

    def __add__(self, other: Sweep) -> Sweep:
        """Of both sets of pictures together.

        Raises:
            HooksError: a picture was seen by both, or they are not of one model.
        """
        twice = np.intersect1d(self.pictures, other.pictures)
        if twice.size:
            raise HooksError(
                f"{twice.size:,} pictures were seen by both sweeps (number {twice[0]} is one), and would count twice. "
                "Sweep other pictures, or number them on with `sweep(..., first=len(one.pictures))`."
            )
        return Sweep(
            pictures=np.union1d(self.pictures, other.pictures),
            same=tuple(dict.fromkeys((*self.same, *other.same))),
            statistics=_merged(self.statistics, other.statistics, merge_summaries),
            tops=_merged(self.tops, other.tops, LayerTop.merged),
            sample=_merged(self.sample, other.sample, LayerFeatures.merged),
            features=_merged(self.features, other.features, LayerFeatures.merged),
            answers=_merge_answers(self.answers, other.answers),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
        )

    def summary(self, layer: str, call: int = 0) -> LayerSummary:
        """The statistics of one call of a layer.

        Raises:
            LayerNotExecuted: there are none.
        """
        return complete(self._find(self.statistics, layer, call, "statistics"))

    def top(self, layer: str, call: int = 0) -> LayerTop:
        """The strongest pictures of one call of a layer.

        Raises:
            LayerNotExecuted: there are none.
        """
        return self._find(self.tops, layer, call, "strongest pictures")

    def place_of(self, layer: str, call: int = 0) -> tuple[str, int]:
        """Under which name a call of a layer is found here: its own, or that of what returned the same."""
        found = {(each[0], each[1]): (each[2], each[3]) for each in self.same}
        place = (layer, call)
        while place in found:
            place = found[place]
        return place

    def _find(self, parts: Sequence[Part], layer: str, call: int, what: str) -> Part:
        place = self.place_of(layer, call)
        for part in parts:
            if (part.layer, part.call) == place:
                return part
        known = ", ".join(repr(part.layer) for part in parts[:4]) or "nothing"
        raise LayerNotExecuted(
            f"There are no {what} of layer {layer!r}, call {call}, in this sweep. There is: {known}."
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, whole or not at all; no pickle."""
        target = Path(path)
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(encode(self))
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def read_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Read what `Sweep.save` wrote.

    Raises:
        HooksError: it is no such file, or damaged.
    """
    try:
        found: Sweep = decode(Path(path).read_bytes(), Sweep)
    except CodecError as error:
        raise HooksError(
            f"{os.fspath(path)} is no saved sweep, or it is damaged ({error}). Sweep the set again."
        ) from error
    return found


def drawn_at(pictures: np.ndarray, seed: int = 0) -> np.ndarray:
    """Uint64 (picture,): the order in which pictures are drawn, by a mixing of their numbers (SplitMix64; Steele, Lea
    and Flood 2014): those with the lowest are a random sample that does not depend on the batches.
    """
    with np.errstate(over="ignore"):
        mixed = (pictures.astype(np.uint64) + np.uint64(1 + seed * 1_000_003)) * RANDOM_SEED
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _merged(one: tuple[Part, ...], other: tuple[Part, ...], merge: Callable[[Part, Part], Part]) -> tuple[Part, ...]:
    """Parts about the calls of layers, those about the same call together, in the order of the first that has them."""
    found: dict[tuple[str, int], Part] = {(part.layer, part.call): part for part in one}
    for part in other:
        place = (part.layer, part.call)
        try:
            found[place] = merge(found[place], part) if place in found else part
        except ValueError as error:
            raise HooksError(
                f"Layer {part.layer!r} has other channels in the two sweeps, so they are not of one model. Add sweeps "
                "of the same model."
            ) from error
    return tuple(found.values())


def _merge_answers(one: Answers | None, other: Answers | None) -> Answers | None:
    return one.merged(other) if one is not None and other is not None else one or other
