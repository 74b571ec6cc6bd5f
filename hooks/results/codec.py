"""Results as bytes and back, without pickle: a JSON header, then the arrays as they lie in memory.

    MAGIC | header length, uint32 little-endian | header JSON | padding to 8 | array 0 | padding to 8 | array 1 ...

The header of a result is `{"$type": "Activation", "fields": {...}}`; an array stands in it as
`{"$array": index, "dtype": "<f4", "shape": [...]}`, a non-finite number as `{"$float": "nan"}`. Only the result types
of `looks.py` and `summaries.py`, those that were registered, and plain numeric arrays are ever made from bytes, so what
a worker sends cannot run code in the reader.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from hookscope.hooks.results import looks, summaries

MAGIC = b"HSR1"
TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        looks.Activation,
        looks.AttentionMaps,
        looks.Call,
        looks.Detections,
        looks.GradCam,
        looks.Gradients,
        looks.InputAttribution,
        looks.LayerGradient,
        looks.LayerInfo,
        looks.Prediction,
        looks.Statistics,
        summaries.Survey,
        summaries.SurveyedCall,
    )
}
Result = (
    looks.Activation
    | looks.AttentionMaps
    | looks.Call
    | looks.Detections
    | looks.GradCam
    | looks.Gradients
    | looks.InputAttribution
    | looks.LayerGradient
    | looks.LayerInfo
    | looks.Prediction
    | looks.Statistics
    | summaries.Survey
    | summaries.SurveyedCall
)


def register(kind: type[Any]) -> None:
    """Have one more result type, a frozen dataclass, made from bytes.

    Raises:
        ValueError: another type has its name.
    """
    if TYPES.setdefault(kind.__name__, kind) is not kind:
        raise ValueError(f"there is a result type called {kind.__name__} already")


class CodecError(ValueError):
    """The bytes are not an encoded result."""


def encode(result: Any) -> bytes:
    """Turn a result into bytes."""
    arrays: list[np.ndarray] = []
    header = json.dumps(_plain(result, arrays), allow_nan=False, separators=(",", ":")).encode()
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


def decode(data: bytes) -> Any:
    """Turn bytes from `encode` into the result they came from; its arrays are read-only views of `data`.

    Raises:
        CodecError: the bytes were cut, damaged, or were never a result.
    """
    try:
        if data[:4] != MAGIC:
            raise CodecError("not an encoded result: the first four bytes are wrong")
        length = int.from_bytes(data[4:8], "little")
        header = json.loads(data[8 : 8 + length])
        result = _revive(header, _Arrays(data, 8 + length))
    except CodecError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CodecError(f"not an encoded result: {error}") from error
    if type(result) not in TYPES.values():
        raise CodecError(f"not an encoded result: {type(result).__name__}")
    return result


class _Arrays:
    """Hands out the arrays behind a header, in the order in which they were written."""

    def __init__(self, data: bytes, offset: int) -> None:
        self.data = data
        self.offset = offset

    def take(self, dtype: str, shape: list[int]) -> np.ndarray:
        kind = np.dtype(dtype)
        if kind.kind not in "biuf" or any(not isinstance(n, int) or n < 0 for n in shape):
            raise CodecError(f"not an encoded result: array of {dtype} {shape}")
        self.offset += -self.offset % 8
        count = math.prod(shape)
        array = np.frombuffer(self.data, kind, count, self.offset) if count else np.empty(0, kind)
        self.offset += count * kind.itemsize
        return array.reshape(shape)


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"$type": type(value).__name__, "fields": fields}
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"$array": len(arrays) - 1, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, dict):
        return {key: _plain(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, arrays) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, np.integer):
        return int(value)
    return value


def _revive(value: Any, arrays: _Arrays) -> Any:
    if isinstance(value, list):
        return tuple(_revive(item, arrays) for item in value)
    if not isinstance(value, dict):
        return value
    if "$type" in value:
        kind = TYPES[value["$type"]]
        return kind(**{name: _revive(item, arrays) for name, item in value["fields"].items()})
    if "$array" in value:
        return arrays.take(value["dtype"], value["shape"])
    if "$float" in value:
        return float(value["$float"])
    return {key: _revive(item, arrays) for key, item in value.items()}
