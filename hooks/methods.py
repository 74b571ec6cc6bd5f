"""Every method that the library has more than one of: maps of a layer, maps of the input, numbers of a layer.

Each is a row: its name, which addresses and results carry, what a person reads, its source, and its rule, or where it
runs. Whatever offers, explains, computes or checks methods reads these rows, so one more is one more row:

    from hookscope.hooks.methods import MAPS, MapMethod

    MAPS.add(MapMethod("mean-cam", "Mean-CAM", help="the layer's maps, unweighted", source="",
                       rule=lambda channels, slopes: channels.mean(0)))

Nothing here imports torch: the page reads the rows, too, and runs none of them.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from hookscope.hooks.results.looks import HISTOGRAM_BINS
from hookscope.hooks.results.scores import sigmoid, softmax


class Row(Protocol):
    """What a row has at least."""

    @property
    def name(self) -> str:
        """By which it is chosen; as addresses, results and caches carry it."""


RowT = TypeVar("RowT", bound=Row)


class Rows(Mapping[str, RowT], Generic[RowT]):
    """Rows by name, in the order in which they are offered.

    >>> [name for name in MAPS], MAPS["gradcam"].title
    (['gradcam', 'gradcam++', 'layercam', 'scorecam'], 'Grad-CAM')
    """

    def __init__(self, *rows: RowT) -> None:
        self._rows: dict[str, RowT] = {}
        for row in rows:
            self.add(row)

    def add(self, row: RowT) -> None:
        """Offer one more, behind the others.

        Raises:
            ValueError: there is one of that name.
        """
        if row.name in self._rows:
            raise ValueError(f"there is a {type(row).__name__} called {row.name!r} already")
        self._rows[row.name] = row

    def __getitem__(self, name: str) -> RowT:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, name: str) -> RowT:
        """The row of that name.

        Raises:
            ValueError: there is none; the text names all.
        """
        if name not in self._rows:
            raise ValueError(f"there is no method {name!r}; choose one of {', '.join(self)}")
        return self._rows[name]


def function_at(place: str) -> Callable[..., Any]:
    """The function at "package.module:function", imported now."""
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


# --- maps of a layer: where its output speaks for the target

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class MapMethod:
    """A way to make one map of a layer's feature maps.

    Attributes:
        title, help: for people; `help` says how the layer's maps are weighed. source: authors and year.
        rule: (channels, slopes) -> map: the layer's feature maps and the gradient of the target's logit with respect to
            them, both float64 (channel, height, width), to (height, width), signed; one gradient is computed for it.
            None if the method needs passes of its own.
        runs: then "package.module:function", called as `looks.score_cam.score_cam` is.
        unit: of a map's values, after "logits": "per position"; "" if they have none.
    """

    name: str
    title: str
    help: str
    source: str
    rule: Rule | None = None
    runs: str = ""
    unit: str = ""


def _grad_cam(channels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.

    The weight of a channel is the mean of its slopes over the positions.
    """
    return np.tensordot(slopes.mean((1, 2)), channels, 1)


