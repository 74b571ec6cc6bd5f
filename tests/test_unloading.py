"""More models than there is room for: those that were not asked for longest go, and come back when they are asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inline_app import until
from own_page import operators_folder
from PIL import Image
from units import rows_of, unit_of

from hookscope.dashboard.engine.local import LocalEngine
from hookscope.dashboard.engine.process import PROCESS_BYTES, WorkerProcess
from hookscope.dashboard.settings.models import options_for
from hookscope.dashboard.settings.table import Settings
from hookscope.dashboard.worker.in_thread import WorkerThread

NETS = """
    import time
    import torch
    from torch import nn

    class Nap(nn.Module):
        def forward(self, x):
            time.sleep(float(x.max() > 0.9) * 2)
            return x

    def net():
        return nn.Sequential(Nap(), nn.Conv2d(3, 100, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), {"input_size": 8}
"""
BYTES = 4 * (3 * 100 + 100)
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with operators_folder(tmp_path_factory.mktemp("unloading"), nets=NETS) as path:
        yield path


@pytest.fixture(params=["process", "thread"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[LocalEngine]:
    """With room for two of three."""
    settings = Settings(cache_dir=folder, models=tuple(f"{name}=nets:net" for name in NAMES))
    start: Any = WorkerProcess if request.param == "process" else WorkerThread
    room = 2 * (BYTES + (PROCESS_BYTES if start is WorkerProcess else 0))
    made = LocalEngine(options_for(settings), device="cpu", start_worker=start, models_limit_bytes=room)
    yield made
    made.close()
    until(lambda: not any(thread.name.endswith("worker 0") for thread in threading.enumerate()))


def picture(shade: str) -> bytes:
    return rows_of(Image.new("L", (8, 8), int(shade)))


def kinds(engine: LocalEngine, slot: str) -> list[str]:
    found: list[str] = []
    until(lambda: found.extend(e.kind for e in engine.events(slot, len(found), 0.2)[0]) or "end" in found, 60)
    return found


def loaded(engine: LocalEngine) -> list[str]:
    return [name for name in NAMES if engine.state(name).phase in ("ready", "computing")]


def test_what_was_not_asked_for_longest_goes_and_comes_back(engine: LocalEngine) -> None:
    for name in ("a", "b"):
        engine.open(name)
        until(lambda name=name: name in loaded(engine), 60)
    info = engine.info("b")
    assert info and info.bytes == BYTES and loaded(engine) == ["a", "b"]
    engine.submit("asks a", [unit_of("a", "0", "activation", "1")], picture)
    assert kinds(engine, "asks a") == ["started", "done", "end"]
    (pid,) = engine.pids("b") or [None]
    engine.open("c")
    until(lambda: loaded(engine) == ["a", "c"], 60)  # b was opened after a, but a was asked after that
    state = engine.state("b")
    assert state.phase == "idle" and "to make room for c. What was computed is still shown" in state.sentence
    assert state.info == info == engine.info("b")
    if pid is not None:
        until(lambda: not Path(f"/proc/{pid}").exists() or os.waitpid(-1, os.WNOHANG) is None, 10)
    engine.submit("asks b", [unit_of("b", "0", "activation", "1")], picture)
    assert kinds(engine, "asks b") == ["started", "done", "end"]
    until(lambda: loaded(engine) == ["b", "c"], 60)
    assert engine.state("a").phase == "idle" and engine.info("a")


def test_what_is_computing_is_not_unloaded_however_long_ago_it_was_asked(engine: LocalEngine) -> None:
    for name in ("a", "b"):
        engine.open(name)
        until(lambda name=name: name in loaded(engine), 60)
    engine.submit("slow", [unit_of("a", "255", "activation", "1")], picture)
    until(lambda: engine.state("a").phase == "computing")
    engine.submit("quick", [unit_of("b", "0", "activation", "1")], picture)
    assert "done" in kinds(engine, "quick")
    engine.open("c")
    until(lambda: "c" in loaded(engine), 60)
    assert "done" in kinds(engine, "slow")
    until(lambda: len(loaded(engine)) == 2)


def test_the_newest_stays_even_where_it_is_too_large_alone(folder: Path) -> None:
    settings = Settings(cache_dir=folder, models=("a=nets:net",))
    engine = LocalEngine(options_for(settings), device="cpu", start_worker=WorkerThread, models_limit_bytes=1)
    engine.open("a")
    until(lambda: engine.state("a").phase == "ready", 60)
    engine.submit("s", [unit_of("a", "0", "activation", "1")], picture)
    assert "done" in kinds(engine, "s")
    until(lambda: engine.state("a").phase == "ready")
    engine.close()
