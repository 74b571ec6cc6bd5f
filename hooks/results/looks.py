"""What a look inside a model returns: small frozen dataclasses over numpy arrays.

Nothing here imports torch, so the web side, a notebook and a report can read results without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hookscope.hooks.results.outputs import Scores

QUANTILE_LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
HISTOGRAM_BINS = 64
HookKind = Literal["forward", "forward_pre", "every_forward_pre"]


@dataclass(frozen=True)
class Call:
    """One call of a module during one forward pass, as the recorded run saw it.

    Attributes:
        shape: the first output tensor's shape, image axis included; empty if it returned no tensor.
        axes: the name of each axis of `shape`: "image", "channel", "height", "width", "token", "feature", "window" or
            "axis"; "depth" for the frames of a clip or the slices of a volume; or "constant", the first of what comes
            from the weights alone. ("image", "channel", "height", "width") is NCHW, ("image", "height", "width",
            "channel") NHWC.
        grid: (height, width) of the patch grid when there is a "token" axis that holds one, else None.
        prefix_tokens: tokens before the grid (class token, registers); 0 without a grid.
        frames: of tokens of a clip, how many frames lie below each other in the grid, whose height is that of all.
        order: the position at which this call *ended*, counted over all calls of the forward pass.
        dtype: the tensor's dtype as text, e.g. "float32".
        outputs: how many tensors the call returned (nested outputs are flattened).
        overwritten_by: who writes into this value in place afterwards: a layer's name, "an in-place operation"
            where no module does it, or "" if nobody does.
        heads: of the attention that the module's own code computes in this call (see `looks.attention`); 0 if none.
        channel_heads: of attention from channels to channels (cross-covariance), whose weights lie nowhere on the
            image and are not given; 0 if none.
        path: where the first tensor stood in a nested output, e.g. "out" or "0/boxes"; "" for a plain tensor.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    order: int
    dtype: str = "float32"
    grid: tuple[int, int] | None = None
    prefix_tokens: int = 0
    outputs: int = 1
    overwritten_by: str = ""
    heads: int = 0
    channel_heads: int = 0
    path: str = ""
    frames: int = 1


# Why a layer may have run without being seen.
ELSEWHERE = "It was called in another thread, and hooks look only at the thread that runs the model."
REMOVED = "The model removed the hook that was to see it, so what it did is not known."


@dataclass(frozen=True)
class LayerInfo:
    """One module of a model, by its dotted name ("" is the model itself), or one functional operation in it.

    Attributes:
        name: the dotted name.
        type: the class name, e.g. "Conv2d".
        parameters: how many parameters the module holds, children included.
        multiply_adds: multiply-adds of one forward pass of one image, children and all calls included; None if not
            counted.
        calls: every call of the recorded forward pass; empty if the module never ran.
        reason_not_run: why `calls` is empty, as a sentence; "" otherwise.
        aliases: other names of the same module object.
        leaf: whether the module has no children.
        operation: whether this is a functional operation, which has no module: `name` is then the module it happens in,
            a slash and the operation ("layer1.0/add@2"), and `type` the operation ("add").
    """

    name: str
    type: str
    parameters: int
    multiply_adds: int | None
    calls: tuple[Call, ...]
    leaf: bool
    reason_not_run: str = ""
    aliases: tuple[str, ...] = ()
    operation: bool = False

    @property
    def unseen(self) -> bool:
        """Whether a layer without calls may have run all the same."""
        return self.reason_not_run in (ELSEWHERE, REMOVED)


@dataclass(frozen=True)
class Statistics:
    """Numbers of one tensor, reduced in float64.

    NaN and infinite values are counted and then left out of every other number; if no finite value is left, those
    numbers are NaN.

    Attributes:
        count: number of values, non-finite ones included.
        mean, std, min, max: of the finite values; std is the population's (divided by n).
        zeros: share of the finite values that are exactly 0, 0..1.
        nan, inf: how many values are NaN, and how many are +Inf or -Inf.
        quantiles: float64 (level,), at `QUANTILE_LEVELS`, linear interpolation.
        histogram: int64 (bin,), counts of the finite values in equal bins between `min` and `max`.
        edges: float64 (bin + 1,), the bins' edges.
        channels: per-channel float64 (channel,) arrays under "mean", "std", "min", "max", "zeros", "nan", "inf";
            empty if the tensor has no channel axis.
        approximate: whether `quantiles` were read from the histogram, and are off by up to the width of a bin, and
            `histogram` may have put values that lie on an edge into the bin beside it; all else is exact.
    """

    count: int
    mean: float
    std: float
    min: float
    max: float
    zeros: float
    nan: int
    inf: int
    quantiles: np.ndarray
    histogram: np.ndarray
    edges: np.ndarray
    channels: dict[str, np.ndarray] = field(default_factory=dict)
    approximate: bool = False


