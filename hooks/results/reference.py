"""What a model and its pictures were when a baseline was written, so that a later check can say what is another: numpy
only.

Tensors are told apart by short digests of their values, as a whole and row by row; pictures by their digest, and by a
small picture of each, so that the same ones are known again after another normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

DIGEST = 16  # hexadecimal digits
SIDE = 8  # of the small pictures
SAMPLE = 64  # values that are kept of each tensor
DTYPES = {
    "spread": np.float32,
    "small": np.float32,
    "answers": np.float32,
    "first": np.int64,
    "channels": np.float32,
    "samples": np.float32,
    "rows": np.uint32,
}


@dataclass(frozen=True)
class StoredTensor:
    """What is kept of one weight or buffer.

    Attributes:
        name: in the model's state. dtype: as "float32". shape: its own.
        digest: of its values, whatever their dtype; bfloat16, float16: of these rounded to that; "" of whole numbers.
        axis: which of its axes holds the rows, one for each output channel; -1 of one without.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: str
    bfloat16: str = ""
    float16: str = ""
    axis: int = -1

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.shape[self.axis] if self.axis >= 0 else 0

    @property
    def sample(self) -> int:
        """How many of its values are kept."""
        return min(SAMPLE, int(np.prod(self.shape)))


@dataclass(frozen=True)
class Told:
    """What stands in the baseline's JSON.

    Attributes:
        repeats: how often all pictures were shown. threads: with how many of torch's threads. device: as "cpu".
        size: (channel, height, width) of the first picture. mean, std: of each channel, of all that was given.
        pictures: a digest of each picture. kinds: of each layer's call, the module as it prints itself.
        channels: how many channels each layer's call has; 0 where that is not known.
        classes: a digest of each class's name; () if there were no names. tensors: every weight and buffer.
    """

    repeats: int
    threads: tuple[int, ...]
    device: str
    size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pictures: tuple[str, ...]
    kinds: tuple[str, ...]
    channels: tuple[int, ...]
    classes: tuple[str, ...]
    tensors: tuple[StoredTensor, ...]


@dataclass(frozen=True)
class Reference:
    """What a model and its pictures were.

    Attributes:
        told: what a person can read.
        spread: float32 (layer, statistic), how far repeats were apart at most, over all pictures.
        small: float32 (picture, channel, 8, 8), each picture made small. answers: float32 (class,), the mean answer;
            (0,) where there are no classes. first: int64 (picture,), the first class of each; -1 where there is none.
        channels: float32 (channel of any layer,), their means over the set, a layer's call after the other.
        samples: float32 (value,), of every tensor in turn a few. rows: uint32 (row,), of every tensor in turn a digest
            of each row.
    """

    told: Told
    spread: np.ndarray = field(repr=False)
    small: np.ndarray = field(repr=False)
    answers: np.ndarray = field(repr=False)
    first: np.ndarray = field(repr=False)
    channels: np.ndarray = field(repr=False)
    samples: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)

    def means(self, index: int) -> np.ndarray:
        """Float32 (channel,): the means of one layer's channels over the set."""
        return self._part(self.channels, self.told.channels, index)

    def rows_of(self, index: int) -> np.ndarray:
        """Uint32 (row,): of one tensor."""
        return self._part(self.rows, [each.rows for each in self.told.tensors], index)

    def sample_of(self, index: int) -> np.ndarray:
        """Float32 (value,): of one tensor."""
        return self._part(self.samples, [each.sample for each in self.told.tensors], index)

    def _part(self, values: np.ndarray, lengths: object, index: int) -> np.ndarray:
        ends = np.cumsum([0, *lengths])  # type: ignore[misc]
        return values[ends[index] : ends[index + 1]]


def arrays_of(reference: Reference) -> dict[str, np.ndarray]:
    """The arrays by name, as they stand in a file."""
    return {f"reference.{name}": getattr(reference, name).astype(dtype) for name, dtype in DTYPES.items()}


def read_reference(told: Told, found: dict[str, np.ndarray], pictures: int, layers: int, statistics: int) -> Reference:
    """A reference of what was read from files.

    Raises:
        ValueError: something is not as it can be. KeyError: an array is missing.
    """
    arrays = {name: found[f"reference.{name}"] for name in DTYPES}
    shapes: dict[str, tuple[int, ...]] = {
        "spread": (layers, statistics),
        "small": (pictures, *told.size[:1], SIDE, SIDE),
        "answers": (-1,),
        "first": (pictures,),
        "channels": (sum(told.channels),),
        "samples": (sum(each.sample for each in told.tensors),),
        "rows": (sum(each.rows for each in told.tensors),),
    }
    for name, shape in shapes.items():
        own = arrays[name]
        if own.dtype != DTYPES[name] or (shape != (-1,) and own.shape != shape):
            raise ValueError(f"{name} is {own.dtype} of shape {own.shape}")
    lengths = {len(told.pictures): pictures, len(told.kinds): layers, len(told.channels): layers}
    if any(own != wanted for own, wanted in lengths.items()) or len(told.size) != 3:
        raise ValueError("a list is too short or too long")
    if any(each.axis >= len(each.shape) or min((*each.shape, 0)) < 0 for each in told.tensors):
        raise ValueError("a tensor has a shape that none can have")
    return Reference(told, **arrays)
