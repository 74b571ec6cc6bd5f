"""Whether pictures have the size that they had in training, as their owner knows it or as all BatchNorms show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor
from torch.nn import functional

from hookscope.hooks.doctor.patient import AT_ONCE, Patient
from hookscope.hooks.doctor.stored import find_stored, shifts, shifts_as_given, spread_over_layers, watch
from hookscope.hooks.errors import HooksError
from hookscope.hooks.results.findings import Bars, Finding

SIZES_OFF = 0.03  # the shift over all layers below which no other size is tried
FOR_ITSELF = 1.2  # times nearer that another size has to be where each BatchNorm is judged for itself
LARGEST = 320 * 320  # pixels of a size that is tried


def told_size(patient: Patient) -> Iterator[Finding]:
    """Pictures of another size than that which the weights' own preparation has."""
    wanted = patient.known.size
    given = tuple(patient.batches[0].shape[-2:])
    if not all(wanted):
        return
    ratio = max(max(one / other, other / one) for one, other in zip(given, wanted, strict=True))
    limit = patient.limit("preprocessing", "size")
    if ratio < limit:
        return
    patient.found["preprocessing: other size"] = True
    yield Finding(
        "preprocessing",
        "warning",
        f"The pictures are {given[1]} × {given[0]} pixels, and the weights were trained at {wanted[1]} × {wanted[0]}: "
        f"a factor of {ratio:.2g} (limit {limit:g}).",
        why="What a layer looks for has another size in pixels than it had in training.",
        advice=f"Prepare the pictures at {wanted[0]}x{wanted[1]}: leave out --input-size, or resize them before.",
        about="input",
        value=ratio,
        limit=limit,
        excess=ratio / limit,
        evidence=Bars("longer side in pixels", ("as given", "in training"), (max(given), max(wanted)), bad=0, good=1),
        preparation=f"{wanted[0]}x{wanted[1]}",
    )


def other_size(patient: Patient) -> Iterator[Finding]:
    """Pictures of which another size is much nearer to what all BatchNorms stored.

    A photograph of half the size is hardly told from a whole one; only a large difference is found.
    """
    if all(patient.known.size) or len(find_stored(patient)) < 4:
        return
    as_given = shifts_as_given(patient)
    if not as_given or (given := spread_over_layers(as_given)) <= SIZES_OFF:
        return
    height, width = patient.batches[0].shape[-2:]
    tried = [((height, width), given)]
    for factor in (0.25, 0.5, 2.0, 4.0):
        size = max(round(height * factor), 1), max(round(width * factor), 1)
        if size[0] * size[1] > LARGEST and factor > 1:
            break
        if (shift := _shift_at(patient, size)) is not None:
            tried.append((size, shift))
    (best, shift), ratio = min(tried, key=lambda each: each[1]), patient.limit("preprocessing", "ratio")
    if given < ratio * shift or not _nearer_for_itself(patient, (height, width), best):
        patient.found["preprocessing: looked at"] = (
            f"{patient.found['preprocessing: looked at']} Whether another size than {width} × {height} would be right "
            "cannot be told."
        )
        return
    patient.found["preprocessing: other size"] = True
    yield Finding(
        "preprocessing",
        "warning",
        f"Over all BatchNorms the pictures at {width} × {height} pixels are {given:.2g} from what was stored in "
        f"training, and at {best[1]} × {best[0]} {shift:.2g}, {say_times(given / shift)} nearer (limit "
        f"{ratio:g} times).",
        why="What a layer looks for has another size in pixels than it had in training.",
        advice=f"Look up the size of the training's pictures, and try --input-size {best[0]}x{best[1]}.",
        about="input",
        value=given / shift,
        limit=ratio,
        excess=given / shift / ratio,
        evidence=Bars(
            "distance from what all BatchNorms stored",
            tuple(f"{size[1]} × {size[0]}" for size, _ in tried),
            tuple(each for _, each in tried),
            bad=0,
            good=[size for size, _ in tried].index(best),
            logarithmic=True,
        ),
        preparation=f"{best[0]}x{best[1]}",
    )


def _nearer_for_itself(patient: Patient, given: tuple[int, int], best: tuple[int, int]) -> bool:
    """Whether another size is nearer where each BatchNorm is judged for itself, too: one wrong one moves all later."""
    one, other = (_shift_at(patient, size, by_batch=True) for size in (given, best))
    return one is not None and other is not None and one >= FOR_ITSELF * other


def _shift_at(patient: Patient, size: tuple[int, int], *, by_batch: bool = False) -> float | None:
    """The shift over all layers with pictures of another size; None if the model does not take it."""
    batches: list[Tensor] = []
    try:
        if patient.otherwise is not None:
            batches = list(patient.otherwise(f"{size[0]}x{size[1]}"))
        else:
            for batch in patient.batches:
                part = batch[: max(2 * AT_ONCE - sum(map(len, batches)), 0)].float()
                if len(part):
                    resized = functional.interpolate(part, size=size, mode="bilinear", antialias=True)
                    batches.append(resized.to(batch.dtype))
        found = shifts(find_stored(patient), watch(patient, find_stored(patient), batches, by_batch=by_batch))
    except (HooksError, RuntimeError, ValueError, AssertionError, IndexError, TypeError):
        return None
    found = {name: shift for name, shift in found.items() if np.isfinite(shift)}
    return spread_over_layers(found) if found else None


def say_times(ratio: float) -> str:
    """How many times, for a sentence."""
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"