@dataclass(frozen=True)
class Activation:
    """One layer's output for one image, as the layer produced it, whatever was written in place afterwards.

    Attributes:
        layer: dotted name. call: 0-based call of this forward pass.
        values: float32, the output tensor without its image axis when that has length 1 (other dtypes are converted).
        axes: the name of each axis of `values` (see `Call.axes`).
        grid, prefix_tokens, frames: see `Call`.
        dtype: the dtype before the conversion.
        statistics: of the values before the conversion.
        path: where in a nested output the tensor stood, e.g. "0" or "out"; "" for a plain tensor.
        milliseconds: from the start of the forward pass until the value was there.
        whole: () if `values` are all of the output. Where that was too large to be kept: the output's shape, and
            `values` are means over equal squares of its positions, or empty if it has no maps.
    """

    layer: str
    call: int
    values: np.ndarray
    axes: tuple[str, ...]
    statistics: Statistics
    dtype: str = "float32"
    grid: tuple[int, int] | None = None
    prefix_tokens: int = 0
    path: str = ""
    milliseconds: float = 0.0
    whole: tuple[int, ...] = ()
    frames: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's shape, without its image axis."""
        return self.whole or self.values.shape


@dataclass(frozen=True)
class GradCam:
    """A map of the Grad-CAM family before ReLU, scaling and resizing.

    Attributes:
        layer, call: where.
        target: the class index that is explained, -1 if the target is no class. logit: its value.
        values: float32 (height, width), signed; of Grad-CAM in units of the logit per position.
        milliseconds: everything together.
        method: one of `methods.MAPS`.
        note: what was left out, as a sentence; "" if nothing was.
        against: of one target against another the other's class index, as `target`, and `logit` is the difference; else
            -1.
        opposite: then float32 (height, width), the map by the same method of the other against the one. Of Grad-CAM it
            is the negative of `values`; methods that leave out what is below 0 say more by the two. Else empty.
    """

    layer: str
    call: int
    target: int
    logit: float
    values: np.ndarray
    milliseconds: float = 0.0
    method: str = "gradcam"
    note: str = ""
    against: int = -1
    opposite: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))


