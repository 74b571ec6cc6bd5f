"""Questions of programs on their way: each is asked of the service as a page asks, so that it is queued, shared with
whoever asks the same, kept, and superseded like a click.

A question goes on when its request has to be answered before it is known, so that whoever asks again gets more of it;
who does not come back within a minute has left. A caller has `MOST_WAITING` requests and questions at once.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.answers.service import Service
from hookscope.dashboard.asking.answers import Answer, Answers, Failure
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.web.api.answers import Refused

MOST_WAITING = 8  # of one caller
LEFT_SECONDS = 60.0  # after which a question that nobody asks again is withdrawn
LOOK_SECONDS = 0.25  # between two looks whether the caller is still there
ASKED_AGAIN = 3  # times, where the engine has forgotten a question
TOO_MANY = f"{MOST_WAITING} questions of yours wait already. Wait for one, or have a newer one replace it by slot=NAME."
BUSY = "Too many programs wait for answers at the moment. Ask again in a few seconds."
SUPERSEDED = "A newer question in the same slot has taken the place of this one."
STOPPING = "The server is stopping, or has forgotten the question. Ask again."


@dataclass(frozen=True)
class Asker:
    """Who asks, and for how long.

    Attributes:
        caller: a name of the program. slot: in which a newer question replaces an older one; "" for none.
        deadline: of `time.monotonic()`. gone: whether nobody waits for the response any more.
    """

    caller: str
    slot: str = ""
    deadline: float = 0.0
    gone: Callable[[], bool] = lambda: False

    @property
    def left_seconds(self) -> float:
        """How long it still waits, at least 0."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(eq=False)
class _Question:
    caller: str
    slot: str
    units: tuple[Unit, ...]
    page: str
    answers: Answers = field(default_factory=Answers)
    whole: bool = False  # every unit has its answer
    ended: bool = False
    superseded: bool = False
    withdrawn: bool = False
    readers: int = 0
    looked_at: float = field(default_factory=time.monotonic)

    @property
    def open(self) -> bool:
        """Whether something of it is still to come."""
        return not (self.ended or self.whole)

    def left(self) -> bool:
        """Whether nobody waits for it any more."""
        if self.superseded or self.withdrawn:
            return True
        return not self.readers and time.monotonic() - self.looked_at > LEFT_SECONDS


class Desk:
    """The questions that programs wait for.

    Arguments:
        service: answers them. most: how many requests and questions of all callers together wait at once.
    """

    def __init__(self, service: Service, most: int = 20) -> None:
        self._service = service
        self._most = most
        self._changed = threading.Condition()
        self._questions: list[_Question] = []
        self._loading: Counter[str] = Counter()
        self._number = 0

    def ask(self, asker: Asker, units: Sequence[Unit]) -> tuple[Answers, bool]:
        """What is known of some units when all of it is, or the time is over.

        Returns:
            The answers, and whether each unit has its own.

        Raises:
            Refused: too many wait, or a newer question of the slot has replaced this one.
        """
        wanted = tuple(dict.fromkeys(units))
        for _ in range(ASKED_AGAIN):
            kept = {unit: value for unit in wanted if (value := self._service.value(unit)) is not None}
            if len(kept) == len(wanted):
                return Answers({unit: Answer(value, cached=True) for unit, value in kept.items()}), True
            question = self._join(asker, wanted)
            try:
                self._wait(question, asker)
            finally:
                self._leave(question, asker)
            if question.superseded:
                raise Refused(SUPERSEDED, 409)
            if question.whole or not question.ended:
                return question.answers, question.whole
        raise Refused(STOPPING, 503)

    @contextmanager
    def loading(self, asker: Asker) -> Iterator[None]:
        """A request waits for a model."""
        with self._changed:
            self._check_room(asker.caller)
            self._loading[asker.caller] += 1
        try:
            yield
        finally:
            with self._changed:
                self._loading[asker.caller] -= 1
                self._loading += Counter()  # without those that have none

    def waiting(self, caller: str = "") -> int:
        """How many requests and questions of a caller wait; of all of them, if none is named."""
        open_ones = (each for each in self._questions if each.open and caller in ("", each.caller))
        loading = self._loading[caller] if caller else self._loading.total()
        return sum(max(1, each.readers) for each in open_ones) + loading

    def _check_room(self, caller: str, freed: int = 0) -> None:
        if self.waiting(caller) - freed >= MOST_WAITING:
            raise Refused(TOO_MANY, 429)
        if self.waiting() - freed >= self._most:
            raise Refused(BUSY, 503)

    def _join(self, asker: Asker, units: tuple[Unit, ...]) -> _Question:
        """The question that waits for these units already, or a new one."""
        with self._changed:
            self._tidy()
            mine = [each for each in self._questions if each.caller == asker.caller and not each.left()]
            alike = (each for each in mine if each.units == units and each.slot == asker.slot)
            same = next((each for each in alike if each.whole or not each.ended), None)
            if same is not None:
                if same.open:
                    self._check_room(asker.caller, freed=0 if same.readers else 1)
                same.readers += 1
                return same
            older = [each for each in mine if asker.slot and each.slot == asker.slot and each.open]
            self._check_room(asker.caller, freed=sum(max(1, each.readers) for each in older))
            page = older[0].page if older else f"api-{secrets.token_urlsafe(18)}"
            for each in older:
                each.superseded = True
            question = _Question(asker.caller, asker.slot, units, page, readers=1)
            self._questions.append(question)
            self._number += 1
            number = self._number
            self._changed.notify_all()
        threading.Thread(target=self._follow, args=(question, number), name="api question", daemon=True).start()
        return question

    def _tidy(self) -> None:
        self._questions = [each for each in self._questions if each.readers or not (each.ended or each.left())] + [
            each for each in self._questions if not each.readers and each.ended and _failed(each) and not each.left()
        ]

    def _follow(self, question: _Question, number: int) -> None:
        """Take what the service tells of a question until that is all, or nobody wants it."""
        part = Part(question.page, question.units, (), _collected)
        try:
            name = self._service.ask(question.page, [part], {}, number)
            for item in self._service.updates(name, question.left):
                if item is None or item == "done":
                    continue
                _, updates, signature = item
                with self._changed:
                    if updates and isinstance(found := updates[0][1].get("answers"), Answers):
                        question.answers, question.whole = found, signature is not None
                    self._changed.notify_all()
        finally:
            with self._changed:
                question.ended = True
                self._changed.notify_all()

    def _wait(self, question: _Question, asker: Asker) -> None:
        with self._changed:
            while not (question.whole or question.ended or question.superseded) and asker.left_seconds > 0:
                self._changed.wait(min(LOOK_SECONDS, asker.left_seconds))
                if asker.gone():
                    return

    def _leave(self, question: _Question, asker: Asker) -> None:
        with self._changed:
            question.readers -= 1
            question.looked_at = time.monotonic()
            if not question.readers and asker.gone():
                question.withdrawn = True
            if question.whole:
                self._questions = [each for each in self._questions if each is not question or each.readers]


def _collected(answers: Answers) -> list[Update]:
    """A part that is drawn as what is known."""
    return [("api", {"answers": answers})]


def _failed(question: _Question) -> bool:
    """Whether a failure is among its answers, which the service does not keep."""
    return any(isinstance(answer.result, Failure) for answer in question.answers.values())
