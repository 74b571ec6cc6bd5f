"""What stands where an answer is awaited: the answer, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hookscope.dashboard.asking.questions import Unit


@dataclass(frozen=True)
class Failure:
    """Stands where an answer would have been: a sentence that says what is wrong and what to do next.

    Attributes:
        final: asking again would give the same; a fact about the model, not a fault.
        so_far: what was known of the answer by then, None if nothing was.
    """

    sentence: str
    details: str = ""
    final: bool = False
    so_far: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Answer:
    """An answered unit.

    Attributes:
        result: an instance of `results.looks`, or a `Failure`.
        cached: whether it was read from the cache.
    """

    result: Any
    cached: bool = False


class Answers(dict[Unit, Answer]):
    """What is known of some units, and how far those are that take long.

    Attributes:
        progress: by unit, (done, in all), of those that have told.
    """

    def __init__(
        self, known: Mapping[Unit, Answer] | None = None, progress: Mapping[Unit, tuple[int, int]] | None = None
    ) -> None:
        super().__init__(known or {})
        self.progress = dict(progress or {})
