"""A model's state while hooks look at it: in eval mode, eager, one thread at a time, and put back as it was."""

from __future__ import annotations

import contextlib
import random
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from hooks.errors import ModelNotSupported

_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()


def unwrap(model: nn.Module) -> nn.Module:
    """The module that does the work behind `torch.compile`, DataParallel and DistributedDataParallel.

    Hooks inside a compiled module do not fire, and replicas of DataParallel share one set of hooks.
    """
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def check_supported(model: nn.Module, *, gradients: bool = False) -> None:
    """Refuse, before anything is registered, models that hooks cannot see into.

    Arguments:
        gradients: whether gradients will be asked for, which some models cannot give.

    Raises:
        ModelNotSupported: TorchScript, layers without weights yet, a model without data, or one that was made in
            inference mode and is asked for gradients.
    """
    name = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelNotSupported(
            f"This model is TorchScript ({getattr(model, 'original_name', name)}), and hooks cannot be registered "
            "inside it. Open the Python model that it was made from."
        )
    tensors = [*model.parameters(), *model.buffers()]
    if any(nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise ModelNotSupported(
            f"{name} has lazy layers whose weights do not exist yet. Run it once on one batch, then open it again."
        )
    if any(tensor.is_meta for tensor in tensors):
        raise ModelNotSupported(f"{name} is on the meta device: it has shapes and no values. Load its weights first.")
    if gradients and any(tensor.is_inference() for tensor in tensors):
        raise ModelNotSupported(
            f"{name} was made in inference mode, and autograd refuses its weights for ever. For gradients open "
            "`copy.deepcopy(model)`, made outside inference mode."
        )


@contextlib.contextmanager
def inspecting(model: nn.Module, *, gradients: bool = False) -> Iterator[nn.Module]:
    """Everything that has to hold around a forward pass that is looked at; gives the unwrapped model.

    The model is locked against other threads that inspect it, is in eval mode, runs eagerly, and is handed back with
    its training flags, buffers and random state untouched. Autograd records if `gradients`, and not otherwise.
    """
    model = unwrap(model)
    check_supported(model, gradients=gradients)
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(model))
        stack.enter_context(preserve(model))
        stack.enter_context(eager(model))
        # `enable_grad` does not help inside inference mode, and tensors made there cannot be used for gradients later.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        evaluate(model)
        yield model


@contextlib.contextmanager
def locked(model: nn.Module) -> Iterator[None]:
    """Hold the model's own lock: two threads that save, switch and restore its flags at once would mix them up."""
    with _locks_guard:
        lock = _locks.setdefault(unwrap(model), threading.RLock())
    with lock:
        yield


def evaluate(model: nn.Module) -> None:
    """Clear every module's training flag.

    Not `model.eval()`: that calls the modules' own `train`, which some override with changes (merged weights) that
    setting the flags back would not undo.
    """
    for module in model.modules():
        if module.training:
            module.training = False


@contextlib.contextmanager
def preserve(model: nn.Module) -> Iterator[None]:
    """Put back every module's training flag, every buffer, and the random state of torch, numpy and Python.

    Gradients need no saving: nothing in this library accumulates into `.grad`.
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    state = _random_state()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, saved in buffers:
                if module._buffers.get(name) is not buffer:
                    module._buffers[name] = buffer
                # Values are compared, not versions: a batch norm in training writes into its running mean without
                # counting a version. And unchanged buffers are not written, because the caller's graph may hold them.
                if buffer is not None and saved is not None and not torch.equal(buffer, saved):
                    buffer.copy_(saved)
        _set_random_state(state)


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run what is compiled of the model eagerly: hooks registered after it was compiled fire 0 times, silently.

    Give it the model that will be called, with its wrapper. The stance is the process's: other threads run eagerly too.
    """
    compiled = any(hasattr(module, "_orig_mod") or module._compiled_call_impl is not None for module in model.modules())
    with torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext():
        yield


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
