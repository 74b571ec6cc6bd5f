"""Live hooks: listed while they are registered, gone afterwards, deaf to other threads."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
import torch
from helpers import assert_untouched, four_pixels
from torch import nn

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.passes.registry import hook, live_hooks
from hookscope.hooks.results.looks import LiveHook


def test_a_hook_is_listed_with_owner_and_purpose_and_then_gone():
    model, image = four_pixels()
    seen = []
    with assert_untouched(model):
        with hook(model[0], "forward", lambda *given: seen.append(given), layer="0", owner="me", purpose="diagnostic"):
            assert live_hooks() == (LiveHook("0", "forward", "me", "diagnostic"),)
            assert live_hooks("me") == live_hooks() and live_hooks("you") == ()
            model(image)
        assert live_hooks() == ()
        model(image)
    assert len(seen) == 1
    module, args, output = seen[0]
    assert module is model[0] and args == (image,) and output.shape == (1, 2, 2, 2)


def test_kinds():
    model, image = four_pixels()
    seen = []

    def look(kind):
        return lambda module, *rest: seen.append((kind, type(module).__name__, len(rest)))

    with ExitStack() as stack:
        for kind, module in (("forward", model[0]), ("forward_pre", model[0]), ("every_forward_pre", None)):
            stack.enter_context(hook(module, kind, look(kind), layer="0", owner="me", purpose="analysis"))
        model(image)
    assert [entry for entry in seen if entry[1] == "Conv2d"] == [
        ("every_forward_pre", "Conv2d", 1),
        ("forward_pre", "Conv2d", 2),
        ("forward", "Conv2d", 2),
    ]
    assert sum(kind == "every_forward_pre" for kind, *_ in seen) == 6


def test_the_value_of_a_function_never_replaces_the_output():
    model, image = four_pixels()
    expected = model(image)
    with ExitStack() as stack:
        for module in model:
            for kind in ("forward", "forward_pre"):
                stack.enter_context(
                    hook(module, kind, lambda *given: torch.zeros(9), layer="", owner="me", purpose="analysis")
                )
        assert torch.equal(model(image), expected)


def test_an_exception_leaves_nothing():
    model, image = four_pixels()

    def fail(*given):
        raise ValueError("from the hook")

    with assert_untouched(model), pytest.raises(ValueError, match="from the hook"):
        with hook(model[0], "forward", fail, layer="0", owner="me", purpose="analysis"):
            model(image)


def test_another_threads_forward_pass_is_not_seen():
    model, image = four_pixels()
    seen = []
    with hook(model[0], "forward", lambda *given: seen.append(1), layer="0", owner="me", purpose="analysis"):
        thread = threading.Thread(target=lambda: model(image))
        thread.start()
        thread.join()
        assert seen == []
        model(image)
    assert seen == [1]


class Slow(nn.Module):
    """Waits inside its forward pass, between the pre-hooks and the hooks."""

    def __init__(self):
        super().__init__()
        self.started, self.go = threading.Event(), threading.Event()

    def forward(self, x):
        self.started.set()
        self.go.wait(10)
        return x


def test_removing_hooks_during_another_threads_forward_pass_does_not_break_it():
    model = Slow()
    results = []
    with ExitStack() as stack:
        for kind in ("forward", "forward_pre"):
            stack.enter_context(hook(model, kind, lambda *given: None, layer="", owner="me", purpose="analysis"))
        thread = threading.Thread(target=lambda: results.append(model(torch.ones(1))))
        thread.start()
        model.started.wait(10)
    model.go.set()
    thread.join()
    assert len(results) == 1


def test_a_with_kwargs_hook_that_is_removed_meanwhile_is_called_with_less_and_survives():
    """The running call has its list of hooks already, and looks up later which of them want keyword arguments."""
    model = nn.Identity()
    seen = []
    with ExitStack() as stack:
        inner = ExitStack()

        def remove(*given):
            inner.close()

        stack.enter_context(hook(model, "forward_pre", remove, layer="", owner="me", purpose="analysis"))
        inner.enter_context(
            hook(model, "forward_pre", lambda *given: seen.append(len(given)), layer="", owner="me", purpose="analysis")
        )
        assert model(torch.ones(1)).item() == 1
    assert seen == [2]  # module and args, without kwargs


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_is_refused_by_name():
    scripted = torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1))
    with pytest.raises(ModelNotSupported, match="Layer 'head' is TorchScript"):
        with hook(scripted, "forward", print, layer="head", owner="me", purpose="analysis"):
            pass
    assert live_hooks() == ()


def test_a_hook_without_a_module_is_a_mistake():
    with pytest.raises(TypeError, match="needs a module"):
        with hook(None, "forward", print, layer="", owner="me", purpose="analysis"):
            pass
