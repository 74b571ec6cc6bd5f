"""Many people at once, without browsers: some click quickly, some ask the same, some open streams all at once."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.application import Application, until
from bench.client import RETRY, Busy, Client, pictures
from bench.options import say
from bench.walls import photograph

MODEL = "embedded"
LAYERS = (*(f"blocks.{block}.{place}" for block in range(1, 6) for place in range(2)), "blocks.6", "conv_head")
COMPARED = ("input a", "card 0", "card 0 cam")  # the parts that show what the model computed
FORGOTTEN = re.compile(r'"(?:\d+ ms|computed before)"')  # how long it took is another time each time
ADDRESS = re.compile(r"/picture/[0-9a-f]{40}")  # of a file to save, which is made when it is asked for
ANSWER_SECONDS = 120.0
BUSY_SECONDS = (1.5, 3.0)  # the page asks again after a time between these


@dataclass
class Session:
    """One person who clicks faster than anybody could look.

    Attributes:
        picture: number of the photograph that is asked about. layer: the last one that was clicked.
        first_bytes: seconds from each click to the first byte of its answer.
        answer_seconds: from the last click to the end of its answer; NaN if there was none.
        shown: of the last answer: part -> digest of what it shows. problem: why there is none.
    """

    picture: int
    layer: str = ""
    first_bytes: list[float] = field(default_factory=list)
    answer_seconds: float = float("nan")
    shown: dict[str, str] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Crowd:
    """What many sessions found, and what the engine's books say about them."""

    sessions: Sequence[Session]
    wrong: int
    work: dict[str, int]
    idle_seconds: float


@dataclass(frozen=True)
class Rush:
    """What became of many streams that were opened at the same moment."""

    answered: int
    busy: int
    hung: int
    first_bytes: Sequence[float]


def crowd(application: Application, reference: Application, sessions: int, clicks: int, pause: float = 0.2) -> Crowd:
    """Have every session click another layer every so many seconds, and compare its last answer with another server's.

    Arguments:
        reference: a second application, which is asked each last question alone, after the crowd has gone.
    """
    keys = {server: _uploaded(server, range(sessions)) for server in (application, reference)}
    before = work(application)
    people = [Session(number) for number in range(sessions)]
    start = time.perf_counter() + 0.5
    in_parallel(
        [
            lambda each=each: _click(each, application, keys[application][each.picture], clicks, pause, start)
            for each in people
        ]
    )
    left = time.perf_counter()
    until(lambda: _at_rest(application), ANSWER_SECONDS, "for the worker to have nothing to do")
    idle = time.perf_counter() - left
    books = {name: count - before[name] for name, count in work(application).items()}
    client = Client(reference.url, MODEL)
    wrong = 0
    for each in people:
        expected = shown(client, a=keys[reference][each.picture], layers=[each.layer])
        wrong += not each.problem and each.shown != expected
    return Crowd(people, wrong, books, idle)


def ask_the_same(application: Application, sessions: int, picture: bytes) -> dict[str, int]:
    """Have all sessions ask about one layer of one new picture in the same moment; how many units were computed."""
    key = application.upload(picture)
    first = Client(application.url, MODEL)
    clients = [first.another() for _ in range(sessions)]
    before = work(application)
    answers: list[dict[str, str]] = []
    in_parallel([lambda client=client: answers.append(shown(client, a=key, layers=[LAYERS[0]])) for client in clients])
    if len(answers) != sessions or any(answer != answers[0] for answer in answers):
        raise RuntimeError("People who asked the same were answered differently.")
    return {name: count - before[name] for name, count in work(application).items()}


