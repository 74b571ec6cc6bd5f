"""One answer on its way to a page: what it draws, what it has, and what it still waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hookscope.dashboard.answers.parts import Part
from hookscope.dashboard.asking.answers import Answer
from hookscope.dashboard.asking.questions import Unit


class Elsewhere:
    """Stands for an answer that a stream does not hold: it is kept in the cache, or was drawn and let go."""


ELSEWHERE = Answer(Elsewhere(), cached=True)


@dataclass
class Stream:
    """One answer on its way to a page.

    Attributes:
        number: the page's own count of its questions.
        parts: what it draws, left: those of them that have not been shown whole, answers: from what; all are let go as
            soon as it was read, and an answer as soon as nothing that is left is drawn from it.
        partial: what is known of answers that take minutes. progress: how far they are.
        unsaved: computed answers, by key, that are written into the cache once they were drawn.
        kept: whether its answers are kept; those that follow a slider while it is being dragged are not.
        slot: where the engine's events for it are; "" if it waits for none.
        replaced: set once a newer question has taken its place. stopped: the person withdrew what had not come.
        read: a browser has begun to read it.
    """

    name: str
    number: int
    parts: Sequence[Part]
    asked_at: float = field(default_factory=time.monotonic)
    kept: bool = True
    slot: str = ""
    answers: dict[Unit, Answer] = field(default_factory=dict)
    partial: dict[Unit, Answer] = field(default_factory=dict)
    progress: dict[Unit, tuple[int, int]] = field(default_factory=dict)
    unsaved: dict[str, bytes] = field(default_factory=dict)
    replaced: threading.Event = field(default_factory=threading.Event)
    stopped: bool = False
    read: bool = False
    left: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = list(self.parts)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for it: it was read, or there was nothing to show."""
        return not self.parts

    def let_go(self) -> None:
        """Keep nothing but the name; a page may stay open for days after its answer."""
        self.parts, self.left, self.answers, self.partial, self.progress = (), [], {}, {}, {}

    def shown(self, part: Part) -> None:
        """Let go of what only this part, which was shown whole, is drawn from."""
        self.left = [each for each in self.left if each is not part]
        needed = {unit for each in self.left for unit in each.units}
        self.answers.update(dict.fromkeys(set(part.units) - needed, ELSEWHERE))

    def unanswered(self) -> set[Unit]:
        """What has no answer yet."""
        return {unit for part in self.parts for unit in part.units if unit not in self.answers}
