"""How strongly a detector's pyramid answers to small, middle and large objects, over a set of pictures.

described = hs.describe(detector, pictures[:1])
found = hs.sweep(detector, loader, [hs.levels(pyramid.levels(described))])
found.levels[0].contrast                   # of the finest level: for small, middle and large boxes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from hookscope.hooks.datasets.collecting import Collector, Patterns, Place
from hookscope.hooks.datasets.layer_batch import LayerBatch
from hookscope.hooks.layers.names import Pattern
from hookscope.hooks.looks.detections import as_detection, is_detection
from hookscope.hooks.looks.outputs import Answered
from hookscope.hooks.numbers.reductions import real
from hookscope.hooks.passes import nested
from hookscope.hooks.results.levels import LevelStrength, measure
from hookscope.hooks.results.raw_boxes import LEAST_SCORE

RESIZING = (
    r"/(^|\.)transform$|^$/"  # where torchvision's detectors resize; the model itself, so that it means something
)


def levels(layers: Pattern | Iterable[Pattern], *, least_score: float = LEAST_SCORE) -> Collector:
    """What each level of a pyramid has inside the boxes that the detector finds, over what it has outside of them.

    The mean size of the level's activation at positions inside a box over that at all others, in the mean over boxes:
    1 where the level does not see the object. Objects are small below 32 x 32 and large above 96 x 96 pixels of the
    picture that the model is given (as in COCO); the boxes are the detector's own, so an object that it misses counts
    nowhere.

    Arguments:
        layers: the levels, as `layers.names.select` takes them; `results.pyramid.levels` finds them in what `describe`
            says of a model.
        least_score: boxes with a lower score are left out.
    """
    return LevelsCollector(layers, least_score)


class LevelsCollector:
    """See `levels`."""

    def __init__(self, layers: Pattern | Iterable[Pattern], least_score: float) -> None:
        chosen = [layers] if isinstance(layers, str | type) else list(layers)
        self.layers: Patterns = [*chosen, RESIZING]
        self._least_score = least_score
        self._maps: dict[Place, np.ndarray] = {}
        self._frame: tuple[int, int] | None = None  # what the levels lie over, where the model itself has resized
        self._resized: list[tuple[int, int]] = []  # each picture within it
        self._known: dict[Place, LevelStrength] = {}

    def begin(self, pictures: np.ndarray, labels: np.ndarray) -> None:
        """See `Collector`."""
        self._maps, self._frame, self._resized = {}, None, []

    def look(self, batch: LayerBatch) -> None:
        """See `Collector`."""
        first: Any = batch.output[0] if isinstance(batch.output, list | tuple) and batch.output else None
        if hasattr(first, "image_sizes") and isinstance(getattr(first, "tensors", None), Tensor):
            height, width = first.tensors.shape[-2:]
            self._frame, self._resized = (height, width), [(int(size[0]), int(size[1])) for size in first.image_sizes]
        elif batch.layer and batch.tensor.ndim == 4 and len(batch.tensor) == len(batch.pictures):
            sizes = real(batch.tensor).abs().mean(1)
            self._maps[batch.layer, batch.call] = sizes.cpu().double().numpy()

    def end(self, answered: Answered) -> None:
        """See `Collector`."""
        given = next((each for _, each in nested.tensors(answered.given)), None)
        if given is None or not self._maps:
            return
        count = len(next(iter(self._maps.values())))
        size = int(given.shape[-2]), int(given.shape[-1])
        for index in range(count):
            boxes = self._boxes(_only(answered.value, index, count))
            frame, resized = (self._frame, self._resized[index]) if self._frame else (size, size)
            scale = resized[0] / size[0], resized[1] / size[1]
            maps = {place: values[index] for place, values in self._maps.items()}
            for each in measure(maps, boxes, frame, scale):
                place = each.layer, each.call
                self._known[place] = self._known[place].merged(each) if place in self._known else each

    def _boxes(self, output: Any) -> np.ndarray:
        """Float64 (box, 4): those with a score that is high enough; none of a model that answers no boxes."""
        found = as_detection(output)
        if not is_detection(found) or not all(isinstance(found[0].get(part), Tensor) for part in ("boxes", "scores")):
            return np.zeros((0, 4))
        boxes, scores = (found[0][part].detach().double().cpu().numpy() for part in ("boxes", "scores"))
        return np.asarray(boxes.reshape(-1, 4)[scores >= self._least_score])

    def found(self) -> Mapping[str, Any]:
        """See `Collector`."""
        return {"levels": tuple(self._known.values())}


def _only(output: Any, index: int, count: int) -> Any:
    """A model's output for one picture of several."""
    if count == 1:
        return output
    if isinstance(output, list) and len(output) == count:
        return output[index : index + 1]
    return nested.map_tensors(output, lambda tensor: tensor[index : index + 1] if len(tensor) == count else tensor)
