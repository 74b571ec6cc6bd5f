"""Which gradient, which weights and which update a look is of: scalers, several optimisers, closures, late calls."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ENVIRON
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import hookscope as hs


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def batch(seed: int, count: int = 8) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.rand(count, 6, generator=made), torch.randint(0, 3, (count,), generator=made)


def norm(weights: Any) -> float:
    return float(torch.stack([each.detach().double().square().sum() for each in weights]).sum().sqrt())


def of(look: Any, layer: str, group: str, name: str) -> float:
    return float(look.of(layer).get((group, name), float("nan")))


def spoil(model: nn.Module) -> None:
    """One value of the last layer's gradient is beyond float32."""
    weight = model[2].weight  # type: ignore[index]
    weight.grad[0, 0] = float("inf")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("given", [True, False])
def test_a_step_that_is_left_out_is_that_step_and_has_its_own_gradient(
    tmp_path: Path, fused: bool, late: bool, given: bool
) -> None:
    model, skipped = net(), 2
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    scaler, norms, weights = torch.amp.GradScaler("cpu"), [], []
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer if given else None, scaler=scaler) as feed:
        for step in range(5):
            pictures, classes = batch(step)
            loss = cross_entropy(model(pictures), classes)
            norms.append(norm(torch.autograd.grad(loss, list(model[0].parameters()), retain_graph=True)))
            weights.append(norm(model[0].parameters()))
            scaler.scale(loss).backward()
            if step == skipped:
                spoil(model)
            if not late:
                feed.step(loss=loss)
            scaler.step(optimizer)
            scaler.update()
            if late:
                feed.step(loss=loss)
            optimizer.zero_grad()
    found = hs.read_feed(tmp_path / "run")
    told = [of(look, "0", "g", "norm") for look in found.looks]
    if late and not given:
        norms[skipped] = float("nan")  # whether it was unscaled depends on the optimiser, which nobody knows
    assert told == pytest.approx(norms, rel=1e-4, nan_ok=True)
    if late or given:  # else it is told before it happens
        assert [look.skipped for look in found.looks] == [step == skipped for step in range(5)]
    assert any("after optimizer.step()" in note for look in found.looks for note in look.notes) is late
    if given:
        updates = [of(look, "0", "u", "ratio") for look in found.looks]
        assert [not update > 0 for update in updates] == [step == skipped for step in range(5)]
        assert [of(look, "0", "w", "norm") for look in found.looks] == pytest.approx(weights, rel=1e-4)


def test_each_of_two_optimisers_is_unscaled_by_itself(tmp_path: Path) -> None:
    model, scaler = net(), torch.amp.GradScaler("cpu")
    first, last = (torch.optim.SGD(model[place].parameters(), lr=0.1) for place in (0, 2))
    with hs.follow(model, tmp_path / "run", every=1, optimizer=[first, last], scaler=scaler) as feed:
        for step in range(2):
            loss = cross_entropy(model(batch(step)[0]), batch(step)[1])
            right = [
                norm(torch.autograd.grad(loss, [model[place].weight, model[place].bias], retain_graph=True))
                for place in (0, 2)
            ]
            scaler.scale(loss).backward()
            scaler.unscale_(first)
            if step:
                scaler.step(first)
            feed.step(loss=loss)
            if not step:
                scaler.step(first)
            scaler.step(last)
            scaler.update()
            first.zero_grad()
            last.zero_grad()
            look = hs.read_feed(tmp_path / "run").looks[step]
            assert [of(look, layer, "g", "norm") for layer in "02"] == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "not announced"])
@pytest.mark.parametrize("first", ["maker", "judge"])
def test_of_networks_that_are_frozen_by_turns_each_has_its_update(tmp_path: Path, first: str, announced: bool) -> None:
    """As Lightning's `toggle_optimizer` does: each is frozen while the other one is trained."""
    torch.manual_seed(0)
    model = nn.Sequential()
    model.maker, model.judge = nn.Linear(6, 5), nn.Linear(5, 1)
    parts = {"maker": model.maker, "judge": model.judge}
    optimizers = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in parts.items()}
    turns, ratios = [first, *(name for name in parts if name != first)], []
    with hs.follow(model, tmp_path / "run", every=1, optimizer=[*optimizers.values()]) as feed:
        for step in range(4):
            ratio = {}
            for name in turns:
                for other in parts:
                    parts[other].requires_grad_(other == name)
                answer = model(batch(step)[0])
                (answer.mean() if name == "maker" else answer.square().mean()).backward()
                if announced:
                    feed.before_update(optimizers[name])
                before = copy.deepcopy(parts[name])
                optimizers[name].step()
                away = [now - was for now, was in zip(parts[name].parameters(), before.parameters(), strict=True)]
                ratio[name] = norm(away) / norm(before.parameters())
                optimizers[name].zero_grad()
            ratios.append(ratio)
            feed.step(loss=0.0)
    found = hs.read_feed(tmp_path / "run")
    assert len(found.looks) == 4 and not found.alarms()
    for look, ratio in zip(found.looks, ratios, strict=True):
        for name in parts:
            assert of(look, name, "u", "ratio") == pytest.approx(ratio[name], rel=1e-4), (look.step, name)


