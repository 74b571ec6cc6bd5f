"""Feeds written by hand, line by line, for what reads them: small ones, long ones, hostile ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hookscope.hooks.results.feeds import BINS
from hookscope.hooks.results.tensor_files import pack


def begin(folder: Path, layers: Sequence[str], **more: Any) -> Path:
    """A folder with the run's own file."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "format": "hookscope feed",
        "version": 1,
        "title": folder.name,
        "model": "Net",
        "every": 50,
        "started": 1000.0,
        "layers": list(layers),
        "layers_with_weights": list(layers),
        "optimizer": "SGD",
        "pinned": 0,
        **more,
    }
    (folder / "run.json").write_text(json.dumps(told))
    (folder / "steps.jsonl").touch()
    return folder


def groups(norm: float | str | None, *, rms: float = 1.0, nan: int = 0, update: float | None = 1e-3) -> dict[str, Any]:
    """A layer's lists: activations, gradients, weights, update."""
    return {
        "a": [0.0, 1.0, rms, 0.25, None, 8, nan, 0, 32],
        "g": [norm, None if norm is None else 0.01, 0.0, nan, 0],
        "w": [2.0, 0.1, 0, 0, 100],
        **({} if update is None else {"u": update}),
    }


def line(number: int, step: int, layers: dict[str, Any], **more: Any) -> str:
    """One look as its line."""
    told = {"v": 1, "step": step, "look": number, "time": 1000.0 + step, "cost": 0.01, "lr": [0.1], "layers": layers}
    return json.dumps({**told, **more}) + "\n"


def write_bins(folder: Path, number: int, step: int, layers: dict[str, np.ndarray]) -> None:
    """The distributions at a step, of activations alone."""
    arrays = {f"a/{name}": row.astype(np.uint32) for name, row in layers.items()}
    (folder / f"bins-{step:012d}.safetensors").write_bytes(pack(arrays, {"look": str(number)}))


def bins(**counts: int) -> np.ndarray:
    """Counts by bin, as b105=3; the middle one, 105, is that of 0."""
    row = np.zeros(BINS, np.int64)
    for name, count in counts.items():
        row[int(name[1:])] = count
    return row


def write_long(folder: Path, looks: int, layers: int, kept: int = 40) -> Path:
    """A long run; the lines are alike but for their numbers, so that they are written fast."""
    names = [f"stage{index // 20}.block{index % 20}.conv" for index in range(layers)]
    begin(folder, names)
    rows = json.dumps({name: groups(0.5) for name in names}).split("0.5,")
    with (folder / "steps.jsonl").open("w") as file:
        for number in range(looks):
            step = 50 * number
            values = np.exp(np.sin(np.arange(layers) / 30 + number / 400)).round(4).tolist()
            text = "".join(f"{part}{value}," for part, value in zip(rows, values, strict=False)) + rows[-1]
            head = (
                f'{{"v":1,"step":{step},"look":{number},"time":{1000.0 + step},"loss":{1 / (1 + number):.5f},"layers":'
            )
            file.write(f"{head}{text}}}\n")
    generator = np.random.default_rng(0)
    for number in range(looks - kept, looks):
        write_bins(folder, number, 50 * number, {name: generator.integers(0, 50, BINS) for name in names})
    return folder
