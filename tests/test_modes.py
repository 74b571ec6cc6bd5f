"""A model is inspected in eval, eagerly, by one thread at a time, and handed back as it was."""

from __future__ import annotations

import gc
import math
import threading
import weakref

import numpy as np
import pytest
import torch
import torchvision
from helpers import assert_untouched, four_pixels
from torch import nn

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.passes import modes
from hookscope.hooks.passes.modes import eager, inspecting, locked, preserve, unwrap


class Restless(nn.Module):
    """A forward pass that changes all it can: buffers (in place and replaced), flags and every random state."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("last", torch.zeros(3))
        self.register_buffer("absent", None)

    def forward(self, x):
        self.count += 1
        self.last = x.mean(0)
        self.train()
        np.random.rand()
        return self.norm(x) + torch.rand(3)


def test_preserve_puts_back_flags_buffers_and_random_state():
    model = Restless()
    model.norm.eval()
    image = torch.randn(4, 3)
    with assert_untouched(model):
        with preserve(model):
            model(image)
            model(image)
    with assert_untouched(model), pytest.raises(RuntimeError):
        with preserve(model):
            model(image)
            raise RuntimeError


class Odd(nn.Module):
    """Buffers that cannot lie end to end with the others, or that two modules share."""

    def __init__(self):
        super().__init__()
        self.norm, self.again = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
        self.again.running_mean = self.norm.running_mean
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
        self.register_buffer("nothing", torch.empty(0))
        self.register_buffer("wide", torch.ones(2, dtype=torch.complex128))
        self.register_buffer("unknown", torch.tensor([math.nan, 1.0]))


def test_only_what_has_changed_is_written():
    model = Odd()
    versions = {name: buffer._version for name, buffer in model.named_buffers()}
    with preserve(model):
        model.norm.running_mean.add_(1)
        model.turned[0, 1] = 9
        model.wide[1] = 1j
    assert model.again.running_mean is model.norm.running_mean
    assert model.norm.running_mean.tolist() == [0, 0]
    assert model.turned.tolist() == [[0, 3], [1, 4], [2, 5]] and model.wide.tolist() == [1, 1]
    assert model.sparse.to_dense().equal(torch.eye(3))
    written = {name for name, buffer in model.named_buffers() if buffer._version != versions[name]}
    assert written == {"norm.running_mean", "turned", "wide"}  # and so a NaN that stayed one is not


def test_mixed_flags_come_back_one_by_one():
    model = torchvision.models.resnet18(weights=None).train()
    model.layer2.eval()
    model.layer3[0].bn1.eval()
    with assert_untouched(model):
        with inspecting(model) as inner:
            assert inner is model and not any(module.training for module in model.modules())


class Overridden(nn.Linear):
    """A module that changes its weight when it is switched to eval, as merged adapters do."""

    def train(self, mode=True):
        with torch.no_grad():
            self.weight.add_(1)
        return super().train(mode)


def test_a_modules_own_train_is_not_called():
    model = nn.Sequential(Overridden(1, 1))
    with assert_untouched(model), inspecting(model):
        assert not model[0].training


def test_gradient_modes():
    model = four_pixels()[0]
    with torch.no_grad(), inspecting(model, gradients=True):
        assert torch.is_grad_enabled()
    with inspecting(model):
        assert not torch.is_grad_enabled()
    with torch.inference_mode(), inspecting(model, gradients=True):
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert not torch.ones(1).is_inference()


def test_a_model_with_inference_buffers():
    model = Restless()
    with torch.inference_mode():
        model.count = torch.zeros(())
    before = model.count
    with torch.inference_mode(), preserve(model):
        model.count += 1
    assert model.count is before and model.count.item() == 0


def test_unwrap():
    model = four_pixels()[0]
    assert unwrap(model) is model
    assert unwrap(torch.compile(model, backend="eager")) is model
    assert unwrap(nn.DataParallel(torch.compile(model, backend="eager"))) is model


def test_refusals_are_sentences():
    with pytest.raises(ModelNotSupported, match="lazy"), inspecting(nn.Sequential(nn.LazyLinear(2))):
        pass
    with pytest.raises(ModelNotSupported, match="meta"), inspecting(nn.Linear(1, 1, device="meta")):
        pass


def test_one_thread_at_a_time_and_the_lock_is_released_after_an_error():
    model = four_pixels()[0]
    inside, peak = 0, 0

    def work():
        nonlocal inside, peak
        for _ in range(20):
            try:
                with inspecting(model):
                    inside += 1
                    peak = max(peak, inside)
                    inside -= 1
                    raise ValueError
            except ValueError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert peak == 1 and not any(thread.is_alive() for thread in threads)


def test_the_same_thread_may_inspect_inside_an_inspection():
    model = four_pixels()[0]
    with inspecting(model), inspecting(model), locked(model):
        pass


def test_locks_go_with_their_models():
    model = four_pixels()[0]
    with locked(model):
        assert model in modes._locks
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_only_a_compiled_model_makes_the_process_run_eagerly():
    """The stance is the process's: while an eager model is looked at, what others have compiled goes on compiled."""
    ran = []

    def backend(graph, inputs):
        return lambda *values: (ran.append("compiled"), graph(*values))[1]

    x = torch.ones(2)
    others = torch.compile(lambda value: value + 1, backend=backend)
    try:
        assert others(x).tolist() == [2, 2] and ran == ["compiled"]
        for look in (eager, inspecting):
            ran.clear()
            with look(nn.Sequential(nn.Linear(2, 2))):
                others(x)
            assert ran == ["compiled"]
            part = nn.Linear(2, 2)
            part.compile(backend=backend)
            for compiled in (torch.compile(nn.Linear(2, 2), backend=backend), nn.Sequential(part)):
                ran.clear()
                with eager(compiled):
                    assert others(x).tolist() == [2, 2]
                assert ran == []  # the control
    finally:
        torch._dynamo.reset()
