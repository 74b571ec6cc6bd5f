"""How much variety each layer lets through over a set, of what is written down of it: computed once, and kept."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.results.information import SetInformation, information_over


@dataclass(frozen=True, repr=False)
class Variety:
    """The layers in execution order. key: everything that this depends on."""

    flow: tuple[SetInformation, ...]
    key: Hashable

    def __repr__(self) -> str:
        """Short, and another one for other numbers."""
        return f"Variety{self.key!r}"


def variety_of(sweeps: Sweeps, pictures: PictureSet, model: str, patience: float) -> Variety | str | None:
    """Of each layer; None while it is computed, a sentence where it cannot be told.

    Arguments:
        patience: seconds for which it is waited.
    """
    about, found = sweeps.written(pictures, model), sweeps.found(pictures, model)
    if about is None or found is None:
        return "This set has not been looked through in this model yet."
    key = ("variety", about)
    return sweeps.later.get(key, lambda: Variety(information_over(found), key), patience)