def test_an_optimiser_that_waits_a_step_leaves_the_others_update(tmp_path: Path) -> None:
    model = net()
    first, last = (torch.optim.SGD(model[place].parameters(), lr=0.1) for place in (0, 2))
    right = []
    with hs.follow(model, tmp_path / "run", every=1, optimizer=[first, last]) as feed:
        for step in range(4):
            loss = cross_entropy(model(batch(step)[0]), batch(step)[1])
            loss.backward()
            feed.step(loss=loss)
            before = copy.deepcopy(model)
            for optimizer, each in ((first, 1), (last, 2)):
                if step % each == 0:
                    optimizer.step()
            right.append([
                norm(new - old for new, old in zip(model[place].parameters(), before[place].parameters(), strict=True))
                / norm(before[place].parameters())
                for place in (0, 2)
            ])  # fmt: skip
            model.zero_grad()
    for step, look in enumerate(hs.read_feed(tmp_path / "run").looks):
        told = [of(look, layer, "u", "ratio") for layer in "02"]
        wanted = [value if value > 0 else float("nan") for value in right[step]]
        assert told == pytest.approx(wanted, rel=1e-4, nan_ok=True) and not look.skipped


def test_without_an_update_in_between_nothing_was_left_out(tmp_path: Path) -> None:
    for place, scaler in enumerate((torch.amp.GradScaler("cpu"), torch.amp.GradScaler("cpu", enabled=False))):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with hs.follow(model, tmp_path / str(place), every=1, optimizer=optimizer, scaler=scaler) as feed:
            for step in range(4):  # two batches are one update
                loss = cross_entropy(model(batch(step)[0]), batch(step)[1])
                scaler.scale(loss).backward()
                feed.step(loss=loss)
                if step % 2:
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad()
        looks = hs.read_feed(tmp_path / str(place)).looks
        assert [look.skipped for look in looks] == [False] * 4
        assert [of(look, "0", "u", "ratio") > 0 for look in looks] == [False, True] * 2


@pytest.mark.parametrize("kind", ["SGD", "LBFGS"])
def test_an_optimiser_that_runs_the_model_itself(tmp_path: Path, kind: str) -> None:
    model = net()
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=0.1)
        if kind == "SGD"
        else torch.optim.LBFGS(model.parameters(), max_iter=3)
    )
    before, gradients, after = [], [], []
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        for step in range(3):
            pictures, classes = batch(step)

            def closure(pictures: Tensor = pictures, classes: Tensor = classes) -> Tensor:
                optimizer.zero_grad()
                loss = cross_entropy(model(pictures), classes)
                loss.backward()
                gradients[-1] = norm([each.grad for each in model[0].parameters()])
                return loss

            before.append(copy.deepcopy(model))
            gradients.append(0.0)
            loss = optimizer.step(closure)
            feed.step(loss=loss)
            after.append(copy.deepcopy(model))
    looks = hs.read_feed(tmp_path / "run").looks
    for look, old, gradient, new in zip(looks, before, gradients, after, strict=True):
        assert of(look, "0", "w", "norm") == pytest.approx(norm(old[0].parameters()), rel=1e-4)
        assert of(look, "0", "g", "norm") == pytest.approx(gradient, rel=1e-4)
        away = norm(b - a for a, b in zip(old[0].parameters(), new[0].parameters(), strict=True))
        assert of(look, "0", "u", "ratio") == pytest.approx(away / norm(old[0].parameters()), rel=1e-4)
    assert ["runs the model itself" in note for look in looks for note in look.notes] == [True]


