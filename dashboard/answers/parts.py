"""A part: one region of the page that is drawn from the answers to its units.

Panels describe their regions as parts; the service finds out which units those need, and streams each part's updates
as the answers come. A part's signature says what it shows, so a page that has drawn it already is not sent it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hookscope.dashboard.asking.answers import Answer, Answers, Failure
from hookscope.dashboard.asking.questions import Unit

ComponentId = str | dict[str, Any]
Update = tuple[ComponentId, dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """One region of the page.

    Attributes:
        name: unique on the page, e.g. "card 0 wall".
        units: what it is drawn from, most urgent first.
        shows: everything else that the drawing depends on; values with a stable `repr`.
        draw: given `shows`, one by one, and the answers so far, the properties to set. A function of a module, so that
            nothing else can get in; called at once if all answers are there, else at every answer to one of its units,
            and when none has come for a moment: the region then says that it waits.
        error: the `Markup` that gets a sentence if drawing itself fails; None leaves the region as it is.
        eager: whether it wants to be drawn before its last answer is there.
    """

    name: str
    units: Sequence[Unit]
    shows: tuple[Any, ...]
    draw: Callable[..., list[Update]]
    error: ComponentId | None = None
    eager: bool = True

    @classmethod
    def still(cls, name: str, updates: list[Update]) -> Part:
        """One that waits for nothing and looks like this."""
        return cls(name, (), (updates,), _as_it_is)

    def drawn(self, answers: Mapping[Unit, Answer]) -> list[Update]:
        """The properties to set."""
        return self.draw(*self.shows, answers if isinstance(answers, Answers) else Answers(answers))

    def signature(self) -> str:
        """Changes whenever the region would be drawn differently."""
        return hashlib.sha256(repr((self.name, tuple(self.units), self.shows)).encode()).hexdigest()[:24]

    def complete(self, answers: Mapping[Unit, Answer]) -> bool:
        """Whether every unit has been answered."""
        return all(unit in answers for unit in self.units)


def _as_it_is(updates: list[Update], answers: Answers) -> list[Update]:
    return updates


def result_of(answers: Answers, unit: Unit | None, kind: type) -> Any:
    """The unit's result if it was answered with one of that kind, or what was known before it failed, else None."""
    answer = answers.get(unit) if unit is not None else None
    found = answer.result if answer is not None else None
    found = found.so_far if isinstance(found, Failure) else found
    return found if isinstance(found, kind) else None


def failures_by_side(answers: Answers, *asked: Mapping[str, Unit]) -> list[tuple[str, Failure]]:
    """The same of units by side, each with the side that it is about."""
    found = [
        (side, failure) for units in asked for side, unit in units.items() for failure in failures(answers, (unit,))
    ]
    return list({failure: (side, failure) for side, failure in reversed(found)}.values())[::-1]


def failures(answers: Answers, units: Sequence[Unit]) -> list[Failure]:
    """Why units failed, each reason once, in order."""
    results = [answers[unit].result for unit in units if unit in answers]
    return list(dict.fromkeys(result for result in results if isinstance(result, Failure)))
