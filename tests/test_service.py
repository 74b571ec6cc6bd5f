"""The service: who is answered from where, in which order, and what a newer question ends."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from cachetools import LRUCache
from inline_engine import INFO, MODEL, InlineEngine, answer_to
from units import answer_of, but, unit_of, what_of

from hookscope.dashboard.answers import service as service_module
from hookscope.dashboard.answers.cache import Cache
from hookscope.dashboard.answers.parts import Part, Update
from hookscope.dashboard.answers.service import PATIENCE_SECONDS, STOPPED, UNDRAWN, Service
from hookscope.dashboard.asking.answers import Answer, Answers, Failure
from hookscope.dashboard.asking.questions import Unit
from hookscope.hooks.results.codec import encode
from hookscope.hooks.results.looks import Activation

PREDICTION = unit_of(MODEL, "digest", "prediction")
CONV = unit_of(MODEL, "digest", "activation", "conv")
WIDE = but(CONV, layer="wide")
VECTOR = but(CONV, layer="vector")
CAM = unit_of(MODEL, "digest", "gradcam", "conv")


class Inputs:
    """Stands for the store of uploaded pictures, of which the service needs the pixels only."""

    def pixels(self, digest: str) -> bytes:
        return digest.encode()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    opened = Cache(tmp_path / "answers", 2**26)
    yield opened
    opened.close()


@pytest.fixture
def engine() -> InlineEngine:
    return InlineEngine()


@pytest.fixture
def service(engine: InlineEngine, cache: Cache) -> Iterator[Service]:
    made = make(engine, cache)
    yield made
    made.close()


def make(engine: InlineEngine, cache: Cache) -> Service:
    return Service(engine, cache, Inputs())  # type: ignore[arg-type]


def part(name: str, *units: Unit, shows: tuple[Any, ...] = (), eager: bool = True) -> Part:
    """A region that shows what each of its units gave: a result's type, a failure's sentence, or "waiting"."""

    def draw(*shown_and_answers: Any) -> list[Update]:
        answers = shown_and_answers[-1]
        return [(name, {unit.layer or what_of(unit): word(answers.get(unit)) for unit in units})]

    return Part(name, units, shows, draw, error=f"{name} error", eager=eager)


def word(answer: Answer | None) -> str:
    if answer is None:
        return "waiting"
    if isinstance(answer.result, Failure):
        return answer.result.sentence
    return type(answer.result).__name__ + (" from cache" if answer.cached else "")


class Reader:
    """A page that reads one stream in a thread of its own, as a browser does."""

    def __init__(self, service: Service, name: str) -> None:
        self.items: list[tuple[str, dict[str, str], str | None]] = []
        self.times: list[float] = []
        self.pings = 0
        self.done = False
        self.gone = False
        self.ended_at = 0.0
        self._updates = service.updates(name, lambda: self.gone)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for item in self._updates:
            assert not self.done, "something comes after the end"
            if item is None or item == "done":
                self.pings += item is None
                self.done = item == "done"
                continue
            region, updates, signature = item
            self.items.append((region.name, {k: v for _, shown in updates for k, v in shown.items()}, signature))
            self.times.append(time.monotonic())
        self.ended_at = time.monotonic()

    def end(self, seconds: float = 5.0) -> Reader:
        """Wait for the end of the stream."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the stream goes on"
        return self

    def until(self, ready: Callable[[], Any], seconds: float = 5.0) -> Reader:
        until(ready, seconds)
        return self

    def last(self, name: str) -> dict[str, str]:
        """What the region shows now."""
        return next(shown for region, shown, _ in reversed(self.items) if region == name)

    @property
    def drawn(self) -> dict[str, str]:
        """What the page would remember as drawn."""
        found: dict[str, str] = {}
        for name, _, signature in self.items:
            found.pop(name, None)
            if signature:
                found[name] = signature
        return found


