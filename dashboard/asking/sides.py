"""What a question is about: a picture in a model, prepared as that model wants it or not. A and B are two of these.

How a picture can be prepared otherwise stands in `ASPECTS`: each is a few named choices, of which one differs from
the model's own way in one respect, so that what the answer owes to it can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from hookscope.dashboard.inputs.axes import NAMES as AXES
from hookscope.dashboard.inputs.painting import read_painting, say_painting
from hookscope.hooks.results.edits import Level, Scale
from hookscope.hooks.results.outputs import AS_FOUND, Reading

OWN_WAY = "own"
LONGEST_SIDE = 2048  # pixels of what a picture may be asked to become; squared, 4 megapixels


@dataclass(frozen=True, slots=True)
class Preparation:
    """In what a picture's way into a model differs from the model's own.

    Attributes:
        values: the numbers that a pixel becomes: "symmetric" -1..1, "unit" 0..1, "bytes" 0..255, "imagenet" by
            ImageNet's mean and deviation, "twice" normalised as the model wants it, two times.
        channels: "bgr" has blue first, "grey" the same brightness in all three.
        size: "squeezed" has all of the picture in the model's size, its proportions not kept, "padded" with black
            around it; "cut" has its centre; "smaller" is half of that size, "larger" twice.
        interpolation: how pixels between pixels are found.
        levels: "spread" makes the smallest value of the picture 0 and the largest 1.
        pixels: "HEIGHTxWIDTH" of the picture that the model gets, each from 1 to `LONGEST_SIDE`.
        axes: of an array that may be read in two ways; else by the model's channels.
        painted: what is painted on it before anything else, as `inputs.painting` has it.
    """

    values: Literal["own", "symmetric", "unit", "bytes", "imagenet", "twice"] = "own"
    channels: Literal["own", "rgb", "bgr", "grey"] = "own"
    size: Literal["own", "squeezed", "padded", "cut", "smaller", "larger"] = "own"
    interpolation: Literal["own", "nearest", "bilinear", "bicubic", "lanczos"] = "own"
    pixels: str = OWN_WAY
    levels: Literal["own", "spread"] = "own"
    axes: Literal["own", "channels-first", "channels-last"] = "own"
    painted: str = OWN_WAY

    @classmethod
    def read(cls, text: object) -> Preparation:
        """The preparation that a text names; what it names and no aspect has is left out.

        >>> Preparation.read("bgr,bytes")
        Preparation(values='bytes', channels='bgr', size='own', interpolation='own')
        """
        named = str(text).split(",")
        found: dict[str, Any] = {}
        for aspect, choices in _NAMED.items():
            chosen = [name for name in named if name in choices and name != OWN_WAY]
            found |= {aspect: chosen[-1]} if chosen else {}
        sizes = [name for name in named if read_pixels(name) is not None]
        paintings = [painting for name in named if (painting := read_painting(name))]
        return cls(**found, pixels=sizes[-1] if sizes else OWN_WAY, painted=paintings[-1] if paintings else OWN_WAY)

    def write(self) -> str:
        """The text that `read` reads; "" for the model's own way.

        >>> Preparation(channels="bgr", size="squeezed").write()
        'bgr,squeezed'
        """
        return ",".join(choice for choice in asdict(self).values() if choice != OWN_WAY)

    @property
    def changed(self) -> tuple[str, ...]:
        """The aspects in which it differs."""
        return tuple(aspect for aspect, choice in asdict(self).items() if choice != OWN_WAY)

    @property
    def text(self) -> str:
        """What differs, in words; "" if nothing does."""
        words = []
        for aspect in self.changed:
            choice = getattr(self, aspect)
            if aspect == "painted":
                words.append(say_painting(choice))
            else:
                words.append(f"{choice.replace('x', ' × ')} pixels" if aspect == "pixels" else _NAMED[aspect][choice])
        return ", ".join(words)


def read_pixels(text: str) -> tuple[int, int] | None:
    """(height, width) of a text like "320x240"; None if it is none, or too large.

    >>> read_pixels("320x240"), read_pixels("320x9999"), read_pixels("bgr")
    ((320, 240), None, None)
    """
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", text)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    return sides if all(1 <= each <= LONGEST_SIDE for each in sides) else None


ASPECTS: Mapping[str, Mapping[str, str]] = {
    "values": {
        OWN_WAY: "as the model wants them",
        "symmetric": "−1 to 1",
        "unit": "0 to 1",
        "bytes": "0 to 255",
        "imagenet": "ImageNet's mean and deviation",
        "twice": "normalised twice",
    },
    "channels": {
        OWN_WAY: "as the model wants them",
        "rgb": "red, green, blue",
        "bgr": "blue, green, red",
        "grey": "grey",
    },
    "size": {
        OWN_WAY: "the model's own",
        "squeezed": "squeezed, not cropped",
        "padded": "black around, not cropped",
        "cut": "cropped",
        "smaller": "half",
        "larger": "double",
    },
    "interpolation": {
        OWN_WAY: "the model's own",
        "nearest": "nearest",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "lanczos": "lanczos",
    },
    "levels": {OWN_WAY: "as they are", "spread": "the used range spread"},
}
_NAMED: Mapping[str, Mapping[str, str]] = {**ASPECTS, "axes": AXES}  # the last is offered for some arrays only


AS_WANTED = Preparation()


@dataclass(frozen=True, slots=True)
class Side:
    """What is asked about.

    Attributes:
        model: its name, as the operator gave it.
        input: SHA-256 of the picture's pixels, hexadecimal.
        preparation: how the picture is prepared for the model.
        second: of a model that takes two, the SHA-256 of the second picture's pixels; "" if both are the one.
        reading: which of the model's outputs is its answer, and how that is read; only of what is asked about that.
        captions: with which the model compares the picture, as `asking.captions` has them; only of what is asked about
            that too. "" for its own, or none.
        edits: what is changed of what the model's layers compute, in the order in which it is.
    """

    model: str
    input: str
    preparation: Preparation = AS_WANTED
    reading: Reading = AS_FOUND
    second: str = ""
    captions: str = ""
    edits: tuple[Scale | Level, ...] = ()

    @property
    def of_second(self) -> Side:
        """The second picture in the place of the first, prepared alike; what is painted is on the first alone."""
        return replace(self, input=self.second, preparation=replace(self.preparation, painted=OWN_WAY))
