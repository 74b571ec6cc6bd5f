"""How a feed begins, ends and goes on: what ends it when nobody does, which folder it is in, and what it refuses."""

from __future__ import annotations

import copy
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ENVIRON
from torch import nn
from torch._dynamo import eval_frame

import hookscope as hs

cross_entropy = nn.functional.cross_entropy


def net(width: int = 8, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(width * 36, classes))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, feed: Any, **given: Any) -> None:
    loss = cross_entropy(model(torch.rand(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0]))
    loss.backward()
    feed.step(loss=loss, **given)
    optimizer.step()
    optimizer.zero_grad()


def run(model: nn.Module, folder: Any, steps: int = 3, **given: Any) -> hs.Feed:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hs.follow(model, folder, **({"every": 1, "optimizer": optimizer} | given)) as feed:
        for _ in range(steps):
            step(model, optimizer, feed)
    return hs.read_feed(folder)


def left_on(model: nn.Module, *optimizers: torch.optim.Optimizer) -> int:
    hooks = sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())
    return hooks + sum(
        len(each._optimizer_step_pre_hooks) + len(each._optimizer_step_post_hooks) for each in optimizers
    )


def files_open_in(folder: Path) -> int:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.path.realpath(link).startswith(str(folder)) for link in links)


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    gc.collect()
    assert not hs.live_hooks() and eval_frame._stance.stance == "default"


# --- what ends it


@pytest.mark.parametrize("optimizers", [0, 1])
@pytest.mark.parametrize("pinned", [False, True])
def test_a_feed_that_nobody_closed_ends_when_nobody_has_it(tmp_path: Path, optimizers: int, pinned: bool) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    more = {"pinned": torch.rand(1, 3, 8, 8)} if pinned else {}
    feed = hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer if optimizers else None, **more)
    feed.open()
    step(model, optimizer, feed)
    assert left_on(model) and eval_frame._stance.stance == "force_eager" and files_open_in(tmp_path) == 1  # control
    del feed
    gc.collect()
    assert not left_on(model, optimizer) and eval_frame._stance.stance == "default" and not files_open_in(tmp_path)
    read = hs.read_feed(tmp_path / "run")
    assert read.state().sentence == "The run was ended by its feed being dropped, which nobody had closed."
    assert read.steps.tolist() == [0]
    assert run(model, tmp_path / "run", 2, resume=True).steps.tolist() == [0, 1, 2]


def test_an_exception_in_a_plain_loop_without_a_block_ends_it(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def training() -> None:
        feed = hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer)
        feed.open()
        for number in range(4):
            step(model, optimizer, feed)
            if number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training()
    gc.collect()
    read = hs.read_feed(tmp_path / "run")
    assert not left_on(model, optimizer) and read.state().kind == "ended"
    assert read.losses()[0].tolist() == [0, 1, 2]


def test_a_copy_of_a_feed_does_not_end_it(tmp_path: Path) -> None:
    model = net()
    with hs.follow(model, tmp_path / "run", every=2) as feed:
        step(model, torch.optim.SGD(model.parameters(), 0.1), feed)  # nothing is on the model now
        other = copy.deepcopy(feed)
        del other
        gc.collect()
        assert hs.read_feed(tmp_path / "run").state().kind == "running"


def test_a_listener_is_told_of_that_end_too(tmp_path: Path) -> None:
    model = net()
    feed = hs.follow(model, tmp_path / "run", every=1)
    ended = list[str]()
    feed.on_look(lambda look: None, lambda: ended.append("end"))
    feed.open()
    del feed
    gc.collect()
    assert ended == ["end"] and hs.read_feed(tmp_path / "run").state().kind == "ended"