def until(ready: Callable[[], Any], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def ask(service: Service, page: str, *parts: Part, drawn: dict[str, str] | None = None, number: int = 0) -> Reader:
    return Reader(service, service.ask(page, parts, drawn or {}, number))


def answered(service: Service, engine: InlineEngine, *units: Unit) -> None:
    """Have units computed and kept."""
    reader = ask(service, "earlier", part("p", *units))
    engine.work()
    reader.end()


# --- from where


def test_a_kept_unit_comes_at_once_and_never_reaches_the_engine(service: Service, engine: InlineEngine) -> None:
    answered(service, engine, CONV)
    assert engine.submitted == [[CONV]]
    reader = ask(service, "page", part("p", CONV)).end()
    assert reader.items == [("p", {"conv": "Activation from cache"}, part("p", CONV).signature())]
    assert engine.submitted == [[CONV]]


def test_after_a_restart_the_cache_answers_with_the_same_bytes(cache: Cache, engine: InlineEngine) -> None:
    units = (PREDICTION, CONV, VECTOR, CAM, but(CONV, layer="number"))
    first = make(engine, cache)
    answered(first, engine, *units)
    fresh = [encode(first.value(unit)) for unit in units]
    assert fresh == [encode(answer_to(unit)) for unit in units]
    restarted = InlineEngine()
    later = make(restarted, cache)
    reader = ask(later, "page", part("p", *units)).end()
    assert restarted.submitted == []
    assert set(reader.last("p").values()) == {
        "Prediction from cache",
        "Activation from cache",
        "GradCam from cache",
    }
    assert [encode(later.value(unit)) for unit in units] == fresh


def test_another_fingerprint_is_another_answer(service: Service, engine: InlineEngine) -> None:
    answered(service, engine, CONV)
    engine.infos[MODEL] = replace(INFO, fingerprint="another")
    assert service.value(CONV) is None
    ask(service, "page", part("p", CONV))
    assert engine.submitted == [[CONV], [CONV]]


def test_a_model_that_is_not_loaded_has_no_answers_and_is_asked(service: Service, engine: InlineEngine) -> None:
    unit = but(CONV, model="later")
    assert service.value(unit) is None
    reader = ask(service, "page", part("p", unit))
    assert engine.submitted == [[unit]]
    reader.until(lambda: reader.items)
    assert reader.last("p") == {"conv": "waiting"}
    service.leave("page")
    reader.end()


def test_what_is_missing_is_submitted_once_in_the_order_of_urgency(service: Service, engine: InlineEngine) -> None:
    answered(service, engine, VECTOR)
    parts = [part("first", PREDICTION), part("second", VECTOR, CONV, PREDICTION), part("third", WIDE, CONV, CAM)]
    ask(service, "page", *parts)
    assert engine.submitted[1:] == [[PREDICTION, CONV, WIDE, CAM]]


def test_the_worker_gets_the_pixels_from_the_store(service: Service, engine: InlineEngine) -> None:
    ask(service, "page", part("p", CONV))
    engine.start()
    assert engine._batch is not None and engine._batch.fetch("some digest") == b"some digest"


def test_regions_fill_one_after_the_other_as_their_answers_come(service: Service, engine: InlineEngine) -> None:
    both = part("both", CONV, WIDE)
    reader = ask(service, "page", part("one", CONV), both)
    reader.until(lambda: len(reader.items) == 2)
    assert [shown for _, shown, _ in reader.items] == [{"conv": "waiting"}, {"conv": "waiting", "wide": "waiting"}]
    assert [signature for _, _, signature in reader.items] == [None, None]
    engine.work(1)
    reader.until(lambda: len(reader.items) == 4)
    assert reader.items[2] == ("one", {"conv": "Activation"}, part("one", CONV).signature())
    assert reader.items[3] == ("both", {"conv": "Activation", "wide": "waiting"}, None)
    engine.work()
    reader.end()
    assert reader.items[4:] == [("both", {"conv": "Activation", "wide": "Activation"}, both.signature())]


def test_a_patient_region_is_drawn_when_it_is_asked_for_and_when_it_is_complete(
    service: Service, engine: InlineEngine
) -> None:
    reader = ask(service, "page", part("p", CONV, WIDE, eager=False))
    reader.until(lambda: reader.items)
    engine.work()
    reader.end()
    assert [shown for _, shown, _ in reader.items] == [
        {"conv": "waiting", "wide": "waiting"},
        {"conv": "Activation", "wide": "Activation"},
    ]


def test_what_is_answered_soon_is_drawn_once_and_does_not_say_that_it_waits(
    service: Service, engine: InlineEngine
) -> None:
    reader = ask(service, "page", part("fast", CONV), part("slow", WIDE), part("known"))
    engine.work(1)
    reader.until(lambda: len(reader.items) == 3)
    assert [(name, shown) for name, shown, _ in reader.items] == [
        ("known", {}),
        ("fast", {"conv": "Activation"}),
        ("slow", {"wide": "waiting"}),
    ]
    assert reader.times[2] - reader.times[0] >= PATIENCE_SECONDS * 0.9
    engine.work()
    assert reader.end().last("slow") == {"wide": "Activation"}


def test_the_first_sight_does_not_wait_for_the_engine(service: Service) -> None:
    begun = time.monotonic()
    reader = ask(service, "page", part("p", CONV))
    reader.until(lambda: reader.items)
    assert reader.times[0] - begun < 0.3


# --- what is shown already


def test_what_is_known_goes_with_the_answer_and_comes_no_second_time(service: Service, engine: InlineEngine) -> None:
    answered(service, engine, PREDICTION, CONV)
    parts = [part("top", PREDICTION), part("card", CONV), part("map", CAM)]
    name = service.ask("page", parts, {})
    ahead = service.ahead(name)
    assert [(shown.name, updates, bool(whole)) for shown, updates, whole in ahead] == [
        ("top", [("top", {"prediction": "Prediction from cache"})], True),
        ("card", [("card", {"conv": "Activation from cache"})], True),
    ]
    reader = Reader(service, name)
    engine.work()
    assert {region for region, _, _ in reader.end().items} == {"map"} and reader.done
    assert service.ahead("no stream") == service.ahead(name) == []


def test_only_so_much_goes_with_the_answer(service: Service, engine: InlineEngine) -> None:
    answered(service, engine, PREDICTION, CONV)

    def slow(*_: Any) -> list[Update]:
        time.sleep(2 * service_module.AHEAD_SECONDS)
        return []

    name = service.ask("page", [replace(part("top", PREDICTION), draw=slow), part("card", CONV)], {})
    (shown, _, _), *more = service.ahead(name)
    assert shown.name == "top" and not more
    assert {region for region, _, _ in Reader(service, name).end().items} == {"card"}


def test_what_a_page_shows_already_is_neither_asked_nor_sent(service: Service, engine: InlineEngine) -> None:
    parts = [part("one", CONV), part("two", WIDE), part("three")]
    reader = ask(service, "page", *parts)
    engine.work()
    drawn = reader.end().drawn
    assert drawn.keys() == {"one", "two", "three"}
    assert service.ask("page", parts, drawn) == ""
    changed = [parts[0], part("two", WIDE, shows=("another colour",)), parts[2]]
    second = ask(service, "page", *changed, drawn=drawn).end()
    assert [name for name, _, _ in second.items] == ["two"]
    assert len(engine.submitted) == 1


def test_a_region_that_is_still_waiting_is_sent_again(service: Service, engine: InlineEngine) -> None:
    first = ask(service, "page", part("one", CONV), part("two", WIDE))
    engine.work(1)
    first.until(lambda: "one" in first.drawn)
    second = ask(service, "page", part("one", CONV), part("two", WIDE), drawn=first.drawn)
    engine.work()
    assert {name for name, _, _ in second.end().items} == {"two"}


# --- newer questions


def test_a_newer_question_ends_the_old_stream_at_once(service: Service, engine: InlineEngine) -> None:
    old = ask(service, "page", part("p", CONV, WIDE))
    old.until(lambda: old.items)
    asked = time.monotonic()
    new = ask(service, "page", part("p", VECTOR))
    old.end()
    assert old.ended_at - asked < 0.1
    engine.work()
    assert engine.computed == [VECTOR]  # what only the old question wanted was never started
    assert new.end().last("p") == {"vector": "Activation"}
    assert len(old.items) == 1


def test_what_both_questions_want_goes_on_and_is_computed_once(service: Service, engine: InlineEngine) -> None:
    old = ask(service, "page", part("a", CONV), part("b", WIDE))
    assert engine.start() == CONV  # runs while the newer question comes
    new = ask(service, "page", part("a", CONV), part("c", VECTOR))
    old.end()
    assert engine.stopped == [WIDE]  # which was in the same batch
    engine.work()
    assert new.end().last("a") == {"conv": "Activation"}
    assert engine.computed == [CONV, VECTOR]


def test_the_unit_that_runs_is_stopped_if_only_the_old_question_wanted_it(
    service: Service, engine: InlineEngine
) -> None:
    ask(service, "page", part("a", CONV))
    assert engine.start() == CONV
    ask(service, "page", part("a", VECTOR))
    assert engine.stopped == [CONV]


def test_an_answer_of_the_old_question_is_not_drawn_after_the_newer_one(service: Service, engine: InlineEngine) -> None:
    slow = threading.Event()

    def draw(answers: Answers) -> list[Update]:
        if answers:
            slow.wait(5)
        return [("p", {})]

    old = Reader(service, service.ask("page", [Part("p", (CONV,), (), draw), part("q", CONV)], {}))
    old.until(lambda: len(old.items) == 2)
    engine.work()
    time.sleep(0.05)  # the old stream is drawing now
    ask(service, "page", part("r", VECTOR))
    slow.set()
    assert [name for name, _, _ in old.end().items] == ["p", "q", "p"]  # and not "q" once more


def test_a_question_whose_regions_are_many_ends_between_two_of_them(service: Service) -> None:
    def draw(_: Answers) -> list[Update]:
        time.sleep(0.02)
        return []

    old = Reader(service, service.ask("page", [Part(f"p{n}", (), (), draw) for n in range(200)], {}))
    old.until(lambda: old.items)
    asked = time.monotonic()
    ask(service, "page", part("p"))
    assert old.end().ended_at - asked < 0.2 and len(old.items) < 100


def test_a_question_that_is_overtaken_does_not_take_the_newer_ones_place(
    service: Service, engine: InlineEngine, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first question's look into the cache takes long; the second one is there before it is through."""
    looking, go_on = threading.Event(), threading.Event()
    get = cache.get

    def slow_get(key: str) -> bytes | None:
        if threading.current_thread().name == "first":
            looking.set()
            go_on.wait(5)
        return get(key)

    monkeypatch.setattr(cache, "get", slow_get)
    names: list[str] = []
    first = threading.Thread(
        target=lambda: names.append(service.ask("page", [part("p", WIDE)], {}, 1)), name="first", daemon=True
    )
    first.start()
    looking.wait(5)
    second = ask(service, "page", part("p", CONV), number=2)
    go_on.set()
    first.join(5)
    engine.work()
    assert second.end().last("p") == {"conv": "Activation"}
    assert engine.computed == [CONV]
    assert Reader(service, names[0]).end().items == []
    until(lambda: engine.waiting_slots() == 0)


def test_questions_that_arrive_in_the_wrong_order_are_answered_in_the_right_one(
    service: Service, engine: InlineEngine
) -> None:
    second = ask(service, "page", part("p", CONV), number=2)
    assert service.ask("page", [part("p", WIDE)], {}, 1) == ""
    engine.work()
    assert engine.computed == [CONV]
    drawn = second.end().drawn
    assert drawn == {"p": part("p", CONV).signature()}
    assert service.ask("page", [part("p", WIDE)], {}, 1) == ""  # also after the newer one was answered
    assert service.ask("page", [part("p", CONV)], drawn, 4) == ""  # or was shown already
    assert service.ask("page", [part("p", WIDE)], {}, 3) == ""
    assert service.ask("page", [part("p", WIDE)], {}, 5) != ""


# --- several pages


def test_two_pages_do_not_disturb_each_other(service: Service, engine: InlineEngine) -> None:
    one = ask(service, "one", part("p", CONV, WIDE))
    two = ask(service, "two", part("p", CONV, VECTOR))
    service.leave("one")
    one.end()
    assert one.items in ([], [("p", {"conv": "waiting", "wide": "waiting"}, None)])
    engine.work()
    assert two.end().last("p") == {"conv": "Activation", "vector": "Activation"}
    assert WIDE not in engine.computed
    assert engine.computed.count(CONV) == 1


def test_a_unit_that_many_pages_want_is_computed_once(service: Service, engine: InlineEngine) -> None:
    readers = [ask(service, f"page {n}", part("p", CONV)) for n in range(50)]
    engine.work()
    for reader in readers:
        assert reader.end().last("p") == {"conv": "Activation"}
    assert engine.computed == [CONV]


def test_a_closed_tab_withdraws_what_only_it_wanted(service: Service, engine: InlineEngine) -> None:
    one = ask(service, "one", part("p", CONV, WIDE))
    two = ask(service, "two", part("p", CONV))
    one.until(lambda: one.items)
    one.gone = True
    one.end(1.0)  # gone is asked four times a second
    engine.work()
    two.end()
    assert engine.computed == [CONV]


def test_a_page_that_leaves_takes_back_its_unread_stream(service: Service, engine: InlineEngine) -> None:
    name = service.ask("page", [part("p", CONV)], {})
    service.leave("page")
    assert Reader(service, name).end().items == []
    assert engine.work() == []
    service.leave("page")
    service.leave("nobody")


def test_a_stream_is_read_once_and_by_its_name_only(service: Service, engine: InlineEngine) -> None:
    name = service.ask("page", [part("p", CONV)], {})
    assert len(name) >= 24
    for wrong in ("", "x", name[:-1], name + "x", name.swapcase(), "page"):
        assert list(service.updates(wrong, lambda: False)) == []
    engine.work()
    assert len(Reader(service, name).end().items) == 1
    assert Reader(service, name).end().items == []


def test_stream_names_are_never_the_same(service: Service) -> None:
    assert len({service.ask("page", [part("p", CONV)], {}) for _ in range(200)}) == 200


# --- cancelling, failing


def test_cancel_says_stopped_where_nothing_came_and_keeps_the_rest(service: Service, engine: InlineEngine) -> None:
    reader = ask(service, "page", part("one", CONV), part("two", WIDE, CONV), part("three", VECTOR))
    engine.work(1)
    reader.until(lambda: reader.items and reader.last("one") == {"conv": "Activation"})
    service.stop("page")
    assert reader.end().done
    assert reader.last("one") == {"conv": "Activation"}
    assert reader.last("two") == {"wide": STOPPED, "conv": "Activation"}
    assert reader.last("three") == {"vector": STOPPED}
    assert reader.drawn.keys() == {"one", "two", "three"}
    assert engine.work() == []


def test_cancel_before_the_stream_is_read(service: Service, engine: InlineEngine) -> None:
    name = service.ask("page", [part("p", CONV)], {})
    service.stop("page")
    assert Reader(service, name).end().last("p") == {"conv": STOPPED}
    assert engine.work() == []


def test_one_region_is_stopped_and_what_others_need_goes_on(service: Service, engine: InlineEngine) -> None:
    reader = ask(service, "page", part("one", CONV, WIDE), part("two", WIDE, VECTOR))
    service.stop("page", "one")
    service.stop("page", "no such region")
    assert engine.work() == [WIDE, VECTOR]
    assert reader.end().done
    assert reader.last("one") == {"conv": STOPPED, "wide": "Activation"}
    assert reader.last("two") == {"wide": "Activation", "vector": "Activation"}


def test_what_takes_minutes_is_stopped_for_every_region_that_waits_for_it(
    service: Service, engine: InlineEngine
) -> None:
    """A wall and the table under it wait for the same effects; the button stands above the wall."""
    long = unit_of(MODEL, "a", "effects", "conv")
    reader = ask(service, "page", part("wall", WIDE, long), part("table", WIDE, long))
    service.stop("page", "wall")
    assert engine.work() == [WIDE]
    assert reader.end().done
    assert reader.last("wall") == reader.last("table") == {"wide": "Activation", "conv": STOPPED}


def test_how_far_an_answer_is_reaches_the_region_that_waits_for_it(service: Service, engine: InlineEngine) -> None:
    told: list[dict[str, tuple[int, int]]] = []

    def draw(answers: Answers) -> list[Update]:
        told.append({unit.layer: far for unit, far in answers.progress.items()})
        return []

    reader = ask(service, "page", Part("p", (CONV, WIDE), (), draw))
    assert engine.start() == CONV
    for done in (3, 7):
        engine.tell(done, 12)
        reader.until(lambda done=done: told and told[-1].get("conv") == (done, 12))
    engine.work()
    reader.end()


def test_cancel_leaves_other_pages_and_what_is_over_alone(service: Service, engine: InlineEngine) -> None:
    one, two = ask(service, "one", part("p", CONV)), ask(service, "two", part("p", CONV))
    service.stop("one")
    service.stop("nobody")
    one.end()
    engine.work()
    assert one.last("p") == {"conv": STOPPED}
    assert two.end().last("p") == {"conv": "Activation"}
    service.stop("two")
    assert service.value(CONV) is not None


def test_stopped_is_not_remembered(service: Service, engine: InlineEngine) -> None:
    ask(service, "page", part("p", CONV))
    service.stop("page")
    again = ask(service, "page", part("p", CONV))
    engine.work()
    assert again.end().last("p") == {"conv": "Activation"}


def test_a_failed_unit_is_said_in_its_own_region_only(cache: Cache) -> None:
    def answer(unit: Unit) -> Any:
        if unit == WIDE:
            raise ValueError("The worker died. Choose a smaller layer.")
        return answer_to(unit)

    engine = InlineEngine(answer=answer)
    service = make(engine, cache)
    reader = ask(service, "page", part("one", CONV), part("two", CONV, WIDE), part("three", VECTOR))
    engine.work()
    reader.end()
    assert reader.last("one") == {"conv": "Activation"}
    assert reader.last("two") == {"conv": "Activation", "wide": "The worker died. Choose a smaller layer."}
    assert reader.last("three") == {"vector": "Activation"}
    assert service.value(WIDE) is None  # and the next question tries again
    ask(service, "page", part("two", WIDE))
    assert engine.submitted[-1] == [WIDE]


def test_a_damaged_answer_of_the_worker_is_a_sentence_and_is_not_kept(cache: Cache) -> None:
    engine = InlineEngine(answer=lambda unit: encode(answer_to(unit))[:100])
    service = make(engine, cache)
    reader = ask(service, "page", part("p", CONV))
    engine.work()
    assert "damaged on its way" in reader.end().last("p")["conv"]
    assert service.value(CONV) is None and make(InlineEngine(), cache).value(CONV) is None


def test_a_fault_in_drawing_one_region_is_said_there_and_the_others_go_on(
    service: Service, engine: InlineEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def draw(_: Answers) -> list[Update]:
        raise ZeroDivisionError("a fault of ours")

    broken = Part("broken", (CONV,), (), draw, error="broken error")
    mute = Part("mute", (CONV,), (), draw)
    with caplog.at_level(logging.ERROR):
        reader = ask(service, "page", broken, mute, part("whole", CONV))
        engine.work()
        reader.end()
    assert reader.last("whole") == {"conv": "Activation"}
    assert UNDRAWN in repr(reader.last("broken")) and reader.last("mute") == {}
    assert reader.drawn.keys() == {"broken", "mute", "whole"}  # not asked for again and again
    assert "a fault of ours" in caplog.text and "broken" in caplog.text


def test_closing_ends_every_stream(service: Service, engine: InlineEngine) -> None:
    readers = [ask(service, f"page {n}", part("p", CONV)) for n in range(10)]
    unread = service.ask("page", [part("p", CONV)], {})
    for reader in readers:
        reader.until(lambda reader=reader: reader.items)
    begun = time.monotonic()
    service.close()
    for reader in readers:
        reader.end()
        assert reader.ended_at - begun < 0.5 and not reader.done
    assert Reader(service, unread).end().items == []


def test_a_silent_stream_says_that_it_lives(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "PING_SECONDS", 0.2)
    reader = ask(service, "page", part("p", CONV))
    reader.until(lambda: reader.pings >= 2)
    service.leave("page")
    reader.end()


# --- the cache and the memory


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"HSR1" + b"\xff" * 500])
def test_a_damaged_kept_answer_is_a_miss_and_is_replaced(
    cache: Cache, damage: Callable[[bytes], bytes], engine: InlineEngine
) -> None:
    answered(make(engine, cache), engine, CONV)
    key = CONV.key(INFO.fingerprint)
    whole = cache.get(key)
    assert whole is not None
    cache.put(key, damage(whole))
    later = make(engine, cache)
    assert later.value(CONV) is None
    answered(later, engine, CONV)
    assert engine.computed == [CONV, CONV]
    assert cache.get(key) == whole
    assert encode(make(engine, cache).value(CONV)) == whole


def test_memory_is_kept_within_its_limit_and_the_newest_stay(
    cache: Cache, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(encode(answer_to(CONV)))
    service = make(engine, cache)
    limit_memory(service, 5 * size + size // 2)
    units = [but(CONV, input=f"digest {n}") for n in range(20)]
    answered(service, engine, *units)
    service.value(units[15])  # is the newest now
    kept = in_memory(service, units)
    assert kept == set(units[15:])
    answered(service, engine, *(but(CONV, input=f"more {n}") for n in range(4)))
    assert units[15] in in_memory(service, units)
    assert all(service.value(unit) is not None for unit in units)  # from the cache
    assert service._memory.currsize <= 5.5 * size
    assert service._memory.currsize == sum(size for _, size in service._memory.values())


def limit_memory(service: Service, most: float) -> None:
    service._memory = LRUCache(most, getsizeof=itemgetter(1))


def in_memory(service: Service, units: list[Unit]) -> set[Unit]:
    """The units whose results are in memory."""
    return {unit for unit in units if unit.key(INFO.fingerprint) in service._memory}


def test_one_answer_larger_than_the_memory_is_still_an_answer(
    cache: Cache, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make(engine, cache)
    limit_memory(service, 10)
    answered(service, engine, CONV, WIDE)
    assert len(service._memory) == 0  # what is larger than all that may be kept is read from the cache
    assert service.value(CONV) is not None and service.value(WIDE) is not None


def test_what_has_come_is_kept_when_its_reader_leaves_in_the_middle(
    service: Service, engine: InlineEngine, cache: Cache
) -> None:
    """A tab that is closed while its first region is being drawn: what the worker did for it was not in vain."""
    left = threading.Event()

    def leave(answers: Answers) -> list[Update]:
        if answers:
            left.set()
        return []

    regions = [Part("one", (CONV,), (), leave), part("two", CONV)]
    updates = service.updates(service.ask("page", regions, {}), left.is_set)
    engine.work()
    assert [item[0].name for item in updates if item is not None and item != "done"] == ["one"]
    assert cache.get(CONV.key(INFO.fingerprint)) == encode(answer_to(CONV))


def test_an_answer_is_written_once_however_many_get_it(
    service: Service, engine: InlineEngine, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    put = cache.put

    def counted(key: str, value: bytes) -> None:
        written.append(key)
        put(key, value)

    monkeypatch.setattr(cache, "put", counted)
    readers = [ask(service, f"page {n}", part("p", CONV, WIDE)) for n in range(5)]
    engine.work()
    for reader in readers:
        assert reader.end().done
    assert sorted(written) == sorted(unit.key(INFO.fingerprint) for unit in (CONV, WIDE))


def test_an_answer_that_two_pages_get_is_kept_once(cache: Cache, engine: InlineEngine) -> None:
    service = make(engine, cache)
    readers = [ask(service, f"page {n}", part("p", CONV)) for n in range(2)]
    engine.work()
    for reader in readers:
        reader.end()
    assert service._memory.currsize == len(encode(answer_to(CONV)))


def test_a_page_that_was_answered_holds_no_values(
    service: Service, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tab may stay open for days; what it was sent is the memory's and the cache's business."""
    limit_memory(service, 0)
    engine.at_once = True
    references = []
    for n in range(30):
        unit = but(CONV, input=f"digest {n}")
        drawn: list[Any] = []
        region = Part("p", (unit,), (), lambda answers, drawn=drawn: drawn.append(answers) or [])
        list(service.updates(service.ask(f"page {n}", [region], {}), lambda: False))
        references.append(weakref.ref(drawn[-1][unit].result))
        del drawn, region
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 1


def test_a_stream_of_many_kept_answers_holds_a_few_at_a_time(
    cache: Cache, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of 24 large layers for A and B would else be read into memory at once, and stay there to its end."""
    kept = [but(CONV, input=f"digest {n}") for n in range(40)]
    answered(make(engine, cache), engine, *kept)
    size = len(encode(answer_to(CONV)))
    monkeypatch.setattr(service_module, "LOADED_BYTES", 3 * size)
    service = make(engine, cache)
    limit_memory(service, 0)
    most = 0

    def draw(answers: Answers) -> list[Update]:
        nonlocal most
        assert all(isinstance(answer.result, Activation) and answer.cached for answer in answers.values())
        gc.collect()
        most = max(most, sum(type(each) is Activation for each in gc.get_objects()))
        return []

    gc.collect()
    gc.freeze()  # what was there before is not looked at: after many tests that takes a second each time
    pairs = [Part(f"p{n}", kept[n : n + 2], (), draw) for n in range(0, 40, 2)]
    shared = Part("shared", kept[:1], (), draw)  # drawn last, from what the first is drawn from too
    try:
        reader = ask(service, "page", *pairs, shared).end(60)
    finally:
        gc.unfreeze()
    assert reader.done and len(reader.drawn) == 21
    assert 2 <= most <= 3 + 2 + 2  # loaded before, of the part at hand, and the newest in the service's memory


def test_an_answer_that_left_the_cache_before_its_turn_is_asked_for_again(
    cache: Cache, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered(make(engine, cache), engine, CONV, WIDE)
    monkeypatch.setattr(service_module, "LOADED_BYTES", 0)
    service = make(engine, cache)
    limit_memory(service, 0)
    name = service.ask("page", [part("one", CONV), part("two", WIDE)], {})
    cache.clear()
    service._memory.clear()
    reader = Reader(service, name).end()
    assert reader.items == [] and not reader.done
    again = ask(service, "page", part("one", CONV), part("two", WIDE))
    engine.work()
    assert again.end().done and len(again.drawn) == 2


def test_streams_that_nobody_reads_do_not_pile_up(
    service: Service, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand pages ask and never read; each would hold an answer of its own from the cache."""
    limit_memory(service, 0)
    monkeypatch.setattr(service_module, "UNREAD_SECONDS", 0.3)
    kept = [but(CONV, input=f"digest {n}") for n in range(20)]
    answered(service, engine, *kept)
    for n in range(2000):
        service.ask(f"page {n}", [part("p", kept[n % 20], but(WIDE, input=f"{n}"))], {})
    time.sleep(0.35)
    last = service.ask("last", [part("p", CONV)], {})
    assert list(service._streams) == [last]
    assert engine.waiting_slots() == 1  # what only they wanted was withdrawn
    engine.work()
    assert engine.computed[20:] == [CONV]
    gc.collect()
    assert sum(type(each) is Activation for each in gc.get_objects()) < 30


def test_the_number_of_pages_is_limited_and_the_oldest_go(
    service: Service, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_PAGES", 10)
    names = [service.ask(f"page {n}", [part("p", but(CONV, input=f"{n}"))], {}) for n in range(25)]
    assert len(service._pages) == 10 and len(service._streams) == 10
    assert engine.waiting_slots() == 10
    assert Reader(service, names[0]).end().items == []
    engine.work()
    assert Reader(service, names[24]).end().last("p") == {"conv": "Activation"}


def test_a_page_in_use_stays_whatever_others_ask(service: Service, engine: InlineEngine) -> None:
    """More pages than are kept ask meanwhile; those who have their answer, or do not come for it, go first."""
    idle = ask(service, "idle", part("p", but(CONV, input="idle")))
    engine.work()
    assert idle.end().done
    unread = service.ask("unread", [part("p", but(CONV, input="unread"))], {})
    page = ask(service, "page", part("p", CONV))
    page.until(lambda: page.items)
    for n in range(service_module.MAX_PAGES - 3):
        service.ask(f"other {n}", [part("p")], {})
        list(service.updates(service._pages[f"other {n}"].name, lambda: False))
    assert {"idle", "unread", "page"} <= set(service._pages)
    for n in range(2200):
        service.ask(f"stranger {n}", [part("p", but(WIDE, input=f"{n}"))], {})
    assert len(service._pages) == service_module.MAX_PAGES
    assert "idle" not in service._pages and "unread" not in service._pages
    assert not Reader(service, unread).end().done
    assert page.last("p") == {"conv": "waiting"} and not page.done
    engine.work(1)
    assert page.end().last("p") == {"conv": "Activation"} and page.done
    assert service.ask("page", [part("p", CONV)], page.drawn) == ""


def test_idle_pages_go_before_one_that_has_not_come_for_its_answer(
    service: Service, engine: InlineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "MAX_PAGES", 10)
    unread = service.ask("unread", [part("p", CONV)], {})
    for n in range(40):
        assert ask(service, f"page {n}", part("p")).end().done
    engine.work()
    assert Reader(service, unread).end().done


def test_a_stream_says_whether_everything_has_been_shown(service: Service, engine: InlineEngine) -> None:
    whole, replaced, left, forgotten = (ask(service, name, part("p", CONV), part("q", WIDE)) for name in "abcd")
    for reader in (whole, replaced, left, forgotten):
        reader.until(lambda reader=reader: reader.items)
    ask(service, "b", part("p", CONV))
    service.leave("c")
    engine.cancel(service._pages["d"].slot)  # as the queue forgets what it has no room for
    engine.work()
    assert [reader.end().done for reader in (whole, replaced, left, forgotten)] == [True, False, False, False]
    assert STOPPED not in repr(forgotten.items)  # nobody stopped it: the page has to ask again
    assert not Reader(service, "no name").end().done


def test_the_places_for_open_streams_are_counted() -> None:
    service = Service(InlineEngine(), None, Inputs(), max_streams=3)  # type: ignore[arg-type]
    assert [service.claim_stream() for _ in range(5)] == [True, True, True, False, False]
    service.release_stream()
    assert service.claim_stream() and not service.claim_stream()


def test_many_people_at_once_each_get_the_answer_to_their_last_question(cache: Cache) -> None:
    """Thirty pages ask ten quick questions each, while a worker answers; every last answer is right, none is lost."""
    engine = InlineEngine()
    service = make(engine, cache)
    stop = threading.Event()

    def worker() -> None:
        while not stop.is_set():
            if not engine.work(1):
                time.sleep(0.001)

    shown: dict[str, tuple[Unit, Any]] = {}

    def person(number: int) -> None:
        page = f"page {number}"
        for click in range(10):
            unit = but(CONV, input=f"digest {(number * 7 + click) % 40}", layer=("conv", "wide", "vector")[click % 3])
            seen: list[Answers] = []
            region = Part("p", (unit,), (click,), lambda _, answers, seen=seen: seen.append(dict(answers)) or [])
            name = service.ask(page, [region], {}, click + 1)
            if click == 9:
                for _ in service.updates(name, lambda: False):
                    pass
                shown[page] = unit, seen[-1][unit].result
            elif click % 2:
                threading.Thread(target=lambda name=name: list(service.updates(name, lambda: False))).start()

    threads = [threading.Thread(target=person, args=(n,)) for n in range(30)]
    helper = threading.Thread(target=worker)
    helper.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    stop.set()
    helper.join(5)
    assert len(shown) == 30
    assert all(encode(result) == encode(answer_to(unit)) for unit, result in shown.values())
    assert answer_of(encode(answer_to(CONV))).layer == "conv"
    until(lambda: engine.waiting_slots() == 0)
    assert service._streams == {}


# --- a region whose answers come one by one


def test_a_thousand_answers_of_one_region_are_drawn_ten_times_a_second_and_the_last_at_once(
    service: Service, engine: InlineEngine
) -> None:
    units = [but(CONV, input=f"digest {n}") for n in range(1000)]
    reader = ask(service, "page", part("p", *units))
    begun = time.monotonic()
    while time.monotonic() - begun < 1.0:
        engine.work(10)
        time.sleep(0.01)
    engine.work()
    reader.end()
    took = time.monotonic() - begun
    assert 3 <= len(reader.items) <= 10 * took + 3  # and when it began to wait, the first and the last
    assert reader.items[-1][2] is not None and reader.done  # whole
