"""A set swept by a worker: what is found is what the library finds, and what is killed in the middle goes on there."""

from __future__ import annotations

import io
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
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
from hookscope.dashboard.sets import room as room_module
from hookscope.dashboard.sets import store as store_module
from hookscope.dashboard.sets import sweeps as sweeps_module
from hookscope.dashboard.sets.alike import nearest, nearest_right
from hookscope.dashboard.sets.members import PictureSet, SetMissing
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


def settled(counted: Mapping[int, int]) -> bool:
    before = dict(counted)
    time.sleep(0.5)
    return counted == before


def test_a_stopped_sweep_goes_on_where_it_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps_module, "PART_SECONDS", (1,))
    counted = counting(monkeypatch, desk)
    pictures = desk.set()
    desk.sweeps.start(pictures, "slow")
    until(lambda: desk.sweeps.progress(pictures, "slow").saved > 10, limit(60.0))
    desk.sweeps.stop(pictures, "slow")
    stopped = desk.wait(pictures, "slow")
    assert stopped.phase == "stopped" and 10 < stopped.saved == stopped.seen < COUNT
    until(lambda: settled(counted), limit(10.0))  # what was being read comes to its end, and then no more is
    assert 0 < len(counted) < COUNT
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


# --- what goes wrong with a set while it is swept


@pytest.fixture
def own(engine: LocalEngine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk whose folders may be changed; a part takes a second."""
    monkeypatch.setattr(sweeps_module, "PART_SECONDS", (1,))
    monkeypatch.setattr(store_module, "FRESH_SECONDS", 0.0)
    for name in ("set", "other"):
        shutil.copytree(folder / name, tmp_path / "pictures" / name)
    found = Desk(engine, tmp_path / "pictures", tmp_path)
    yield found
    found.close()


def test_a_folder_that_disappears_ends_the_sweep_and_what_was_saved_stays(own: Desk, tmp_path: Path) -> None:
    pictures = own.set()
    own.sweeps.start(pictures, "slow")
    until(lambda: own.sweeps.progress(pictures, "slow").saved > 10, limit(60.0))
    (tmp_path / "pictures" / "set").rename(tmp_path / "away")
    progress = own.wait(pictures, "slow")
    assert progress.phase == "failed" and "folder of the set 'digits' is gone" in progress.sentence
    saved = own.sweeps.found(pictures, "slow")
    assert saved is not None and 10 < progress.saved == progress.seen < COUNT
    assert progress.now is not None and progress.now.answers is not None
    assert not any("no longer there" in why for _, why in (*saved.unread, *progress.now.unread))
    with pytest.raises(SetMissing, match=r"folder of the set 'digits' cannot be read \(No such file"):
        own.set()
    until(lambda: own.engine.state("slow").phase == "ready", limit(10.0))
    assert len(own.set("other").members) == 40
    # it is back, and the sweep goes on where it stopped
    (tmp_path / "away").rename(tmp_path / "pictures" / "set")
    again = own.set()
    assert again.version == pictures.version
    own.sweeps.start(again, "slow")
    done = own.wait(again, "slow")
    assert (done.phase, done.seen) == ("done", COUNT + 3)
    found = own.sweeps.found(again, "slow")
    assert found is not None and len(found.pictures) == COUNT and len(np.unique(found.pictures)) == COUNT


def test_a_disk_that_is_taken_away_leaves_an_empty_folder(own: Desk, tmp_path: Path) -> None:
    pictures = own.set()
    own.sweeps.start(pictures, "slow")
    until(lambda: own.sweeps.progress(pictures, "slow").saved > 5, limit(60.0))
    shutil.rmtree(tmp_path / "pictures" / "set")
    (tmp_path / "pictures" / "set").mkdir()
    progress = own.wait(pictures, "slow")
    assert progress.phase == "failed" and "is gone" in progress.sentence
    assert len(own.set().members) == 0


def test_files_that_change_or_go_cost_themselves_and_the_set_is_another_one_afterwards(
    own: Desk, tmp_path: Path
) -> None:
    pictures = own.set()
    paths = [member.path for member in pictures.members if member.path is not None and "broken" not in member.name]
    own.sweeps.start(pictures, "slow")
    until(lambda: own.sweeps.progress(pictures, "slow").seen > 2, limit(60.0))
    gone, folder_there, pipe, grows, other = paths[-5:]
    for path in (gone, folder_there, pipe):
        path.unlink()
    folder_there.mkdir()
    os.symlink("/etc/passwd", pipe)
    with grows.open("ab") as file:
        file.write(b"more")
    shutil.copy(paths[0], other)
    added = tmp_path / "pictures" / "set" / "0" / "new.png"
    shutil.copy(paths[0], added)
    assert own.set() is pictures  # as it was when the sweep began
    progress = own.wait(pictures, "slow")
    assert (progress.phase, progress.seen) == ("done", COUNT + 3)
    found = own.sweeps.found(pictures, "slow")
    assert found is not None
    unread = {pictures.members[number].path: why for number, why in found.unread}
    assert {path for path in unread if path is not None and "broken" not in path.name} == {gone, folder_there, pipe}
    assert "no longer there" in unread[gone] and "links are not followed" in unread[pipe]
    assert "a pipe, a socket or a device" in unread[folder_there]
    assert len(found.pictures) == COUNT - 3
    after = own.set()
    assert after.version != pictures.version and "it is another set now" in after.note
    assert own.sweeps.progress(after, "slow").phase == "new"


def test_a_visitors_set_is_swept_and_deleted_in_the_middle(own: Desk, folder: Path) -> None:
    arriving = own.store.arriving
    key = arriving.begin("mine")
    for number, path in enumerate(sorted((folder / "set").rglob("*.png"))):
        data = path.read_bytes()
        arriving.add(key, number, f"{path.parent.name}/{path.name}", io.BytesIO(data), len(data))
    arriving.finish(key)
    pictures = own.store.get(key)
    own.sweeps.start(pictures, MODEL)
    done = own.wait(pictures)
    whole, swept = own.sweeps.found(pictures, MODEL), own.set()
    own.sweeps.start(swept, MODEL)
    own.wait(swept)
    expected = own.sweeps.found(swept, MODEL)
    assert done.phase == "done" and whole is not None and expected is not None
    assert sorted(whole.summary("conv1").fired) == sorted(expected.summary("conv1").fired)
    np.testing.assert_allclose(
        np.sort(whole.summary("conv1").statistics.channels["mean"]),
        np.sort(expected.summary("conv1").statistics.channels["mean"]),
        atol=1e-5,
    )
    own.sweeps.start(pictures, "slow")
    until(lambda: own.sweeps.progress(pictures, "slow").saved > 5, limit(60.0))
    own.sweeps.forget(pictures)
    own.store.delete(key)
    kept = {path.name[: room_module.SHORT] for path in (own.store.folder.parent / "found").iterdir()}
    assert kept == {swept.version[: room_module.SHORT]}
    with pytest.raises(SetMissing):
        own.store.get(key)
    assert not any(thread.name == "sweep mine" for thread in threading.enumerate())
    assert not (own.store.folder / "previews" / pictures.version).exists()
