"""`hs.follow` in real training loops: its numbers against ones computed by hand, and that it disturbs nothing."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ENVIRON
from torch import Tensor, nn

import hookscope as hs
from hookscope.hooks.results.feeds import bin_edges

cross_entropy = nn.functional.cross_entropy


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 36, 10)
    )


def batch(seed: int, count: int = 16) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 8, 8, generator=made), torch.randint(0, 10, (count,), generator=made)


def hooks_on(model: nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())


def train(
    model: nn.Module,
    feed: Any,
    optimizer: torch.optim.Optimizer,
    steps: int,
    seen: Callable[[int], None] = lambda step: None,
) -> None:
    for step in range(steps):
        pictures, classes = batch(step)
        loss = cross_entropy(model(pictures), classes)
        loss.backward()
        feed.step(loss=loss)
        seen(step)
        optimizer.step()
        optimizer.zero_grad()


def rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


@contextlib.contextmanager
def silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- the numbers


@pytest.mark.parametrize("kind", ["plain", "foreach", "fused"])
def test_activations_gradients_weights_and_updates_are_those_computed_by_hand(tmp_path: Path, kind: str) -> None:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        extra = {"foreach": {"foreach": True}, "fused": {"fused": True}, "plain": {"foreach": False}}[kind]
        return torch.optim.AdamW(model.parameters(), lr=0.01, **extra)

    model, twin = small_net(), small_net()
    optimizer, other = make(model), make(twin)
    with hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer) as feed:
        for step in range(5):
            pictures, classes = batch(step)
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            feed.step(loss=loss)
            nn.utils.clip_grad_norm_(model.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()

    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 2, 4] and found.skipped == 0
    for step in range(5):  # the same training without the feed, each number by hand
        pictures, classes = batch(step)
        convolved = twin[0](pictures)
        normed = twin[1](convolved)
        fired = normed.clamp(min=0)
        loss = cross_entropy(twin[4](fired.flatten(1)), classes)
        loss.backward()
        before = {name: each.detach().double().clone() for name, each in twin.named_parameters()}
        gradients = {name: each.grad.double().clone() for name, each in twin.named_parameters()}  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
        other.step()
        other.zero_grad()
        look = found.at(step)
        assert look is not None
        if look.step != step:
            continue
        assert look.loss == pytest.approx(loss.item(), rel=1e-6)
        assert look.rates == (0.01,)
        for layer, values in (("0", convolved), ("1", normed), ("2", fired)):
            numbers = look.of(layer)
            wide = values.detach().double()
            assert numbers["a", "mean"] == pytest.approx(float(wide.mean()), rel=1e-4, abs=1e-7)
            assert numbers["a", "std"] == pytest.approx(float(wide.std(correction=0)), rel=1e-4)
            assert numbers["a", "rms"] == pytest.approx(rms(wide), rel=1e-4)
            assert numbers["a", "zeros"] == pytest.approx(float((wide == 0).double().mean()), rel=1e-4)
            assert (numbers["a", "nan"], numbers["a", "inf"], numbers["a", "inputs"]) == (0, 0, 16)
            bins = found.bins(step)
            assert bins is not None
            flat = values.detach().numpy().reshape(-1).astype(np.float64)
            edges = bin_edges()[105:]
            size = np.searchsorted(edges, np.abs(flat), "right")
            by_hand = np.bincount(105 + np.where(flat < 0, -size, size), minlength=211)
            # the training's own values may differ in the last digit from those computed here, one at an edge
            assert np.abs(bins["a"][layer] - by_hand).sum() <= 4 and bins["a"][layer].sum() == flat.size
        assert look.of("2")["a", "dead"] == int((fired.flatten(2).amax((0, 2)) == 0).sum())
        for layer in ("0", "1", "4"):
            own = [name for name in gradients if name.startswith(f"{layer}.")]
            gradient = torch.cat([gradients[name].flatten() for name in own])
            weight = torch.cat([before[name].flatten() for name in own])
            after = torch.cat([dict(twin.named_parameters())[name].detach().double().flatten() for name in own])
            numbers = look.of(layer)
            assert numbers["g", "norm"] == pytest.approx(float(gradient.norm()), rel=1e-3)  # before it was clipped
            assert numbers["g", "rms"] == pytest.approx(rms(gradient), rel=1e-3)
            assert numbers["w", "norm"] == pytest.approx(float(weight.norm()), rel=1e-4)
            assert numbers["w", "count"] == weight.numel()
            assert numbers["u", "ratio"] == pytest.approx(float((after - weight).norm() / weight.norm()), rel=1e-3)
    for name, each in model.named_parameters():  # and the training is what it was without the feed
        assert torch.equal(each, dict(twin.named_parameters())[name]), name


@pytest.mark.parametrize("kind", ["plain", "fused"])
@pytest.mark.parametrize("unscaled", [False, True])
def test_gradients_under_a_scaler_are_those_of_float32(tmp_path: Path, kind: str, unscaled: bool) -> None:
    model, twin = small_net(), small_net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=kind == "fused")
    scaler = torch.amp.GradScaler("cpu", init_scale=65_536.0)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer, scaler=scaler) as feed:
        pictures, classes = batch(0)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = cross_entropy(model(pictures).float(), classes)
        scaler.scale(loss).backward()
        if unscaled:
            scaler.unscale_(optimizer)
        feed.step(loss=loss)
        scaler.step(optimizer)
        scaler.update()
    cross_entropy(twin(pictures), classes).backward()
    found = hs.read_feed(tmp_path / "run").looks[0]
    assert found.scale == 65_536 and not found.skipped
    for layer in ("0", "1", "4"):
        gradient = torch.cat([each.grad.flatten() for each in twin[int(layer)].parameters()])  # type: ignore[union-attr]
        assert found.of(layer)["g", "norm"] == pytest.approx(float(gradient.norm()), rel=1e-2)
        assert found.of(layer)["u", "ratio"] > 0


def test_gradients_under_bfloat16_are_those_of_float32(tmp_path: Path) -> None:
    model, twin = small_net(), small_net()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        pictures, classes = batch(0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = cross_entropy(model(pictures).float(), classes)
        loss.backward()
        feed.step(loss=loss)
    cross_entropy(twin(pictures), classes).backward()
    found = hs.read_feed(tmp_path / "run").looks[0]
    assert math.isnan(found.scale) and not found.rates  # neither was given, so these columns are not there
    for layer in ("0", "1", "4"):
        gradient = torch.cat([each.grad.flatten() for each in twin[int(layer)].parameters()])  # type: ignore[union-attr]
        assert found.of(layer)["g", "norm"] == pytest.approx(float(gradient.norm()), rel=1e-2)
        assert ("u", "ratio") not in found.of(layer)


def test_a_step_that_the_scaler_leaves_out_has_no_update(tmp_path: Path) -> None:
    for fused in (False, True):
        model = small_net()
        optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=1e30)  # overflows in float16
        with hs.follow(model, tmp_path / f"run{fused}", every=1, optimizer=optimizer, scaler=scaler) as feed:
            for step in range(2):
                pictures, classes = batch(step)
                with torch.autocast("cpu", dtype=torch.float16):
                    loss = cross_entropy(model(pictures), classes)
                scaler.scale(loss).backward()
                feed.step(loss=loss)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        found = hs.read_feed(tmp_path / f"run{fused}")
        assert [look.skipped for look in found.looks] == [True, True]
        assert np.isnan(found.column("u", "ratio")).all() and not found.alarms()


def test_four_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    model, twin = small_net(), small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        for part in range(4):
            pictures, classes = batch(part)
            loss = cross_entropy(model(pictures), classes) / 4
            loss.backward()
        feed.step(loss=loss)
        optimizer.step()
    outputs = []
    for part in range(4):
        pictures, classes = batch(part)
        outputs.append(twin[0](pictures))
        (cross_entropy(twin[4](twin[2](twin[1](outputs[-1].clone())).flatten(1)), classes) / 4).backward()
    found = hs.read_feed(tmp_path / "run").looks[0]
    every = torch.cat(outputs).detach().double()
    assert found.of("0")["a", "inputs"] == 64
    assert found.of("0")["a", "mean"] == pytest.approx(float(every.mean()), rel=1e-4)
    assert found.of("0")["a", "std"] == pytest.approx(float(every.std(correction=0)), rel=1e-4)
    weight = twin[4].weight.grad
    bias = twin[4].bias.grad
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    whole = torch.cat([weight.flatten(), bias.flatten()])
    assert found.of("4")["g", "norm"] == pytest.approx(float(whole.norm()), rel=1e-4)


# --- what is on the model, and when


def test_between_two_looks_no_hook_is_on_the_model(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    counts: dict[int, tuple[int, int, int]] = {}

    def seen(step: int) -> None:
        steps = len(optimizer._optimizer_step_pre_hooks)  # type: ignore[attr-defined]
        counts[step] = hooks_on(model), len(hs.live_hooks(owner="a test")), steps

    with hs.follow(model, tmp_path / "run", every=10, optimizer=optimizer, owner="a test") as feed:
        assert hooks_on(model) == 2  # one before and one behind the model itself: the first step is looked at
        train(model, feed, optimizer, 25, seen)
    armed = {step for step, count in counts.items() if count[0]}
    assert armed == {9, 19}  # the step after these is looked at
    assert all(counts[step] == (0, 0, 0) for step in range(1, 9))
    assert counts[9][:2] == (2, 2)
    assert not hooks_on(model) and not hs.live_hooks(owner="a test")
    assert not optimizer._optimizer_step_pre_hooks  # type: ignore[attr-defined]
    assert not optimizer._optimizer_step_post_hooks  # type: ignore[attr-defined]
    assert hs.read_feed(tmp_path / "run").steps.tolist() == [0, 10, 20]


def test_a_validation_between_two_steps_is_not_taken_for_one(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def validate(step: int) -> None:
        model.eval()
        with torch.no_grad():
            model(torch.full((5, 3, 8, 8), 1e6))
        model(torch.full((5, 3, 8, 8), 1e6))  # and one that forgot no_grad
        model.train()

    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 3, validate)
    found = hs.read_feed(tmp_path / "run")
    assert found.column("a", "inputs")[:, 0].tolist() == [16, 16, 16]
    assert found.column("a", "rms").max() < 10


def test_copies_of_a_watched_model_have_no_working_hook(tmp_path: Path) -> None:
    """An average of the weights is a deep copy; a whole model may be saved; both while the next step is waited for."""
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        average = torch.optim.swa_utils.AveragedModel(model)
        kept = io.BytesIO()
        torch.save(model, kept)
        for step in range(3):
            pictures, classes = batch(step)
            loss = cross_entropy(model(pictures), classes)
            average(torch.full((7, 3, 8, 8), 1e6))  # in training mode, with gradients
            copy.deepcopy(model)(torch.full((7, 3, 8, 8), 1e6))
            loss.backward()
            feed.step(loss=loss)
            optimizer.step()
            optimizer.zero_grad()
            average.update_parameters(model)
    kept.seek(0)
    again = torch.load(kept, weights_only=False)  # the model that was just written here, whole and not its weights
    assert again(batch(0)[0]).shape == (16, 10)
    assert hs.read_feed(tmp_path / "run").column("a", "inputs")[:, 0].tolist() == [16, 16, 16]


@pytest.mark.parametrize("how", ["dataparallel", "compiled"])
def test_wrappers_are_looked_through(tmp_path: Path, how: str) -> None:
    model = small_net()
    wrapped: Any = nn.DataParallel(model) if how == "dataparallel" else torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(wrapped, tmp_path / "run", every=2, optimizer=optimizer) as feed:
        train(wrapped, feed, optimizer, 5)
    found = hs.read_feed(tmp_path / "run")
    assert found.layers == ("0", "1", "2", "3", "4")
    assert np.isfinite(found.column("a", "rms")).all() and found.run.model == "Sequential"


def test_a_model_of_which_only_parts_are_called_is_seen_from_the_next_look_on(tmp_path: Path) -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    model = Parts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(UserWarning, match="only parts of it"),
        hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed,
    ):
        for _ in range(3):
            model.head(model.body(torch.rand(6, 4))).sum().backward()
            feed.step()
            optimizer.step()
            optimizer.zero_grad()
    rows = hs.read_feed(tmp_path / "run")
    there = np.isfinite(rows.column("a", "rms")[:, rows.layers.index("body")])
    assert there.tolist() == [False, True, True]
    assert "only parts of it" in rows.looks[0].notes[0]


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 2)
        assert not feed.writing and not hooks_on(model)
    assert not (tmp_path / "run").exists()


# --- the order of calls


def test_called_after_the_update_it_looks_before_it_and_says_so(tmp_path: Path) -> None:
    model, twin = small_net(), small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.warns(UserWarning, match="called after optimizer.step"),
        hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed,
    ):
        for step in range(2):
            pictures, classes = batch(step)
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            feed.step(loss=loss)
    pictures, classes = batch(0)
    cross_entropy(twin(pictures), classes).backward()
    gradient = torch.cat([each.grad.flatten() for each in twin[4].parameters()])  # type: ignore[union-attr]
    weight = torch.cat([each.detach().flatten() for each in twin[4].parameters()])
    numbers = hs.read_feed(tmp_path / "run").looks[0].of("4")
    assert numbers["g", "norm"] == pytest.approx(float(gradient.norm()), rel=1e-4)
    assert numbers["w", "norm"] == pytest.approx(float(weight.norm()), rel=1e-4)
    assert numbers["u", "ratio"] == pytest.approx(0.1 * float(gradient.norm() / weight.norm()), rel=1e-3)


def test_without_gradients_it_says_so_once(tmp_path: Path) -> None:
    model = small_net()
    with warnings.catch_warnings(record=True) as said, hs.follow(model, tmp_path / "run", every=1) as feed:
        warnings.simplefilter("always")
        for step in range(3):
            feed.step(loss=model(batch(step)[0]).sum())
    assert [str(each.message)[:23] for each in said] == ["There were no gradients"]
    assert len(hs.read_feed(tmp_path / "run").looks) == 3


def test_frozen_weights_have_no_gradient_and_no_alarm(tmp_path: Path) -> None:
    model = small_net()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 6)
    found = hs.read_feed(tmp_path / "run")
    assert np.isnan(found.column("g", "norm")[:, 0]).all() and np.isfinite(found.column("w", "norm")[:, 0]).all()
    assert not found.alarms()


# --- what goes wrong


def test_an_exception_in_the_loop_ends_the_feed_and_takes_every_hook_off(tmp_path: Path) -> None:
    model = small_net()
    with pytest.raises(KeyError), hs.follow(model, tmp_path / "run", every=1) as feed:
        model(batch(0)[0]).sum().backward()
        feed.step()
        raise KeyError("a secret")
    state = hs.read_feed(tmp_path / "run").state()
    assert (state.kind, state.sentence) == ("ended", "The run was ended by KeyError.")
    assert not hooks_on(model) and "secret" not in (tmp_path / "run" / "steps.jsonl").read_text()


def test_an_exception_in_the_models_own_code_is_the_models(tmp_path: Path) -> None:
    model = small_net()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        with pytest.raises(RuntimeError, match="expected input"):
            model(torch.rand(2, 5, 8, 8))
        assert hooks_on(model) == 2  # the layers' are off
        model(batch(0)[0]).sum().backward()
        feed.step()
    assert hs.read_feed(tmp_path / "run").looks[0].of("0")["a", "inputs"] == 16


def test_a_folder_holds_one_run_and_resume_goes_on(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 5)
    with pytest.raises(hs.HooksError, match="holds a run already"), hs.follow(model, tmp_path / "run"):
        pass
    with hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer, resume=True) as feed:
        with pytest.raises(hs.HooksError, match="This process writes into the folder run already"):
            hs.follow(model, tmp_path / "run", resume=True).open()
        assert hs.read_feed(tmp_path / "run").state().kind == "running"
        train(model, feed, optimizer, 4)
    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 2, 4, 6, 8] and found.state().kind == "ended"
    before = found.revision
    with hs.follow(model, tmp_path / "run", every=2, optimizer=optimizer, resume=True) as feed:
        for step in range(4, 7):  # from a checkpoint at step 4: what stood behind it is taken back
            pictures, classes = batch(step)
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            feed.step(loss=loss, step=step)
            optimizer.step()
            optimizer.zero_grad()
    found.poll()
    assert found.steps.tolist() == [0, 2, 4, 6] and found.revision > before
    assert found.bins(6) is not None and found.bins(8) is None


def test_what_every_step_was_given_is_kept_also_behind_the_last_look(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD([{"params": model[0].parameters()}, {"params": model[4].parameters(), "lr": 0.5}], lr=1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    losses: list[float] = []
    with hs.follow(model, tmp_path / "run", every=4, optimizer=optimizer) as feed:
        for step in range(7):
            pictures, classes = batch(step)
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            losses.append(loss.item())
            feed.step(loss=loss, **({"accuracy": torch.tensor(step / 10)} if step in (3, 6) else {}), nothing="text")
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 4] and found.scalar_names == ("accuracy",)
    steps, values = found.losses()
    assert steps.tolist() == list(range(7)) and values.tolist() == pytest.approx(losses, rel=1e-7)
    steps, values = found.scalars("accuracy")
    assert steps.tolist() == [3, 6] and values.tolist() == pytest.approx([0.3, 0.6])
    assert found.looks[1].scalars == {} and found.scalars("other")[0].tolist() == []
    np.testing.assert_allclose(found.rates(), [[1, 0.5], [0.9**4, 0.5 * 0.9**4]], rtol=1e-7)
    with hs.follow(model, tmp_path / "run", every=4, optimizer=optimizer, resume=True) as feed:
        train(model, feed, optimizer, 2)  # behind the last step that was done, looked at or not
    found.poll()
    assert found.losses()[0].tolist() == list(range(9)) and found.steps.tolist() == [0, 4, 8]
    with hs.follow(model, tmp_path / "run", every=4, optimizer=optimizer, resume=True) as feed:
        feed.step(loss=9.0, step=5)  # from a checkpoint: what later steps were given is taken back
    found.poll()
    assert [each.tolist()[-2:] for each in found.losses()] == [[4, 5], [pytest.approx(losses[4]), 9.0]]
    assert found.scalars("accuracy")[0].tolist() == [3]


@pytest.mark.parametrize("loss", [{"ce": 1.0}, torch.rand(3), "1 point"])
def test_a_loss_that_is_no_number_is_said_and_costs_nothing_else(tmp_path: Path, loss: Any) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        for step in range(3):
            cross_entropy(model(batch(step)[0]), batch(step)[1]).backward()
            feed.step(loss=loss)
            optimizer.step()
            optimizer.zero_grad()
    found = hs.read_feed(tmp_path / "run")
    assert len(found.looks) == 3 and not found.alarms() and np.isnan([look.loss for look in found.looks]).all()
    assert f"no number but {type(loss).__name__}" in found.looks[0].notes[0] and not found.looks[1].notes


def test_a_full_disk_stops_nothing_and_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    full, real = {"is": False}, os.write

    def write(file: int, data: Any) -> int:
        if full["is"] and os.fstat(file).st_size >= 0:
            real(file, bytes(data)[:100])  # a part of the line gets in
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(os, "write", write)

    def fill(step: int) -> None:
        full["is"] = 1 <= step < 4

    with (
        pytest.warns(UserWarning, match="No space left on device") as said,
        hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed,
    ):
        train(model, feed, optimizer, 6, fill)
    assert len(said) == 1
    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 1, 2, 3, 4, 5] and found.skipped == 0  # lines wait, and come later
    assert [step for step in range(6) if found.bins(step) is None] == [1, 2, 3]
    assert any("No space left" in note for look in found.looks for note in look.notes)


def test_a_folder_that_is_taken_away_is_made_again(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def take_away(step: int) -> None:
        if step == 1:
            for path in (tmp_path / "run").iterdir():
                path.unlink()
            (tmp_path / "run").rmdir()

    with silence(), hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 4, take_away)
    assert hs.read_feed(tmp_path / "run").steps.tolist()[-1] == 3


def test_a_failure_of_ours_is_told_once_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, twin = small_net(), small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    other = torch.optim.SGD(twin.parameters(), lr=0.1)

    def fail(*given: Any, **named: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("hookscope.hooks.training.watching.read_output_later", fail)
    with (
        pytest.warns(UserWarning, match="cannot watch this step .ZeroDivisionError") as said,
        hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed,
    ):
        train(model, feed, optimizer, 3)
    assert len(said) == 1
    for step in range(3):
        pictures, classes = batch(step)
        cross_entropy(twin(pictures), classes).backward()
        other.step()
        other.zero_grad()
    assert all(map(torch.equal, model.parameters(), twin.parameters()))


def test_where_warnings_are_errors_the_training_goes_on_too(tmp_path: Path) -> None:
    model = small_net()
    with warnings.catch_warnings(), hs.follow(model, tmp_path / "run", every=1) as feed:
        warnings.simplefilter("error")
        feed.step()  # nothing ran, and there is no gradient
        feed.step(loss="nonsense")
    assert len(hs.read_feed(tmp_path / "run").looks) >= 1


TRAINER = """
import sys, torch
from torch import nn
import hookscope as hs
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(net.parameters(), 0.1)
with hs.follow(net, sys.argv[1], every=1, optimizer=optimizer, resume=True) as feed:
    while True:
        loss = net(torch.rand(4, 8)).square().mean()
        loss.backward()
        feed.step(loss=loss)
        optimizer.step()
        optimizer.zero_grad()
