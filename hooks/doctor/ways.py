"""How pixels become the numbers that a model is given: the usual ways, and which of them values look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)
AS_TOLD = 1.5  # times as much of 0..1 another way would have to use to be taken for the told one
BY_ITSELF = 0.01  # by which a picture's own mean and deviation may miss 0 and 1
SLACK = 0.02  # by which resizing may carry pixels over 0..1


@dataclass(frozen=True)
class Way:
    """One way: a pixel p of 0..1 becomes (p - mean) / std.

    Attributes:
        text: as the page writes a preparation; "" where it has no word for it. words: what the values are, for people.
        mean, std: float64 (channel,), of pixels of 0..1. told: whether a caller said so.
    """

    text: str
    words: str
    mean: np.ndarray
    std: np.ndarray
    told: bool = False

    def pixels(self, given: Tensor) -> Tensor:
        """Float (picture, channel, height, width), 0..1, of what was prepared in this way."""
        return given * _wide(self.std, given) + _wide(self.mean, given)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Float (picture, channel, height, width), of pixels of 0..1."""
        return (pixels - _wide(self.mean, pixels)) / _wide(self.std, pixels)

    @property
    def option(self) -> str:
        """How the command line is told it."""
        return f"--mean {_numbers(self.mean)} --std {_numbers(self.std)}"


def way(text: str, words: str, mean: Sequence[float], std: Sequence[float], channels: int) -> Way:
    """A way for so many channels; of several numbers for one channel the first is taken, as the page does."""

    def each(numbers: Sequence[float]) -> np.ndarray:
        wanted = numbers if len(numbers) == channels else [numbers[0]] * channels
        return np.asarray(wanted, np.float64)

    return Way(text, words, each(mean), each(std))


def usual(channels: int) -> list[Way]:
    """The ways that are in use for pictures of so many channels."""
    found = [
        way("symmetric", "pixels of −1 to 1", [0.5], [0.5], channels),
        way("unit", "pixels of 0 to 1", [0.0], [1.0], channels),
        way("bytes", "pixels of 0 to 255", [0.0], [1 / 255], channels),
    ]
    if channels in (1, 3):
        found.append(way("imagenet", "ImageNet's mean and deviation", IMAGENET_MEAN, IMAGENET_STD, channels))
        less = "pixels of 0 to 255 less ImageNet's mean"
        found.append(way("", less, IMAGENET_MEAN, [1 / 255], channels))
    if channels == 1:
        found.append(way("", "MNIST's mean and deviation", MNIST_MEAN, MNIST_STD, channels))
    return found


def mistaken(usual_ways: Sequence[Way]) -> Iterator[Way]:
    """What becomes of these by the usual mistakes: normalised twice, of another range, mean and deviation exchanged."""
    for each in usual_ways:
        named = each.words
        if (each.mean != 0).any():
            yield _twice(each)
            yield Way("", f"{named}, before a division by 255", each.mean / 255, each.std / 255)
            yield Way("", f"{named}, and then a division by 255", each.mean, each.std * 255)
            if (each.mean > 0).all() and (each.mean != each.std).any():
                yield Way("", f"{named}, the two exchanged", each.std, each.mean)
        if each.text == "unit":
            for middle in (127.5, 128.0):
                less = f"pixels of 0 to 255 less {middle:g}"
                yield Way("", less, np.full_like(each.mean, middle / 255), np.full_like(each.std, 1 / 255))
            yield Way("", "pixels divided by 255 twice", each.mean, each.std * 255)
        if each.text in ("symmetric", "imagenet"):
            yield Way("", f"{named}, after a second division by 255", each.mean * 255, each.std * 255)


def inverted(each: Way) -> Way:
    """The same of pixels whose bright and dark are exchanged."""
    return Way("", f"{each.words}, bright and dark exchanged", 1 - each.mean, -each.std)


def _twice(each: Way) -> Way:
    return Way("twice", f"{each.words}, normalised twice", each.mean + each.std * each.mean, each.std**2)


def told(mean: Sequence[float], std: Sequence[float], channels: int) -> Way | None:
    """The way that a caller has told; None where nobody has, or of another number of channels."""
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        return None
    found = way("", "what was told", mean, std, channels)
    for each in usual(channels):
        if alike(each, found):
            return Way(each.text, each.words, found.mean, found.std)
    return Way("", f"mean {_numbers(found.mean)} and deviation {_numbers(found.std)}", found.mean, found.std, told=True)