def _grad_cam_plus_plus(channels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Chattopadhay et al., "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional
    Networks", WACV 2018, equations 11 and 19.

    With g the slopes and A the channel, its weight is the sum of alpha relu(g), alpha = g² / (2 g² + g³ sum(A)), which
    is the paper's for the class score exp(logit); its factor exp(logit), the same for all channels, is left out.
    """
    squares = slopes**2
    below = 2 * squares + slopes**3 * channels.sum((1, 2), keepdims=True)
    alpha = np.divide(squares, below, out=np.zeros_like(below), where=below != 0)
    return np.tensordot((alpha * slopes.clip(0)).sum((1, 2)), channels, 1)


def _layer_cam(channels: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", TIP 2021.

    Each position in a channel has a weight of its own, relu of its slope.
    """
    found: np.ndarray = (slopes.clip(0) * channels).sum(0)
    return found


MAPS = Rows(
    MapMethod(
        "gradcam",
        "Grad-CAM",
        "the layer's maps, weighted by the mean gradient of the logit",
        "Selvaraju et al., 2017",
        _grad_cam,
        unit="per position",
    ),
    MapMethod(
        "gradcam++",
        "Grad-CAM++",
        "the layer's maps, weighted by their positive gradients",
        "Chattopadhay et al., 2018",
        _grad_cam_plus_plus,
    ),
    MapMethod(
        "layercam",
        "LayerCAM",
        "the layer's maps, every position weighted by its own positive gradient",
        "Jiang et al., 2021",
        _layer_cam,
    ),
    MapMethod(
        "scorecam",
        "Score-CAM",
        "the layer's maps, weighted by what the model says of the picture seen through each",
        "Wang et al., 2020",
        runs="hookscope.hooks.looks.score_cam:score_cam",
    ),
)


# --- maps of the input: which of its pixels the target depends on


@dataclass(frozen=True)
class InputMethod:
    """A way to tell how much each pixel of what the network saw matters for the target.

    Attributes:
        title, help: for people. reading: how to read its colours. source: authors and year.
        runs: "package.module:function", called with a `looks.inputs.Asked`; returns float64 (height, width) and a note.
        differentiates: whether it needs a graph. baseline: whether it compares with a picture of zeros.
    """

    name: str
    title: str
    help: str
    source: str
    runs: str
    reading: str = ""
    differentiates: bool = True
    baseline: bool = True

    @property
    def text(self) -> str:
        """All that is to be said of it."""
        return f"{self.help} ({self.source}). {self.reading}".rstrip()


INPUTS = Rows(
    InputMethod(
        "saliency",
        "saliency",
        "The largest absolute gradient of the class's logit over the colours of a pixel",
        "Simonyan et al., 2014",
        "hookscope.hooks.looks.inputs:saliency",
        baseline=False,
    ),
    InputMethod(
        "integrated gradients",
        "integrated gradients",
        "The gradient, integrated from a picture of the mean colour to this one, times the way",
        "Sundararajan et al., 2017",
        "hookscope.hooks.looks.inputs:integrated_gradients",
        "Red speaks for the class, blue against it; all together they give the difference of the two logits.",
    ),
    InputMethod(
        "occlusion",
        "occlusion",
        "How much the class's logit falls when a window around the pixel has the mean colour",
        "Zeiler and Fergus, 2014",
        "hookscope.hooks.looks.inputs:occlusion",
        "Red speaks for the class, blue against it.",
        differentiates=False,
    ),
)


# --- what the numbers of an answer mean


@dataclass(frozen=True)
class ReadingMethod:
    """What a vector of numbers that a model answers means, or one of them per pixel.

    Attributes:
        title, help: for people.
        shares: the numbers, float (class,), as shares 0..1; None if they are none.
        exclusive: whether one class excludes the others.
        called: what the number of a class is called that is explained.
    """

    name: str
    title: str
    help: str
    shares: Callable[[np.ndarray], np.ndarray] | None = None
    exclusive: bool = False
    called: str = "logit"


def _as_they_are(numbers: np.ndarray) -> np.ndarray:
    return numbers


READINGS = Rows(
    ReadingMethod(
        "softmax",
        "one of these classes (softmax)",
        "The numbers are logits, and one class excludes the others: shares by softmax add up to 1.",
        softmax,
        exclusive=True,
    ),
    ReadingMethod(
        "sigmoid",
        "each yes or no (sigmoid)",
        "Each number is the logit of a question of its own: above 0 is yes, its share by sigmoid above 0.5.",
        sigmoid,
    ),
    ReadingMethod(
        "probabilities",
        "probabilities as they are",
        "The model computes shares itself, and they are shown as they are. What is explained is the number before its "
        "last softmax or sigmoid, where there is one.",
        _as_they_are,
    ),
    ReadingMethod("values", "numbers as they are", "Each number is a quantity of its own, such as an age.", called=""),
    ReadingMethod(
        "embedding",
        "an embedding",
        "The numbers are a place among other pictures' and mean nothing one by one: there are no classes.",
        called="",
    ),
    ReadingMethod(
        "yolov8",
        "boxes as YOLOv8's",
        "Each row is a box (middle, width, height) in pixels of what the model is given, and a score per class.",
        called="score",
    ),
    ReadingMethod(
        "yolov5",
        "boxes as YOLOv5's",
        "Each row is a box (middle, width, height) in pixels of what the model is given, an objectness, and a score "
        "per class, which is multiplied by it.",
        called="score",
    ),
)


# --- numbers of a layer


class Measured(Protocol):
    """A tensor, with what several metrics need of it, each computed once and only if one asks.

    Attributes:
        values: real tensor of any shape. channel_axis: its channels', None if it has none.
        finite: its finite values, flat. count: how many. squares: the sum of their squares. zeros: how many are 0.
        norm: the L2 norm of all values, which is not finite if one of them is not.
        silent: the share of channels that are 0 everywhere, NaN without channels.
        entropy: of a histogram of the values in `HISTOGRAM_BINS` equal bins between their extremes, in bits.
    """

    values: Any
    channel_axis: int | None
    finite: Any
    count: int
    squares: float
    zeros: int
    norm: float
    silent: float
    entropy: float


@dataclass(frozen=True)
class Metric:
    """One number of every call of a layer, for one input.

    Attributes:
        title, help: for people. unit: behind a value; "%" for a share 0..1.
        rule: gives the number, NaN where there is none; `of` what: the layer's output, or the gradient of the target's
            logit with respect to it.
        highest: where a linear scale from 0 ends; None for a logarithmic one between the model's own extremes.
        worst: the value at which nothing of a layer is left: 1 of a share of zeros, 0 of a size.
    """

    name: str
    title: str
    help: str
    rule: Callable[[Any], float]
    unit: str = ""
    highest: float | None = None
    worst: float = 0.0
    of: Literal["output", "gradient"] = "output"


def _magnitude(output: Measured) -> float:
    return math.sqrt(output.squares / output.count) if output.count else math.nan


def _zeros(output: Measured) -> float:
    return output.zeros / output.count if output.count else math.nan


def _silent(output: Measured) -> float:
    return output.silent


def _entropy(output: Measured) -> float:
    return output.entropy


def _norm(gradient: Measured) -> float:
    return gradient.norm


METRICS = Rows(
    Metric(
        "magnitude",
        "activation magnitude",
        "Root mean square of the layer's output, in its own unit.",
        _magnitude,
    ),
    Metric(
        "zeros",
        "share of zeros",
        "Share of the output's finite values that are exactly 0.",
        _zeros,
        "%",
        highest=1.0,
        worst=1.0,
    ),
    Metric(
        "dead",
        "silent channels",
        "Share of the output's channels that are 0 everywhere for this picture. Another picture may wake them: only "
        "over a set of pictures can a channel be called dead.",
        _silent,
        "%",
        highest=1.0,
        worst=1.0,
    ),
    Metric(
        "gradient",
        "gradient norm",
        "L2 norm of the gradient of the explained class's logit with respect to the layer's output.",
        _norm,
        of="gradient",
    ),
    Metric(
        "entropy",
        "entropy",
        f"Shannon entropy of the histogram of the output's values in {HISTOGRAM_BINS} equal bins between its extremes.",
        _entropy,
        "bits",
        highest=math.log2(HISTOGRAM_BINS),
    ),
)
