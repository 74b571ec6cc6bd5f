"""What a model answers to every picture, number by number: of a model of embeddings, where each picture lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hookscope.hooks.datasets.collecting import Collector, Patterns
from hookscope.hooks.datasets.layer_batch import LayerBatch
from hookscope.hooks.errors import HooksError
from hookscope.hooks.looks.outputs import Answered, choose
from hookscope.hooks.results.sweeps import LayerFeatures


def vectors() -> Collector:
    """The model's answer to every picture, as the features of the layer "", the model itself.

    For models without classes, such as the picture half of CLIP, or a network without its head: pictures are alike by
    the cosine of these. Four bytes for each number of each picture are kept.
    """
    return VectorsCollector()


class VectorsCollector:
    """See `vectors`."""

    layers: Patterns = ()

    def __init__(self) -> None:
        self._pictures = np.zeros(0, np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """See `Collector`."""
        self._pictures = pictures

    def look(self, batch: LayerBatch) -> None:
        """It looks at no layer."""

    def end(self, answered: Answered) -> None:
        """See `Collector`.

        Raises:
            TargetNotFound: the answer is no vector, or several could be meant. HooksError: it is a map.
        """
        numbers = choose(answered, len(self._pictures)).numbers
        if numbers.ndim != 2:
            raise HooksError(
                "The model answers a map of each picture and no vector. Ask for the features of a layer instead: "
                "features(layers)."
            )
        self._parts.append((self._pictures, numbers.detach().float().cpu().numpy()))

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        if not self._parts:
            return {"features": ()}
        pictures = np.concatenate([part[0] for part in self._parts])
        values = np.concatenate([part[1] for part in self._parts])
        self._parts = [(pictures, values)]
        order = np.argsort(pictures, kind="stable")
        return {"features": (LayerFeatures("", 0, 0, pictures[order], values[order]),)}
