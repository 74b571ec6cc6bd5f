"""A set swept by a worker: what is found is what the library finds, and what is killed in the middle goes on there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits_models import digits, file_of, write_module
from served import until
from tempo import limit

import hookscope as hs
from hookscope.dashboard.asking.questions import ActivationOf, PredictionOf, Unit
from hookscope.dashboard.asking.sides import Side
from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.dashboard.inputs.store import InputStore
from hookscope.dashboard.sets import sweeps as sweeps_module
from hookscope.dashboard.sets.alike import nearest, nearest_right
from hookscope.dashboard.sets.members import PictureSet
from hookscope.dashboard.sets.store import SetStore, key_of
from hookscope.dashboard.sets.sweeps import Sweeps

COUNT = 120
MODEL = "digits"
SLOW = """
    import time

    from digits_net import HOW, plain


    def slow():
        net = plain()
        inner = net.forward

        def forward(pictures):
            time.sleep(0.05 * len(pictures))
            return inner(pictures)

        net.forward = forward
        return net, HOW
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network's module, and the set: a folder for each class; three files of it are no pictures."""
    found = tmp_path_factory.mktemp("digits")
    write_module(found)
    (found / "slow_net.py").write_text("\n".join(line[4:] for line in SLOW.splitlines()))
    pictures, classes = digits()
    for number in range(COUNT):
        (found / "set" / str(int(classes[number]))).mkdir(parents=True, exist_ok=True)
        file_of(pictures[number], found / "set" / str(int(classes[number])) / f"{number:03}.png")
    for number in range(3):
        (found / "set" / "0" / f"broken{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    for number in range(COUNT, COUNT + 40):
        (found / "other").mkdir(exist_ok=True)
        file_of(pictures[number], found / "other" / f"{number:03}.png")
    return found


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LocalEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        found = LocalEngine([ModelOptions("digits_net:whole", MODEL), ModelOptions("slow_net:slow", "slow")], threads=1)
        for name in (MODEL, "slow"):
            found.open(name)
            until(lambda name=name: found.state(name).phase == "ready", limit(60.0), found.state(name).sentence)
        yield found
    found.close()


class Desk:
    """What a server holds, in a folder of its own."""

    def __init__(self, engine: LocalEngine, folder: Path, place: Path) -> None:
        self.engine = engine
        self.inputs = InputStore(place / "inputs", 2**26)
        offered = {"digits": folder / "set", "other": folder / "other"}
        self.store = SetStore(place / "sets", offered, self.inputs)
        self.sweeps = Sweeps(engine, self.store, place / "found")

    def set(self, name: str = "digits") -> PictureSet:
        return self.store.get(key_of(name))

    def wait(self, pictures: PictureSet, model: str = MODEL, seconds: float = 60.0) -> Any:
        until(lambda: self.sweeps.progress(pictures, model).phase != "running", limit(seconds))
        return self.sweeps.progress(pictures, model)

    def close(self) -> None:
        self.sweeps.close()
        self.store.close()
        self.inputs.close()


@pytest.fixture
def desk(engine: LocalEngine, folder: Path, tmp_path: Path) -> Iterator[Desk]:
    found = Desk(engine, folder, tmp_path)
    yield found
    found.close()


def number_of(pictures: PictureSet, member: int) -> int:
    """Which digit a picture of the set is."""
    path = pictures.members[member].path
    assert path is not None
    return int(path.stem)


def test_what_a_worker_finds_is_what_the_library_finds(desk: Desk, folder: Path) -> None:
    pictures = desk.set()
    assert len(pictures.members) == COUNT + 3 and desk.sweeps.progress(pictures, MODEL).phase == "new"
    desk.sweeps.start(pictures, MODEL)
    progress = desk.wait(pictures)
    assert (progress.phase, progress.seen, progress.total, progress.lost) == ("done", COUNT + 3, COUNT + 3, 0)
    found = desk.sweeps.found(pictures, MODEL)
    assert found is not None and len(found.pictures) == COUNT and len(found.unread) == 3
    assert all("damaged" in why for _, why in found.unread)
    assert {pictures.members[number].name for number, _ in found.unread} == {f"broken{n}.png" for n in range(3)}

    values, classes = digits()
    order = [number_of(pictures, int(member)) for member in found.pictures]
    namespace = write_module(folder)
    whole = hs.sweep(namespace["plain"](), values[order].split(1), [hs.statistics(), hs.top(), hs.answers()])
    assert found.answers is not None and whole.answers is not None
    np.testing.assert_array_equal(found.answers.best[:, 0], whole.answers.best[:, 0])
    np.testing.assert_allclose(found.answers.shares, whole.answers.shares, rtol=1e-3, atol=1e-6)
    for layer in ("conv1", "relu2", "relu3"):
        ours, theirs = found.summary(layer), whole.summary(layer)
        assert ours.inputs == COUNT and list(ours.fired) == list(theirs.fired)
        np.testing.assert_allclose(ours.statistics.channels["mean"], theirs.statistics.channels["mean"], atol=1e-5)
        ranked, expected = found.top(layer).by_max, whole.top(layer).by_max
        np.testing.assert_allclose(ranked.values, expected.values, rtol=1e-5)
        same = ranked.pictures == found.pictures[expected.pictures]
        assert same.mean() > 0.99  # equal but for pictures whose values differ in the last bit
    right = np.mean(
        [int(classes[number]) == best for number, best in zip(order, found.answers.best[:, 0], strict=True)]
    )
    assert right > 0.7
    assert found.frames is not None and found.frames.of(int(found.pictures[0])) == (0, 0, 1, 1)
    assert found.features[0].values.shape == (COUNT, 16)


def test_what_is_done_is_not_done_again_after_a_restart(
    desk: Desk, engine: LocalEngine, folder: Path, tmp_path: Path
) -> None:
    pictures = desk.set("other")
    desk.sweeps.start(pictures, MODEL)
    desk.wait(pictures)
    again = Desk(engine, folder, tmp_path)
    progress = again.sweeps.progress(again.set("other"), MODEL)
    assert (progress.phase, progress.seen) == ("done", 40)
    taken = engine.state(MODEL).work.taken
    again.sweeps.start(again.set("other"), MODEL)
    assert again.wait(again.set("other")).phase == "done" and engine.state(MODEL).work.taken == taken
    again.close()


def counting(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> dict[int, int]:
    """How often each picture is asked for by a worker."""
    counted: dict[int, int] = {}
    take = desk.store.take

    def counted_take(version: str, number: int) -> bytes:
        counted[number] = counted.get(number, 0) + 1
        return take(version, number)

    monkeypatch.setattr(desk.store, "take", counted_take)
    return counted


def test_a_killed_worker_costs_the_part_under_way(
    desk: Desk, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps_module, "PART_SECONDS", (1,))
    counted = counting(monkeypatch, desk)
    pictures = desk.set()
    desk.sweeps.start(pictures, "slow")
    until(lambda: desk.sweeps.progress(pictures, "slow").saved > 20, limit(60.0))
    saved = desk.sweeps.progress(pictures, "slow").saved
    os.kill(engine.pids("slow")[0], signal.SIGKILL)
    progress = desk.wait(pictures, "slow")
    assert progress.phase == "done" and progress.seen == COUNT + 3
    found = desk.sweeps.found(pictures, "slow")
    assert found is not None
    assert sorted([*found.pictures, *(number for number, _ in found.unread)]) == list(range(COUNT + 3))
    assert found.summary("conv1").inputs == COUNT and found.answers is not None and len(found.answers.pictures) == COUNT
    twice = [number for number, times in counted.items() if times > 1]
    assert all(number >= saved for number in twice) and len(twice) <= 60  # what had been saved was not asked for again


def test_a_stopped_sweep_goes_on_where_it_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps_module, "PART_SECONDS", (1,))
    counted = counting(monkeypatch, desk)
    pictures = desk.set()
    desk.sweeps.start(pictures, "slow")
    until(lambda: desk.sweeps.progress(pictures, "slow").saved > 10, limit(60.0))
    desk.sweeps.stop(pictures, "slow")
    stopped = desk.wait(pictures, "slow")
    assert stopped.phase == "stopped" and 10 < stopped.saved == stopped.seen < COUNT
    asked = dict(counted)
    time.sleep(0.5)
    assert counted == asked  # it really stopped
    desk.sweeps.start(pictures, "slow")
    assert desk.wait(pictures, "slow").phase == "done"
    twice = [number for number, times in counted.items() if times > 1]
    assert all(number >= stopped.saved for number in twice)
    found = desk.sweeps.found(pictures, "slow")
    assert found is not None and len(np.unique(found.pictures)) == COUNT == len(found.pictures)


def test_clicks_are_answered_while_a_set_is_swept_and_two_sweeps_share(
    desk: Desk, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps_module, "PART_SECONDS", (1,))
    first, second = desk.set(), desk.set("other")
    desk.sweeps.start(first, "slow")
    desk.sweeps.start(second, "slow")
    until(lambda: desk.sweeps.progress(first, "slow").seen > 4, limit(60.0))
    digest = desk.inputs.sample("coffee").digest
    waited = []
    for number, question in enumerate((PredictionOf(), ActivationOf("conv2"), ActivationOf("relu3"))):
        began = time.monotonic()
        engine.submit(f"click {number} {began}", [Unit(Side("slow", digest), question)], desk.inputs.pixels)
        cursor, kinds = 0, []
        while "done" not in kinds and "failed" not in kinds:
            events, cursor = engine.events(f"click {number} {began}", cursor, 5.0)
            kinds += [event.kind for event in events]
        assert "done" in kinds
        waited.append(time.monotonic() - began)
    assert max(waited) < limit(1.0), waited  # a part takes a second, a batch 0.1 s
    until(lambda: min(desk.sweeps.progress(each, "slow").saved for each in (first, second)) > 5, limit(60.0))
    assert desk.sweeps.progress(first, "slow").phase == "running"
    assert desk.wait(second, "slow").phase == "done" and desk.wait(first, "slow").phase == "done"


def test_partial_answers_come_every_second(desk: Desk) -> None:
    pictures, seen = desk.set(), []
    desk.sweeps.start(pictures, "slow")
    while (progress := desk.sweeps.progress(pictures, "slow")).phase == "running":
        if progress.now is not None and progress.now.answers is not None:
            seen.append((time.monotonic(), len(progress.now.answers.pictures), progress.speed))
        time.sleep(0.05)
    changes = [at for (at, count, _), (_, before, _) in zip(seen[1:], seen, strict=False) if count != before]
    assert len(changes) > 5 and max(np.diff(changes)) < limit(1.0)
    assert seen[-1][2] > 1


def test_a_server_that_stops_leaves_what_was_saved(engine: LocalEngine, folder: Path, tmp_path: Path) -> None:
    desk = Desk(engine, folder, tmp_path)
    pictures = desk.set()
    desk.sweeps.start(pictures, "slow")
    until(lambda: desk.sweeps.progress(pictures, "slow").saved > 5, limit(60.0))
    desk.close()
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name.startswith("sweep ") for name in names)
    assert [path.suffix for path in (tmp_path / "found").iterdir()] == [".sweep"]
    again = Desk(engine, folder, tmp_path)
    progress = again.sweeps.progress(again.set(), "slow")
    assert progress.phase == "stopped" and 5 < progress.seen < COUNT
    again.close()


