"""A patient beside its baseline: what every comparison of the two is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookscope.hooks.doctor.baseline.deviations import Deviations
from hookscope.hooks.doctor.baseline.given_pictures import Given
from hookscope.hooks.doctor.baseline.marks import Pictures
from hookscope.hooks.doctor.baseline.weight_changes import Changes
from hookscope.hooks.doctor.baseline.writing import Seen
from hookscope.hooks.doctor.patient import Patient
from hookscope.hooks.results.reference import Reference

if TYPE_CHECKING:
    from hookscope.hooks.datasets.baseline import Baseline


@dataclass(frozen=True)
class Against:
    """A patient and its baseline.

    Attributes:
        patient, known, reference: see `Patient`, `Baseline` and `Reference`. seen: what its pictures gave.
        pictures: what they are; given: what they are to the baseline's. changes: what became of the weights.
        away: how far each layer is from the baseline; None where the pictures are not the same.
        names: of each class now, which of the baseline's it is; () if they are as they were, or were not named.
    """

    patient: Patient
    known: Baseline
    reference: Reference
    seen: Seen
    pictures: Pictures
    given: Given
    changes: Changes
    away: Deviations | None
    names: tuple[int, ...] = ()

    @property
    def made(self) -> str:
        """The baseline's day."""
        return self.known.made or "an unknown day"

    @property
    def whole(self) -> bool:
        """Whether all of the baseline's pictures are here, and no others."""
        rows = self.given.rows
        return len(rows) == len(self.known) and bool((rows >= 0).all())

    def place_of(self, layers: Mapping[str, object]) -> int | None:
        """The first call beyond its tolerance of one of these layers, or else of any; None if there is none."""
        if self.away is None:
            return None
        own = [place for layer in layers if (place := self.away.of(layer)) is not None]
        return own[0] if own else self.away.first

    def has_run(self, layer: str) -> str:
        """A layer that a person can open: itself, or the nearest module around it that ran."""
        while layer and not (layer in self.patient.by_name and self.patient.by_name[layer].calls):
            layer = layer.rpartition(".")[0]
        return layer
