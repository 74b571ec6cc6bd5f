"""The order of work: single flight, turns, withdrawing, refusals and forgetting, without a process or a clock."""

from __future__ import annotations

import random
import time

import pytest
from tempo import limit
from units import unit_of

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine import queue as module
from hookscope.dashboard.engine.base import Work
from hookscope.dashboard.engine.queue import Queue
from hookscope.hooks.results.targets import OWN

MODEL = "embedded"


def unit(
    layer: str, question: str = "activation", image: str = "a", model: str = MODEL, target: int | None = None
) -> Unit:
    return unit_of(model, image, question, layer, 0, OWN if target is None else target)


def fetch(digest: str) -> bytes:
    return digest.encode()


def kinds(queue: Queue, slot: str, now: float = 0.0) -> list[str]:
    return [event.kind for event in queue.events(slot, 0, now)]


def answer(queue: Queue, task: int, *units: Unit) -> None:
    for each in units:
        queue.started(task, each, 0.0)
        queue.done(task, each, each.layer.encode(), 0.0)
    queue.finished(task, 0.0)


def test_a_batch_is_what_goes_through_one_forward_in_the_slots_order() -> None:
    queue = Queue()
    layers = [unit("deep"), unit("early")]
    cams = [unit("deep", "gradcam", target=3), unit("early", "gradcam", target=3)]
    other = unit("deep", "gradcam", target=5)
    second_image = unit("deep", image="b")
    queue.submit("s", [layers[0], cams[0], layers[1], other, second_image, cams[1]], fetch, 0.0)
    batches = [queue.take(MODEL) for _ in range(5)]
    assert [batch and batch.units for batch in batches] == [
        tuple(layers),
        tuple(cams),
        (other,),
        (second_image,),
        None,
    ]


def test_slots_take_turns_after_each_batch() -> None:
    queue = Queue()
    queue.submit("greedy", [unit(str(n), image=f"i{n}") for n in range(3)], fetch, 0.0)
    queue.submit("late", [unit("x", image="late1"), unit("y", image="late2")], fetch, 0.0)
    taken = []
    while batch := queue.take(MODEL):
        taken.append(batch.units[0].side.input)
    assert taken == ["i0", "late1", "i1", "late2", "i2"]


def test_a_slot_of_another_model_keeps_its_turn() -> None:
    queue = Queue()
    queue.submit("a", [unit("x", model="m1"), unit("x", model="m1", image="b")], fetch, 0.0)
    queue.submit("b", [unit("y", model="m2")], fetch, 0.0)
    first, second = queue.take("m2"), queue.take("m1")
    assert first and first.units[0].layer == "y"
    assert second and second.units[0].side.input == "a"
    assert queue.take("m2") is None


def test_a_unit_that_two_slots_want_is_computed_once_and_both_are_answered() -> None:
    queue = Queue()
    shared, own = unit("shared"), unit("own")
    queue.submit("a", [shared], fetch, 0.0)
    queue.submit("b", [shared, own], fetch, 0.0)
    first, second = queue.take(MODEL), queue.take(MODEL)
    assert first and first.units == (shared,)
    assert second and second.units == (own,)
    assert queue.take(MODEL) is None
    answer(queue, first.task, shared)
    answer(queue, second.task, own)
    assert kinds(queue, "a") == ["started", "done", "end"]
    assert kinds(queue, "b") == ["started", "done", "started", "done", "end"]
    assert [event.data for event in queue.events("b", 0, 0.0)] == [b"", b"shared", b"", b"own", b""]


