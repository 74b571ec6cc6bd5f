"""Results as bytes and back, without pickle: a JSON header, then the arrays as they lie in memory.

    MAGIC | header length, uint32 little-endian | header JSON | padding to 8 | array 0 | padding to 8 | array 1 ...

The header is what `typed.plain` makes of the result. Only the result types that a reader names, with what they declare
to hold, and plain numeric arrays are ever made from bytes, so what a worker sends cannot run code in the reader.
"""

from __future__ import annotations

import json
import math
import mmap
from typing import Annotated, Any

import numpy as np

from hookscope.hooks.results import typed

MAGIC = b"HSR1"


class CodecError(ValueError):
    """The bytes are not an encoded result."""


def encode(result: Any) -> bytes:
    """Turn a result, a dataclass that holds numbers, texts, arrays and such dataclasses, into bytes."""
    arrays: list[Any] = []
    header = json.dumps(typed.plain(result, arrays), allow_nan=False, separators=(",", ":")).encode()
    parts: list[bytes | memoryview] = [
        MAGIC,
        len(header).to_bytes(4, "little"),
        header,
        b"\0" * (-(len(MAGIC) + 4 + len(header)) % 8),
    ]
    for array in arrays:
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        parts += [data, b"\0" * (-len(data) % 8)]
    return b"".join(parts)


def decode(data: bytes | mmap.mmap, *kinds: type[Any]) -> Any:
    """Turn bytes from `encode` into the result they came from; its arrays are read-only views of `data`.

    Arguments:
        kinds: the types that it may be of.

    Raises:
        CodecError: the bytes were cut, damaged, or were never such a result.
    """
    try:
        if data[:4] != MAGIC:
            raise CodecError("not an encoded result: the first four bytes are wrong")
        length = int.from_bytes(data[4:8], "little")
        header = json.loads(data[8 : 8 + length])
        known = {kind.__name__: kind for kind in kinds}
        return typed.read(Annotated[Any, known], header, _Arrays(data, 8 + length))
    except CodecError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CodecError(f"not an encoded result: {error}") from error


class _Arrays:
    """Hands out the arrays behind a header, in the order in which they were written."""

    def __init__(self, data: bytes | mmap.mmap, offset: int) -> None:
        self.behind = data
        self.offset = offset

    def array(self, dtype: str, shape: list[int]) -> np.ndarray:
        kind = np.dtype(dtype)
        if kind.kind not in "biuf" or any(not isinstance(n, int) or n < 0 for n in shape):
            raise CodecError(f"not an encoded result: array of {dtype} {shape}")
        self.offset += -self.offset % 8
        count = math.prod(shape)
        array = np.frombuffer(self.behind, kind, count, self.offset) if count else np.empty(0, kind)
        self.offset += count * kind.itemsize
        return array.reshape(shape)

    def data(self, length: int) -> bytes:
        raise CodecError("not an encoded result: it holds bytes")
