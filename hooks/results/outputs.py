"""What a model answers: its outputs, and what the numbers of one of them mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from hookscope.hooks.results import raw_boxes

Form = Literal["vector", "pixels", "boxes", "raw boxes", "other"]
Ending = Literal["", "softmax", "log_softmax", "sigmoid"]

PREFERRED = ("logits", "out")  # what an answer is called by Hugging Face, and by torchvision's segmenters
BOXES = ("0/boxes", "0/scores")  # of the first image, as torchvision's detectors answer
EMBEDDED = 8  # fewer numbers than these may add up to a length of 1 by chance
MOST_CELLS = 160  # on a side, of regions that are drawn
FEATURES = 16  # pixels of the picture per position and side, from which on a map is features rather than classes


@dataclass(frozen=True, slots=True)
class Reading:
    """Which of a model's outputs is its answer, and how that is read.

    Attributes:
        output: its path in what the model returns, "" for the one that is preferred. reads: one of
            `methods.READINGS`, "" for what it is found to be.
    """

    output: str = ""
    reads: str = ""


AS_FOUND = Reading()


@dataclass(frozen=True)
class Output:
    """One tensor of what a model returns, as a recorded run saw it.

    Attributes:
        path: where it stood, such as "logits" or "1"; "" for a tensor that is returned alone.
        shape: with the image axis.
        form: "vector" of one number per class or feature, (image, number); "pixels" of one per position, (image,
            channel, height, width); "boxes" of a detector; "raw boxes" of one that leaves the choice among them to
            others, as `results.raw_boxes` has them; "other" for what is none of these.
        ending: what its forward pass ends in. order: a later one was computed later.
        stride: pixels of the picture per position and side; NaN if not known.
        unit: whether the numbers have length 1, as a normalised embedding's have. shares: whether they are from 0 on
            and add up to 1.
        per_cell: of raw boxes, how many there are per cell of the picture. raw: as which of `raw_boxes.RAW` they are
            read, by `as_read`.
    """

    path: str
    shape: tuple[int, ...]
    form: Form
    ending: Ending = ""
    order: int = 0
    stride: float = math.nan
    unit: bool = False
    shares: bool = False
    per_cell: int = 0
    raw: str = ""

    @property
    def length(self) -> int:
        """How many numbers it has per picture, or per position, of raw boxes how many classes; 0 of what has none."""
        if self.raw:
            return raw_boxes.classes_of(self.shape, self.raw)
        if self.form == "pixels":
            return self.shape[1]
        return math.prod(self.shape[1:] if len(self.shape) > 1 else self.shape) if self.form == "vector" else 0

    @property
    def title(self) -> str:
        """Its path and shape, for people."""
        return f"{self.path or 'output'} ({' × '.join(map(str, self.shape)) or 'one number'})"


@dataclass(frozen=True)
class Found:
    """What was made of a model's outputs.

    Attributes:
        reading: the answer's output and how it is read; reads is "" if nothing is known to be read from it.
        why: on what grounds, as a part of a sentence. assumed: whether another way may well be right.
    """

    reading: Reading
    why: str
    assumed: bool = False


@dataclass(frozen=True)
class Scores:
    """An answer to one picture, read.

    Attributes:
        output, reads: see `Reading`, both of them known here.
        logits: float32 (class,), what a class's target is: its number before a last softmax or sigmoid, of a segmenter
            the sum of those over the class's pixels, of numbers per position their mean.
        numbers: float32 (class,), the model's own numbers; of a segmenter empty.
        shares: float32 (class,), 0..1: of a class's likelihood, of a segmenter of the positions; empty where the
            reading has none.
        regions: int16 or int32 (row, column), of a segmenter the class at each position, -1 for none, over the whole of
            what the model was given; of several classes the one with the fewest positions. Every n-th position, so
            that there are at most `MOST_CELLS` on a side. Empty of others.
    """

    output: str
    reads: str
    logits: np.ndarray
    numbers: np.ndarray
    shares: np.ndarray
    regions: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int16))


def form_of(path: str, shape: tuple[int, ...], images: int) -> Form:
    """What an output can be, by its place and its shape, for so many images.

    >>> form_of("", (1, 10), 1), form_of("1", (1, 3, 64, 64), 1), form_of("", (1, 84, 8400), 1)
    ('vector', 'pixels', 'other')
    """
    if path in BOXES:
        return "boxes"
    if len(shape) < 2:
        return "vector" if images == 1 else "other"
    if shape[0] != images or 0 in shape:
        return "other"
    if len(shape) == 2 or (len(shape) == 4 and shape[2:] == (1, 1)):
        return "vector"
    return "pixels" if len(shape) == 4 else "other"


def as_read(output: Output, reads: str) -> Output:
    """An output in the form that a reading of it has: raw boxes are boxes where they are read so, and else nothing.

    >>> as_read(Output("", (1, 84, 8400), "raw boxes", per_cell=1), "yolov8").length
    80
    """
    if reads in raw_boxes.RAW:
        fits = raw_boxes.could_be(output.shape, reads)
        return replace(output, form="boxes", raw=reads) if fits else replace(output, form="other")
    return replace(output, form="other") if output.form == "raw boxes" else output


def find_reading(outputs: Sequence[Output], classes: int = 0, given: Reading = AS_FOUND) -> Found:
    """Which output is a model's answer, and what its numbers mean, as far as a recorded run shows it.

    Arguments:
        classes: how many class names there are; 0 if none are known.
        given: what somebody has decided; each of its two parts may be missing.
    """
    chosen, why, unsure = _preferred(outputs, classes, given.output)
    fitting = [each for each in outputs if raw_boxes.could_be(each.shape, given.reads)]
    if fitting and not given.output:
        chosen, why, unsure = max(fitting, key=lambda each: math.prod(each.shape)), "", False
    if chosen is None:
        return Found(Reading(given.output, given.reads), why)
    reads, grounds, assumed = _reads(chosen, classes, several=_are_several(outputs))
    if unsure and not classes and (code := _code(outputs)):
        chosen, why, reads = code, "", "values"
        grounds = "two vectors of one length beside a picture are taken for the mean and the spread of a code"
    if given.reads:
        reads, grounds, assumed = given.reads, "as given", False
    parts = [part for part in (why, grounds) if part]
    return Found(Reading(chosen.path, reads), ", ".join(dict.fromkeys(parts)), unsure or assumed)


def _preferred(outputs: Sequence[Output], classes: int, path: str) -> tuple[Output | None, str, bool]:
    usable = [each for each in outputs if each.form != "other"]
    if path:
        return next((each for each in outputs if each.path == path), None), "as given", False
    if len(usable) < 2:
        return (usable[0] if usable else None), "", False
    for name in PREFERRED:
        named = [each for each in usable if each.path.rpartition("/")[2] == name]
        if len(named) == 1:
            return named[0], f"the output called {name!r}", False
    rows = [
        each for each in usable if each.form == "raw boxes" and classes and {classes + 4, classes + 5} & {*each.shape}
    ]
    if len(rows) == 1:
        return rows[0], f"the output of {len(usable)} that has a box and a number per class name in each row", False
    fitting = [each for each in usable if classes and each.length == classes]
    if len(fitting) == 1:
        return fitting[0], f"the output of {len(usable)} that has as many numbers as there are class names", False
    boxes = [each for each in usable if each.form in ("boxes", "raw boxes")]
    if boxes:
        return boxes[0], "", False
    vectors = [each for each in usable if each.form == "vector"]
    plain = [each for each in vectors if not (each.unit and each.length >= EMBEDDED)]
    maps = _maps(usable)
    if not vectors and len({each.shape[2:] for each in maps}) > 1:
        return None, "its outputs are feature maps of several sizes", False
    last = max(plain or vectors or usable, key=lambda each: each.order)
    return last, f"the output of {len(usable)} that is computed last", True


def _code(outputs: Sequence[Output]) -> Output | None:
    """Of an autoencoder that answers the mean and the spread of its code beside the picture made of it, the first."""
    pictures = [each for each in _maps(outputs) if each.length in (1, 3) and each.stride <= 1]
    vectors = [each for each in outputs if each.form == "vector" and each.length > 1 and not each.ending]
    alike = len(vectors) == 2 and vectors[0].shape == vectors[1].shape
    return vectors[0] if pictures and alike else None


def _maps(outputs: Sequence[Output]) -> list[Output]:
    return [each for each in outputs if each.form == "pixels"]


def _are_several(outputs: Sequence[Output]) -> bool:
    """Whether there are maps as of a backbone, and not the classes of each position twice, as of an auxiliary head."""
    maps = _maps(outputs)
    twice = len({each.shape for each in maps}) == 1 and all(each.stride <= 1 for each in maps)
    return len(maps) > 1 and not twice


def _reads(output: Output, classes: int, several: bool) -> tuple[str, str, bool]:
    """(one of `methods.READINGS`, on what grounds, whether that is assumed)."""
    if output.form == "raw boxes":
        layout = raw_boxes.layout_of(output.shape, output.per_cell, classes)
        return layout, raw_boxes.grounds(output.shape, output.per_cell, layout), True
    if output.form not in ("vector", "pixels"):
        return "", "", False
    if output.ending == "log_softmax":
        return "softmax", "the forward pass ends in a log-softmax", False
    if output.ending:
        return "probabilities", f"the forward pass ends in a {output.ending}", False
    if output.form == "pixels":
        return _reads_pixels(output, classes, several)
    if output.length == 1:
        return "values", "one output is a number of its own", True
    if output.shares:
        return "probabilities", "its numbers add up to 1", True
    if output.unit and output.length >= EMBEDDED:
        return "embedding", "its numbers have length 1", True
    return "softmax", "nothing says what its numbers mean", True


def _reads_pixels(output: Output, classes: int, several: bool) -> tuple[str, str, bool]:
    if output.length == 1:
        return "sigmoid", "one channel per pixel is foreground above 0", True
    if classes == output.length:
        return "softmax", "it has a channel per class name", True
    if output.length == 3 and output.stride <= 1:
        return "values", "three channels of the picture's size are taken for a picture", True
    if output.stride >= FEATURES:
        return "values", "maps so much smaller than the picture are taken for features", True
    if several:
        return "values", "several maps are taken for features", True
    return "softmax", "nothing says what its channels mean", True
