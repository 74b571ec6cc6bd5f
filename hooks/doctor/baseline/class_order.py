"""Classes that have changed places since a baseline was written: in the head, in the answer, or in their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hookscope.hooks.doctor.baseline.against import Against
from hookscope.hooks.doctor.baseline.marks import swapped
from hookscope.hooks.results.findings import Bars, Finding

SWAPS = 4  # classes that a sentence names


def class_order(against: Against) -> Iterator[Finding]:
    """Classes that have changed places: in the head, in the answer, or in their names."""
    rows, names = against.changes.order, against.names
    if rows and names == rows:
        return  # both, so that every name is still beside its own answer
    if rows:
        yield _reordered(against, rows, f"the rows of {next(iter(against.changes.head))} are in another order")
    elif not against.changes and (order := _answers_order(against)):
        yield _reordered(against, order, "the answers are in another order, and the weights are as they were")
    if names:
        yield _reordered(against, names, "the class names are in another order")


def _reordered(against: Against, order: Sequence[int], what: str) -> Finding:
    pairs = swapped(order)
    classes = against.patient.known.classes
    called = [classes[now] if now < len(classes) else "" for now, _ in pairs[:SWAPS]]
    said = [
        f"{now}{f' ({name})' if name else ''} is what {then} was"
        for (now, then), name in zip(pairs[:SWAPS], called, strict=True)
    ]
    more = f" and {len(pairs) - SWAPS:,} more" if len(pairs) > SWAPS else ""
    place = None if against.away is None else against.away.first
    excess = 1.0 if place is None or against.away is None else float(against.away.excess[place])
    return Finding(
        "label-order",
        "error",
        f"{what[:1].upper() + what[1:]}: {len(pairs)} of {len(order):,} classes have changed places (limit 0; baseline "
        f"of {against.made}): class {', '.join(said)}{more}.",
        "Each answer is read as another class than it is.",
        "Give the class names in the order in which the head's rows stand, or load the head that was checked.",
        layer=next(iter(against.changes.head), ""),
        channels=tuple(now for now, _ in pairs),
        value=float(len(pairs)),
        limit=0.0,
        excess=max(excess, 1.0),
        evidence=_moved_answers(against, pairs),
        about="layer" if against.changes.head else "answer",
        among=len(order),
    )


def _moved_answers(against: Against, pairs: Sequence[tuple[int, int]]) -> Bars | None:
    now, then = against.seen.answers, against.reference.answers
    if now.shape != then.shape or not now.size:
        return None
    shown = [each for each in pairs[:SWAPS] if max(each) < len(now)]
    names = [f"class {place}, {when}" for place, _ in shown for when in ("now", "then")]
    values = [float(each[place]) for place, _ in shown for each in (now, then)]
    return Bars("mean answer over the pictures", tuple(names), tuple(values)) if shown else None


def _answers_order(against: Against) -> tuple[int, ...]:
    """Of each class now, which of the baseline's it is, where the answers are the same in another order; () else."""
    now, then = against.seen.answers, against.reference.answers.astype(np.float64)
    if against.given.how != "same" or not against.whole or now.shape != then.shape or len(now) < 2:
        return ()
    close = 1e-4 * max(float(np.abs(then).max()), 1e-30)
    if (np.abs(now - then) <= close).all():
        return ()
    first, second = np.argsort(now, kind="stable"), np.argsort(then, kind="stable")
    if (np.abs(now[first] - then[second]) > close).any():
        return ()
    found = np.arange(len(now))
    found[first] = second
    stays = np.abs(now - then) <= close
    found = np.where(stays, np.arange(len(now)), found)
    return tuple(int(place) for place in found) if sorted(found.tolist()) == list(range(len(now))) else ()
