"""Arrays in the safetensors format, by numpy alone: what is written is read by the `safetensors` package, and back.

Eight bytes with the length of a JSON header, the header, and the values one after the other. What is read may come from
anybody: lengths, types and places are checked before any memory is taken for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DTYPES.items()}
HEADER_LIMIT = 16 << 20  # bytes
TENSORS_LIMIT = 100_000


def pack(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """Arrays and sentences about them as the content of a file."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    parts, place = [], 0
    for name, values in arrays.items():
        values = np.asarray(values)
        data = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        dtype = NAMES[values.dtype.newbyteorder("<").str]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [place, place + len(data)]}
        parts.append(data)
        place += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def unpack(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays of a file's content, which are views of it, and what is said about them.

    Raises:
        ValueError: it is no such content, as the text says.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, HEADER_LIMIT):
        raise ValueError("its header is longer than the file")
    try:
        header = json.loads(data[8 : 8 + size])
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict) or len(header) > TENSORS_LIMIT:
        raise ValueError("its header is no table of tensors")
    told = header.pop("__metadata__", {})
    metadata = {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}
    values = memoryview(data)[8 + size :]
    return {name: _array(entry, values) for name, entry in header.items()}, metadata


def _array(entry: object, values: memoryview) -> np.ndarray:
    if not isinstance(entry, dict) or entry.get("dtype") not in DTYPES:
        raise ValueError("a tensor has a type that is not known")
    shape, places = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if shape is None or places is None or len(places) != 2 or len(shape) > 8:
        raise ValueError("a tensor has no shape, or no place")
    dtype = np.dtype(DTYPES[entry["dtype"]])
    if not places[0] <= places[1] <= len(values) or places[1] - places[0] != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor lies outside the file, or has another length than its shape")
    return np.frombuffer(values[places[0] : places[1]], dtype).reshape(shape)


def _sizes(values: object) -> list[int] | None:
    if isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 60 for value in values):
        return values
    return None
