"""Who is answered next: units, the slots that wait for them, and the batches that workers take.

Only bookkeeping: no process, no thread, no clock of its own (`now` is passed in, in seconds), so every rule can be
tested by itself. `LocalEngine` holds its lock around every call.

The rules:

* A unit that several slots want is computed once, and each of them gets the answer.
* A batch is what one slot wants of the same side that one run of the model answers, in the slot's order; after a batch
  the slots take turns, so that nobody waits for the hundred layers of somebody else.
* A unit that nobody waits for any more is dropped, or, if it runs, withdrawn from its worker.
* A unit that was running when its worker died twice is refused for ten minutes. None is retried by itself.
* An answer that nobody has read is never dropped to make room: workers wait until somebody reads (`full`). Only who
  does not come to read it loses it, after a while, and is told "end".
* When a worker dies, whoever waited for the batch is told at once about everything else they want of the same model and
  input: it would most likely kill the next worker, one after the other.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.base import Event, Work

READ_SECONDS = 5.0  # how long a slot is kept after its "end" was read, for a second reader
END_SECONDS = 60.0  # and how long if nobody reads it
ABANDONED_SECONDS = 120.0  # a slot whose events nobody asks for is withdrawn
KEPT_BYTES = 512 * 2**20  # answers kept for reading; above it those go that were read, and workers wait
IMPATIENT_SECONDS = 15.0  # and a slot whose events nobody asks for, while workers wait because of it
REFUSED_SECONDS = 600.0
CRASHES = 2

STOPPED = "Stopped before it was computed. Ask for it again to compute it."
READ_BEFORE = "This answer has been read and is no longer kept here. Choose the layer again."

Fetch = Callable[[str], bytes]


@dataclass(frozen=True)
class Batch:
    """What a worker gets at once, and answers by one run."""

    task: int
    units: tuple[Unit, ...]
    fetch: Fetch = field(repr=False, compare=False)


@dataclass
class _Slot:
    fetch: Fetch
    pending: dict[Unit, None]  # in order of urgency; a unit leaves when a batch or another slot's batch takes it
    waiting: set[Unit]  # everything that has not been answered yet
    looked_at: float  # when somebody last asked for the events
    read: int = 0  # how many events, from the first, somebody has read for certain
    given: int = 0  # how many were handed out
    news: dict[tuple[Unit, str], int] = field(default_factory=dict)  # where the newest "partial" or "progress" is
    events: list[Event] = field(default_factory=list)
    ended_at: float | None = None
    end_read_at: float | None = None


@dataclass
class _Ready:
    event: Event
    slots: int  # how many hold it


@dataclass
class _Running:
    units: dict[Unit, bool]  # unit -> whether its forward has begun; a unit leaves when it is answered or withdrawn
    fetch: Fetch
    partial: dict[Unit, Event] = field(default_factory=dict)  # what is known of those that take minutes


class Queue:
    """The slots of one engine and the units that they wait for."""

    def __init__(self) -> None:
        self._slots: dict[str, _Slot] = {}
        self._wanted: dict[Unit, dict[str, None]] = {}  # unit -> the slots that wait for it, in order
        self._ready: dict[Unit, _Ready] = {}  # unit -> its answer, as long as a slot holds it
        self._pending: Counter[str] = Counter()  # model -> units that no worker has taken, each once
        self._turns: deque[str] = deque()  # slots with something pending, whose turn it is first
        self._tasks: dict[int, _Running] = {}
        self._running: dict[Unit, int] = {}  # unit -> task
        self._crashes: dict[Unit, list[float]] = {}
        self._next_task = 1
        self._full = False
        self._work: Counter[tuple[str, str]] = Counter()  # (model, field of Work) -> units

    # --- slots

    def submit(self, slot: str, units: Sequence[Unit], fetch: Fetch, now: float) -> None:
        """Add a slot that waits for these units, most urgent first.

        Raises:
            ValueError: the slot's name is in use.
        """
        if slot in self._slots:
            raise ValueError(f"slot {slot!r} is in use: every submission needs a new name")
        record = self._slots[slot] = _Slot(fetch=fetch, pending={}, waiting=set(), looked_at=now)
        for unit in dict.fromkeys(units):  # as few looks into a table as there can be: a page may ask for thousands
            ready = self._ready.get(unit)
            if self._crashes and (refusal := self._refusal(unit, now)):
                record.events.append(Event("failed", unit, sentence=refusal))
            elif ready is not None:  # whoever reads it in another slot may not have cached it yet
                ready.slots += 1
                record.events.append(ready.event)
            else:
                self._wanted.setdefault(unit, {})[slot] = None
                record.waiting.add(unit)
                task = self._running.get(unit)
                if task is None:
                    if not self._is_pending(unit):
                        self._pending[unit.model] += 1
                    record.pending[unit] = None
                elif self._tasks[task].units[unit]:
                    record.events.append(Event("started", unit))
                    if (known := self._tasks[task].partial.get(unit)) is not None:
                        self._tell(record, known)
        if record.pending:
            self._turns.append(slot)
        self._end_if_done(slot, now)

    def events(self, slot: str, since: int, now: float) -> list[Event]:
        """The slot's events from number `since` on; a slot that is not known (any more) has ended."""
        record = self._slots.get(slot)
        if record is None:
            return [Event("end")]
        record.looked_at = now
        record.read = max(record.read, min(since, len(record.events)))
        news = record.events[max(since, 0) :]
        record.given = len(record.events)
        if record.ended_at is not None and record.end_read_at is None:
            record.end_read_at = now
        return news or ([Event("end")] if record.ended_at is not None else [])

    def cancel(self, slot: str) -> dict[int, tuple[Unit, ...]]:
        """Withdraw what the slot still waits for and forget it; returns the running units to stop, by task."""
        record = self._slots.get(slot)
        if record is None:
            return {}
        self._forget(slot)  # whoever still reads it is told "end", like of any unknown slot
        return self._unwanted(record.waiting)

    def stop(self, slot: str, units: Iterable[Unit], now: float) -> dict[int, tuple[Unit, ...]]:
        """Withdraw some of what the slot waits for, and tell it so; returns the running units to stop, by task."""
        record = self._slots.get(slot)
        stopped = [unit for unit in units if record is not None and unit in record.waiting]
        for unit in stopped:
            self._settle(slot, Event("failed", unit, sentence=STOPPED), now)
        if record is not None:
            self._end_if_done(slot, now)
        return self._unwanted(stopped)

    def fail_model(self, model: str, sentence: str, details: str, now: float) -> None:
        """Fail everything that is pending for a model that cannot be loaded."""
        for unit in [unit for unit in self._wanted if unit.model == model and self._is_pending(unit)]:
            self._publish(Event("failed", unit, sentence=sentence, details=details), now)

    def fail_all(self, sentence: str, now: float) -> None:
        """Fail everything, because the engine stops."""
        for slot, record in list(self._slots.items()):
            for unit in list(record.waiting):
                self._settle(slot, Event("failed", unit, sentence=sentence), now)
            self._end_if_done(slot, now)

    def waiting(self, model: str) -> int:
        """How many units of this model have not been given to a worker."""
        return self._pending[model]

    def busy(self, model: str) -> bool:
        """Whether anything of this model waits or is computed."""
        return bool(self._pending[model]) or any(unit.model == model for unit in self._running)

    def full(self) -> bool:
        """Whether so much waited to be read at the last `sweep` that no answer should be taken from a worker."""
        return self._full

    def work(self, model: str) -> Work:
        """What has become of the units of this model so far."""
        return Work(**{each.name: self._work[model, each.name] for each in fields(Work)})

    # --- workers

    def take(self, model: str, *, quick: bool = False) -> Batch | None:
        """The next batch for a free worker of this model; None if nothing waits.

        Arguments:
            quick: the worker is in the middle of a question that takes minutes, and answers no other such one.
        """
        for slot in list(self._turns):
            record = self._slots.get(slot)
            if record is None or not record.pending:
                self._turns.remove(slot)
                continue
            fits = (u for u in record.pending if u.model == model and not (quick and u.takes_minutes))
            first = next(fits, None)
            if first is None:
                continue
            self._turns.remove(slot)
            self._turns.append(slot)
            units = tuple(unit for unit in record.pending if unit.alike(first))
            task, self._next_task = self._next_task, self._next_task + 1
            self._tasks[task] = _Running(dict.fromkeys(units, False), record.fetch)
            for unit in units:
                self._running[unit] = task
                self._count(unit, "taken")
                for each in self._waiters(unit):
                    self._no_longer_pending(each, unit)
            return Batch(task, units, record.fetch)
        return None

    def started(self, task: int, unit: Unit, now: float) -> None:
        """The unit's forward pass began."""
        running = self._tasks.get(task)
        if running is not None and unit in running.units and not running.units[unit]:
            running.units[unit] = True
            for slot in self._waiters(unit):
                self._slots[slot].events.append(Event("started", unit))

    def partial(self, task: int, unit: Unit, data: bytes) -> None:
        """What is known of the unit's answer by now; whoever has not read what was known before gets this alone."""
        running = self._tasks.get(task)
        if running is not None and unit in running.units:
            event = running.partial[unit] = Event("partial", unit, data)
            for slot in self._waiters(unit):
                self._tell(self._slots[slot], event)

    def progress(self, task: int, done: int, total: int) -> None:
        """How far the task is; whoever has not read how far it was before gets this alone."""
        running = self._tasks.get(task)
        for unit in running.units if running is not None else ():
            for slot in self._waiters(unit):
                self._tell(self._slots[slot], Event("progress", unit, done=done, total=total))

    def done(self, task: int, unit: Unit, data: bytes, now: float) -> None:
        """The unit is answered. An answer that was withdrawn meanwhile still serves whoever asked again."""
        if self._leave(task, unit):
            self._count(unit, "answered")
        self._publish(Event("done", unit, data), now)

    def failed(self, task: int, unit: Unit, sentence: str, details: str, now: float, final: bool = False) -> None:
        """The unit cannot be answered; `final` if it never will be."""
        if self._leave(task, unit):
            self._count(unit, "failed")
            self._publish(Event("failed", unit, sentence=sentence, details=details, final=final), now)

    def finished(self, task: int, now: float) -> None:
        """The worker is done with the batch; a unit that it forgot fails rather than hang."""
        self._drop(task, "The worker ended this job without an answer. Choose the layer again.", "", now)

    def crashed(self, task: int, sentence: str, waiting_sentence: str, details: str, now: float) -> None:
        """The worker died in this batch: its units fail, and count towards being refused.

        So does what waits about the same picture, which may be the reason.

        Arguments:
            sentence: what the batch's units are told. waiting_sentence: what those are told that waited.
        """
        units = dict(self._tasks[task].units) if task in self._tasks else {}
        told = dict.fromkeys(slot for unit in units for slot in self._waiters(unit))
        for unit, begun in units.items():
            if begun:
                self._crashes.setdefault(unit, []).append(now)
        self._drop(task, sentence, details, now)
        about = {(unit.side.model, unit.side.input) for unit in units}
        for slot in told:
            for unit in [each for each in self._slots[slot].pending if (each.side.model, each.side.input) in about]:
                self._settle(slot, Event("failed", unit, sentence=waiting_sentence, details=details), now)
            self._end_if_done(slot, now)

    def interrupted(self, task: int, sentence: str, details: str, now: float) -> None:
        """The worker died in another batch that was answered in between."""
        self._drop(task, sentence, details, now)

    def fetch(self, task: int) -> Fetch | None:
        """Where the batch's input comes from; None if the task is over."""
        running = self._tasks.get(task)
        return running.fetch if running else None

    def sweep(self, now: float) -> dict[int, tuple[Unit, ...]]:
        """Forget what has been read, or is too old or too much; returns the running units to stop, by task."""
        for slot, record in list(self._slots.items()):
            read = record.end_read_at is not None and now - record.end_read_at > READ_SECONDS
            old = record.ended_at is not None and now - record.ended_at > END_SECONDS
            if read or old:
                self._forget(slot)
        self._full = self._kept() > KEPT_BYTES
        if self._full:
            self._let_read_go()
            self._full = self._kept() > KEPT_BYTES
        patience = IMPATIENT_SECONDS if self._full else ABANDONED_SECONDS
        horizon = now - REFUSED_SECONDS
        self._crashes = {u: times for u, times in self._crashes.items() if times[-1] > horizon}
        stopped: dict[int, tuple[Unit, ...]] = {}
        for slot, record in list(self._slots.items()):
            holds = record.ended_at is None or patience == IMPATIENT_SECONDS
            if holds and now - record.looked_at > patience:
                for task, units in self.cancel(slot).items():
                    stopped[task] = stopped.get(task, ()) + units
        if self._full:
            self._full = self._kept() > KEPT_BYTES
        return stopped

    # --- inside

    def _unwanted(self, units: Iterable[Unit]) -> dict[int, tuple[Unit, ...]]:
        """Withdraw those of these units for which nobody waits any more."""
        unwanted = [unit for unit in units if unit not in self._wanted]
        for unit in unwanted:
            self._count(unit, "stopped" if unit in self._running else "dropped")
        return self._withdraw(unwanted)

    def _count(self, unit: Unit, what: str) -> None:
        self._work[unit.model, what] += 1

    def _kept(self) -> int:
        """The bytes of all answers; one that several slots wait for lies there once."""
        events = {id(event): event for record in self._slots.values() for event in record.events if event.data}
        return sum(len(event.data) for event in events.values())

    def _let_read_go(self) -> None:
        """Keep no answer that somebody has read; whoever reads the slot again is told so."""
        for slot, record in list(self._slots.items()):
            if record.end_read_at is not None and record.read == len(record.events):
                self._forget(slot)
                continue
            for number, event in enumerate(record.events[: record.read]):
                if event.data:
                    record.events[number] = Event("failed", event.unit, sentence=READ_BEFORE)
                    self._let_go(event)

    def _tell(self, record: _Slot, event: Event) -> None:
        """Add news of a unit to a slot, in the place of such news that nobody has been given yet."""
        assert event.unit is not None
        place = record.news.get((event.unit, event.kind))
        if place is not None and place >= record.given:
            record.events[place] = event
        else:
            record.news[event.unit, event.kind] = len(record.events)
            record.events.append(event)

    def _waiters(self, unit: Unit) -> list[str]:
        return list(self._wanted.get(unit, ()))

    def _is_pending(self, unit: Unit) -> bool:
        return any(unit in self._slots[slot].pending for slot in self._wanted.get(unit, ()))

    def _no_longer_pending(self, slot: str, unit: Unit) -> None:
        pending = self._slots[slot].pending
        if unit in pending:
            del pending[unit]
            if not self._is_pending(unit):
                self._pending[unit.model] -= 1

    def _no_longer_waiting(self, slot: str, unit: Unit) -> None:
        self._no_longer_pending(slot, unit)
        slots = self._wanted.get(unit, {})
        slots.pop(slot, None)
        if not slots:
            self._wanted.pop(unit, None)

    def _forget(self, slot: str) -> None:
        """Take a slot out, and with it what only it holds."""
        record = self._slots[slot]
        for unit in record.waiting:
            self._no_longer_waiting(slot, unit)
        for event in record.events:
            self._let_go(event)
        del self._slots[slot]

    def _let_go(self, event: Event) -> None:
        """A slot holds this event no longer."""
        ready = self._ready.get(event.unit) if event.kind == "done" and event.unit is not None else None
        if ready is not None and ready.event is event and event.unit is not None:
            ready.slots -= 1
            if not ready.slots:
                del self._ready[event.unit]

    def _publish(self, event: Event, now: float) -> None:
        assert event.unit is not None
        for slot in self._waiters(event.unit):
            self._settle(slot, event, now)
            self._end_if_done(slot, now)

    def _settle(self, slot: str, event: Event, now: float) -> None:
        record = self._slots[slot]
        if event.unit is not None:
            self._no_longer_waiting(slot, event.unit)
            record.waiting.discard(event.unit)
            if event.kind == "done":
                ready = self._ready.get(event.unit)
                if ready is None or ready.event is not event:
                    ready = self._ready[event.unit] = _Ready(event, 0)
                ready.slots += 1
        record.events.append(event)

    def _end_if_done(self, slot: str, now: float) -> None:
        record = self._slots[slot]
        if not record.waiting and record.ended_at is None:
            record.ended_at = now
            record.events.append(Event("end"))

    def _leave(self, task: int, unit: Unit) -> bool:
        """Take a unit out of its task; False if it is not there (withdrawn, or answered before)."""
        running = self._tasks.get(task)
        if running is None or unit not in running.units:
            return False
        del running.units[unit]
        running.partial.pop(unit, None)
        del self._running[unit]
        return True

    def _drop(self, task: int, sentence: str, details: str, now: float) -> None:
        for unit in list(self._tasks[task].units) if task in self._tasks else []:
            self.failed(task, unit, sentence, details, now)
        self._tasks.pop(task, None)

    def _withdraw(self, units: Iterable[Unit]) -> dict[int, tuple[Unit, ...]]:
        tasks: dict[int, tuple[Unit, ...]] = {}
        for unit in units:
            task = self._running.get(unit)
            if task is not None and self._leave(task, unit):
                tasks[task] = (*tasks.get(task, ()), unit)
        return tasks

    def _refusal(self, unit: Unit, now: float) -> str:
        times = [time for time in self._crashes.get(unit, []) if now - time < REFUSED_SECONDS]
        if len(times) < CRASHES:
            return ""
        minutes = max(1, round((times[-CRASHES] + REFUSED_SECONDS - now) / 60))
        return (
            f"This question stopped the worker {len(times)} times in the last ten minutes, so it is refused for "
            f"another {minutes} min. Choose another layer or another image."
        )
