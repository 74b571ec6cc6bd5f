"""A set that is swept by the real application: its server is killed on the way, and twenty people click meanwhile."""

from __future__ import annotations

import json
import statistics
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import SAMPLES, Application, until
from tempo import limit

import hookscope as hs
from bench.client import Client
from hookscope.dashboard.sets.store import key_of
from hookscope.dashboard.worker.sweeping import BATCH_SECONDS

MODEL, SET = "embedded", "crops"
COUNT, PEOPLE, CLICKS = 90, 20, 3
LAYERS = [f"blocks.{block}.{place}" for block in range(1, 6) for place in (0, 1)] + ["blocks.6.0", "conv_head"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("set")
    dice = np.random.default_rng(0)
    with Image.open(SAMPLES / "coffee.png") as picture:
        coffee = picture.convert("RGB")
    for number in range(COUNT):
        left, top = (int(dice.integers(0, length - 250)) for length in coffee.size)
        coffee.crop((left, top, left + 250, top + 250)).save(found / f"{number:03}.jpg")
    return found


class Swept(Application):
    """The application with a set."""

    def __init__(self, cache: Path, folder: Path) -> None:
        super().__init__(cache, "--model", MODEL, "--images", f"{SET}={folder}")
        until(lambda: self.get(f"state?model={MODEL}")["fingerprint"], what="for the model")

    def get(self, path: str) -> dict[str, Any]:
        return dict(json.loads(urllib.request.urlopen(self.url + path, timeout=30).read()))

    def progress(self) -> dict[str, Any]:
        return self.get(f"set/{key_of(SET)}/progress?model={MODEL}")

    def post(self, what: str) -> None:
        urllib.request.urlopen(f"{self.url}set/{key_of(SET)}/{what}?model={MODEL}", b"", timeout=30).close()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


def test_a_server_that_is_killed_goes_on_where_it_stopped_and_counts_nothing_twice(
    folder: Path, tmp_path: Path
) -> None:
    first = Swept(tmp_path, folder)
    try:
        first.post("start")
        until(lambda: 0 < first.progress()["saved"] < first.progress()["seen"], what="for a part, and more than that")
        before = first.progress()["saved"]
    finally:
        first.kill()
    second = Swept(tmp_path, folder)
    try:
        found = second.progress()
        assert found["phase"] == "stopped" and before <= found["saved"] == found["seen"] < COUNT
        second.post("start")
        least = COUNT
        while (now := second.progress())["phase"] == "running":
            least = min(least, now["seen"])
            time.sleep(0.02)
        assert now["phase"] == "done" and now["saved"] == COUNT and now["lost"] == 0
        assert least >= found["saved"]  # what was written down is not looked at again
    finally:
        second.stop()
    (file,) = tmp_path.rglob("*.sweep")
    sweep = hs.read_sweep(file)
    assert sweep.pictures.tolist() == list(range(COUNT)) and sweep.answers.pictures.tolist() == list(range(COUNT))
    assert {each.inputs for each in sweep.statistics} == {COUNT}
    assert not list(tmp_path.rglob(".*.sweep.*"))  # nor does what was being written lie about


def click(application: Swept, clients: list[Client], keys: list[str], turn: int) -> list[float]:
    """Everybody clicks at once, each on a layer that nobody has asked for of that picture; seconds of each."""
    taken = [0.0] * len(clients)

    def one(number: int) -> None:
        began = time.monotonic()
        clients[number].choose(layers=[LAYERS[(number + turn) % len(LAYERS)]], a=keys[number])
        taken[number] = time.monotonic() - began

    people = [threading.Thread(target=one, args=(number,)) for number in range(len(clients))]
    for each in people:
        each.start()
    for each in people:
        each.join(120)
    return taken


@pytest.mark.slow
def test_twenty_people_are_answered_while_a_set_is_swept(folder: Path, tmp_path: Path) -> None:
    application = Swept(tmp_path, folder)
    try:
        keys = []
        for path in sorted(folder.iterdir())[:PEOPLE]:
            address = f"{application.url}upload?name={urllib.parse.quote(path.name)}"
            keys.append(json.loads(urllib.request.urlopen(address, path.read_bytes(), timeout=30).read())["key"])
        page = Client(application.url, MODEL)
        clients = [page.another() for _ in range(PEOPLE)]
        click(application, clients, keys, 0)  # everything is loaded and prepared
        usual = [seconds for turn in range(CLICKS) for seconds in click(application, clients, keys, 1 + turn)]
        application.post("start")
        until(lambda: application.progress()["seen"] > 0, what="for the first pictures")
        busy = [seconds for turn in range(CLICKS) for seconds in click(application, clients, keys, 1 + CLICKS + turn)]
        swept = application.progress()
        assert swept["phase"] == "running" and 0 < swept["seen"] < COUNT  # it went on, and did not only wait
    finally:
        application.stop()
    for name, of in (("median", statistics.median), ("slowest", max)):
        print(f"{name}: {of(usual):.2f} s, while a set is swept {of(busy):.2f} s")
        assert of(busy) <= limit(BATCH_SECONDS) + 1.5 * of(usual)