"""


def test_a_trainer_killed_twenty_times_leaves_a_feed_that_is_read(tmp_path: Path) -> None:
    """One process imports torch and forks a trainer, which is killed while it writes; the next goes on behind it."""
    program = TRAINER.replace("torch.manual_seed(0)", "torch.manual_seed(0); torch.set_num_threads(1)")
    forks = f"""
import os, signal, sys, time, pathlib
import torch
import hookscope as hs
hs.follow, hs.read_feed
import hookscope.hooks.numbers.kernels
program = compile({program!r}, "trainer", "exec")
net, folder = torch.nn.Linear(2, 2), sys.argv[1] + "-first"  # what is imported late is imported before the forks
torch.set_num_threads(1)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
with hs.follow(net, folder, every=1, optimizer=optimizer) as feed:
    net(torch.rand(2, 2)).sum().backward()
    feed.step()
    optimizer.step()
lines = pathlib.Path(sys.argv[1]) / "steps.jsonl"
size = lambda: lines.stat().st_size if lines.exists() else 0
for turn in range(20):
    before = size()
    child = os.fork()
    if not child:
        exec(program, {{"__name__": "trainer"}})
    started = time.monotonic()
    while size() < before + 2000 and time.monotonic() - started < 60:
        time.sleep(0.001)
    time.sleep(0.0007 * turn)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    feed = hs.read_feed(sys.argv[1])
    assert feed.skipped <= turn + 1 and len(feed.looks) > 2 * turn, (turn, feed.skipped, len(feed.looks))
    assert (feed.steps[1:] > feed.steps[:-1]).all()
    assert feed.state().kind == "ended" and "killed" in feed.state().sentence
    assert feed.bins(int(feed.steps[-2])) is not None
