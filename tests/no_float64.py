"""A stand-in for Apple's GPU, which nobody has here: tensors that say that their device is "mps" and refuse float64.

What is computed from such a tensor is another one; `.cpu()` and `.to("cpu")` give an ordinary tensor. The arithmetic is
the CPU's. Results are views of what they were made from, so in-place layers cannot be tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

REFUSAL = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
MPS = torch.device("mps")


class OnMps(Tensor):
    """See above; made by `on_mps`."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (*args, *(kwargs or {}).values())
        if func == Tensor.device.__get__:
            return MPS
        if func is Tensor.cpu or (func is Tensor.to and any(_is_device(value, "cpu") for value in given)):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {})).as_subclass(Tensor)
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, OnMps) and _dtype(result) == torch.float64:
            raise TypeError(REFUSAL)
        return result


def on_mps(tensor: Tensor) -> Tensor:
    """The tensor as if it were there."""
    return tensor.as_subclass(OnMps)


@contextlib.contextmanager
def an_mps_device() -> Iterator[None]:
    """Let `.to(device)` and `torch.ones(..., device=device)` put tensors there too."""
    with _Device():
        yield


class _Device(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(_is_device(value, "mps") for value in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        args = [value for value in args if not _is_device(value, "mps")]
        kwargs = {name: value for name, value in kwargs.items() if not _is_device(value, "mps")}
        return on_mps(func(*args, **kwargs) if len(args) > 1 or kwargs or func is not Tensor.to else args[0])


def _is_device(value: object, kind: str) -> bool:
    return isinstance(value, str | torch.device) and str(value) == kind


def _dtype(tensor: Tensor) -> torch.dtype:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.dtype
