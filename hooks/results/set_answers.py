"""What a model answered to each picture of a set, and which part of each it was shown; numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hookscope.hooks.errors import HooksError

UNLABELLED = -1  # the label of a picture of which nobody says what it shows


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
        return np.asarray((self.best[:, 0] == self.labels) & (self.labels != UNLABELLED))

    @property
    def accuracy(self) -> float:
        """The share of the labelled pictures whose first class is the label; NaN if none is labelled."""
        labelled = self.labels != UNLABELLED
        return float(self.right[labelled].mean()) if labelled.any() else float("nan")

    def mistakes(self) -> np.ndarray:
        """Int64 (mistake,): the labelled pictures that are answered wrongly, the most confident first; rows, not
        numbers.
        """
        wrong = np.flatnonzero(~self.right & (self.labels != UNLABELLED))
        return wrong[np.argsort(-self.shares[wrong, 0], kind="stable")]

    def confusion(self) -> tuple[np.ndarray, np.ndarray]:
        """Which classes occur, as labels or answers, int64 (class,), and how often each is answered for each.

        Returns:
            the classes, rising, and int64 (label, answer) counts of the labelled pictures.
        """
        labelled = self.labels != UNLABELLED
        labels, answers = self.labels[labelled], self.best[labelled, 0].astype(np.int64)
        classes = np.unique(np.concatenate([labels, answers]))
        counts = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(counts, (np.searchsorted(classes, labels), np.searchsorted(classes, answers)), 1)
        return classes, counts


@dataclass(frozen=True)
class Frames:
    """Which part of each picture the model was shown, where it was cropped before.

    Attributes:
        pictures: int64 (picture,), rising.
        boxes: float32 (picture, 4): left, top, right and bottom as shares of the picture's width and height; they may
            lie outside 0..1 where something was put around it.
    """

    pictures: np.ndarray
    boxes: np.ndarray

    def merged(self, other: Frames) -> Frames:
        """Of both sets together."""
        pictures = np.concatenate([self.pictures, other.pictures])
        order = np.argsort(pictures, kind="stable")
        return Frames(pictures[order], np.concatenate([self.boxes, other.boxes])[order])

    def of(self, picture: int) -> tuple[float, float, float, float]:
        """Of one picture; all of it where nothing is known."""
        row = int(np.searchsorted(self.pictures, picture))
        if row == len(self.pictures) or self.pictures[row] != picture:
            return 0.0, 0.0, 1.0, 1.0
        left, top, right, bottom = self.boxes[row].tolist()
        return left, top, right, bottom
