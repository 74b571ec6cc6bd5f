"""What happens to the cache's folder under real servers: the page shows the same answer, and nothing in it runs."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from served import Application, until
from test_cache import DAMAGE
from test_shelf import Planted

from bench import crowd
from bench.client import Client


class Server(Application):
    """A server with the default model, and a page on it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.page = Client(self.url, crowd.MODEL)
        until(lambda: b'"phase": "ready"' in self.page.read(f"state?model={crowd.MODEL}"), 120, "for the model")

    def answer(self, layer: str) -> dict[str, str]:
        """Digests of what the page shows of a layer; an error in its place fails the test."""
        return crowd.shown(self.page, a="sample-coffee", layers=[layer])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers on one folder."""
    started = (Server(folder), Server(folder))
    yield started
    for server in started:
        server.stop()


def newest(folder: Path) -> Path:
    return max((folder / "answers").glob("values-*"), key=lambda path: int(path.name.split("-")[1]))


def planted_in(values: Path, harmful: bytes) -> int:
    """In how many answers of a cache's folder."""
    try:
        with contextlib.closing(sqlite3.connect(values / "cache.db")) as database, database:
            return database.execute("UPDATE Cache SET mode = 4, filename = NULL, value = ?", (harmful,)).rowcount
    except sqlite3.Error:
        return 0


def test_pickles_planted_under_the_servers_own_keys_are_misses(
    servers: tuple[Server, Server], folder: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "ran"
    layer = crowd.LAYERS[-1]
    expected = servers[0].answer(layer)
    harmful = pickle.dumps(Planted(proof))
    # another test may have left the newest folder damaged: then a newer one is on its way
    until(lambda: planted_in(newest(folder), harmful) >= 2, 20, "for answers to plant it in")
    assert servers[1].answer(layer) == expected
    assert not proof.exists()


def test_two_servers_on_one_folder_answer_alike_whatever_is_done_to_it(
    servers: tuple[Server, Server], folder: Path
) -> None:
    layers = iter(crowd.LAYERS)
    harmed = []
    for name, damage in DAMAGE.items():
        layer = next(layers)
        expected = servers[0].answer(layer)
        harmed += [name] if harm(damage, newest(folder)) else []
        assert servers[1].answer(layer) == expected, name
        assert servers[0].answer(layer) == expected, name
    print(f"while it was in use: {', '.join(harmed)}")
    assert (
        len(harmed) >= 4
    )  # after some in a row the servers leave the disk alone for a while, and keep values in memory


def harm(damage: Callable[[Path], object], place: Path) -> bool:
    """Do it, if there is a cache to harm; whether there was."""
    there = (place / "cache.db").is_file()
    if there:
        damage(place)
    return there