print(len(feed.looks), feed.skipped)
"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", forks, str(tmp_path / "run")],
        env=ENVIRON, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    looks, skipped = map(int, ran.stdout.split())
    assert looks > 60 and skipped <= 20
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".bins")][1:]


# --- alarms


class Dividing(nn.Module):
    """Becomes NaN in a line of its own from the third step on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 10)
        self.step = 0

    def forward(self, values: Tensor) -> Tensor:
        hidden = torch.relu(self.first(values))
        if self.step >= 2:
            hidden = hidden / (hidden - hidden)  # the culprit
        answer: Tensor = self.last(hidden)
        return answer


def test_the_producer_of_a_nan_is_named_with_its_line_and_its_victims_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Dividing()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        for step in range(4):
            model.step = step
            loss = cross_entropy(model(torch.rand(6, 4)), torch.zeros(6, dtype=torch.long))
            loss.backward()
            feed.step(loss=loss)
            model.zero_grad()
    alarms = [alarm for alarm in hs.read_feed(tmp_path / "run").alarms() if alarm.rule == "non-finite"]
    assert len(alarms) == 1 and alarms[0].step == 2 and alarms[0].until == -1
    assert alarms[0].layer == "/div" and alarms[0].severity == "error"
    assert "test_follow.py" in alarms[0].sentence
    assert "hidden = hidden / (hidden - hidden)  # the culprit" in alarms[0].sentence
    assert "last" not in alarms[0].layers
    told = [each.message for each in caplog.records if each.name == "hookscope"]
    assert len([each for each in told if alarms[0].sentence in each]) == 1 and alarms[0].advice in told[0]
    assert not hooks_on(model)


@pytest.mark.parametrize("after", [False, True])
def test_the_producer_is_that_of_the_step_and_not_of_the_weights_that_the_update_left(
    tmp_path: Path, after: bool
) -> None:
    model = Dividing()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        for step in range(3):
            model.step = step
            loss = cross_entropy(model(torch.rand(6, 4)), torch.zeros(6, dtype=torch.long))
            loss.backward()
            _ = after or feed.step(loss=loss)
            optimizer.step()
            _ = after and feed.step(loss=loss)
            optimizer.zero_grad()
    (alarm,) = told(tmp_path / "run", "non-finite")
    assert alarm.step == 2 and "weight is not finite" not in alarm.sentence
    if after:  # nobody can run it again by then
        assert alarm.layer == "last" and alarm.sentence.endswith("The same batch could not be run once more.")
    else:
        assert alarm.layer == "/div" and "# the culprit" in alarm.sentence


def test_nan_in_the_batch_are_the_batchs(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        pictures, classes = batch(0)
        pictures[3, 0, :2] = math.nan
        loss = cross_entropy(model(pictures), classes)
        loss.backward()
        feed.step(loss=loss)
        optimizer.step()
    (alarm,) = told(tmp_path / "run", "non-finite")
    count = int(pictures.isnan().sum())
    assert count and alarm.layer == "" and f"{count} NaN in the batch" in alarm.sentence and "batch" in alarm.advice


def test_a_loss_that_makes_the_nan_itself_is_told_so_with_an_optimizer(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        pictures, classes = batch(0)
        loss = cross_entropy(model(pictures) / 0, classes)
        loss.backward()
        feed.step(loss=loss)
        optimizer.step()
    (alarm,) = told(tmp_path / "run", "non-finite")
    assert alarm.layer == "" and "the loss itself makes it" in alarm.sentence


def test_a_nan_between_two_looks_has_the_next_step_looked_at(tmp_path: Path) -> None:
    model = Dividing()
    with hs.follow(model, tmp_path / "run", every=100) as feed:
        for step in range(6):
            model.step = step
            loss = cross_entropy(model(torch.rand(6, 4)), torch.zeros(6, dtype=torch.long))
            feed.step(loss=loss) if step else (loss.backward(), feed.step(loss=loss))
    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 3]
    assert found.looks[1].alarms[0].layer == "/div"


def test_a_norm_of_values_none_of_which_is_finite_is_no_0(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.fill_(math.nan), model[0].bias.fill_(math.inf)
        model[1].weight[0].fill_(math.nan)
        kept = torch.cat([model[1].weight[1], model[1].bias]).double().clone()
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        loss = model(torch.rand(6, 4)).sum()
        loss.backward()
        feed.step(loss=loss)
    (look,) = hs.read_feed(tmp_path / "run").looks
    numbers = {layer: look.of(layer) for layer in ("0", "1", "2")}
    assert ("w", "norm") not in numbers["0"] and (numbers["0"]["w", "nan"], numbers["0"]["w", "inf"]) == (12, 3)
    assert not {("g", "norm"), ("g", "rms")} & numbers["0"].keys() and numbers["0"]["g", "nan"] == 15
    assert numbers["1"]["w", "norm"] == pytest.approx(float(kept.norm()), rel=1e-4)  # of those that are finite
    assert not {("a", "mean"), ("a", "std"), ("a", "rms"), ("a", "zeros")} & numbers["2"].keys()
    assert numbers["2"]["a", "nan"] == 12
    assert '"norm": 0' not in (tmp_path / "run" / "steps.jsonl").read_text()


def told(folder: Path, rule: str) -> list[Any]:
    return [alarm for alarm in hs.read_feed(folder).alarms() if alarm.rule == rule]


def test_dead_channels_are_told_once_until_they_are_over(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def kill(step: int) -> None:
        with torch.no_grad():
            model[1].bias[:5] = -100.0 if 3 <= step < 10 else 0.0

    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 20, kill)
    (alarm,) = told(tmp_path / "run", "dead-channels")
    assert alarm.layer == "2" and alarm.value == 5 / 8 and "5 of 8 channels" in alarm.sentence
    assert alarm.step == 6  # killed after step 3: silent in the looks 4, 5 and 6
    assert 11 <= alarm.until <= 14


def test_updates_that_are_too_large_or_too_small(tmp_path: Path) -> None:
    for rate, word, step in ((1e4, "times as large as its weights", 0), (1e-9, "of its weights", 2)):
        model = nn.Sequential(nn.Linear(8, 10)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        with hs.follow(model, tmp_path / str(rate), every=1, optimizer=optimizer) as feed:
            for _ in range(4):
                loss = cross_entropy(model(torch.rand(6, 8).double()), torch.zeros(6, dtype=torch.long))
                loss.backward()
                feed.step(loss=loss)
                optimizer.step()
                optimizer.zero_grad()
        alarms = told(tmp_path / str(rate), "update-ratio")
        assert alarms and word in alarms[0].sentence and alarms[0].step == step


def test_a_weight_that_never_changes_is_named(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)  # the others were forgotten
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 6)
    (alarm,) = told(tmp_path / "run", "unchanged")
    assert alarm.step == 2 and set(alarm.layers) == {"0.weight"}  # a bias may not be felt


def test_a_loss_that_begins_far_above_chance(tmp_path: Path) -> None:
    for factor, expected in ((1.0, 0), (300.0, 1)):
        model = small_net()
        with torch.no_grad():
            model[4].weight *= factor
        with hs.follow(model, tmp_path / str(factor), every=1) as feed:
            pictures, classes = batch(0)
            loss = cross_entropy(model(pictures), classes)
            loss.backward()
            feed.step(loss=loss)
        assert len(told(tmp_path / str(factor), "initial-loss")) == expected


def test_gradients_that_vanish_and_explode(tmp_path: Path) -> None:
    for factor, rule in ((0.01, "vanishing-gradients"), (30.0, "exploding-gradients"), (1.0, "")):
        torch.manual_seed(0)
        model = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(8)])
        with torch.no_grad():
            for layer in model:
                nn.init.orthogonal_(layer.weight)
                layer.weight *= factor
        with hs.follow(model, tmp_path / str(factor), every=1) as feed:
            values = torch.rand(8, 16)
            for layer in model:  # each layer's own input is of usual size, so that only the gradient is scaled
                values = layer(values)
            (model(torch.rand(8, 16)) if factor == 1 else _scaled(model, factor)).sum().backward()
            feed.step()
        alarms = [alarm.rule for alarm in hs.read_feed(tmp_path / str(factor)).alarms()]
        assert alarms == ([rule] if rule else [])


def _scaled(model: nn.Sequential, factor: float) -> Tensor:
    """The model as a whole, with what goes forward made as large as it was before each layer."""

    class Same(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, values: Tensor) -> Tensor:
            return values / factor

        @staticmethod
        def backward(context: Any, *gradients: Tensor) -> Tensor:
            return gradients[0]

    handles = [layer.register_forward_hook(lambda module, args, output: Same.apply(output)) for layer in model]
    output: Tensor = model(torch.rand(8, 16))
    for handle in handles:
        handle.remove()
    return output


def test_a_gradient_that_underflows_in_float16(tmp_path: Path) -> None:
    for scale, expected in ((1.0, True), (65_536.0, False)):
        model = small_net()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        with hs.follow(model, tmp_path / str(scale), every=1, scaler=scaler) as feed:
            pictures, classes = batch(0)
            with torch.autocast("cpu", dtype=torch.float16):
                loss = cross_entropy(model(pictures), classes) * 1e-5
            scaler.scale(loss).backward()
            feed.step(loss=loss)
        alarms = told(tmp_path / str(scale), "underflow")
        assert bool(alarms) == expected
        assert not expected or "end of float16's range" in alarms[0].sentence or "all of it is 0" in alarms[0].sentence


def test_a_healthy_training_has_no_alarm_and_rules_can_be_silenced(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed:
        train(model, feed, optimizer, 30)
    assert not hs.read_feed(tmp_path / "run").alarms()
    for silenced in ({"unchanged": "off"}, False):
        optimizer = torch.optim.SGD(model[4].parameters(), lr=0.1)
        folder = tmp_path / str(silenced)
        with hs.follow(model, folder, every=1, optimizer=optimizer, alarms=silenced) as feed:  # type: ignore[arg-type]
            train(model, feed, optimizer, 6)
        assert not hs.read_feed(folder).alarms()
    with pytest.raises(hs.HooksError, match="There is no alarm 'dead'; there are non-finite, "):
        hs.follow(model, tmp_path / "x", alarms={"dead": "off"})
    with pytest.raises(hs.HooksError, match="'on' or 'off'"):
        hs.follow(model, tmp_path / "x", alarms={"unchanged": "never"})  # type: ignore[dict-item]
    with pytest.raises(hs.HooksError, match="every is 0"):
        hs.follow(model, tmp_path / "x", every=0)
    with pytest.raises(hs.HooksError, match="limit_mb is 0"):
        hs.follow(model, tmp_path / "x", limit_mb=0)


# --- one's own numbers, maps, room


def test_a_metric_of_ones_own_and_its_first_failure(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[Any] = []
    with (
        pytest.warns(UserWarning, match="The metric 'broken' failed at layer '2' .ValueError: not here") as said,
        hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer) as feed,
    ):
        feed.on_look(seen.append)

        @feed.metric("peak")
        def peak(layer: str, value: Tensor) -> Any:
            return value.max() if layer in "01" else None

        @feed.metric("broken")
        def broken(layer: str, value: Tensor) -> float:
            if layer == "2":
                raise ValueError("not here")
            return 1.0

        train(model, feed, optimizer, 3)
    assert len(said) == 1
    found = hs.read_feed(tmp_path / "run")
    twin = small_net()
    assert found.own("peak")[0, 0] == pytest.approx(float(twin[0](batch(0)[0]).detach().max()), rel=1e-4)
    assert np.isnan(found.own("peak")[:, 2:]).all() and np.isfinite(found.own("peak")[:, :2]).all()
    assert np.isfinite(found.own("broken")).sum() == 2  # two layers of the first look
    assert [look.step for look in seen] == [0, 1, 2] and seen[0].of("0")["w", "count"] == 224


def test_maps_of_a_pinned_picture_are_those_of_the_model_at_that_step(tmp_path: Path) -> None:
    model = small_net()
    pinned = torch.rand(2, 3, 90, 60)
    body = nn.Sequential(model[0], model[1], model[2], nn.AdaptiveAvgPool2d(6), model[3], model[4])
    optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
    state = torch.get_rng_state()
    expected = {}

    def seen(step: int) -> None:
        with torch.no_grad():
            body.eval()
            expected[step] = body[0](pinned[:1])[0], body(pinned[:1])[0]
            body.train()

    with hs.follow(body, tmp_path / "run", every=2, optimizer=optimizer, pinned=pinned) as feed:
        for step in range(3):
            pictures, classes = batch(step)
            loss = cross_entropy(body(pictures), classes)
            loss.backward()
            seen(step)
            feed.step(loss=loss)
            optimizer.zero_grad()  # and no update: the picture is shown after it otherwise
    assert torch.equal(torch.get_rng_state(), state)
    found = hs.read_feed(tmp_path / "run")
    maps = found.maps(2)
    assert maps is not None and found.maps(1) is None and maps.answer is not None
    assert maps.maps["0"].shape == (8, 40, 26) and maps.channels["0"].tolist() == list(range(8))
    by_hand = nn.functional.adaptive_avg_pool2d(expected[2][0], (40, 26))
    assert np.allclose(maps.maps["0"], by_hand.numpy(), atol=2e-3)
    assert np.allclose(maps.answer, expected[2][1].numpy(), atol=1e-5)


@pytest.mark.parametrize("factor", [1e-12, 1e20])  # whose squares float32 cannot hold, either
def test_maps_beyond_what_half_precision_holds_are_kept_as_they_are(tmp_path: Path, factor: float) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        model[0].weight.mul_(factor), model[0].bias.zero_()
    picture = torch.rand(1, 3, 12, 12)
    with hs.follow(model, tmp_path / "run", every=1, pinned=picture) as feed:
        model(picture).mean().backward()
        feed.step()
    maps = hs.read_feed(tmp_path / "run").maps(0)
    by_hand = nn.functional.conv2d(picture.double(), model[0].weight.double())[0].detach().numpy()
    assert maps is not None and np.allclose(maps.maps["0"] / by_hand, 1, rtol=1e-4)


def test_files_of_older_looks_make_room_and_all_lines_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hookscope.hooks.training.writer.ALL_OF", 8)
    model = nn.Sequential(nn.Linear(4, 2))
    with silence(), hs.follow(model, tmp_path / "run", every=1) as feed:
        for _ in range(60):
            model(torch.rand(3, 4)).sum().backward()
            feed.step()
    found = hs.read_feed(tmp_path / "run")
    kept = [step for step in range(60) if found.bins(step) is not None]
    assert len(found.looks) == 60
    assert kept == [*range(32, 40, 8), *range(40, 44, 4), *range(44, 52, 2), *range(52, 60)] or (
        kept[-8:] == list(range(52, 60)) and all(each % 2 == 0 for each in kept[:-8]) and len(kept) < 25
    )


def test_a_folder_stays_below_its_limit(tmp_path: Path) -> None:
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(10)])
    with silence(), hs.follow(model, tmp_path / "run", every=1, limit_mb=0.3) as feed:
        for _ in range(200):
            model(torch.rand(3, 4)).sum().backward()
            feed.step()
            size = sum(path.stat().st_size for path in (tmp_path / "run").iterdir())
            assert size < 330_000
    found = hs.read_feed(tmp_path / "run")
    assert any("half as many steps" in note for look in found.looks for note in look.notes)
    assert 50 < len(found.looks) < 200


class Again(nn.Module):
    """Runs its activation twice, a part that answers two tensors, and one only in some passes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.act, self.seldom, self.pair = nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU()
        self.pair.register_forward_hook(lambda module, given, output: (output, -output))
        self.head, self.steps = nn.Linear(4, 3), 0

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        found = self.act(self.second(self.act(self.first(pictures))))
        found = self.seldom(found) if self.steps < 2 else found
        return self.head(self.pair(found)[0].mean((2, 3)))  # type: ignore[no-any-return]


