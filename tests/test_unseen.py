"""Layers that give nothing, each for a reason of its own, and each told its own and the true one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_untouched, streamed
from torch import Tensor, nn
from units import unit_of

from hookscope.dashboard.components.layer_tree import tree_nodes
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.base import ModelInfo, Preprocessing
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.sources.preprocessing import Prepared
from hookscope.dashboard.sources.presets import plain
from hookscope.dashboard.worker.handlers import handler_of
from hookscope.dashboard.worker.task import Task
from hookscope.hooks.errors import HooksError, LayerNotExecuted
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.layers.finder import Finder
from hookscope.hooks.looks.cam import grad_cam
from hookscope.hooks.looks.capture import capture, stream
from hookscope.hooks.passes.registry import live_hooks

IMAGE = torch.randn(1, 3, 8, 8)
ELSEWHERE = "It was called in another thread, and hooks look only at the thread that runs the model."
REMOVED = "The model removed the hook that was to see it, so what it did is not known."


class Tuple(nn.Module):
    """Gives a text, as a layer of a configuration may."""

    def forward(self, x: Tensor) -> str:
        return "no tensor"


class Net(nn.Module):
    """Layers of which some are called in a thread, some without their hooks, and some give no tensor."""

    def __init__(self, *, steady: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.text, self.other_text = Tuple(), Tuple()
        self.away = nn.Sequential(nn.Conv2d(3, 3, 1))
        self.cleared = nn.Conv2d(3, 3, 1)
        self.replaced = nn.Conv2d(3, 3, 1)
        self.unused = nn.Conv2d(3, 3, 1)
        self.passes = 1 if steady else 0  # in the first pass of an unsteady one every layer is seen

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        self.text(x), self.other_text(x)
        odd, self.passes = self.passes > 0, self.passes + 1
        found = []
        thread = threading.Thread(target=lambda: found.append(self.away(x)))
        if odd:
            thread.start()
            thread.join()
            self.cleared._forward_hooks.clear()
            self.replaced._forward_hooks = type(self.replaced._forward_hooks)()
        else:
            found.append(self.away(x))
        return self.replaced(self.cleared(found[0])).mean((2, 3))


def reasons(model: nn.Module) -> dict[str, str]:
    return {info.name: info.reason_not_run for info in describe(model, IMAGE) if info.reason_not_run}


def test_a_recorded_run_tells_what_ran_unseen_from_what_did_not_run() -> None:
    model = Net()
    found = reasons(model)
    assert list(found) == ["away", "away.0", "cleared", "replaced", "unused"]
    assert found["away"] == found["away.0"] == ELSEWHERE
    assert found["cleared"] == found["replaced"] == REMOVED
    assert found["unused"] == "This forward pass did not call it or use its weights; why is not known."
    layers = describe(model, IMAGE)
    assert (
        str(Finder(model, layers).not_executed("away", 0))
        == f"Layer 'away' (Sequential) was not seen to run. {ELSEWHERE}"
    )
    assert "Layer 'unused' (Conv2d) did not run." in str(Finder(model, layers).not_executed("unused", 0))
    assert [node["name"] for node in tree_nodes(layers) if node.get("unseen")] == [
        "away",
        "away.0",
        "cleared",
        "replaced",
    ]
    assert not live_hooks()


def test_a_model_that_clears_its_own_hooks_is_not_told_that_it_did_not_run() -> None:
    class Clearing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for module in self.modules():
                module._forward_hooks.clear()
                module._forward_pre_hooks.clear()
            return super().forward(x)

    model = Clearing(nn.Conv2d(3, 2, 1), nn.Flatten())
    assert reasons(model) == {"": REMOVED, "0": REMOVED, "1": REMOVED}
    problem = Finder(model, describe(model, IMAGE)).not_executed("", 0)
    assert str(problem) == f"The model (Clearing) was not seen to run. {REMOVED}"


def test_capture_says_who_called_a_layer_elsewhere() -> None:
    model = Net()
    with assert_untouched(model), capture(model, ["conv", "away", "cleared", "unused"]) as seen:
        model(IMAGE)
        inside = seen.not_run
    assert seen.not_run == inside
    assert (inside["away"], inside["cleared"]) == (ELSEWHERE, REMOVED) and list(inside) == ["away", "cleared", "unused"]
    with pytest.raises(LayerNotExecuted, match="another thread"):
        seen["away"]
    with (
        capture(model, "") as seen,
        pytest.raises(LayerNotExecuted, match="Nothing was recorded for the model: The mo"),
    ):
        seen[""]


@pytest.mark.parametrize("look", [stream, grad_cam])
def test_a_layer_that_the_recorded_run_saw_and_this_pass_did_not_is_told_why(look: Callable[..., None]) -> None:
    model = Net(steady=False)
    layers = describe(model, IMAGE)
    told: dict[str, str] = {}
    came: list[str] = []
    wanted = [(name, 0) for name in ("conv", "away.0", "cleared")]

    def take(layer: str, call: int, result: Any) -> None:
        assert (call, layer not in told) == (0, True)
        if isinstance(result, HooksError):
            told[layer] = str(result)
        else:
            came.append(result.layer)

    if look is grad_cam:
        for each in grad_cam(model, IMAGE, wanted, 0, layers):
            take(*each)
    else:
        stream(model, IMAGE, wanted, take, layers)
    assert came == ["conv"]
    assert told == {
        "away.0": f"Layer 'away.0' was not seen in this forward pass. {ELSEWHERE}",
        "cleared": f"Layer 'cleared' was not seen in this forward pass. {REMOVED}",
    }


def loaded(model: nn.Module) -> LoadedModel:
    preprocessing = Preprocessing(8, (8, 8), "bilinear", (0.5,) * 3, (0.5,) * 3)
    layers = describe(model, IMAGE)
    info = ModelInfo("zoo:net", "Net", 0, "cpu", "", False, "", "print", (), preprocessing, layers)
    return LoadedModel(model, info, torch.device("cpu"), plain((8, 8), 8, "bilinear", (0.5,) * 3, (0.5,) * 3))


def test_each_card_says_its_own_reason() -> None:
    """Both reasons in a row stood in both cards."""
    sent: list[protocol.FromWorker] = []
    names = ["text", "other_text", "conv", "unused"]
    units = tuple(unit_of("zoo:net", "0" * 64, "activation", name) for name in names)
    task = Task(protocol.Run(1, units), sent.append, frozenset)
    prepared = Prepared(np.zeros((8, 8, 3), np.uint8), (0, 0, 8, 8), (0.5,) * 3, (0.5,) * 3)
    handler_of(units[0])(loaded(Net()), task, prepared)
    task.finish()
    failed = {message.unit.layer: message.sentence for message in sent if isinstance(message, protocol.Failed)}
    assert {name: failed[name] for name in names[:2]} == {
        name: f"Layer '{name}' returned no tensor, so there is nothing to show." for name in names[:2]
    }
    assert failed["unused"].startswith("Layer 'unused' (Conv2d) did not run.") and len(failed) == 3
    assert [message.unit.layer for message in sent if isinstance(message, protocol.Answered)] == ["conv"]


def test_the_model_itself_is_called_the_model() -> None:
    with pytest.raises(HooksError, match=r"^The model returned no tensor, so there is nothing to show.$"):
        streamed(Tuple(), IMAGE, [("", 0)], ())
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ((_, _, refusal),) = grad_cam(model, IMAGE, [("", 0)], 0, describe(model, IMAGE))
    assert str(refusal).startswith("The model has no map to lay over the picture.")
