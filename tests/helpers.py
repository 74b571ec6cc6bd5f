"""What several tests need: proof that a model was handed back, and networks small enough to work out by hand."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import HooksError
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.capture import stream
from hookscope.hooks.passes.registry import live_hooks
from hookscope.hooks.results.looks import Activation

HOOK_TABLES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
)
GLOBAL_HOOK_TABLES = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")


@contextlib.contextmanager
def assert_untouched(model: nn.Module) -> Iterator[None]:
    """Compare hooks, training flags, gradients, buffers, weights and random state before and after the block."""
    before = snapshot(model)
    live = live_hooks()
    try:
        yield
    finally:
        after = snapshot(model)
        assert live_hooks() == live
        assert before.keys() == after.keys()
        for name, value in before.items():
            assert same(value, after[name]), f"{name} changed"


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything about a model that looking at it must not change."""
    state: dict[str, object] = {
        "random state of torch": torch.get_rng_state(),
        "random state of numpy": torch.from_numpy(np.random.get_state()[1].astype(np.int64)),
        "random state of Python": random.getstate(),
    }
    for table in GLOBAL_HOOK_TABLES:
        state[table] = list(getattr(torch.nn.modules.module, table))
    for name, module in model.named_modules():
        state[f"{name}.training"] = module.training
        state[f"{name}.type"] = type(module)
        state[f"{name}.full backward hooks"] = module._is_full_backward_hook
        for table in HOOK_TABLES:
            state[f"{name}.{table}"] = list(getattr(module, table))
    for name, parameter in model.named_parameters():
        state[f"weight {name}"] = parameter.detach().clone()
        state[f"gradient of {name}"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"requires_grad of {name}"] = parameter.requires_grad
    for name, buffer in model.named_buffers():
        state[f"buffer {name}"] = (id(buffer), buffer.detach().clone())
    return state


def same(first: object, second: object) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first == second)


def fixed(layer: nn.Module, weight: object, bias: object = None) -> nn.Module:
    """A layer with the given weight and bias."""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float32).reshape(layer.weight.shape))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias, dtype=torch.float32))
    return layer


def four_pixels() -> tuple[nn.Sequential, Tensor]:
    """A network that can be worked out by hand, and its 2 x 2 image [[1, 2], [3, 4]].

    "0" doubles and negates: channels [[2, 4], [6, 8]] and [[-1, -2], [-3, -4]]. "1" is an in-place ReLU. "2" takes the
    mean of each channel, 5 and 0; "4" has logits 3 * 5 + 1 * 0 = 15 and -5 + 2 * 0 = -5.
    """
    model = nn.Sequential(
        fixed(nn.Conv2d(1, 2, 1, bias=False), [2.0, -1.0]),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        fixed(nn.Linear(2, 2, bias=False), [[3.0, 1.0], [-1.0, 2.0]]),
    ).eval()
    return model, torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


class Count:
    """A callable that counts how often it was asked, and says yes from the given time on."""

    def __init__(self, yes_from: int | None = None) -> None:
        self.asked = 0
        self.yes_from = yes_from

    def __call__(self, *args: object) -> bool:
        self.asked += 1
        return self.yes_from is not None and self.asked >= self.yes_from


class Ran:
    """A hook that counts how often it ran, and changes nothing."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, *args: object) -> None:
        self.times += 1


def streamed(
    model: nn.Module, inputs: Any, wanted: Sequence[tuple[str, int]], layers: Any = None, **options: Any
) -> list[Activation]:
    """What one streaming pass delivers; the first reason why something is missing is raised at the end."""
    found: list[Activation] = []
    problems: list[HooksError] = []

    def deliver(layer: str, call: int, result: Activation | HooksError) -> None:
        assert isinstance(result, HooksError) or (result.layer, result.call) == (layer, call)
        problems.append(result) if isinstance(result, HooksError) else found.append(result)

    stream(model, inputs, wanted, deliver, describe(model, inputs) if layers is None else layers, **options)
    if problems:
        raise problems[0]
    return found


def maps_or_raise(results: Iterable[tuple[str, int, Any]]) -> list[Any]:
    """The maps of a look that yields them; the first reason why one is missing is raised at the end."""
    found = [result for _, _, result in results]
    for each in found:
        if isinstance(each, HooksError):
            raise each
    return found