@pytest.mark.parametrize(
    ("every", "stride", "expected"), [(2, 4, [0, 8, 12]), (50, 10, [0, 50, 100]), (5, 3, [0, 6, 12])]
)
def test_steps_that_are_counted_otherwise_are_looked_at_where_a_multiple_is_passed(
    tmp_path: Path, every: int, stride: int, expected: list[int]
) -> None:
    model = net()
    with hs.follow(model, tmp_path / "run", every=every) as feed:
        for step in range(0, expected[-1] + 1, stride):
            cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            feed.step(step=step)
        with pytest.warns(UserWarning, match="steps are counted from 0"):
            feed.step(step=-1)
    found = hs.read_feed(tmp_path / "run").steps.tolist()
    assert found == expected  # how it is counted is known from the second step on


def test_what_is_no_optimiser_is_refused(tmp_path: Path) -> None:
    for given in ({"a": torch.optim.SGD(net().parameters(), lr=0.1)}, "adam", [None]):
        with pytest.raises(hs.HooksError, match=r"give the torch\.optim\.Optimizer"):
            hs.follow(net(), tmp_path / "run", optimizer=given)


@pytest.mark.parametrize("pinned", [torch.rand(2, 5), [torch.rand(2, 6)], "cat.png"])
def test_a_pinned_picture_that_the_model_cannot_take_is_said(tmp_path: Path, pinned: Any) -> None:
    model = net()
    with pytest.raises(hs.HooksError, match="cannot be run on the pinned picture"):
        hs.follow(model, tmp_path / "run", pinned=pinned).open()
    assert not (tmp_path / "run").exists()


def test_complex_weights_have_updates(tmp_path: Path) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((4, 4), 0.5 + 0.5j))

        def forward(self, values: Tensor) -> Tensor:
            return (values.to(torch.complex64) @ self.weight).abs()

    model = nn.Sequential(Turned(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        before = model[0].weight.detach().clone()
        model(torch.rand(3, 4)).sum().backward()
        feed.step()
        optimizer.step()
        away = float((model[0].weight.detach() - before).abs().square().sum().sqrt())
    (look,) = hs.read_feed(tmp_path / "run").looks
    assert of(look, "0", "u", "ratio") == pytest.approx(away / float(before.abs().square().sum().sqrt()), rel=1e-4)


def test_a_tied_weight_is_that_of_the_layer_that_is_followed(tmp_path: Path) -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(11, 7), "head": nn.Linear(7, 11)})
    model["head"].weight = model["embedding"].weight
    with hs.follow(model, tmp_path / "run", every=1, layers="head") as feed:
        model["head"](model["embedding"](torch.tensor([1, 2]))).sum().backward()
        feed.step()
    (look,) = hs.read_feed(tmp_path / "run").looks
    assert of(look, "head", "w", "count") == 11 * 7 + 11


def test_a_loss_that_was_not_given_is_null(tmp_path: Path) -> None:
    model = net()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        for loss in (None, float("nan")):
            model(batch(0)[0]).sum().backward()
            feed.step(loss=loss)
    lines = [json.loads(each) for each in (tmp_path / "run" / "steps.jsonl").read_text().splitlines()]
    assert [each["loss"] for each in lines if "layers" in each] == [None, "nan"]


