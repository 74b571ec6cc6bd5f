"""A set of pictures, with a label for each or without, gone through batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hookscope.hooks.errors import HooksError, TargetNotFound
from hookscope.hooks.passes.looking import Steps

PICTURES = ("pixel_values", "image", "images", "pictures", "inputs")  # what batches that are dicts call them
LABELS = ("labels", "label", "target", "targets")


@dataclass(frozen=True)
class Batch:
    """Some pictures of a set.

    Attributes:
        pictures: float (image, channel, height, width).
        labels: int64 (image,), -1 where there is none; None if the batch has none at all.
    """

    pictures: Tensor
    labels: np.ndarray | None = None

    def parts(self, most: int) -> Iterator[Batch]:
        """The same in batches of at most so many pictures."""
        for start in range(0, len(self.pictures), most):
            chosen = slice(start, start + most)
            yield Batch(self.pictures[chosen], None if self.labels is None else self.labels[chosen])


def read_batch(batch: Any) -> Batch:
    """What a loader gave, as pictures and labels.

    Arguments:
        batch: float (image, channel, height, width), alone, or first in a tuple or list with one whole number per image
            behind it, -1 for none; or a dict that calls them by one of `PICTURES` and `LABELS`.

    Raises:
        HooksError: it is no batch of pictures, or has not as many labels as pictures.
    """
    pictures, labels = batch, None
    if isinstance(batch, Mapping):
        pictures = next((batch[name] for name in PICTURES if name in batch), None)
        labels = next((batch[name] for name in LABELS if name in batch), None)
    elif isinstance(batch, tuple | list) and batch:
        pictures, labels = batch[0], batch[1] if len(batch) > 1 else None
    there = isinstance(pictures, Tensor) and pictures.ndim == 4 and pictures.numel()
    if not isinstance(pictures, Tensor) or not there or not pictures.is_floating_point():
        what = type(batch).__name__
        if isinstance(pictures, Tensor):
            what = f"{str(pictures.dtype).removeprefix('torch.')} of shape {tuple(pictures.shape)}"
        raise HooksError(
            "A batch is pictures as a floating tensor (picture, channel, height, width), alone or with labels behind "
            f"them; this one is {what}."
        )
    if labels is None:
        return Batch(pictures)
    numbers = _numbers(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise HooksError(
            "A batch's labels are one whole number per picture, the class that it shows, or -1. These are "
            f"{numbers.dtype} of shape {numbers.shape}; leave them out, or turn them into class numbers."
        )
    if len(numbers) != len(pictures):
        raise HooksError(
            f"A batch holds {len(pictures)} pictures and {len(numbers)} labels. Give one label per picture, -1 for "
            "none."
        )
    return Batch(pictures, numbers.astype(np.int64))


def _numbers(labels: Any) -> np.ndarray:
    try:
        return np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    except ValueError:  # lists of several lengths
        return np.asarray([None])


def read_batches(loader: Iterable[Any]) -> Generator[Batch]:
    """The batches of a set, each looked at before it is used.

    Raises:
        HooksError: there is none, one holds no pictures, or not as many labels as pictures.
    """
    is_empty = True
    for given in loader:
        is_empty = False
        yield read_batch(given)
    if is_empty:
        raise HooksError("There was no picture to look at: the loader gave no batch. Check the folder that it reads.")


class PictureSteps(Steps):
    """How far a look over a set is; one that does not say how many pictures it holds has as many as are done."""

    def __init__(self, loader: Iterable[Any]) -> None:
        super().__init__(_count(loader))

    def count(self, pictures: int) -> None:
        """So many pictures more were run; called where no hook of the look is on the model."""
        self.total = max(self.total, self.done + pictures)
        super().count(pictures)


def _count(loader: Iterable[Any]) -> int:
    """How many pictures a set holds, as far as it says so without being gone through; else 0."""
    if isinstance(loader, list | tuple):
        batches = [given[0] if isinstance(given, list | tuple) and given else given for given in loader]
        return sum(len(pictures) for pictures in batches if isinstance(pictures, Tensor) and pictures.ndim)
    try:
        return len(loader.dataset)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return 0


def known_labels(labels: np.ndarray | None, classes: int) -> np.ndarray:
    """The labels, if there are some and the model has such classes.

    Raises:
        HooksError: there are none. TargetNotFound: the model has no such class.
    """
    if labels is None or (labels == -1).any():
        raise HooksError(
            "The loss of each picture is asked for, and there are pictures without labels. Give tuples of pictures and "
            "labels, or ask for the first class."
        )
    for label in labels[(labels < 0) | (labels >= classes)]:
        raise TargetNotFound(f"There is no class {label}: the model has {classes}, from 0 to {classes - 1}.")
    return labels
