"""The checks for accelerators, on the processor: that they hold, that each can fail, and what is said without one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from checkout import ROOT

from bench import device

CPU = torch.device("cpu")
QUICK = [name for name in device.CHECKS if name not in ("what hooks cost", "memory")]


@pytest.mark.parametrize("name", QUICK)
def test_a_check_holds_on_the_processor(name: str) -> None:
    ((_, holds, said, _),) = device.run(CPU, [name])
    assert holds, said


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "check, look, field",
    [
        ("maps", "layer_map", "values"),
        ("attention", "attention_maps", "weights"),
        ("attributions", "attribute_input", "values"),
    ],
)
def test_a_check_finds_a_wrong_number(check: str, look: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = getattr(device.hs, look)

    def wrong(*given: Any, **more: Any) -> Any:
        found = right(*given, **more)
        spoilt = [
            dataclasses.replace(each, **{field: np.asarray(getattr(each, field)) * 1.01})
            for each in ([found] if not isinstance(found, list) else found)
        ]
        return spoilt if isinstance(found, list) else spoilt[0]

    monkeypatch.setattr(device.hs, look, wrong)
    ((_, holds, said, _),) = device.run(CPU, [check])
    assert not holds and "of the largest value apart" in said


def test_the_check_of_gradients_finds_a_wrong_number(monkeypatch: pytest.MonkeyPatch) -> None:
    right = device.hs.gradients

    def wrong(*given: Any, **more: Any) -> Any:
        found = right(*given, **more)
        return dataclasses.replace(
            found, layers=tuple(dataclasses.replace(each, norm=each.norm * 1.01) for each in found.layers)
        )

    monkeypatch.setattr(device.hs, "gradients", wrong)
    ((_, holds, said, _),) = device.run(CPU, ["gradients"])
    assert not holds and "of the largest value apart" in said


def test_the_check_of_a_training_finds_gradients_that_are_still_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    right = device.hs.follow
    monkeypatch.setattr(device.hs, "follow", lambda *given, scaler, **more: right(*given, scaler=None, **more))
    ((_, holds, said, _),) = device.run(CPU, ["a training in mixed precision"])
    assert not holds and "of the largest value apart" in said


def test_a_check_that_lacks_a_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)
    ((_, holds, said, _),) = device.run(CPU, ["what hooks cost"])
    assert holds and said == "not run: it needs torchvision"
    monkeypatch.setitem(sys.modules, "captum.attr", None)  # which the look asks for, and says so in a sentence
    ((_, holds, said, _),) = device.run(CPU, ["attributions"])
    assert holds and said == "not run: it needs captum.attr"


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator to run on")
def test_without_an_accelerator_there_is_nothing_to_run() -> None:
    ran = subprocess.run(
        ["make", "--silent", "test-device", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHONPATH", "ARGS"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, device.NOTHING), ran.stderr
