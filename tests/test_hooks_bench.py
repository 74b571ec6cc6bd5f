"""`python app.py bench`: a table for a model, a sentence and exit code 2 for what cannot be timed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from helpers import assert_untouched, four_pixels
from torch import nn

from hookscope.hooks.bench.build import load
from hookscope.hooks.bench.command import main
from hookscope.hooks.bench.cost import BARE, GRAD_CAM, GRADIENT, GRADIENTS, bench, late_layer
from hookscope.hooks.errors import HooksError, LayerNotFound
from hookscope.hooks.layers.describe import describe

ROOT = Path(__file__).parent.parent


def names(table: str) -> list[str]:
    return [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")][2:]


def test_every_way_of_looking_is_a_row_and_the_model_is_handed_back() -> None:
    model, image = four_pixels()
    model.train()
    with assert_untouched(model):
        table = bench(model, image, repeats=1)
    found = names(table)
    assert found[0] == BARE and {GRADIENT, GRADIENTS, GRAD_CAM} <= set(found)
    assert any(name.startswith("capture") for name in found) and sum(name.startswith("stat") for name in found) == 3
    assert "Sequential, 5 layers" in table and "Grad-CAM of '1'" in table and "2 × 2" in table
    assert "| 1 |" in table.splitlines()[2]


def test_only_the_layers_asked_for() -> None:
    model, image = four_pixels()
    assert "Sequential, 1 layers" in bench(model, image, ":Conv2d", repeats=1)
    with pytest.raises(LayerNotFound, match="LSTM"):
        bench(model, image, ":LSTM", repeats=1)


class Ranks(nn.Module):
    """Answers with integers, which have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).argmax(1)


def test_a_model_without_a_gradient_is_timed_without_one() -> None:
    model, picture = Ranks().eval(), torch.zeros(1, 3, 8, 8)
    assert late_layer(model, picture, describe(model, picture)) is None
    found = names(bench(model, picture, repeats=1))
    assert GRADIENT not in found and GRAD_CAM not in found and len(found) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "'nonsense' names no model"),
        (["torchvision:nope"], "Unknown model nope"),
        (["no.such.module:factory"], "No module named 'no'"),
        (["builtins:dict"], "gave a dict and not an nn.Module"),
        (["torchvision:squeezenet1_1", "--layers", ":LSTM", "--input-size", "32"], "no layer of type 'LSTM'"),
        (["torchvision:squeezenet1_1", "--input-size", "4"], "does not accept a picture of 4 × 4"),
    ],
)
def test_what_cannot_be_timed_is_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.out == "" and "Traceback" not in printed.err


@pytest.mark.parametrize("size", ["0", "12x", "3x4x5", "big", "99999"])
def test_a_wrong_size_is_a_sentence(capsys: pytest.CaptureFixture[str], size: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(["torchvision:resnet18", "--input-size", size])
    assert left.value.code == 2 and "is no size: write 224" in capsys.readouterr().err


def test_a_factory_in_the_folder_in_which_one_starts(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            from torch import nn

            def lazy():
                layers = nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.Flatten(), nn.LazyLinear(2)
                return nn.Sequential(*layers), {"title": "Mine"}

            def small():
                return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            """
        )
    )

    for name in ("small", "lazy"):  # the run that tries the input size gives lazy layers their weights
        done = subprocess.run(
            [sys.executable, str(ROOT / "app.py"), "bench", f"mine:{name}", "--input-size", "8x6", "--repeats", "1"],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 and "8 × 6" in done.stdout and GRAD_CAM in done.stdout, done.stderr


def test_a_model_that_is_no_module_is_refused() -> None:
    with pytest.raises(HooksError, match="names no model"):
        load("resnet18:")
