"""What each channel of each layer answers to most strongly over a set, and to what else it answers.

The strongest pictures of a channel are natural examples of what it looks for, from which people predict its answers
better than from pictures that are made for it (92 against 82 %; Borowski et al., "Exemplary Natural Images Explain CNN
Activations Better than State-of-the-Art Feature Visualization", ICLR 2021, arXiv:2010.12606).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hookscope.hooks.datasets.collecting import Collector, Drawing, OfLayers, Patterns, Place
from hookscope.hooks.datasets.layer_batch import LayerBatch, Layout
from hookscope.hooks.numbers.rows import NOBODY, Ranking
from hookscope.hooks.results.sweeps import NOWHERE, LayerTop, Ranked, Sampled


def top(layers: Patterns = None, *, count: int = 9, drawn: int = 32) -> Collector:
    """The pictures to which each channel answers most strongly, and others that were drawn at random.

    Arguments:
        layers: see `layers.names.select`; by default every module without children.
        count: how many of the strongest are kept, by the largest value and by the mean.
        drawn: how many pictures are drawn; what is shown as median and random is among these.
    """
    return TopCollector(layers, count, drawn)


@dataclass
class _Top:
    """What is known of one call of a layer; places are turned into spots as they come, for a size may change."""

    by_max: Ranking
    by_mean: Ranking
    layout: Layout
    drawn: np.ndarray  # int64 (row,): which picture each row below is of
    maxima: np.ndarray
    places: np.ndarray


class TopCollector(OfLayers):
    """See `top`."""

    def __init__(self, layers: Patterns, count: int, drawn: int) -> None:
        super().__init__(layers)
        self._count = count
        self._drawing = Drawing(drawn)
        self._pictures = np.zeros(0, np.int64)
        self._known: dict[Place, list[_Top]] = {}  # one for each layout of its maps: pictures may be of several sizes

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """See `Collector`."""
        self._pictures = pictures
        self._drawing.begin(pictures)

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        rows = batch.rows
        if rows is None or not rows.values.numel():
            return
        known = self._of(batch, rows.values.shape[1])
        known.by_max.add("largest", rows, batch.pictures)
        known.by_mean.add("means", rows, batch.pictures)
        for index, row in self._drawing.new:
            known.drawn[row] = batch.pictures[index]
            known.maxima[row] = rows.largest[index]
            known.places[row] = rows.places(index)

    def _of(self, batch: LayerBatch, channels: int) -> _Top:
        of_place = self._known.setdefault((batch.layer, batch.call), [])
        for known in of_place:
            if known.layout is batch.layout or known.layout == batch.layout:
                return known
        size = self._drawing.size
        known = _Top(
            Ranking(channels, self._count),
            Ranking(channels, self._count),
            batch.layout,
            np.full(size, NOBODY, np.int64),
            np.zeros((size, channels), np.float32),
            np.zeros((size, channels), np.int32),
        )
        of_place.append(known)
        return known

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        tops = []
        for place, parts in self._known.items():
            first, *others = (self._top(place, part) for part in parts)
            for other in others:
                first = first.merged(other)
            tops.append(first)
        return {"tops": tuple(tops)}

    def _top(self, place: Place, known: _Top) -> LayerTop:
        rows = self._drawing.rows(known.drawn)
        spots = known.layout.spots(known.places[rows])
        sample = Sampled(self._drawing.size, known.drawn[rows], known.maxima[rows], spots)
        return LayerTop(*place, _ranked(known.by_max, known.layout), _ranked(known.by_mean, known.layout), sample)


def _ranked(ranking: Ranking, layout: Layout) -> Ranked:
    nobody = ranking.pictures == NOBODY
    pictures = np.where(nobody, NOWHERE, ranking.pictures)
    spots = np.where(nobody[..., None], np.int16(NOWHERE), layout.spots(ranking.places))
    return Ranked(ranking.values.copy(), pictures, spots)
