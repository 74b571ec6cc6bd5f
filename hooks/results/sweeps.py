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
from hookscope.hooks.results.levels import LevelStrength
from hookscope.hooks.results.merging import complete, merge_summaries
from hookscope.hooks.results.profiles import LayerProfile
from hookscope.hooks.results.set_answers import Answers, Frames
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
        profiles: the same, of all pictures and every layer, a few numbers each.
        levels: of a detector's pyramid, the finest first.
        places: as `sample`, not means but what each channel gave at one place, drawn for each picture.
        answers: None if not asked for, or `notes` say why there are none.
        frames: None where it is not known.
        unread: pictures that could not be shown to the model: their numbers, and why; they are not in `pictures`.
    """

    pictures: np.ndarray
    same: tuple[tuple[str, int, str, int], ...] = ()
    statistics: tuple[LayerSummary, ...] = ()
    tops: tuple[LayerTop, ...] = ()
    sample: tuple[LayerFeatures, ...] = ()
    places: tuple[LayerFeatures, ...] = ()
    features: tuple[LayerFeatures, ...] = ()
    profiles: tuple[LayerProfile, ...] = ()
    levels: tuple[LevelStrength, ...] = ()
    answers: Answers | None = None
    notes: tuple[str, ...] = ()
    unread: tuple[tuple[int, str], ...] = ()
    frames: Frames | None = None

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
            places=_merged(self.places, other.places, LayerFeatures.merged),
            features=_merged(self.features, other.features, LayerFeatures.merged),
            profiles=_merged(self.profiles, other.profiles, LayerProfile.merged),
            levels=_merged(self.levels, other.levels, LevelStrength.merged),
            answers=_merge_whole(self.answers, other.answers),
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
            unread=tuple(sorted({*self.unread, *other.unread})),
            frames=_merge_whole(self.frames, other.frames),
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


@dataclass(frozen=True)
class Firing:
    """How many of the channels of one call of a layer fire, so far.

    Attributes:
        channels: how many there are. never: in no picture. seldom: in fewer than one of a hundred, but in some.
        activation: whether the layer is an activation function, after which a silent channel is a dead one.
    """

    layer: str
    call: int
    channels: int
    never: int
    seldom: int
    activation: bool


SELDOM = 0.01  # of the pictures


def count_firing(layer: str, call: int, fired: np.ndarray, inputs: int, activation: bool) -> Firing:
    """How many channels of a call fire, of which `fired` says in how many of the pictures each does."""
    never = int((fired == 0).sum())
    return Firing(layer, call, len(fired), never, int((fired < SELDOM * inputs).sum()) - never, activation)


@dataclass(frozen=True)
class SweepNow:
    """What is told of a sweep under way, often: small.

    Attributes:
        seen: how many pictures were looked at or refused. answers, unread: see `Sweep`. firing: of each layer.
    """

    seen: int
    answers: Answers | None
    firing: tuple[Firing, ...]
    unread: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()


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


def _merge_whole(one: Part | None, other: Part | None) -> Part | None:
    return one.merged(other) if one is not None and other is not None else one or other