def alike(one: Way, other: Way) -> bool:
    """Whether two ways give about the same values."""
    return bool(np.allclose(one.mean, other.mean, atol=1e-3) and np.allclose(one.std, other.std, rtol=1e-2))


def recognise(batches: Sequence[Tensor], known: Way | None) -> Way | None:
    """In which way the pictures seem to have been prepared: told from their extremes; None if no way gives such values.

    Arguments:
        known: what a caller has told; it is taken where the values can well have come of it. Values of 0..1 come of
            a mean and a deviation that were told and not applied.
    """
    channels = batches[0].shape[1]
    parts = [batch.detach().transpose(0, 1).flatten(1).double().cpu() for batch in batches]
    low = np.min([part.amin(1).numpy() for part in parts], 0)
    high = np.max([part.amax(1).numpy() for part in parts], 0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return None
    ways = usual(channels)
    first = [known] if known is not None else []
    mistakes = mistaken([*first, *[each for each in ways if each.text in ("symmetric", "unit", "imagenet")]])
    best: tuple[float, Way] | None = None
    for each in [*first, *ways, *mistakes]:
        used = _used(each, low, high)
        if used is not None and (best is None or used > best[0] * 1.02):  # of two that fit alike the plainer one
            best = used, each
    of_known = None if known is None else _used(known, low, high)
    if known is not None and best is not None and of_known is not None and of_known * AS_TOLD >= best[0]:
        return known
    return None if best is None else best[1]


def each_by_itself(batches: Sequence[Tensor]) -> bool:
    """Whether every picture has mean 0 and deviation 1 of its own, over all of its values or over each channel's."""
    for batch in batches:
        values = batch.detach().double().flatten(2)
        if not bool(values.isfinite().all()):
            return False
        for part in (values.flatten(1), values.flatten(0, 1)):
            if float(part.mean(1).abs().max()) < BY_ITSELF and float((part.std(1) - 1).abs().max()) < BY_ITSELF:
                break
        else:
            return False
    return True


def by_extremes(batches: Sequence[Tensor]) -> Way | None:
    """The way that would make pixels of 0..1 of the smallest and the largest value; None where they are no range."""
    low = min(float(batch.min()) for batch in batches)
    high = max(float(batch.max()) for batch in batches)
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        return None
    scale = 1 / (high - low)
    return way("", f"values of {low:.3g} to {high:.3g}", [-low * scale], [scale], batches[0].shape[1])


def _used(each: Way, low: np.ndarray, high: np.ndarray) -> float | None:
    """How much of 0..1 the pixels would use, were the values prepared so; None where they would leave it."""
    dark, light = low * each.std + each.mean, high * each.std + each.mean
    if dark.min() < -SLACK or light.max() > 1 + SLACK:
        return None
    return float(light.max() - dark.min())


def line_of_code(given: Way, wanted: Way) -> str:
    """What makes pictures of one way those of another: a line of Python about `images`."""
    scale, add = given.std / wanted.std, (given.mean - wanted.mean) / wanted.std
    return f"images = images * {_value(scale)}{_added(add)}"


def _value(numbers: np.ndarray) -> str:
    if np.ptp(numbers) <= 1e-6 * np.abs(numbers).max():
        return f"{numbers[0]:.6g}"
    return f"torch.tensor([{', '.join(f'{each:.6g}' for each in numbers)}]).view(-1, 1, 1)"


def _added(numbers: np.ndarray) -> str:
    if np.ptp(numbers) > 1e-6 * np.abs(numbers).max():
        return f" + {_value(numbers)}"
    if not numbers[0]:
        return ""
    return f" {'-' if numbers[0] < 0 else '+'} {abs(numbers[0]):.6g}"


def _numbers(numbers: np.ndarray) -> str:
    shown = [f"{each:.4g}" for each in numbers]
    return shown[0] if len(set(shown)) == 1 else ",".join(shown)


def _wide(numbers: np.ndarray, like: Tensor) -> Tensor:
    return torch.as_tensor(numbers, dtype=like.dtype, device=like.device)[:, None, None]
