"""Many people at once on the real application: what `python -m bench load` measures at length, in small."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tempo import shared_limit

from bench import crowd
from bench.application import Application, hookscope
from bench.walls import photograph

SESSIONS = 8
CLICKS = 10


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Application, Application]]:
    """One for the crowd and one to compare with."""
    with hookscope("--model", crowd.MODEL) as application, hookscope("--model", crowd.MODEL) as reference:
        application.wait_for_model(crowd.MODEL)
        reference.wait_for_model(crowd.MODEL)
        yield application, reference


def test_every_last_click_is_answered_rightly_and_what_it_replaced_is_not_computed(
    servers: tuple[Application, Application],
) -> None:
    found = crowd.crowd(*servers, SESSIONS, CLICKS)
    assert [session.problem for session in found.sessions] == [""] * SESSIONS
    assert all(session.shown.keys() == set(crowd.COMPARED) for session in found.sessions)
    assert len({session.shown["card 0"] for session in found.sessions}) == SESSIONS  # everybody has another picture
    assert found.wrong == 0
    work = found.work
    print(work)
    assert work["failed"] == 0 and work["taken"] == work["answered"] + work["stopped"]
    # Each click asks for an activation and a map, and the first of a session also for the classes.
    asked = SESSIONS * (2 * CLICKS + 1)
    assert work["taken"] + work["dropped"] <= asked
    assert work["answered"] >= 3 * SESSIONS  # the last clicks'
    assert work["taken"] < asked / 2 < work["dropped"] + work["stopped"] + work["answered"]


def test_a_wrong_answer_would_be_noticed(servers: tuple[Application, Application]) -> None:
    application, _ = servers
    client = crowd.Client(application.url, crowd.MODEL)
    keys = [application.upload(photograph(number)) for number in range(2)]
    answers = [crowd.shown(client, a=key, layers=[crowd.LAYERS[0]]) for key in (*keys, keys[0])]
    assert answers[0] == answers[2]
    assert all(answers[0][part] != answers[1][part] for part in crowd.COMPARED)


def test_what_is_being_computed_is_stopped_when_nobody_wants_it(servers: tuple[Application, Application]) -> None:
    assert crowd.stopped(servers[0]) > 0


def test_what_many_ask_is_computed_once(servers: tuple[Application, Application]) -> None:
    work = crowd.ask_the_same(servers[0], 50, photograph(100))
    assert (work["taken"], work["answered"]) == (3, 3)  # classes, activation, Grad-CAM


def test_four_hundred_streams_at_once_are_answered_or_told_that_it_is_busy(
    servers: tuple[Application, Application],
) -> None:
    found = crowd.rush(servers[0], 400)
    print(f"{found.answered} answered, {found.busy} busy, the slowest first byte after {max(found.first_bytes):.2f} s")
    assert found.hung == 0 and found.answered + found.busy == 400 and found.answered >= 40
    assert max(found.first_bytes) < shared_limit(20)
