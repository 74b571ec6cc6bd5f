"""Which exceptions say that the machine, or the device, is full; torch has a type of its own for some of them only."""

from __future__ import annotations

import torch

from hookscope.dashboard.asking.texts import text_of

WORDS = (  # what torch writes into a plain RuntimeError:
    "can't allocate memory: you tried to allocate",  # the processor's allocator
    "not enough memory: you tried to allocate",  # the same, on Windows
    "CUDA error: out of memory",  # a kernel or a stream that needed some for itself
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "Invalid buffer size",  # Metal, of one tensor beyond what it gives at once
)


def is_want_of_memory(error: BaseException) -> bool:
    """Whether nothing is wrong with the model but its size."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in text_of(error) for words in WORDS)