def rush(application: Application, streams: int) -> Rush:
    """Open many streams in the same moment, each of a page of its own, about new pictures."""
    keys = list(_uploaded(application, range(110, 114)).values())
    first = Client(application.url, MODEL)
    clients = [first.another() for _ in range(streams)]
    paths = [
        client.ask(a=keys[number % len(keys)], layers=[LAYERS[number // len(keys) % 3]])
        for number, client in enumerate(clients)
    ]
    ends: list[str] = []
    first_bytes: list[float] = []
    start = time.perf_counter()

    def follow(client: Client, path: str) -> None:
        told = False
        try:
            for _ in client.messages(path):
                if not told:
                    told = True
                    first_bytes.append(time.perf_counter() - start)
            ends.append("answered" if told else "nothing")
        except Busy:
            first_bytes.append(time.perf_counter() - start)
            ends.append("busy")
        except OSError as error:
            ends.append(f"{type(error).__name__}: {error}")

    in_parallel([lambda c=client, p=path: follow(c, p) for client, path in zip(clients, paths, strict=True)])
    for client in clients:
        client.leave()
    answered, busy = ends.count("answered"), ends.count("busy")
    for problem in sorted(set(ends) - {"answered", "busy"}):
        say(f"load: a stream ended with {problem}")
    return Rush(answered, busy, streams - answered - busy, first_bytes)


def stopped(application: Application, tries: int = 20) -> int:
    """Ask for much, and for something else as soon as that is being computed; how many units were stopped.

    A machine may have computed all of it before the second question is there; then once more, about another picture.
    """
    before = work(application)["stopped"]
    for number in range(tries):
        client = Client(application.url, MODEL)
        taken = work(application)["taken"]
        client.ask(a=application.upload(photograph(120 + number)), layers=list(LAYERS))
        until(lambda taken=taken: work(application)["taken"] > taken, ANSWER_SECONDS, "for the first unit", 0.001)
        client.ask(layers=[LAYERS[0]])
        client.leave()
        if (found := work(application)["stopped"] - before) > 0:
            return found
    return 0


def work(application: Application) -> dict[str, int]:
    """The engine's books: what has become of the units so far."""
    return dict(application.state(MODEL)["work"])


def shown(client: Client, **changes: object) -> dict[str, str]:
    """Ask until there is a place, and wait for the whole answer: part -> digest of what it shows, pictures included.

    Raises:
        RuntimeError: a part shows an error, or is missing.
    """
    client.drawn.clear()
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        last: dict[str, dict[str, Any]] = {}
        try:
            last = {message["part"]: message for message in client.messages(client.ask(**changes))}
            return {part: digest(client, last[part]) for part in COMPARED}
        except Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(*BUSY_SECONDS))
        except KeyError as missing:
            raise RuntimeError(f"The answer has no part {missing}, only {sorted(last)}.") from missing


def digest(client: Client, message: dict[str, Any]) -> str:
    """SHA-256 of what a part shows, with the bytes of its pictures in place of their addresses.

    Raises:
        RuntimeError: it shows an error, or does not show all of its answers.
    """
    text = json.dumps(message["updates"], sort_keys=True)
    if RETRY in text or not message["signature"]:
        raise RuntimeError(f"{message['part']} shows no answer: {text[:400]}")
    for address in pictures(message):
        text = text.replace(address, hashlib.sha256(client.read(address)).hexdigest())
    return hashlib.sha256(ADDRESS.sub("", FORGOTTEN.sub('""', text)).encode()).hexdigest()


def in_parallel(works: Sequence[Callable[[], object]]) -> None:
    """Do each in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=each, daemon=True) for each in works]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ANSWER_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def _click(session: Session, server: Application, key: str, clicks: int, pause: float, start: float) -> None:
    """Click at fixed times, each click replacing the one before, and wait for the answer to the last."""
    choose = random.Random(session.picture)
    client = Client(server.url, MODEL)
    readers: list[threading.Thread] = []
    for number in range(clicks):
        session.layer = choose.choice([layer for layer in LAYERS if layer != session.layer])
        time.sleep(max(0.0, start + number * pause - time.perf_counter()))
        clicked = time.perf_counter()
        if number == clicks - 1:
            break
        path = client.ask(a=key, layers=[session.layer])
        readers.append(threading.Thread(target=_read, args=(session, client.open(path), clicked), daemon=True))
        readers[-1].start()
    try:
        session.shown = shown(client, a=key, layers=[session.layer])
        session.answer_seconds = time.perf_counter() - clicked
    except (RuntimeError, OSError, Busy) as error:
        session.problem = f"{type(error).__name__}: {error}"
    for reader in readers:
        reader.join(ANSWER_SECONDS)
    client.leave()


def _read(session: Session, stream: Any, clicked: float) -> None:
    """Read a stream as long as the server keeps it; it ends as soon as the next click has replaced it."""
    with stream:
        if stream.read(1):
            session.first_bytes.append(time.perf_counter() - clicked)
        while stream.read(65536):
            pass


def _uploaded(server: Application, numbers: Sequence[int]) -> dict[int, str]:
    return {number: server.upload(photograph(number)) for number in numbers}


def _at_rest(application: Application) -> bool:
    state = application.state(MODEL)
    return state["phase"] == "ready" and state["waiting"] == 0
