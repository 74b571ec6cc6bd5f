"""What is kept of a tensor that a training step made: its numbers, its bins, and which of its channels fired.

On an accelerator everything is queued where the tensor lies, and read when the step is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.datasets.summarising import kind_of
from hookscope.hooks.layers.axes import Axes
from hookscope.hooks.numbers import elsewhere
from hookscope.hooks.numbers.bins import bins_later
from hookscope.hooks.numbers.moments import Scratch
from hookscope.hooks.numbers.reductions import by_image, real, statistics_later
from hookscope.hooks.results.looks import Statistics
from hookscope.hooks.results.merging import merge


@dataclass(frozen=True)
class Reading:
    """Of one tensor, or of several that add up.

    Attributes:
        statistics: of all values, without quantiles and histogram. bins: int64 (bin,), see `results.feeds.bin_edges`.
        fired: int64 (channel,), in how many pictures each channel had a value other than 0, NaN among them; None where
            the layer is no activation function, or its channels are not known. inputs: how many pictures it holds.
        channels: how many channels there are; 0 where that is not known.
    """

    statistics: Statistics
    bins: np.ndarray
    fired: np.ndarray | None
    inputs: int
    channels: int

    @property
    def rms(self) -> float:
        """The root of the mean square of the finite values."""
        return float(np.hypot(self.statistics.mean, self.statistics.std))

    @property
    def norm(self) -> float:
        """The L2 norm of the finite values; NaN where there are values and none of them is finite."""
        finite = self.statistics.count - self.statistics.nan - self.statistics.inf
        return self.rms * float(np.sqrt(finite)) if finite or self.statistics.count else 0.0

    def and_also(self, other: Reading) -> Reading:
        """Both together, of which neither is kept."""
        same = self.fired is not None and other.fired is not None and self.fired.shape == other.fired.shape
        return dataclasses.replace(
            self,
            statistics=merge(self.statistics, other.statistics),
            bins=self.bins + other.bins,
            fired=self.fired + other.fired if same else None,  # type: ignore[operator]
            inputs=self.inputs + other.inputs,
        )


def read_later(tensor: Tensor, scratch: Scratch, channel: int | None = None) -> Callable[[], Reading]:
    """The numbers of any tensor as it is now, read when they are called for."""
    numbers, bins = statistics_later(tensor, channel, distribution=False, scratch=scratch), bins_later(tensor)
    channels = 0 if channel is None else tensor.shape[channel]
    return lambda: Reading(numbers(), bins(), None, 1, channels)


def read_output_later(
    layer: str, call: int, module: nn.Module, tensor: Tensor, axes: Axes, scratch: Scratch
) -> Callable[[], Reading]:
    """The numbers of what a layer has just returned; see `read_later`."""
    channel, image = axes.channel(layer, call, tensor, module), axes.image(layer, call, tensor)
    if image is None and channel == 1 and tensor.ndim >= 3:
        image = 0  # a layer of this type has its pictures there
    activates = kind_of(layer, module)[1]
    values = real(tensor)
    inputs = 1 if image is None else tensor.shape[image]
    channels = 0 if channel is None else tensor.shape[channel]
    quick = by_image(values) if (image, channel) == (0, 1) else None
    bins = bins_later(values)
    if quick is not None:
        numbers, largest = quick
        firing = (largest > 0).sum(0) if activates else None
        reading = Reading(numbers, bins(), firing, inputs, channels)
        return lambda: reading
    statistics = statistics_later(values, channel, distribution=False, scratch=scratch)
    fired = _fired(values, channel, image) if activates and channel is not None else None

    def read() -> Reading:
        firing = None if fired is None else fired.cpu().numpy()
        return Reading(statistics(), bins(), firing, inputs, channels)

    if elsewhere.lies_there(tensor):
        return read
    found = read()
    return lambda: found


def _fired(values: Tensor, channel: int, image: int | None) -> Tensor:
    """Int64 (channel,): in how many pictures each channel has a value that is not 0; NaN counts as one."""
    rows = values.movedim(channel, 0)[None] if image is None else values.movedim((image, channel), (0, 1))
    rows = rows.flatten(2) if rows.ndim > 2 else rows[..., None]
    if not rows.shape[2]:
        return torch.zeros(rows.shape[1], dtype=torch.int64, device=values.device)
    return (rows != 0).any(2).sum(0)