def test_maps_are_of_the_first_call_and_of_the_layers_that_run(tmp_path: Path) -> None:
    model, expected = Again(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pictures = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    with hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer, pinned=pictures) as feed:
        for _ in range(3):
            cross_entropy(model(pictures), torch.arange(6) % 3).backward()
            feed.step()
            optimizer.step()
            optimizer.zero_grad()
            expected.append(model.first(pictures[:1]).relu()[0].detach().numpy())
    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 1, 2] and not [note for look in found.looks for note in look.notes]
    for step, right in enumerate(expected):
        maps = found.maps(step)
        assert maps is not None and np.allclose(maps.maps["act"], right, atol=2e-3)
        assert ("seldom" in maps.maps) == (step == 0) and "pair" in maps.maps


def test_numbers_stay_where_the_pinned_picture_fails(tmp_path: Path) -> None:
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pinned, alone = batch(0)[0][:1], {"fails": False}

    def check(module: nn.Module, given: Any) -> None:
        if alone["fails"] and len(given[0]) == 1:
            raise ValueError("one picture is too few")

    model.register_forward_pre_hook(check)
    with (
        pytest.warns(UserWarning, match="The pinned picture could not be shown.*one picture is too few") as said,
        hs.follow(model, tmp_path / "run", every=1, optimizer=optimizer, pinned=pinned) as feed,
    ):
        train(model, feed, optimizer, 4, lambda step: alone.update(fails=step >= 1))
    found = hs.read_feed(tmp_path / "run")
    assert found.steps.tolist() == [0, 1, 2, 3] and len(said) == 1
    assert found.maps(0) is not None and found.maps(3) is None
    assert np.isfinite(found.column("u", "ratio")).any(axis=1).all()