def test_a_damaged_file_is_no_sweep(desk: Desk) -> None:
    pictures = desk.set("other")
    desk.sweeps.start(pictures, MODEL)
    desk.wait(pictures)
    (path,) = (desk.store.folder.parent / "found").iterdir()
    path.write_bytes(b"\x80\x04nonsense")
    assert desk.sweeps.found(pictures, MODEL) is None


def test_the_nearest_right_picture_is_that_of_the_cosine(desk: Desk) -> None:
    pictures = desk.set()
    desk.sweeps.start(pictures, MODEL)
    desk.wait(pictures)
    found = desk.sweeps.found(pictures, MODEL)
    assert found is not None and found.answers is not None
    labels = np.array([int(member.group) for member in pictures.members])
    values = found.features[0].values.astype(np.float64)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    rows = {int(number): row for row, number in enumerate(found.pictures)}
    best = dict(zip(found.answers.pictures.tolist(), found.answers.best[:, 0].tolist(), strict=True))
    wrong = [number for number in rows if best[number] != labels[number]]
    assert wrong
    for number in wrong:
        right = [each for each in rows if best[each] == labels[each] == labels[number]]
        expected = max(right, key=lambda each: float(unit[rows[each]] @ unit[rows[number]]), default=None)
        assert nearest_right(found, labels, number) == expected
    assert nearest(found.features[0], 10**6, np.array([1])) == []


def test_the_gap_between_two_sets_is_the_librarys_and_comes_without_waiting(desk: Desk) -> None:
    first, second = desk.set(), desk.set("other")
    assert desk.sweeps.gaps(first, second, MODEL) == "Look through both sets first."
    for pictures in (first, second):
        desk.sweeps.start(pictures, MODEL)
        desk.wait(pictures)
    assert desk.sweeps.gaps(first, second, MODEL) is None
    found = until(lambda: desk.sweeps.gaps(first, second, MODEL), limit(30.0))
    one, other = (desk.sweeps.found(pictures, MODEL) for pictures in (first, second))
    assert one is not None and other is not None
    expected = hs.gap(one, other)
    assert [(each.layer, each.p, each.effect) for each in found] == [
        (each.layer, each.p, each.effect) for each in expected
    ]
