"""Which layers have channels that could go, and what was measured of one: what is asked and kept layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

from hookscope.hooks.results.importance import LayerImportance, PruneCurve, Removal


@dataclass(frozen=True)
class Prunable:
    """A call of a layer with filters of its own.

    Attributes:
        channels: how many it has. removal: where they are muted, and what removing one saves.
    """

    layer: str
    call: int
    channels: int
    removal: Removal

    @property
    def parameters(self) -> int:
        """What would go with all of its channels; 0 where muting them is not removing them."""
        return self.channels * self.removal.parameters


@dataclass(frozen=True)
class Prunables:
    """The layers with filters of their own, in execution order; without those that give the answer itself."""

    layers: tuple[Prunable, ...]

    @property
    def largest_first(self) -> tuple[Prunable, ...]:
        """Those whose channels can be removed, the one with which most parameters would go first."""
        exact = [each for each in self.layers if each.removal.exact]
        return tuple(sorted(exact, key=lambda each: -each.parameters))


@dataclass(frozen=True)
class Pruned:
    """How much the channels of one call of a layer matter over a set of pictures, and what the model answers without.

    Attributes:
        importance: by which the channels are ranked. curve: measured, the least important ones gone first.
        pictures: over how many it is measured in the end.
    """

    importance: LayerImportance
    curve: PruneCurve
    pictures: int

    @property
    def complete(self) -> bool:
        """Whether it is measured over all of them."""
        return self.curve.pictures == self.pictures