def test_lines_stay_below_the_limit_however_many_steps_are_between(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    with hs.follow(model, tmp_path / "run", every=20, limit_mb=0.1) as feed:
        for step in range(20_000):
            if step % 20 == 0 or feed.looking:
                model(torch.rand(1, 2)).sum().backward()
            feed.step(loss=float(step), a=step / 3, b=step / 7)
    assert sum(each.stat().st_size for each in (tmp_path / "run").iterdir()) < 100_000
    found = hs.read_feed(tmp_path / "run")
    steps, losses = found.losses()
    assert found.skipped == 0 and steps.tolist() == losses.tolist() and len(steps) > 500


FORKS = """
import os, sys, time, torch, hookscope as hs
model = torch.nn.Linear(2, 1)
with hs.follow(model, sys.argv[1], every=1) as feed:
    model(torch.rand(1, 2)).sum().backward()
    feed.step()
    if not os.fork():
        time.sleep(30)
        os._exit(0)
    print("ready", flush=True)
    time.sleep(30)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_does_not_keep_the_run_going(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKS, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRON, start_new_session=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            assert hs.read_feed(tmp_path / "run").state().kind == "running"
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.1)
            state = hs.read_feed(tmp_path / "run").state()
            assert state.kind == "ended" and "killed" in state.sentence
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def alarms(folder: Path) -> list[tuple[int, str, str]]:
    return [(each.step, each.rule, each.sentence) for each in hs.read_feed(folder).alarms()]


def run(
    folder: Path,
    model: nn.Module,
    optimizer: Any,
    steps: int,
    loss: Callable[..., Tensor] = cross_entropy,
    every: int = 1,
) -> None:
    with hs.follow(model, folder, every=every, optimizer=optimizer) as feed:
        for step in range(steps):
            pictures, classes = batch(step)
            value = loss(model(pictures), classes)
            value.backward()
            feed.step(loss=value)
            optimizer.step()
            optimizer.zero_grad()


def test_an_explosion_is_called_one_and_not_a_vanishing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(6, 6), nn.ReLU()) for _ in range(4)), nn.Linear(6, 3))
    run(tmp_path / "run", model, torch.optim.SGD(model.parameters(), lr=1e4), 4)
    told = [each for each in alarms(tmp_path / "run") if each[1] != "update-ratio"]
    assert told[0][1] == "exploding-gradients" and told[0][0] <= 2
    assert not any(rule == "vanishing-gradients" and step <= told[0][0] for step, rule, _ in told)


def test_a_learning_rate_of_0_is_told(tmp_path: Path) -> None:
    model = net()
    run(tmp_path / "run", model, torch.optim.SGD(model.parameters(), lr=0.0), 5)
    ((step, rule, sentence),) = alarms(tmp_path / "run")
    assert (step, rule) == (2, "unchanged") and "Every learning rate was 0 in 3 updates" in sentence


def test_what_gets_no_gradient_is_not_blamed_on_the_optimiser(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = [nn.Sequential(nn.Linear(6, 6), nn.Sigmoid()) for _ in range(14)]
    model = nn.Sequential(*parts, nn.Linear(6, 3))
    run(tmp_path / "run", model, torch.optim.SGD(model.parameters(), lr=0.01), 12)
    assert {rule for _, rule, _ in alarms(tmp_path / "run")} == {"vanishing-gradients"}


def test_only_a_mean_cross_entropy_is_held_against_chance(tmp_path: Path) -> None:
    def far(values: Tensor) -> Tensor:
        return values * 60

    losses: dict[str, tuple[Callable[..., Tensor], bool]] = {
        "mean": (lambda values, classes: cross_entropy(far(values), classes), True),
        "sum": (lambda values, classes: cross_entropy(values, classes, reduction="sum"), False),
        "penalty": (lambda values, classes: cross_entropy(values, classes) + 50, False),
    }
    for name, (loss, expected) in losses.items():
        model = net()
        run(tmp_path / name, model, torch.optim.SGD(model.parameters(), lr=1e-3), 1, loss)
        assert any(rule == "initial-loss" for _, rule, _ in alarms(tmp_path / name)) is expected, name


def test_infinite_values_of_a_batch_are_not_the_layers(tmp_path: Path) -> None:
    model = net()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        pictures, classes = batch(0)
        pictures[0] = float("inf")
        loss = cross_entropy(model(pictures), classes)
        loss.backward()
        feed.step(loss=loss)
    (alarm,) = hs.read_feed(tmp_path / "run").alarms()
    assert "holds 6 infinite values" in alarm.sentence and "finite inputs" not in alarm.sentence
    assert "how this batch was made" in alarm.advice


def test_a_nan_between_two_looks_is_told_with_its_step(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss(values: Tensor, classes: Tensor) -> Tensor:
        found = cross_entropy(values, classes)
        return found * float("nan") if model.step == 3 else found  # type: ignore[attr-defined]

    with hs.follow(model, tmp_path / "run", every=10, optimizer=optimizer) as feed:
        for step in range(6):
            model.step = step  # type: ignore[assignment]
            value = loss(model(batch(step)[0]), batch(step)[1])
            value.backward()
            feed.step(loss=value)
            optimizer.step()
            optimizer.zero_grad()
    (alarm,) = hs.read_feed(tmp_path / "run").alarms()
    assert alarm.step == 4 and "not finite at step 3 already" in alarm.sentence and "every=1" in alarm.advice


def test_frozen_weights_with_a_bias_that_trains_have_no_alarm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        for step in range(5):
            loss = cross_entropy(model(torch.rand(8, 1, 4, 4)), batch(step)[1])
            loss.backward()
            feed.step(loss=loss)
            optimizer.step()
            optimizer.zero_grad()
    assert alarms(tmp_path / "run") == [] and np.isfinite(hs.read_feed(tmp_path / "run").column("g", "norm")).any()
