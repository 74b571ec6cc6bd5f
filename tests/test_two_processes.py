"""Trainings of two processes (DistributedDataParallel over gloo): the first one writes, of gradients of both."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ENVIRON
from torch import nn
from torch.nn.functional import cross_entropy

import hookscope as hs

pytestmark = pytest.mark.slow
PLAIN = """
import json, os, sys
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
import hookscope as hs
from test_two_processes import data, small

folder, followed = sys.argv[1], sys.argv[2] == "followed"
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
model = DistributedDataParallel(small())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
pictures, classes = (each[rank::2] for each in data())
feed = hs.follow(model, f"{folder}/of rank {rank}", every=2, optimizer=optimizer, pinned=pictures[:1])
if followed:
    feed.open()
for step in range(6):
    loss = nn.functional.cross_entropy(model(pictures), classes)
    loss.backward()
    feed.step(loss=loss)
    optimizer.step()
    optimizer.zero_grad()
feed.close()
live = len(hs.live_hooks())
told = {"weights": model.module.state_dict(), "writing": feed.writing, "live": live}
torch.save(told, f"{folder}/{sys.argv[2]}{rank}")
torch.distributed.destroy_process_group()
"""
TRAINER = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
import hookscope as hs
from test_hf_trainer import SAME, InOrder, pictures, small
from transformers import TrainingArguments

folder = sys.argv[1]
rank = int(__import__("os").environ["RANK"])
follow = hs.huggingface.LayerStatistics(f"{folder}/of rank {rank}", every=2)
arguments = TrainingArguments(
    f"{folder}/out", use_cpu=True, ddp_backend="gloo", report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
    num_train_epochs=2, per_device_train_batch_size=4, logging_steps=1, save_strategy="no", **SAME,
)
trainer = InOrder(small(), arguments, train_dataset=pictures(), callbacks=[follow])
trainer.train()
told = {
    "world": arguments.world_size,
    "logged": sum("gradient norm/classifier" in line for line in trainer.state.log_history),
    "steps": trainer.state.global_step,
    "live": len(hs.live_hooks()),
}
with open(f"{folder}/{rank}.json", "w") as file:
    json.dump(told, file)
"""


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5))


def data() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures, float32 (image, channel, height, width), and classes; every second one is of one process."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 5


def in_two_processes(folder: Path, code: str, *more: str) -> None:
    """Run a program as torchrun does."""
    (folder / "program.py").write_text(code)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    path = f"{Path(__file__).parent}:{ENVIRON['PYTHONPATH']}"
    started = [
        subprocess.Popen(
            [sys.executable, folder / "program.py", folder, *more],
            env=ENVIRON | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path},
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [each.communicate(timeout=240)[1] for each in started]
    finally:
        for each in started:
            each.kill()
    assert [each.returncode for each in started] == [0, 0], said


def norm(tensors: list[Any]) -> float:
    return float(torch.cat([each.detach().reshape(-1).double() for each in tensors]).norm())


def test_a_plain_loop_is_followed_by_its_first_process_and_trains_as_it_would(tmp_path: Path) -> None:
    in_two_processes(tmp_path, PLAIN, "followed")
    in_two_processes(tmp_path, PLAIN, "alone")
    told = {name: torch.load(tmp_path / name) for name in ("followed0", "followed1", "alone0", "alone1")}
    for name in ("weight", "bias"):
        values = [each["weights"][f"0.{name}"] for each in told.values()]
        assert all(torch.equal(values[0], other) for other in values[1:])
    assert told["followed0"]["writing"] and not told["followed1"]["writing"]
    assert not any(each["live"] for each in told.values()) and not (tmp_path / "of rank 1").exists()

    feed = hs.read_feed(tmp_path / "of rank 0")
    assert feed.steps.tolist() == [0, 2, 4] and feed.state().kind == "ended" and feed.maps(4) is not None
    model, (pictures, classes) = small().double(), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(6):
        whole = model(pictures.double())
        cross_entropy(whole, classes).backward()  # of all: the mean of both processes' means
        if step % 2 == 0:
            look = feed.looks[step // 2]
            half = cross_entropy(whole[::2], classes[::2])
            assert look.loss == pytest.approx(half.item(), rel=1e-4)  # its own: what it sees itself
            for layer in ("0", "3"):
                own = list(model.get_submodule(layer).parameters())
                assert look.of(layer)["g", "norm"] == pytest.approx(norm([each.grad for each in own]), rel=1e-3)
                assert look.of(layer)["w", "norm"] == pytest.approx(norm(own), rel=1e-4)
                assert look.of(layer)["a", "inputs"] == 4
            values = model[0](pictures[::2].double())
            assert look.of("0")["a", "mean"] == pytest.approx(values.mean().item(), rel=1e-3, abs=1e-6)
        before = [each.detach().clone() for each in model[3].parameters()]
        optimizer.step()
        if step % 2 == 0:
            moved = norm([after - one for after, one in zip(model[3].parameters(), before, strict=True)])
            assert look.of("3")["u", "ratio"] == pytest.approx(moved / norm(before), rel=1e-3)
        optimizer.zero_grad()
    alone = small().double()
    cross_entropy(alone(pictures[::2].double()), classes[::2]).backward()
    first = feed.looks[0].of("0")["g", "norm"]
    assert first != pytest.approx(norm([each.grad for each in alone[0].parameters()]), rel=1e-2)  # control


def test_a_real_trainer_of_two_processes_writes_one_feed(tmp_path: Path) -> None:
    from test_hf_trainer import PARTS, by_hand

    in_two_processes(tmp_path, TRAINER)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [each["world"] for each in told] == [2, 2] and [each["steps"] for each in told] == [4, 4]
    assert [each["logged"] for each in told] == [2, 0] and not any(each["live"] for each in told)
    assert not (tmp_path / "of rank 1").exists()
    feed = hs.read_feed(tmp_path / "of rank 0")
    assert feed.steps.tolist() == [0, 2] and feed.state().kind == "ended" and feed.skipped == 0
    expected = by_hand(2, 4)  # batches of both processes are two that are accumulated
    for look in feed.looks:
        assert not look.notes, look.notes
        for layer in PARTS:
            assert look.of(layer)["g", "norm"] == pytest.approx(expected[look.step]["norm"][layer], rel=5e-3), layer
            assert look.of(layer)["w", "norm"] == pytest.approx(expected[look.step]["weight"][layer], rel=1e-3)
            assert look.of(layer)["a", "inputs"] == 4  # of the first process's own batch