@pytest.mark.parametrize(("limit", "least"), [(1.0, 2), (2.0, 4), (4.0, 5)])
def test_where_files_are_large_beside_the_limit_the_newest_stay(tmp_path: Path, limit: float, least: int) -> None:
    """A look of these layers takes some 0.4 MB."""
    model = nn.Sequential(*[nn.Conv2d(16, 16, 3, padding=1) for _ in range(8)])
    pictures, kept = torch.rand(2, 16, 64, 64), []
    with hs.follow(model, tmp_path / "run", every=1, limit_mb=limit, pinned=pictures) as feed:
        for step in range(24):
            model(pictures).sum().backward()
            feed.step()
            assert sum(path.stat().st_size for path in (tmp_path / "run").iterdir()) < limit * 1_000_000
            steps = {int(path.stem[5:]) for path in (tmp_path / "run").glob("maps-*")}
            kept.append(len(steps))
            assert step in steps
    assert min(kept[4:]) >= least and max(kept) < 24


def test_a_limit_without_room_for_one_look_is_told_once(tmp_path: Path) -> None:
    model = nn.Sequential(*[nn.Conv2d(16, 16, 3, padding=1) for _ in range(8)])
    pictures = torch.rand(2, 16, 64, 64)
    with (
        pytest.warns(UserWarning, match="no room in limit_mb for the distributions and maps of one look") as said,
        hs.follow(model, tmp_path / "run", every=1, limit_mb=0.2, pinned=pictures) as feed,
    ):
        for _ in range(4):
            model(pictures).sum().backward()
            feed.step()
    assert len(said) == 1 and not [*(tmp_path / "run").glob("*.safetensors")]