def test_a_forked_process_does_not_end_the_feed_of_the_other_one(tmp_path: Path) -> None:
    code = (
        "import gc, os, sys, torch, hookscope as hs\n"
        "model = torch.nn.Sequential(torch.nn.Linear(2, 2))\n"
        "feed = hs.follow(model, sys.argv[1], every=1); feed.open()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    del feed; gc.collect(); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(hs.read_feed(sys.argv[1]).state().sentence)\n"
        "feed.close()\n"
        "print(hs.read_feed(sys.argv[1]).state().sentence)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    ran = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["The run goes on.", "The run has ended."]


def test_who_holds_the_folder_is_told_truly_and_a_lost_feed_does_not(tmp_path: Path) -> None:
    model = net()
    feed = hs.follow(model, tmp_path / "run", every=1)
    feed.open()
    with pytest.raises(hs.HooksError, match="This process writes into the folder run already: a feed of it was not"):
        hs.follow(model, tmp_path / "run", resume=True).open()
    circle: list[Any] = [feed]
    circle.append(circle)  # which only the collector finds
    gc.disable()
    try:
        del feed, circle
        assert run(model, tmp_path / "run", resume=True).state().sentence == "The run has ended."
    finally:
        gc.enable()


def test_a_beginning_that_failed_leaves_the_folder_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hookscope.hooks.training import writer

    def full(target: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    model = net()
    failing = hs.follow(model, tmp_path / "run", every=1)
    with monkeypatch.context() as patched, pytest.raises(hs.HooksError, match="cannot be written"):
        patched.setattr(writer, "_replace", full)
        failing.open()
    assert files_open_in(tmp_path) == 0
    assert run(net(), tmp_path / "run").steps.tolist() == [0, 1, 2]  # while `failing` is there


# --- where it is


def test_a_relative_folder_stays_where_it_was_when_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hs.follow(model, "run", every=1, optimizer=optimizer, pinned=torch.rand(1, 3, 8, 8)) as feed:
        step(model, optimizer, feed)
        reader = hs.read_feed("run")
        os.chdir(tmp_path / "there")
        step(model, optimizer, feed)
        assert len(reader.poll()) == 1 and reader.steps.tolist() == [0, 1]
        assert feed.path == tmp_path / "here" / "run"
    read = hs.read_feed(tmp_path / "here" / "run")
    assert read.steps.tolist() == [0, 1] and read.state().kind == "ended" and read.maps(1) is not None
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize("folder", ["", " ", "a\0b", "\ud800"])
def test_a_folder_without_a_name_is_refused(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(hs.HooksError, match="name the folder that the run is written into"):
        hs.follow(net(), folder)
    assert not list(tmp_path.iterdir())


def test_the_working_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "monday").mkdir()
    monkeypatch.chdir(tmp_path / "monday")
    assert run(net(), ".").run.title == "monday"


# --- numbers that are given


@pytest.mark.parametrize("every", [np.int64(2), np.uint8(2), torch.tensor(2)])
def test_every_may_be_any_whole_number(tmp_path: Path, every: Any) -> None:
    assert run(net(), tmp_path / "run", every=every).steps.tolist() == [0, 2]


@pytest.mark.parametrize("every", [10**12, True, 1.0, np.float64(1), None, "5", 0, -1, np.bool_(True)])
def test_every_is_refused_where_it_is_none(tmp_path: Path, every: Any) -> None:
    with pytest.raises(hs.HooksError, match="give the number of steps between two looks, from 1 to 999,999,999,999"):
        hs.follow(net(), tmp_path / "run", every=every)


def test_every_can_be_read_that_can_be_written(tmp_path: Path) -> None:
    assert run(net(), tmp_path / "run", every=10**12 - 1).run.every == 10**12 - 1


@pytest.mark.parametrize("limit", [float("inf"), 10**400, np.float32(500), np.int64(500), 1e300])
def test_a_limit_may_be_as_large_as_one_likes(tmp_path: Path, limit: Any) -> None:
    assert run(net(), tmp_path / "run", limit_mb=limit).bins(2) is not None


@pytest.mark.parametrize("limit", [float("nan"), -float("inf"), 0, "5", None])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(hs.HooksError, match="give how many megabytes"):
        hs.follow(net(), tmp_path / "run", limit_mb=limit)


@pytest.mark.parametrize(
    "value, kind",
    [
        ("abc", "str"),
        (torch.ones(3), r"Tensor of shape \(3,\)"),
        (np.ones((2, 2)), r"ndarray of shape \(2, 2\)"),
        ({}, "dict"),
        (1j, "complex"),
    ],
)
def test_a_number_that_is_none_is_told_once_and_nothing_else_is_lost(tmp_path: Path, value: Any, kind: str) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        with pytest.warns(UserWarning, match=f"^What feed.step\\(\\) was given as 'acc' is no number but {kind}, and"):
            step(model, optimizer, feed, acc=value, good=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            step(model, optimizer, feed, acc=value, good=2.0, none=None)
            step(model, optimizer, feed, acc=0.5)
    read = hs.read_feed(tmp_path / "run")
    assert read.scalar_names == ("good", "acc") and read.scalars("good")[1].tolist() == [1, 2]
    assert len(read.looks[0].notes) == 1 and not read.looks[1].notes


def test_too_many_names_are_told_once(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        with pytest.warns(UserWarning, match="More than 50 names were given") as told:
            step(model, optimizer, feed, **{f"number {place}": 1 for place in range(60)})
            step(model, optimizer, feed, **{f"other {place}": 1 for place in range(60)})
    assert len(told) == 1 and len(hs.read_feed(tmp_path / "run").looks[0].given.numbers) == 50


def test_a_step_that_cannot_be_read_is_not_written(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        step(model, optimizer, feed)
        with pytest.warns(
            UserWarning, match=r"could not look at a step \(ValueError: step=1000000000000000: steps are"
        ):
            step(model, optimizer, feed, step=10**15)
        step(model, optimizer, feed)
        step(model, optimizer, feed, step=10**12 - 1)
    read = hs.read_feed(tmp_path / "run")
    assert read.steps.tolist() == [0, 10**12 - 1] and read.skipped == 0


# --- with which model it goes on


def test_another_model_is_refused_and_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    run(net(), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    others = (net(width=4), nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), nn.Sequential(nn.Identity()))
    for other in others:
        feed = hs.follow(other, tmp_path / "run", every=1, resume=True)
        with pytest.raises(hs.HooksError, match=r"The folder run holds the run of another model: of its 2 layers with"):
            feed.open()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert files_open_in(tmp_path) == 0
    assert run(net(), tmp_path / "run", resume=True).steps.tolist() == [0, 1, 2, 3, 4, 5]


def test_another_model_is_known_before_the_first_look_too(tmp_path: Path) -> None:
    run(net(), tmp_path / "run", 0)
    with pytest.raises(hs.HooksError, match="the run of another model"):
        run(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), tmp_path / "run", resume=True)
    assert run(net(), tmp_path / "run", resume=True).steps.tolist() == [0, 1, 2]


def test_a_head_that_was_replaced_goes_on_and_is_noted(tmp_path: Path) -> None:
    run(net(), tmp_path / "run")
    with pytest.warns(UserWarning, match=r"^Layers with weights are others than in the run that this goes on with"):
        read = run(net(classes=3), tmp_path / "run", resume=True)
    assert read.steps.tolist() == [0, 1, 2, 3, 4, 5] and "(3): what stands there" in read.looks[3].notes[0]


def test_a_block_that_was_added_is_noted(tmp_path: Path) -> None:
    run(net(), tmp_path / "run")
    model = net()
    model.add_module("more", nn.Linear(10, 10))
    with pytest.warns(UserWarning, match=r"in one of the two only \(more\)"):
        run(model, tmp_path / "run", resume=True)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.flat = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(192, 3)
        self.second.weight = self.first.weight

    def forward(self, pictures: Any) -> Any:
        return self.second(self.first(self.flat(pictures.flatten(1))))


@pytest.mark.parametrize("layers", [["0"], ["3"], None])
def test_other_layers_of_the_same_model_go_on(tmp_path: Path, layers: Any) -> None:
    run(net(), tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(net(), tmp_path / "run", resume=True, layers=layers)
        run(net().half().float(), tmp_path / "run", resume=True)
        run(Tied(), tmp_path / "tied", layers=["second"])
        run(Tied(), tmp_path / "tied", resume=True, layers=["second"])


def test_a_damaged_run_that_goes_on_tells_of_no_other_model(tmp_path: Path) -> None:
    run(net(), tmp_path / "run")
    with (tmp_path / "run" / "steps.jsonl").open("a") as lines:
        lines.write('{"step": 3, "layers": {"x": {"w": "no"}, "y": 5, "z": {"w": [1, 2, 3, 4, {}]}}}\n')
        lines.write(json.dumps({"step": 4, "layers": ["no table"]}) + "\n")
    (tmp_path / "run" / "run.json").write_text('{"layers_with_weights": [1, {}]}')
    assert run(net(), tmp_path / "run", resume=True).state().kind == "ended"
