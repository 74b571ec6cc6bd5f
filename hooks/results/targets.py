"""What of a model's answer is explained, by name: for whoever asks a model from far away, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

BoxPart = Literal["score", "left", "top", "right", "bottom", "mask", "keypoint"]


@dataclass(frozen=True, slots=True)
class Own:
    """Whatever the model itself ranks first: its first class, of a segmenter that of the most pixels, its best box."""


@dataclass(frozen=True, slots=True)
class Class:
    """A class by its index: its logit; of a segmenter the sum over its pixels, of a detector its best box's score."""

    index: int


@dataclass(frozen=True, slots=True)
class Box:
    """One box of a detector's first image, by its place in the output (0 is the first), or a part of it.

    Attributes:
        part: "score"; the side whose coordinate is meant, in pixels of what the model is given; "mask", the mean of the
            mask's logits over the positions that are inside the mask; "keypoint", the score of one of its keypoints.
        keypoint: which one, by its place.
    """

    index: int
    part: BoxPart = "score"
    keypoint: int = 0


@dataclass(frozen=True, slots=True)
class Like:
    """The likeness of an embedding to that of another picture in the same model: the cosine of the two.

    Attributes:
        input: SHA-256 of the other picture's pixels. preparation: how it is prepared, as `Preparation.write` has it.
        second: SHA-256 of the picture beside that one, in a model that takes two; else "".
    """

    input: str
    preparation: str = ""
    second: str = ""


SIDES: tuple[BoxPart, ...] = get_args(BoxPart)[1:5]  # in the order of a box's four numbers


OWN = Own()


@dataclass(frozen=True, slots=True)
class Rival:
    """Whatever the model ranks first of all that is not explained: the runner-up, where that is its own first class."""


RIVAL = Rival()

SIMPLE: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Own, Class, Box, Like, Rival)}


@dataclass(frozen=True, slots=True)
class Against:
    """One target against another: the first one's number less the other's, both of the same answer.

    What speaks for both alike is left out, so it says why the one and not the other. Of a segmenter both numbers are
    over the pixels of the first: why these are the one class and not the other.

    Attributes:
        target: what is explained; in the library any other target too, such as a class's index.
        other: what it is held against, likewise; the runner-up if none is given.

    >>> Against(Class(504), Class(968)), Against(Class(504))
    (Against(target=Class(index=504), other=Class(index=968)), Against(target=Class(index=504), other=Rival()))
    """

    target: Annotated[Any, SIMPLE] = OWN
    other: Annotated[Any, SIMPLE] = RIVAL
