"""What is explained, and in which words: of both sides the same, or of each its own; alone, or against another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hookscope.dashboard.asking.targets import Other, Target, part_of
from hookscope.dashboard.page.view import state
from hookscope.hooks.results.targets import Against, Box, Like

EXPLAINED = ("target", "target_b", "against", "against_b", "apart")  # the fields of a view that say what is explained


@state
@dataclass(frozen=True)
class Explaining:
    """Whether B explains a target of its own where its model answers the same classes as A's."""

    apart: bool = False


def alone(target: Target) -> Target:
    """A target without what it is held against."""
    found: Target = target.target if isinstance(target, Against) else target
    return found


def call_number(number: str, target: Target) -> str:
    """What the number is called that a target means.

    Arguments:
        number: what one alone is called.

    >>> call_number("logit", Against()), call_number("sum of logits", Against()), call_number("logit", Box(0))
    ('logit difference', 'difference of sums of logits', 'logit')
    """
    if not isinstance(target, Against):
        return number
    first, _, rest = number.partition(" of ")
    return f"difference of {first}s of {rest}" if rest else f"{number} difference"


def name_target(target: Target, index: int, against: int, name: Callable[[int], str], number: str, other: str) -> str:
    """A target by name: "espresso", "mask of box 3 (cat)", "espresso against cup".

    Arguments:
        index, against: the classes that a result says it is of. name: of a class, by its index.
        number: what of a box is explained. other: the other side's letter.
    """
    if isinstance(target, Like):
        return f"likeness to {other}"
    first = alone(target)
    named = f"{number} of box {first.index} ({name(index)})" if isinstance(first, Box) else name(index)
    if against < 0:
        return named
    held: Other = target.other if isinstance(target, Against) else None
    rest = f"{part_of(held)} of box {held.index} ({name(against)})" if isinstance(held, Box) else name(against)
    return f"{named} against {rest}"
