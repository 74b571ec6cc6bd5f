"""What stands where an answer is awaited: the answer, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hookscope.dashboard.asking.questions import Unit


@dataclass(frozen=True)
class Failure:
    """Stands where an answer would have been: a sentence that says what is wrong and what to do next.

    Attributes:
        final: asking again would give the same; a fact about the model, not a fault.
    """

    sentence: str
    details: str = ""
    final: bool = False


@dataclass(frozen=True)
class Answer:
    """An answered unit.

    Attributes:
        result: an instance of `results.looks`, or a `Failure`.
        cached: whether it was read from the cache.
    """

    result: Any
    cached: bool = False


Answers = Mapping[Unit, Answer]
