"""What a look keeps, and that in the end nothing is left (docs/truth.md, 10)."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from helpers import Count, assert_untouched
from torch import Tensor, nn

from hookscope.hooks.errors import Cancelled
from hookscope.hooks.layers.describe import describe
from hookscope.hooks.looks.capture import capture, stream
from hookscope.hooks.passes.looking import looking
from hookscope.hooks.passes.registry import live_hooks


class Sentinel:
    """Lives as long as the node of the graph that holds it; nodes themselves cannot be watched."""


graphs: list[weakref.ref] = []


class Mark(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.sentinel = Sentinel()
        graphs.append(weakref.ref(ctx.sentinel))
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Marked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Mark.apply(x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), Marked(), nn.Flatten(), nn.Linear(800, 5)
    ).eval()


def living(references: list[weakref.ref]) -> int:
    gc.collect()
    return sum(reference() is not None for reference in references)


@pytest.fixture
def model() -> nn.Sequential:
    graphs.clear()
    return network()


def picture() -> Tensor:
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def live_tensors() -> int:
    gc.collect()
    # `type`, because asking some objects for their class imports modules
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def kept_bytes(value: Tensor) -> int:
    return value.untyped_storage().nbytes()


def test_what_is_kept_is_free_of_the_graph_and_no_larger_than_it_looks(model: nn.Module) -> None:
    naive: list[Tensor] = []
    handle = model[0].register_forward_hook(lambda module, args, output: naive.append(output[0, :1].detach()))
    with capture(model, "*", inputs=True, gradients=True) as seen:
        logits = model(picture())
    handle.remove()
    assert kept_bytes(naive[0]) == 8 * naive[0].numel() * 4  # the control: a view keeps all eight channels
    for record in seen:
        assert record.value.grad_fn is None and not record.value.requires_grad
        assert kept_bytes(record.value) == record.value.numel() * record.value.element_size()
    seen.differentiate(logits[0, 0])
    assert all(record.gradient is None or record.gradient.grad_fn is None for record in seen)


def test_a_graph_is_held_until_the_last_gradient_and_no_longer(model: nn.Module) -> None:
    with capture(model, ["0", "4"], gradients=True) as seen:
        logits = model(picture())
    score = logits[0, 0]
    del logits
    assert living(graphs) == 1
    seen.differentiate(score, retain_graph=True)
    del score
    assert living(graphs) == 1  # the control: one edge holds all of it
    del seen
    assert living(graphs) == 0
    with capture(model, ["0", "4"], gradients=True) as seen:
        seen.differentiate(model(picture())[0, 0])
    assert living(graphs) == 0 and seen["0"].gradient is not None


def test_statistics_keep_kilobytes_and_no_tensor(model: nn.Module) -> None:
    before = live_tensors()
    with torch.no_grad(), capture(model, "*", inputs=True, numbers="exact") as seen:
        model(picture())
    assert live_tensors() == before and len(seen) == 14


def test_fifty_looks_and_ten_that_fail_leave_no_tensor_hook_graph_or_model(model: nn.Module) -> None:
    layers = describe(model, picture())
    watched: list[weakref.ref] = []

    def look(index: int, fail: bool = False) -> None:
        given = picture()
        numbers = "exact" if index % 5 == 0 else None
        options = {"gradients": index % 2 == 0, "inputs": index % 3 == 0, "numbers": numbers}
        with capture(model, "*", **options) as seen:
            logits = model(given)
            watched.append(weakref.ref(seen))
            watched.extend(weakref.ref(record.value) for record in seen if record.value is not None)
            if fail:
                raise ZeroDivisionError
        if options["gradients"]:
            seen.differentiate(logits[0, 0], retain_graph=index % 4 == 0)

    def cancel(index: int) -> None:
        with pytest.raises(Cancelled), looking(cancelled=Count(yes_from=2 + index % 4)):
            stream(model, picture(), [("5", 0)], lambda *found: None, layers)

    look(0)  # what torch makes once and keeps is made here
    cancel(0)
    before = live_tensors()
    with assert_untouched(model):
        for index in range(50):
            look(index)
            if index % 5 == 0:
                with pytest.raises(ZeroDivisionError):
                    look(index, fail=True)
                cancel(index)
    assert live_tensors() == before and live_hooks() == ()
    assert living(watched) == 0 and len(watched) > 400
    assert living(graphs) == 0 and len(graphs) >= 60


def test_a_look_does_not_keep_its_model() -> None:
    model = network()
    with capture(model, ["0", "3"]) as seen:
        model(picture())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None and len(seen) == 2
    assert seen["0"].shape == (1, 8, 10, 10) and seen.not_run == {}
