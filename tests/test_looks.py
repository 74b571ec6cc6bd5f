"""Every look: few enough parameters to be remembered, an example that runs, and circumstances that are shared."""

from __future__ import annotations

import doctest
import importlib
import inspect
import threading

import pytest
import torch
from torch import nn

from hookscope.hooks.looks import attention, cam, capture, gradients, inputs, score_cam, survey
from hookscope.hooks.looks.capture import capture as capturing
from hookscope.hooks.methods import MAPS
from hookscope.hooks.passes import looking as module
from hookscope.hooks.passes.looking import Look, current, looking
from hookscope.hooks.passes.registry import live_hooks

LOOKS = {
    attention: ["attention_maps"],
    cam: ["layer_map", "grad_cam"],
    capture: ["capture", "stream"],
    gradients: ["gradients"],
    inputs: ["attribute_input"],
    score_cam: ["score_cam"],
    survey: ["survey"],
}
EACH = [(where, name) for where, names in LOOKS.items() for name in names]


@pytest.mark.parametrize(("where", "name"), EACH, ids=[name for _, name in EACH])
def test_a_look_has_at_most_six_parameters_and_an_example(where: object, name: str) -> None:
    look = getattr(where, name)
    assert len(inspect.signature(look).parameters) <= 6
    assert ">>> " in (inspect.getdoc(look) or "")


@pytest.mark.parametrize("where", [*LOOKS, module], ids=lambda each: each.__name__)
def test_the_examples_run(where: object) -> None:
    found = doctest.testmod(where, extraglobs={"torch": torch, "nn": nn})  # type: ignore[arg-type]
    assert found.attempted and not found.failed


def test_every_method_that_runs_by_itself_has_few_parameters_too() -> None:
    for row in MAPS.values():
        if row.runs:
            place, _, name = row.runs.partition(":")
            assert len(inspect.signature(getattr(importlib.import_module(place), name)).parameters) <= 6


def test_circumstances_hold_in_their_block_and_their_thread() -> None:
    seen: list[Look] = []
    with looking(owner="me", purpose="a test"):
        with looking(owner="somebody else"), capturing(nn.Identity(), ""):
            assert {(live.owner, live.purpose) for live in live_hooks()} == {("somebody else", "a test")}
        assert current() == Look("me", "a test")
        other = threading.Thread(target=lambda: seen.append(current()))
        other.start()
        other.join()
    assert seen == [Look()] and current() == Look()
    with pytest.raises(TypeError), looking(owners="me"):
        pass
