"""Answers what a page asks: from memory, from the cache, or from the engine, each as soon as it is there.

page asks for parts -> units -> memory or cache: at once
                             -> engine: as each is computed, kept in the cache on the way
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal

from cachetools import LRUCache

from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.answers.streams import ELSEWHERE, Stream
from hookscope.dashboard.asking.answers import Answer, Answers, Failure
from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.base import Engine, Event, ModelState
from hookscope.dashboard.engine.queue import STOPPED
from hookscope.dashboard.feeds.store import Feeds
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.sets.sweeps import Sweeps
from hookscope.hooks.results.codec import CodecError, decode

Shown = tuple[Part, list[Update], str | None]  # a part, what it shows now, and its signature once that is all
Done = Literal["done"]  # the last of a stream that has shown all of its parts whole

MEMORY_BYTES = 256 << 20
TRIED_BYTES = 32 << 20  # of answers that are not kept, for the pictures that are drawn from them a moment later
LOADED_BYTES = 256 << 20  # kept answers that a stream holds before it draws; the others are read when their turn comes
MAX_PAGES = 2_000
POLL_SECONDS = 0.25  # between two looks whether anybody still reads
UNREAD_SECONDS = 60.0  # how long an answer waits for a page to read it; a browser does at once
PING_SECONDS = 5.0
# How long a region goes on showing what it showed before it says that it waits. Most answers are there by then, and it
# takes the browser 40 ms to put "computing ..." on the page, for which the answer would have to wait.
PATIENCE_SECONDS = 0.15
AHEAD_SECONDS = 0.004  # of drawing what is known already, before the question is answered
DRAW_SECONDS = 0.1  # between two drawings of a part whose answers come one by one; the first and the last come at once
STOPPED_HALFWAY = "Stopped: what was known by then stays here, and the rest was not computed."
UNDRAWN = "The values are there, but drawing them failed. The server's log has the details; another view may work."

log = logging.getLogger(__name__)


class Service:
    """What the panels ask; it knows units, answers and parts, and nothing of how a page looks."""

    def __init__(
        self,
        engine: Engine,
        cache: Cache,
        inputs: InputStore,
        max_streams: int = 40,
        memory_bytes: int = MEMORY_BYTES,
        sweeps: Sweeps | None = None,
        feeds: Feeds | None = None,
    ) -> None:
        self.engine, self.cache, self.inputs = engine, cache, inputs
        self.sweeps, self.feeds = sweeps, feeds
        self._memory: LRUCache[str, tuple[Any, int]] = LRUCache(memory_bytes, getsizeof=itemgetter(1))
        self._tried: LRUCache[str, tuple[Any, int]] = LRUCache(TRIED_BYTES, getsizeof=itemgetter(1))
        self._pages: OrderedDict[str, Stream] = OrderedDict()
        self._streams: dict[str, Stream] = {}
        self._open = threading.BoundedSemaphore(max_streams)
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def state(self, model: str) -> ModelState:
        """What a model is doing now."""
        return self.engine.state(model)

    def ask(
        self, page: str, parts: Sequence[Part], drawn: Mapping[str, str], number: int = 0, *, kept: bool = True
    ) -> str:
        """Begin to answer a page, in place of what it asked before.

        Arguments:
            page: the page's own token.
            parts: everything the page shows.
            drawn: signatures of the parts that it shows already, by name.
            number: the page's own count of its questions; one that a newer question has overtaken is not answered.
            kept: whether what is computed is kept for the next who asks.

        Returns:
            The name of a stream to read with `updates`, "" if the page shows all of it already.
        """
        wanted = [part for part in parts if drawn.get(part.name) != part.signature()]
        stream = Stream(secrets.token_urlsafe(18), number, wanted, kept=kept)
        old = self._take_place(page, stream)
        if old is None:
            return ""
        missing: list[Unit] = []
        loaded = 0
        for unit in dict.fromkeys(unit for part in wanted for unit in part.units):
            found = self._find(unit, disk=kept or not unit.side.edits)
            if found is None:
                missing.append(unit)
            else:
                value, size = found
                loaded += size
                stream.answers[unit] = Answer(value, cached=True) if loaded <= LOADED_BYTES else ELSEWHERE
        if missing:
            stream.slot = stream.name
            self.engine.submit(stream.slot, missing, self._fetch)
        self._end(old)  # not before the new units are there, so that what both want goes on
        if stream.replaced.is_set():  # by a newer question, while this one looked its values up
            self._end([stream])
        return stream.name if wanted else ""

    def _fetch(self, name: str) -> bytes:
        """What a worker asks for: an input's pixels by its digest, or those of a set's picture as "VERSION/NUMBER"."""
        if "/" in name and self.sweeps is not None:
            return self.sweeps.read(name)
        return self.inputs.pixels(name)

    def ahead(self, name: str) -> list[Shown]:
        """What a new stream would show first, where that is known already: it may go with the answer to the question.

        As much as is drawn in `AHEAD_SECONDS`; the stream shows the rest.
        """
        with self._lock:
            stream = self._streams.get(name)
        shown: list[Shown] = []
        if stream is None:
            return shown
        began = time.monotonic()
        for part in stream.parts:
            if time.monotonic() - began > AHEAD_SECONDS:
                break
            if part.complete(stream.answers) and self._load(stream, part):
                shown.append(self._show(stream, part))
        return shown

    def _take_place(self, page: str, stream: Stream) -> list[Stream] | None:
        """Put a page's new stream where its old one was.

        Returns:
            The streams that have to end now; None if the page has asked something newer.
        """
        with self._lock:
            last = self._pages.get(page)
            if last is not None and last.number > stream.number:
                return None
            self._pages[page] = stream
            self._pages.move_to_end(page)
            old = [last] if last is not None else []
            old += self._pages_too_many(stream)
            for unread in self._streams.values():  # oldest first
                if stream.asked_at - unread.asked_at < UNREAD_SECONDS:
                    break
                old.append(unread)
            for gone in old:
                self._streams.pop(gone.name, None)
            if stream.parts:
                self._streams[stream.name] = stream
            return old

    def _pages_too_many(self, newest: Stream) -> list[Stream]:
        """Forget pages above the limit: idle ones first, then those that have not come for their answer.

        A page whose answer is being read stays: of those there are never more than open streams.
        """
        excess = len(self._pages) - MAX_PAGES
        if excess <= 0:
            return []
        unread = [page for page, each in self._pages.items() if not (each.read or each is newest)]
        idle = [page for page, each in self._pages.items() if each.idle and each is not newest]
        chosen = list(dict.fromkeys([*idle, *unread]))[:excess]  # oldest first in both
        return [self._pages.pop(page) for page in chosen]

    def _end(self, streams: Sequence[Stream]) -> None:
        for gone in streams:
            gone.replaced.set()
            if gone.slot:
                self.engine.cancel(gone.slot)
            gone.let_go()

    def stop(self, page: str, part: str = "") -> None:
        """The person cancelled: withdraw what the page still waits for; what it has, stays.

        Arguments:
            part: withdraw only what this part waits for, and of what takes seconds nothing that another one needs. What
                takes minutes is what the person wants stopped, also where a table waits for it too.
        """
        with self._lock:
            stream = self._pages.get(page)
        if stream is None or not stream.slot:
            return
        if not part:
            stream.stopped = True
            self.engine.cancel(stream.slot)
            return
        left = list(stream.left)
        others = {unit for each in left if each.name != part for unit in each.units}
        own = [unit for each in left if each.name == part for unit in each.units]
        units = [unit for unit in own if unit.takes_minutes or unit not in others]
        self.engine.stop(stream.slot, units)

    def leave(self, page: str) -> None:
        """A page was closed: nobody waits for its answers any more."""
        with self._lock:
            stream = self._pages.pop(page, None)
            if stream is not None:
                self._streams.pop(stream.name, None)
        self._end([stream] if stream is not None else [])

    def updates(self, name: str, gone: Callable[[], bool]) -> Iterator[Shown | Done | None]:
        """What a stream's parts show, as it becomes known; None now and then, to notice a closed tab.

        The last is "done", if every part was shown whole. It is missing where the stream ended before: because of a
        newer question or a stop of the server, or because the engine has forgotten it. Whoever still wants it has to
        ask again.

        Arguments:
            name: from `ask`. A stream that a newer question replaced, or that was read already, is empty.
            gone: asked often; true once nobody reads any more.
        """
        with self._lock:
            stream = self._streams.pop(name, None)
            if stream is None:
                return
            stream.read = True
        try:
            yield from self._follow(stream, gone)
        finally:
            self._save(stream)
            self._end([stream])

    def _follow(self, stream: Stream, gone: Callable[[], bool]) -> Iterator[Shown | Done | None]:
        def over() -> bool:
            return stream.replaced.is_set() or gone() or self._closed.is_set()

        cursor = 0
        ended = False
        told = began = time.monotonic()
        silent = []  # parts that wait, and do not say so yet
        drawn_at: dict[str, float] = {}
        behind: set[str] = set()  # parts that were drawn a moment ago, and know more by now
        for part in list(stream.left):  # not what was shown ahead
            if over():
                return
            if part.complete(stream.answers):
                if not self._load(stream, part):
                    return
                yield self._show(stream, part)
            elif stream.kept:  # while something is dragged, what was there stays until its answer comes
                silent.append(part)
        while stream.slot and not (ended or over()):
            now = time.monotonic()
            due = [began + PATIENCE_SECONDS] if silent else []
            due += [drawn_at[name] + DRAW_SECONDS for name in behind]
            patience = min([POLL_SECONDS, *(max(each - now, 0.0) for each in due)])
            events, cursor = self.engine.events(stream.slot, cursor, timeout_seconds=patience)
            answered: set[Unit] = set()
            for event in events:
                ended = event.kind == "end"
                if ended and not stream.stopped and stream.unanswered():
                    return
                answered |= self._take(stream, event)
            for part in list(stream.left):
                if part.name not in behind and answered.isdisjoint(part.units):
                    continue
                complete = part.complete(stream.answers)
                if not (complete or part.eager):
                    continue
                if not complete and time.monotonic() - drawn_at.get(part.name, 0.0) < DRAW_SECONDS:
                    behind.add(part.name)
                    continue
                if over() or not self._load(stream, part):
                    return
                yield self._show(stream, part)
                told = drawn_at[part.name] = time.monotonic()
                behind.discard(part.name)
                if part in silent:
                    silent.remove(part)
            self._save(stream)
            if silent and time.monotonic() >= began + PATIENCE_SECONDS:
                for part in silent:
                    if over() or not self._load(stream, part):
                        return
                    yield self._show(stream, part)
                silent = []
            if time.monotonic() - told > PING_SECONDS:
                told = time.monotonic()
                yield None
        if not over():
            yield "done"

    def _load(self, stream: Stream, part: Part) -> bool:
        """Have a part's answers at hand; False if one of them has left the cache meanwhile."""
        for unit in part.units:
            if stream.answers.get(unit) is ELSEWHERE:
                value = self.value(unit)
                if value is None:
                    return False
                stream.answers[unit] = Answer(value, cached=True)
        return True

    def _show(self, stream: Stream, part: Part) -> Shown:
        """Draw a part, and let go of what nothing else is drawn from."""
        shown = draw(part, stream.answers, stream.partial, stream.progress)
        if part.complete(stream.answers):
            stream.shown(part)
        return shown

    def _take(self, stream: Stream, event: Event) -> set[Unit]:
        """Note what an event says; returns the units that it says something about."""
        if event.kind == "end":  # what has no answer by now was withdrawn by the person
            left = stream.unanswered()
            stream.answers.update({unit: Answer(_failure(STOPPED, before=stream.partial.get(unit))) for unit in left})
            return left
        if event.unit is None or event.kind == "started":
            return set()
        if event.kind == "partial":
            try:
                stream.partial[event.unit] = Answer(decode(event.data, *event.unit.row.results))
            except CodecError:
                return set()  # the answer itself will come
            return {event.unit}
        if event.kind == "progress":
            stream.progress[event.unit] = event.done, event.total
            return {event.unit}
        before = stream.partial.pop(event.unit, None)
        result: Any
        if event.kind == "failed":
            result = _failure(event.sentence, event.details, event.final, before)
        else:
            result = self._received(stream, event.unit, event.data)
        stream.answers[event.unit] = Answer(result)
        return {event.unit}

    def claim_stream(self) -> bool:
        """Take one of the places for open streams; False if all are taken. Give it back with `release_stream`."""
        return self._open.acquire(blocking=False)

    def release_stream(self) -> None:
        """Give back a place taken with `claim_stream`."""
        self._open.release()

    def value(self, unit: Unit) -> Any:
        """A unit's answer if it is in memory or in the cache, else None."""
        found = self._find(unit)
        if found is None and (key := self._key(unit)) is not None:
            with self._lock:
                found = self._tried.get(key)
        return found[0] if found is not None else None

    def _find(self, unit: Unit, *, disk: bool = True) -> tuple[Any, int] | None:
        """The same with its size in bytes.

        Arguments:
            disk: whether to look there too, which takes 5 ms; what somebody only tries has hardly been kept.
        """
        key = self._key(unit)
        if key is None:
            return None
        with self._lock:
            if key in self._memory:
                found: tuple[Any, int] = self._memory[key]
                return found
        data = self.cache.get(key) if disk else None
        if data is None:
            return None
        try:
            result = decode(data, *unit.row.results)
        except CodecError:
            return None
        self._remember(key, result, len(data))
        return result, len(data)

    def _key(self, unit: Unit) -> str | None:
        info = self.engine.info(unit.model)
        other = self.engine.info(unit.other_model) if unit.other_model else info
        if info is None or other is None:
            return None
        return unit.key(info.fingerprint, other.fingerprint if unit.other_model else "")

    def _received(self, stream: Stream, unit: Unit, data: bytes) -> Any:
        """Keep an answer that the engine just gave, and decode it."""
        try:
            result = decode(data, *unit.row.results)
        except CodecError as error:
            return Failure("The worker's answer was damaged on its way. Choose the layer again.", str(error))
        key = self._key(unit)
        if key is not None and not stream.kept:
            with self._lock, contextlib.suppress(ValueError):
                self._tried[key] = (result, len(data))
        elif key is not None and self._remember(key, result, len(data)):
            stream.unsaved[key] = data
        return result

    def _save(self, stream: Stream) -> None:
        """Write what a stream has received into the cache: 5 ms for a megabyte, after it was drawn."""
        while stream.unsaved:
            self.cache.put(*stream.unsaved.popitem())

    def _remember(self, key: str, result: Any, size: int) -> bool:
        """Keep an answer in memory; False if it is there already."""
        with self._lock:
            if key in self._memory:
                return False
            with contextlib.suppress(ValueError):  # it is larger than all that may be kept
                self._memory[key] = (result, size)
            return True

    def close(self) -> None:
        """End every stream."""
        self._closed.set()
        with self._lock:
            streams = [*self._pages.values(), *self._streams.values()]
        for stream in streams:
            stream.replaced.set()


def _failure(sentence: str, details: str = "", final: bool = False, before: Answer | None = None) -> Failure:
    """A failure, with what was known by then."""
    if before is None:
        return Failure(sentence, details, final)
    return Failure(STOPPED_HALFWAY if sentence == STOPPED else sentence, details, final, before.result)


def draw(
    part: Part,
    answers: Mapping[Unit, Answer],
    partial: Mapping[Unit, Answer] | None = None,
    progress: Mapping[Unit, tuple[int, int]] | None = None,
) -> Shown:
    """What a part shows; a fault in drawing is a sentence in its place.

    Arguments:
        partial: what is known of answers that are not there yet. progress: how far those are.
    """
    known = {unit: answers[unit] for unit in part.units if unit in answers}
    signature = part.signature() if part.complete(known) else None
    if partial:
        known = {unit: partial[unit] for unit in part.units if unit in partial} | known
    try:
        return part, part.drawn(Answers(known, progress)), signature
    except Exception:  # a fault of ours in one region: say so there, and let the rest of the page go on
        log.exception("drawing %s failed", part.name)
        return part, [(part.error, {"tree": [UNDRAWN]})] if part.error is not None else [], signature
