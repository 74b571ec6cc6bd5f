"""A set in a model, held against the baseline that is stored of that."""

from __future__ import annotations

from hookscope.dashboard.panels.pictures.looked import Looked
from hookscope.dashboard.sets.outlying import Outlying, outliers_from
from hookscope.dashboard.sets.stored import Stored

PATIENCE_SECONDS = 0.4  # a thousand pictures against as many are there by then


def stored_of(looked: Looked) -> Stored | str | None:
    """The baseline of the model; a sentence, where that cannot be used; None if there is none."""
    sweeps = looked.scene.service.sweeps
    return None if sweeps is None else sweeps.baselines.of(looked.model, looked.info.module)


def stored_outliers(looked: Looked) -> Outlying | str | None:
    """How far the set's pictures are from it; a sentence, where that cannot be said; None while it is computed."""
    stored, sweeps = stored_of(looked), looked.scene.service.sweeps
    if stored is None or sweeps is None:
        return f"There is no stored baseline of {looked.title} here. Whoever runs the server gives one with --baseline."
    if isinstance(stored, str):
        return stored
    return outliers_from(sweeps, looked.pictures, stored, looked.model, PATIENCE_SECONDS)