def test_a_line_of_a_hundred_layers_takes_12_kilobytes(tmp_path: Path) -> None:
    from torchvision.models import resnet50

    model = resnet50(num_classes=10)
    with hs.follow(model, tmp_path / "run", every=1) as feed:
        for _ in range(2):
            cross_entropy(model(torch.rand(4, 3, 32, 32)), torch.arange(4)).backward()
            feed.step()
    found = hs.read_feed(tmp_path / "run")
    size = (tmp_path / "run" / "steps.jsonl").stat().st_size
    assert len(found.layers) > 150 and size / 2 / len(found.layers) * 100 < 13_000
    line = json.loads((tmp_path / "run" / "steps.jsonl").read_text().splitlines()[1])
    assert set(line) >= {"v", "step", "look", "time", "loss", "layers"}


def test_steps_between_cost_next_to_nothing(tmp_path: Path) -> None:
    model = small_net()
    with hs.follow(model, tmp_path / "run", every=1_000_000) as feed:
        model(batch(0)[0]).sum().backward()
        feed.step()
        loss, begun = torch.tensor(1.0), time.perf_counter()
        for _ in range(5_000):
            feed.step(loss=loss)
        assert (time.perf_counter() - begun) / 5_000 < 100e-6


def test_signals_are_left_alone(tmp_path: Path) -> None:
    before, model = (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)), small_net()
    with hs.follow(model, tmp_path / "run"):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