def test_a_unit_whose_answer_waits_to_be_read_is_not_computed_again() -> None:
    queue = Queue()
    shared = unit("shared")
    queue.submit("a", [shared], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    answer(queue, batch.task, shared)
    queue.submit("late", [shared], fetch, 0.0)
    assert queue.take(MODEL) is None
    assert [event.data for event in queue.events("late", 0, 0.0)] == [b"shared", b""]
    queue.cancel("a")
    queue.cancel("late")
    queue.submit("later", [shared], fetch, 0.0)  # by now it is in the cache, or nobody wanted it
    assert queue.take(MODEL) is not None


def test_who_joins_a_running_unit_is_told_that_it_started() -> None:
    queue = Queue()
    shared = unit("shared")
    queue.submit("a", [shared], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    queue.started(batch.task, shared, 0.0)
    queue.submit("b", [shared], fetch, 0.0)
    assert kinds(queue, "b") == ["started"]
    assert queue.take(MODEL) is None


def test_cancel_drops_what_waits_and_withdraws_what_runs() -> None:
    queue = Queue()
    running, waiting = unit("running"), unit("waiting", image="b")
    queue.submit("a", [running, waiting], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    assert queue.cancel("a") == {batch.task: (running,)}
    assert queue.take(MODEL) is None
    assert kinds(queue, "a") == ["end"]
    assert queue.cancel("a") == {}


def test_cancel_leaves_alone_what_somebody_else_waits_for() -> None:
    queue = Queue()
    mine, both = unit("mine"), unit("both")
    queue.submit("a", [mine, both], fetch, 0.0)
    queue.submit("b", [both], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    assert queue.cancel("a") == {batch.task: (mine,)}
    answer(queue, batch.task, both)
    assert kinds(queue, "b") == ["started", "done", "end"]
    assert queue.cancel("b") == {}


def test_a_withdrawn_unit_that_is_asked_again_is_computed_again_or_served_by_the_late_answer() -> None:
    queue = Queue()
    wanted = unit("x")
    queue.submit("a", [wanted], fetch, 0.0)
    first = queue.take(MODEL)
    assert first
    queue.cancel("a")
    queue.submit("b", [wanted], fetch, 0.0)
    assert queue.waiting(MODEL) == 1
    queue.done(first.task, wanted, b"late", 0.0)  # it was on its way already
    queue.finished(first.task, 0.0)
    assert kinds(queue, "b") == ["done", "end"]
    assert queue.take(MODEL) is None


def test_a_batch_that_ends_without_an_answer_fails_its_units() -> None:
    queue = Queue()
    queue.submit("a", [unit("x")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    queue.finished(batch.task, 0.0)
    assert kinds(queue, "a") == ["failed", "end"]


def test_a_unit_that_ran_at_two_crashes_is_refused_for_ten_minutes() -> None:
    queue = Queue()
    bad, innocent = unit("bad"), unit("innocent", image="b")

    def crash(slot: str, now: float) -> None:
        queue.submit(slot, [bad, innocent], fetch, now)
        batch = queue.take(MODEL)
        assert batch and batch.units == (bad,)
        queue.started(batch.task, bad, now)
        queue.crashed(batch.task, "The worker crashed.", "This waited.", "trace", now)
        rest = queue.take(MODEL)
        assert rest and rest.units == (innocent,)
        answer(queue, rest.task, innocent)
        queue.cancel(slot)  # it has been read

    crash("one", 0.0)
    crash("two", 60.0)
    queue.submit("three", [bad, innocent], fetch, 120.0)
    events = queue.events("three", 0, 120.0)
    assert [event.kind for event in events] == ["failed"]
    assert events[0].sentence == (
        "This question stopped the worker 2 times in the last ten minutes, so it is refused for another 8 min. "
        "Choose another layer or another image."
    )
    batch = queue.take(MODEL)
    assert batch and batch.units == (innocent,)
    queue.submit("later", [bad], fetch, 601.0)
    again = queue.take(MODEL)
    assert again and again.units == (bad,)


def test_a_crash_tells_its_slot_about_the_rest_of_that_input_and_nobody_else() -> None:
    queue = Queue()
    prediction, cam, other = unit("", "prediction"), unit("deep", "gradcam"), unit("deep", image="b")
    queue.submit("mine", [prediction, unit("deep"), cam, other], fetch, 0.0)
    queue.submit("yours", [cam], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch and batch.units == (prediction,)
    queue.started(batch.task, prediction, 0.0)
    queue.crashed(batch.task, "The worker crashed.", "This waited.", "trace", 0.0)
    events = queue.events("mine", 1, 0.0)
    assert [(event.kind, event.unit, event.sentence) for event in events] == [
        ("failed", prediction, "The worker crashed."),
        ("failed", unit("deep"), "This waited."),
        ("failed", cam, "This waited."),
    ]
    left = [queue.take(MODEL), queue.take(MODEL), queue.take(MODEL)]
    assert {each.units for each in left if each} == {(other,), (cam,)}  # another input, and another person's own wish


def test_the_books_say_what_became_of_every_unit() -> None:
    queue = Queue()
    units = [unit(str(n)) for n in range(4)]
    queue.submit("a", units, fetch, 0.0)
    queue.submit("b", [unit("later", image="b"), unit("shared", image="c")], fetch, 0.0)
    queue.submit("c", [unit("shared", image="c")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    queue.done(batch.task, units[0], b"", 0.0)
    queue.failed(batch.task, units[1], "It failed.", "", 0.0)
    queue.cancel("a")  # stops two
    queue.cancel("b")  # drops one; the other is still wanted
    assert queue.work(MODEL) == Work(taken=4, answered=1, failed=1, stopped=2, dropped=1)
    assert queue.work("another") == Work()


def test_a_slots_name_is_used_once() -> None:
    queue = Queue()
    queue.submit("a", [unit("x")], fetch, 0.0)
    with pytest.raises(ValueError, match="in use"):
        queue.submit("a", [unit("y")], fetch, 0.0)


def test_an_empty_or_unknown_slot_ends_at_once() -> None:
    queue = Queue()
    queue.submit("a", [], fetch, 0.0)
    assert kinds(queue, "a") == ["end"]
    assert kinds(queue, "never heard of") == ["end"]


def test_several_readers_see_the_same_events_from_where_they_are() -> None:
    queue = Queue()
    queue.submit("a", [unit("x")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    answer(queue, batch.task, unit("x"))
    assert kinds(queue, "a") == kinds(queue, "a") == ["started", "done", "end"]
    assert [event.kind for event in queue.events("a", 2, 0.0)] == ["end"]
    assert [event.kind for event in queue.events("a", 3, 0.0)] == ["end"]


def test_finished_slots_are_forgotten_soon_after_they_were_read_and_later_if_not() -> None:
    queue = Queue()
    for slot in ("read", "unread"):
        queue.submit(slot, [unit(slot)], fetch, 0.0)
        batch = queue.take(MODEL)
        assert batch
        answer(queue, batch.task, *batch.units)
    queue.events("read", 0, 1.0)
    queue.sweep(1.0 + module.READ_SECONDS + 0.1)
    assert kinds(queue, "read") == ["end"] and len(kinds(queue, "unread", 2.0)) == 3
    queue.sweep(module.END_SECONDS + 0.1)
    assert kinds(queue, "unread") == ["end"]


def answered(queue: Queue, slot: str, now: float, data: bytes = b"x" * 1000) -> None:
    """A slot of its own that waits for one unit, and its answer."""
    queue.submit(slot, [unit(slot)], fetch, now)
    batch = queue.take(MODEL)
    assert batch
    queue.done(batch.task, batch.units[0], data, now)
    queue.finished(batch.task, now)


def test_what_is_unread_is_never_dropped_for_want_of_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2500)
    queue = Queue()
    for number in range(5):
        answered(queue, f"s{number}", float(number))
    queue.sweep(5.0)
    assert queue.full()  # so whoever computes has to wait
    for number in range(5):
        assert [len(event.data) for event in queue.events(f"s{number}", 0, 5.0)] == [1000, 0]


def test_one_answer_larger_than_the_room_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 100)
    queue = Queue()
    answered(queue, "s", 0.0)
    queue.sweep(0.0)
    assert queue.full() and len(queue.events("s", 0, 0.0)[0].data) == 1000
    queue.events("s", 2, 0.0)
    queue.sweep(0.0)
    assert not queue.full()


def test_what_was_read_goes_when_room_is_short_also_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2500)
    queue = Queue()
    units = [unit(f"{number}") for number in range(5)]
    queue.submit("page", units, fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    since = 0
    for each in units:
        queue.done(batch.task, each, b"x" * 1000, 0.0)
        queue.sweep(0.0)
        assert not queue.full()
        news = queue.events("page", since, 0.0)
        assert [len(event.data) for event in news if event.kind == "done"] == [1000]
        since += len(news)  # with which the next look says that these have been read
        queue.events("page", since, 0.0)
    assert sum(len(event.data) for event in queue.events("page", 0, 0.0)) <= 2500
    assert queue.events("page", 0, 0.0)[0].kind == "failed"  # a second reader is not left to wait
    assert [event.kind for event in queue.events("page", since - 1, 0.0)] == ["end"]


def test_an_answer_that_several_wait_for_takes_room_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2500)
    queue = Queue()
    for number in range(50):
        queue.submit(f"s{number}", [unit("shared")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    queue.done(batch.task, unit("shared"), b"x" * 1000, 0.0)
    queue.sweep(0.0)
    assert not queue.full()


def test_who_does_not_come_for_an_answer_makes_room_for_the_others_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2500)
    queue = Queue()
    for number in range(3):
        answered(queue, f"s{number}", 0.0)
    queue.sweep(module.IMPATIENT_SECONDS - 1)
    queue.events("s1", 0, module.IMPATIENT_SECONDS - 1)  # this one does
    assert queue.full()
    queue.sweep(module.IMPATIENT_SECONDS + 1)
    assert not queue.full()
    assert [len(kinds(queue, f"s{number}", module.IMPATIENT_SECONDS + 1)) for number in range(3)] == [1, 2, 1]


def test_a_slot_that_nobody_looks_at_is_withdrawn() -> None:
    queue = Queue()
    queue.submit("gone", [unit("x")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    assert queue.sweep(module.ABANDONED_SECONDS - 1) == {}
    assert queue.sweep(module.ABANDONED_SECONDS + 1) == {batch.task: (unit("x"),)}


def test_a_model_that_cannot_be_loaded_fails_only_its_own_units() -> None:
    queue = Queue()
    queue.submit("a", [unit("x", model="broken"), unit("x", model="fine")], fetch, 0.0)
    queue.fail_model("broken", "It cannot be loaded.", "why", 0.0)
    events = queue.events("a", 0, 0.0)
    assert [(event.kind, event.sentence, event.details) for event in events] == [
        ("failed", "It cannot be loaded.", "why")
    ]
    batch = queue.take("fine")
    assert batch and batch.units[0].model == "fine"


def test_any_history_answers_every_waiting_unit_once_and_leaves_nothing() -> None:
    """Random submissions, cancels, answers, failures and crashes; then the books must balance."""
    rng = random.Random(0)
    for _ in range(60):
        queue = Queue()
        slots: dict[str, list[Unit]] = {}
        cancelled: set[str] = set()
        running: list[module.Batch] = []
        for step in range(120):
            action = rng.random()
            if action < 0.35:
                name = f"s{step}"
                slots[name] = [
                    unit(str(rng.randrange(4)), rng.choice(["activation", "gradcam"]), rng.choice("ab"))
                    for _ in range(rng.randrange(1, 4))
                ]
                queue.submit(name, slots[name], fetch, 0.0)
            elif action < 0.45 and slots:
                name = rng.choice(list(slots))
                cancelled.add(name)
                queue.cancel(name)
            elif action < 0.75 and len(running) < 2:
                flying = set(queue._running)
                if taken := queue.take(MODEL):
                    assert not flying & set(taken.units)
                    running.append(taken)
            elif running:
                batch = running.pop(rng.randrange(len(running)))
                for each in batch.units:
                    if rng.random() < 0.8:
                        queue.done(batch.task, each, b"x", 0.0)
                queue.finished(batch.task, 0.0)
        for left in running:
            queue.finished(left.task, 0.0)
        while rest := queue.take(MODEL):
            answer(queue, rest.task, *rest.units)
        for name, units in slots.items():
            events = queue.events(name, 0, 0.0)
            settled = [event.unit for event in events if event.kind in ("done", "failed")]
            assert events[-1].kind == "end" and [event.kind for event in events].count("end") == 1
            assert len(settled) == len(set(settled))
            if name not in cancelled:
                assert set(settled) == set(units)
        queue.sweep(1e9)
        assert not queue._slots and not queue._tasks and not queue._running
        queue.take(MODEL)
        assert not queue._turns


def test_a_second_page_that_asks_the_same_three_thousand_units_takes_a_moment() -> None:
    """The engine's lock is held meanwhile; each unit was once sought in all events of all slots: 1.1 s."""
    units = [unit(f"layer {n}") for n in range(3000)]
    queue = Queue()
    queue.submit("one", units, fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch and len(batch.units) == 3000 and queue.waiting(MODEL) == 0
    for each in units[:2000]:
        queue.done(batch.task, each, b"an answer", 0.0)
    for name, ready in (("two", 2000), ("three", 2000)):
        begun = time.perf_counter()
        queue.submit(name, units, fetch, 1.0)
        queue.sweep(1.0)
        took = time.perf_counter() - begun
        assert took < limit(0.02), took
        assert [event.kind for event in queue.events(name, 0, 1.0)].count("done") == ready
    begun = time.perf_counter()
    queue.cancel("two")
    assert time.perf_counter() - begun < limit(0.02)
    for each in units[2000:]:
        queue.done(batch.task, each, b"an answer", 0.0)
    assert [event.kind for event in queue.events("three", 0, 2.0)][-1] == "end"
    for name in ("one", "three"):
        queue.cancel(name)
    assert not (queue._wanted or queue._ready or +queue._pending)  # nothing is left of them


def test_some_of_what_a_slot_wants_is_stopped_and_the_rest_and_others_go_on() -> None:
    queue = Queue()
    queue.submit("one", [unit("a"), unit("b"), unit("c")], fetch, 0.0)
    queue.submit("two", [unit("b")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch and len(batch.units) == 3
    assert queue.stop("one", [unit("a"), unit("b"), unit("never asked")], 0.0) == {batch.task: (unit("a"),)}
    told = [(event.kind, event.unit and event.unit.layer) for event in queue.events("one", 0, 0.0)]
    assert told == [("failed", "a"), ("failed", "b")]
    answer(queue, batch.task, unit("b"), unit("c"))
    assert kinds(queue, "one")[-2:] == ["done", "end"] and "done" in kinds(queue, "two")
    assert queue.stop("one", [unit("c")], 0.0) == queue.stop("gone", [unit("c")], 0.0) == {}
    queue.submit("three", [unit("a")], fetch, 0.0)
    queue.stop("three", [unit("a")], 0.0)
    assert kinds(queue, "three") == ["failed", "end"] and queue.take(MODEL) is None


def test_how_far_a_batch_is_is_told_once_to_whoever_reads_late() -> None:
    queue = Queue()
    queue.submit("one", [unit("a", "scorecam")], fetch, 0.0)
    batch = queue.take(MODEL)
    assert batch
    queue.started(batch.task, batch.units[0], 0.0)
    for done in range(5):
        queue.progress(batch.task, done, 9)
    first = queue.events("one", 0, 0.0)
    assert [(event.kind, event.done) for event in first] == [("started", 0), ("progress", 4)]
    queue.progress(batch.task, 6, 9)
    queue.progress(batch.task + 1, 8, 9)  # of a batch that is over
    assert [(event.done, event.total) for event in queue.events("one", len(first), 0.0)] == [(6, 9)]


def test_what_waits_is_counted_once_and_only_until_a_worker_has_it() -> None:
    queue = Queue()
    queue.submit("one", [unit("a"), unit("b")], fetch, 0.0)
    queue.submit("two", [unit("b"), unit("c", image="b")], fetch, 0.0)
    assert queue.waiting(MODEL) == 3
    queue.cancel("one")
    assert queue.waiting(MODEL) == 2
    batch = queue.take(MODEL)
    assert batch and queue.waiting(MODEL) == 1
    queue.fail_model(MODEL, "It is gone.", "", 1.0)
    assert queue.waiting(MODEL) == 0
    assert [event.kind for event in queue.events("two", 0, 1.0)] == ["failed"]
