"""A model that takes two pictures: which of them is asked about, what the other one is, and what sees which."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from hookscope.dashboard.engine.base import Attends
from hookscope.hooks.looks.attended import attended_digests
from hookscope.hooks.looks.survey import survey
from hookscope.hooks.results.looks import LayerInfo

Place = tuple[str, int]  # a layer's name, and the number of its call


@dataclass
class Pair:
    """The picture beside the one that whatever looks into a model gives it; the hook before the model reads it.

    Attributes:
        other: float32 (1, channel, height, width), prepared; None if both are the one picture.
        turned: whether the picture that is given is the second one, and `other` the first.
    """

    other: Tensor | None = None
    turned: bool = False

    @contextlib.contextmanager
    def beside(self, other: Tensor | None, *, turned: bool = False) -> Iterator[None]:
        """Have every pass in this context be about these two pictures."""
        before = self.other, self.turned
        self.other, self.turned = other, turned
        try:
            yield
        finally:
            self.other, self.turned = before

    def in_order(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """(first, second) for a pass over `given`, (image, channel, height, width); each for as many images."""
        other = given if self.other is None else self.other.to(given.device, given.dtype)
        other = other if other.shape[0] == given.shape[0] else other.expand(given.shape[0], *other.shape[1:])
        return (other, given) if self.turned else (given, other)


def seeing_the_second(module: nn.Module, pair: Pair, layers: Sequence[LayerInfo], noise: Tensor) -> tuple[Place, ...]:
    """The calls whose value comes from the second picture and not from the first: of the branch that reads that alone.

    It is found by changing one of two pictures of noise at a time: such a call's numbers follow the second and stay
    the same, to the last bit, with any first one. What follows neither, as a dead layer, is not among them.

    Arguments:
        noise: float32 (1, channel, height, width).
    """
    usual, other_first, other_second = (
        _numbers(module, pair, layers, first, second) for first, second in _changed(noise)
    )
    return tuple(
        place
        for place, numbers in usual.items()
        if other_first.get(place) == numbers and other_second.get(place) != numbers
    )


def attending(module: nn.Module, pair: Pair, layers: Sequence[LayerInfo], noise: Tensor) -> tuple[Attends, ...]:
    """Which of the two pictures each attention looks at, found in the same way by its keys or values.

    Arguments:
        noise: see `seeing_the_second`.
    """
    if not any(call.heads for layer in layers for call in layer.calls):
        return ()
    keys, numbers = [], []
    for first, second in _changed(noise):
        with pair.beside(second):
            keys.append(attended_digests(module, first, layers))
        numbers.append(_numbers(module, pair, layers, first, second))
    return tuple(Attends(*place, keys=_pictures(keys, place), value=_pictures(numbers, place)) for place in keys[0])


def _changed(noise: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Two pictures of noise, and then with another first one, and with another second one."""
    other = 0.5 * noise.flip(-2)
    return (noise, noise.flip(-1)), (other, noise.flip(-1)), (noise, other)


def _pictures(found: Sequence[Mapping[Place, object]], place: Place) -> tuple[int, ...]:
    """Which pictures, 0 and 1, something comes from: those that change it."""
    usual, *changed = (each.get(place) for each in found)
    return tuple(which for which, now in enumerate(changed) if now != usual)


def _numbers(
    module: nn.Module, pair: Pair, layers: Sequence[LayerInfo], first: Tensor, second: Tensor
) -> dict[Place, tuple[str, ...]]:
    with pair.beside(second):
        found = survey(module, first, layers, also=("containers", "operations"))
    # as texts, in which one NaN is like another
    return {
        (each.layer, each.call): tuple(repr(value) for value in each.numbers.values() if not math.isnan(value))
        for each in found.calls
    }
