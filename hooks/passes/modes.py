"""A model's state while hooks look at it: in eval mode, eager, one thread at a time, and put back as it was."""

from __future__ import annotations

import contextlib
import random
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hookscope.hooks.errors import ModelNotSupported
from hookscope.hooks.passes.traces import kept_if_lent

_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_locks_guard = threading.Lock()
_INSPECTING: ContextVar[bool] = ContextVar("inspecting", default=False)


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
    tensors = [
        tensor
        for module in model.modules()
        for tensor in (*module._parameters.values(), *module._buffers.values())
        if tensor is not None
    ]
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
def inspecting(model: nn.Module, *, gradients: bool = False, training: bool = False) -> Iterator[nn.Module]:
    """Everything that has to hold around a forward pass that is looked at; gives the unwrapped model.

    The model is locked against other threads that inspect it, is in eval mode, runs eagerly, and is handed back with
    its training flags, buffers and random state untouched. Autograd records if `gradients`, and not otherwise.

    Arguments:
        training: have the modules in the mode that they are in, but for batch normalisations, which would tell the
            other processes of a distributed training of the picture, and cannot take one alone.
    """
    model = unwrap(model)
    check_supported(model, gradients=gradients)
    with contextlib.ExitStack() as stack:
        stack.callback(_INSPECTING.set, _INSPECTING.get())  # no token, which ends with the cell of a notebook
        _INSPECTING.set(True)
        stack.enter_context(locked(model))
        stack.enter_context(preserve(model))
        stack.enter_context(kept_if_lent(model))
        stack.enter_context(eager(model))
        # `enable_grad` does not help inside inference mode, and tensors made there cannot be used for gradients later.
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        if gradients and any(isinstance(module, nn.RNNBase) for module in model.modules()):
            # cuDNN gives an RNN's gradient in training mode only
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        evaluate(model, batch_norms_only=training)
        yield model


def is_inspecting() -> bool:
    """Whether what runs now, in this thread, is a pass of a look and none of the person's own.

    >>> with inspecting(nn.Identity()):
    ...     is_inspecting()
    True
    """
    return _INSPECTING.get()


@contextlib.contextmanager
def locked(model: nn.Module) -> Iterator[None]:
    """Hold the model's own lock: two threads that save, switch and restore its flags at once would mix them up."""
    with _locks_guard:
        lock = _locks.setdefault(unwrap(model), threading.RLock())
    with lock:
        yield