@dataclass(frozen=True)
class InputAttribution:
    """How much each pixel of what the network saw matters for one class.

    Attributes:
        method: one of `methods.INPUTS`.
        target: the class index that is explained. logit: its value.
        values: float32 (height, width): saliency at least 0, the others signed, in units of the logit.
        baseline_logit: the logit of the baseline (zeros, which is the mean colour after normalisation); NaN for
            saliency, which has none.
        note: how it was computed, and how far the integrated gradients are from their completeness, as a sentence.
        milliseconds: everything together.
        against: of one target against another the other's class index, as `target`, and all logits are differences;
            else -1.
    """

    method: str
    target: int
    logit: float
    values: np.ndarray
    baseline_logit: float = math.nan
    note: str = ""
    milliseconds: float = 0.0
    against: int = -1


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of one number with respect to one tensor that a layer returned or was given, reduced in float64.

    NaN and infinite values are counted and left out of every other number; those are NaN if no finite value is left.

    Attributes:
        layer, call: where. side: "output" or "input". path: where the tensor stood in a nested value.
        count: number of values, non-finite ones included.
        norm: L2. rms: root of the mean square. max_abs: the largest absolute value.
        min, max: of the finite values. zeros: share of the finite values that are exactly 0, 0..1.
        nan, inf: how many.
        quantiles: float64 (level,) of the gradient at `QUANTILE_LEVELS`, exact, linear interpolation.
        magnitudes: the same of its absolute value, for a logarithmic axis.
        reason: why there is no gradient, as a sentence, and then every number is NaN or 0; "" if there is one.
    """

    layer: str
    call: int
    side: str
    path: str
    count: int
    norm: float
    rms: float
    max_abs: float
    min: float
    max: float
    zeros: float
    nan: int
    inf: int
    quantiles: np.ndarray
    magnitudes: np.ndarray
    reason: str = ""

    @property
    def box(self) -> tuple[float, float, float, float, float]:
        """The five numbers of a box plot: least, first quartile, median, third quartile, most."""
        first, median, third = (float(self.quantiles[QUANTILE_LEVELS.index(level)]) for level in (0.25, 0.5, 0.75))
        return self.min, first, median, third, self.max


@dataclass(frozen=True)
class Gradients:
    """The gradient of one number at every chosen layer.

    Attributes:
        target: the class index that was differentiated, -1 if the target is no class. score: its value.
        layers: in the order in which the forward pass came to them.
        milliseconds: everything together.
        against: of one target against another the other's class index, as `target`, and `score` is the difference; else
            -1.
    """

    target: int
    score: float
    layers: tuple[LayerGradient, ...]
    milliseconds: float = 0.0
    against: int = -1


@dataclass(frozen=True)
class AttentionMaps:
    """The weights of one attention for one image: where each head looks, from each query.

    Attributes:
        layer, call: the layer whose own code computes it. index: which attention of that call, from 0.
        weights: float32, 0..1, each row over the keys adds up to 1. axes: the names of its axes, ("head", "query",
            "key"), or ("window", "head", "query", "key") where each window of the image attends within itself.
        entropy: float64 (head,), in nats: of the rows, averaged over queries and windows; 0 if every query looks at
            one key. entropy_limit: its maximum, ln(keys), if every query looks at all keys alike.
        grid: (height, width) in which the keys lie, without the prefix tokens: the image's patches, or the window's
            own positions (then taken to be square); None if not known.
        prefix_tokens: keys before the grid (class token, registers). frames: see `Call`.
        rollout: float32 (query, key): of this attention and all before it (see `looks.attention.rollout`); None if it
            was not asked for, or an attention on the way is not known to be over the same tokens of the whole image.
        milliseconds: from the start of the forward pass until the weights were there.
    """

    layer: str
    call: int
    index: int
    weights: np.ndarray
    axes: tuple[str, ...]
    entropy: np.ndarray
    entropy_limit: float
    grid: tuple[int, int] | None = None
    prefix_tokens: int = 0
    rollout: np.ndarray | None = None
    milliseconds: float = 0.0
    frames: int = 1


@dataclass(frozen=True)
class Masks:
    """Which pixels belong to each box of a detector, each on a grid of its own.

    Attributes:
        bits: uint8 (box, row, column / 8): whether the mask holds the centre of each cell of a square grid over its
            extent, the first column in the highest bit (`numpy.unpackbits`).
        extents: float32 (box, 4): left, top, right, bottom of the pixels that it holds, where `Detections.boxes` lie;
            zeros of a mask that holds none.
        areas: float32 (box,): of how many pixels it is.
    """

    bits: np.ndarray
    extents: np.ndarray
    areas: np.ndarray

    def of(self, index: int) -> np.ndarray:
        """One box's grid, bool (row, column)."""
        return np.unpackbits(self.bits[index], axis=1).astype(bool)


@dataclass(frozen=True)
class Keypoints:
    """Points that a detector found for each box.

    Attributes:
        places: float32 (box, point, 2): x and y, where `Detections.boxes` lie.
        scores: float32 (box, point), of torchvision's the highest value of the point's heatmap; NaN if there are none.
    """

    places: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, in the order of its output; torchvision's have the best score first.

    Attributes:
        boxes: float32 (box, 4): left, top, right, bottom, in pixels of the picture that the model was given, or where
            it is part of a `Prediction` of the original picture.
        labels: int64 (box,), class indices. scores: float32 (box,), 0..1.
        masks, keypoints: of each box; None of a detector that gives none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: Masks | None = None
    keypoints: Keypoints | None = None

    def best(self, label: int) -> int:
        """The box of a class that has the highest score, the first of equals; -1 if there is none."""
        places = np.flatnonzero(self.labels == label)
        return int(places[self.scores[places].argmax()]) if places.size else -1


@dataclass(frozen=True)
class Prediction:
    """The model's answer to one image, and what the model was given.

    Attributes:
        scores: the answer, read; None of a detector, and where there is nothing to read.
        pixels: uint8 (height, width, 3), the preprocessed picture with the normalisation undone.
        crop: (left, top, right, bottom) of what the model saw, in pixels of the original picture.
        milliseconds: of the forward pass.
        detections: what a detector found; None of every other model.
        note: why nothing is read, as a sentence.
        second: of a model that was given two pictures, uint8 (height, width, 3) of the second one.
    """

    scores: Scores | None
    pixels: np.ndarray
    crop: tuple[float, float, float, float]
    milliseconds: float = 0.0
    detections: Detections | None = None
    note: str = ""
    second: np.ndarray | None = None


@dataclass(frozen=True)
class LiveHook:
    """One registered hook.

    Attributes:
        layer: the dotted name of the module it sits on; "*" for a hook on every module.
        kind: "forward", "forward_pre", or "every_forward_pre" (before every module of this thread).
        owner: who registered it. purpose: what for, e.g. "diagnostic", "monitoring", "analysis".
    """

    layer: str
    kind: HookKind
    owner: str
    purpose: str
