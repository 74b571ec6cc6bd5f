"""What a look at every layer of a model, or over many inputs, returns: small frozen dataclasses over numpy arrays.

Like `results.looks`, nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hookscope.hooks.results.looks import Statistics


@dataclass(frozen=True)
class Sketch:
    """Counts of finite values in the fixed logarithmic bins of `results.sketches`, which add up exactly.

    Attributes:
        keys: int32 (bin,), rising; the bins that hold anything, 0 for the value 0, negative for negative values.
        counts: int64 (bin,).
    """

    keys: np.ndarray
    counts: np.ndarray


@dataclass(frozen=True)
class LayerSummary:
    """What one call of a layer gave over every input that was seen.

    Attributes:
        layer: dotted name. call: 0-based call of each forward pass. type: the layer's class, or the operation's name.
        of: "output", or "gradient" for the score's gradient with respect to that output.
        inputs: how many images were seen; calls of a layer without an image axis count as one each.
        statistics: over all of them: moments, extremes, counts exact; quantiles and histogram from `sketch`, and
            within 1/64 of the value.
        sketch: counts of the values.
        fired: int64 (channel,), in how many of the inputs each channel had a value whose magnitude is above
            `threshold`; empty without a channel axis.
        threshold: see `fired`.
        activation: whether the layer is an activation function, after which a silent channel is a dead one.
        norm: the L2 norm over all values that were seen.
    """

    layer: str
    call: int
    type: str
    of: str
    inputs: int
    statistics: Statistics
    sketch: Sketch
    fired: np.ndarray
    threshold: float
    activation: bool
    norm: float


@dataclass(frozen=True)
class DeadChannel:
    """A channel that fired in no input, or in few of them.

    Attributes:
        layer, call, channel: where; `channel` is 0-based.
        fired: in how many inputs it fired. inputs: of how many.
        largest: the largest magnitude of its finite values; NaN if it had none.
    """

    layer: str
    call: int
    channel: int
    fired: int
    inputs: int
    largest: float

    @property
    def share(self) -> float:
        """The share of inputs in which it fired, 0..1."""
        return self.fired / self.inputs if self.inputs else 0.0


@dataclass(frozen=True)
class LayerShift:
    """How far two sets of inputs part at one call of a layer; see `datasets.comparison` for the measures.

    Attributes:
        layer, call: where.
        distance: the root mean square of `channel_distance`, in standard deviations of the layer.
        wasserstein: Wasserstein-1 between the two distributions of all values, in standard deviations of the layer.
        divergence: Jensen-Shannon divergence of the two distributions of all values, in bits, 0..1.
        channel_distance: float64 (channel,); for a layer without a channel axis one number for all of it.
        channel_difference: float64 (channel,): the second set's mean minus the first's, in the channel's own pooled
            standard deviations; NaN where the channel is constant in both sets.
    """

    layer: str
    call: int
    distance: float
    wasserstein: float
    divergence: float
    channel_distance: np.ndarray
    channel_difference: np.ndarray


@dataclass(frozen=True)
class SurveyedCall:
    """One call of a layer in a `Survey`.

    Attributes:
        layer, call: where.
        numbers: by the name of the metric, see `methods.METRICS`; the call can be asked itself, `call["zeros"]` or
            `call.zeros`. NaN where a metric has none for this call. The entropy is of up to 32,768 values, evenly
            spread; the gradient's norm in logits per unit of the layer.
    """

    layer: str
    call: int
    numbers: Mapping[str, float]

    def __getitem__(self, metric: str) -> float:
        return self.numbers[metric]

    def __getattr__(self, metric: str) -> float:
        numbers: Mapping[str, float] = self.__dict__.get("numbers", {})  # none while a copy is being made
        if metric not in numbers:
            raise AttributeError(f"this survey has no {metric!r} of a call, but {', '.join(numbers) or 'nothing'}")
        return numbers[metric]


@dataclass(frozen=True)
class Survey:
    """What one pass over every layer gave, in the order in which the calls ended.

    Attributes:
        calls: one per call.
        target: the class index whose logit was differentiated; -1 where no gradient was asked for, or there is none.
        reason_no_gradient: why there is none although it was asked for, as a sentence; else "".
        milliseconds: of the whole pass.
        against: of one target against another the other's class index, as `target`; else -1.
    """

    calls: tuple[SurveyedCall, ...]
    target: int
    reason_no_gradient: str = ""
    milliseconds: float = 0.0
    against: int = -1


@dataclass(frozen=True)
class LayerInformation:
    """How much variety there is in one call of a layer; see `datasets.information` for the definitions.

    Attributes:
        layer, call, type: where.
        entropy: of the histogram of all values in `HISTOGRAM_BINS` equal bins between their extremes, in bits.
        channels: how many there are. samples: positions times images, over which the channels vary.
        effective_rank: over how many directions the channels' variance is spread, 1..channels; NaN where the channels
            do not vary, or there is one sample only.
        participation_ratio: the same by another measure, which weak directions lift less.
    """

    layer: str
    call: int
    type: str
    entropy: float
    channels: int
    samples: int
    effective_rank: float
    participation_ratio: float


@dataclass(frozen=True)
class Bottleneck:
    """A layer that is narrower than what comes before it and what comes after it.

    Attributes:
        layer, call: where. effective_rank: there.
        narrowing: how many times the smaller of the two widest effective ranks, before and after it, is its own.
    """

    layer: str
    call: int
    effective_rank: float
    narrowing: float