def evaluate(model: nn.Module, *, batch_norms_only: bool = False) -> None:
    """Clear every module's training flag, or every batch normalisation's.

    Not `model.eval()`: that calls the modules' own `train`, which some override with changes (merged weights) that
    setting the flags back would not undo.
    """
    for module in model.modules():
        if module.training and (not batch_norms_only or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            module.training = False


@contextlib.contextmanager
def preserve(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Put back every module's training flag, every buffer, and the random state of torch, numpy and Python.

    Gradients need no saving: nothing in this library accumulates into `.grad`.

    Yields:
        what puts back the buffers and the random state meanwhile, so that a second pass begins as the first one did.
    """
    modules = list(model.modules())
    flags = [(module, module.training) for module in modules]
    places = [(module, name, buffer) for module in modules for name, buffer in module._buffers.items()]
    plain = [buffer for _, _, buffer in places if buffer is not None and not buffer.requires_grad]
    # each buffer once, although several modules may share it
    saved = _Copies({id(buffer): buffer for _, _, buffer in places if buffer is not None}.values())
    state = _random_state()

    def put_back() -> None:
        for module, name, buffer in places:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
        for buffer in plain:
            if buffer.requires_grad:  # a value of the pass was written into it, and its graph came along
                buffer.detach_()
        saved.put_back()
        _set_random_state(state)

    try:
        yield put_back
    finally:
        for module, training in flags:
            module.training = training
        put_back()


def random_digest() -> int:
    """A number that changes when random numbers are drawn, by torch, numpy or Python."""
    state = _random_state()
    _, keys, *place = state["numpy"]
    devices = [state["cpu"], *state.get("cuda", ()), *([state["mps"]] if "mps" in state else [])]
    of_tensors = [each.cpu().numpy().tobytes() for each in devices]
    return hash((state["python"], keys.tobytes(), *place, *of_tensors))


class _Copies:
    """Copies of many small tensors, laid end to end in one tensor per dtype and device.

    A ResNet-50 has 159 buffers: copied and compared one by one they cost a tenth of its statistics.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.alike: dict[Any, list[Tensor]] = {}
        for tensor in tensors:
            plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
            self.alike.setdefault((tensor.dtype, tensor.device) if plain else id(tensor), []).append(tensor)
        self.shapes = {key: [tensor.shape for tensor in tensors] for key, tensors in self.alike.items()}
        with torch.no_grad():
            self.copies = {key: _end_to_end(tensors) for key, tensors in self.alike.items()}

    def put_back(self) -> None:
        """Write the copies into those tensors whose values have changed.

        Values are compared, not versions: a batch norm in training writes into its running mean without counting a
        version. And unchanged tensors are not written, because the caller's graph may hold them.
        """
        with torch.no_grad():
            for key, tensors in self.alike.items():
                saved, shapes = self.copies[key], self.shapes[key]
                same = all(tensor.shape == shape for tensor, shape in zip(tensors, shapes, strict=True))
                if same and same_bits(_end_to_end(tensors), saved):
                    continue
                parts = saved.split([shape.numel() for shape in shapes]) if len(tensors) > 1 else [saved]
                for tensor, shape, part in zip(tensors, shapes, parts, strict=True):
                    if tensor.shape != shape:  # as observers of a quantisation make theirs as they go
                        tensor.resize_(shape)
                    if not same_bits(tensor, part):
                        tensor.copy_(part if part.shape == shape else part.view(shape))


def _end_to_end(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) == 1:
        return tensors[0].clone()
    return torch.cat([tensor if tensor.ndim == 1 else tensor.reshape(-1) for tensor in tensors])


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal; NaN equals NaN, or a buffer that holds one would be written each time."""
    first, second = _strided(first), _strided(second)
    return first.numel() == second.numel() and torch.equal(first.view(torch.uint8), second.view(torch.uint8))


def _strided(tensor: Tensor) -> Tensor:
    """A tensor's values as one row."""
    if tensor.is_nested:
        return torch.cat([part.reshape(-1) for part in tensor.unbind()])
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return (tensor.int_repr() if tensor.is_quantized else tensor).reshape(-1)


@contextlib.contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Run what is compiled of the model eagerly: hooks registered after it was compiled fire 0 times, silently.

    Give it the model that will be called, with its wrapper. The stance is the process's: other threads run eagerly too.
    """
    compiled = any(
        "_orig_mod" in module._modules or module._compiled_call_impl is not None for module in model.modules()
    )
    with forced_eager() if compiled else contextlib.nullcontext():
        yield


_eager = contextlib.ExitStack()  # holds torch's stance while anybody wants it
_eager_for: list[object] = []


@contextlib.contextmanager
def forced_eager() -> Iterator[None]:
    """Run whatever is compiled eagerly, and compile nothing; what was compiled before is used again afterwards.

    Several may want it at once, and end in any order, as two trainings that are followed do.
    """
    with _locks_guard:
        if not _eager_for:
            _eager.enter_context(torch.compiler.set_stance("force_eager"))
        _eager_for.append(None)
    try:
        yield
    finally:
        with _locks_guard:
            _eager_for.pop()
            if not _eager_for:
                _eager.close()


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Put back the random state of torch, numpy and Python after a `with` block."""
    state = _random_state()
    try:
        yield
    finally:
        _set_random_state(state)


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
