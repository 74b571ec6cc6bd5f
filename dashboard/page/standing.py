"""How a layer's channels stand towards the explained number: ranks of a wall that the model itself has to tell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hookscope.dashboard.answers.parts import result_of
from hookscope.dashboard.asking.answers import Answers
from hookscope.dashboard.asking.questions import EffectsOf, SharesOf, Unit
from hookscope.hooks.results.effects import ChannelShares, Effects
from hookscope.hooks.results.restoring import RestoredParts

BY = {"class": SharesOf, "effect": EffectsOf}  # by rank, what is asked
Told = ChannelShares | Effects


@dataclass(frozen=True, eq=False)
class Standing:
    """What is known of it.

    Attributes:
        told: by side. restored: what each channel of A brings back in B, where the walls are ranked by that.
    """

    told: Mapping[str, Told] = field(default_factory=dict)
    restored: RestoredParts | None = None

    @cached_property
    def signature(self) -> str:
        """Another for whatever is told otherwise; "" where nothing is."""
        arrays = [array for side in self.told for array in (*self.columns(side).values(), self._order_of(side))]
        if self.restored is not None:
            arrays.append(self.restored.strongest)
        if not arrays:
            return ""
        parts = (array.tobytes() for array in arrays)
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    def order(self, channels: int) -> np.ndarray | None:
        """The channels' order of the first side that tells one, int64 (channel,).

        For the class: largest share first. By effect, and by what comes back: the largest first, whatever its sign;
        while channels are still measured, the order in which that happens, so that none moves.
        """
        orders = [self._order_of(side) for side in self.told]
        orders += [] if self.restored is None else [self.restored.strongest]
        return next((order for order in orders if len(order) == channels), None)

    def _order_of(self, side: str) -> np.ndarray:
        told = self.told[side]
        if isinstance(told, ChannelShares):
            return np.argsort(-told.values, kind="stable")
        if told.complete:
            return told.strongest(len(told.order))
        return told.order

    def speaks(self, side: str) -> np.ndarray | None:
        """How much each channel of a side speaks for what is explained, float64 (channel,): positive ones for it."""
        told = self.told.get(side)
        if told is None:
            return None
        return told.values if isinstance(told, ChannelShares) else -told.measured

    def columns(self, side: str) -> dict[str, np.ndarray]:
        """The numbers of each channel of a side, by what `drawing.tables` calls them."""
        told = self.told.get(side)
        if told is None:
            return {}
        if isinstance(told, ChannelShares):
            return {"share": told.values}
        return {"effect": told.measured, "estimate": told.estimate}


NOTHING = Standing()


def standing(answers: Answers, units: Mapping[str, Unit], restored: Unit | None = None) -> Standing:
    """What answers tell, those that are still growing included.

    Arguments:
        restored: the unit about what comes back, where the walls are ranked by that.
    """
    told: dict[str, Told] = {}
    for side, unit in units.items():
        found = result_of(answers, unit, ChannelShares) or result_of(answers, unit, Effects)
        if found is not None:
            told[side] = found
    back = result_of(answers, restored, RestoredParts)
    return Standing(told, back) if told or back is not None else NOTHING
