"""What the server and a worker say to each other: typed messages, as a JSON header with bytes behind it.

    header length, uint32 little-endian | header JSON | data

The header is `{"type": "Answered", "fields": {...}}`; the one field of type `bytes` of a message, if it has one, is the
data behind the header. Never a pickle: what a worker sends cannot run code in the server. A reader builds exactly the
dataclasses named here, with every value of the type that its field declares, or raises `ProtocolError`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.hooks.results.looks import LiveHook

MAXIMUM_BYTES = 2**31 - 1  # one message
ANSWER_BYTES = 128_000_000  # the values of one answer; the worker makes larger ones smaller, and says so


class ProtocolError(ValueError):
    """The bytes are not a message."""


# --- from the server to a worker


@dataclass(frozen=True)
class Load:
    """Load this model, with so many threads (0 leaves them as they are); the first message, sent once."""

    options: ModelOptions
    device: str
    threads: int


@dataclass(frozen=True)
class Run:
    """Answer these units, which share model, input, question and target, in this order where there is a choice."""

    task: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class GivenInput:
    """The picture that `NeedInput` asked for, as PNG; or, without data, the sentence why there is none."""

    task: int
    data: bytes = field(repr=False)
    sentence: str = ""


@dataclass(frozen=True)
class Withdraw:
    """Nobody waits for these units of the task any more."""

    task: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Close:
    """End at once."""


# --- from a worker to the server


@dataclass(frozen=True)
class LoadProgress:
    """What the worker is doing on its way to `Ready`, as a sentence."""

    sentence: str


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""

    info: ModelInfo


@dataclass(frozen=True)
class LoadFailed:
    """The model cannot be loaded; the worker ends."""

    sentence: str
    details: str = ""


@dataclass(frozen=True)
class NeedInput:
    """The worker has no copy of this input."""

    task: int
    input: str


@dataclass(frozen=True)
class Started:
    """The forward pass for this unit begins."""

    task: int
    unit: Unit


@dataclass(frozen=True)
class Partial:
    """What is known of a unit's result so far, in the same form."""

    task: int
    unit: Unit
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Answered:
    """A unit's result, as `results.codec.encode` made it."""

    task: int
    unit: Unit
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Failed:
    """A unit that cannot be answered, and why."""

    task: int
    unit: Unit
    sentence: str
    details: str = ""
    final: bool = False


@dataclass(frozen=True)
class Progress:
    """How many of the pictures that the task has to run have been run; also a sign of life of a long one."""

    task: int
    done: int
    total: int


@dataclass(frozen=True)
class HooksLive:
    """The hooks that are registered on the model from now on."""

    hooks: tuple[LiveHook, ...]


@dataclass(frozen=True)
class TaskDone:
    """Nothing more will be said about this task, and its hooks are gone."""

    task: int


ToWorker = Load | Run | GivenInput | Withdraw | Close
FromWorker = (
    LoadProgress
    | Ready
    | LoadFailed
    | NeedInput
    | Started
    | Partial
    | Answered
    | Failed
    | Progress
    | HooksLive
    | TaskDone
)
Message = ToWorker | FromWorker
TYPES: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Message)}


def encode(message: Message) -> bytes:
    """Turn a message into bytes."""
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    data = b""
    for name, value in list(fields.items()):
        if isinstance(value, bytes):
            data = value
            del fields[name]
    header = json.dumps({"type": type(message).__name__, "fields": _plain(fields)}, allow_nan=False).encode()
    return b"".join((len(header).to_bytes(4, "little"), header, data))


def decode(data: bytes) -> Message:
    """Turn bytes from `encode` into the message they came from.

    Raises:
        ProtocolError: the bytes were cut, damaged, or were never a message.
    """
    try:
        end = 4 + int.from_bytes(data[:4], "little")
        if len(data) < end or end == 4:
            raise ProtocolError("not a message: the header is cut")
        header = json.loads(data[4:end].decode())
        if not isinstance(header, dict) or set(header) != {"type", "fields"}:
            raise ProtocolError("not a message: the header is not a type with fields")
        kind = TYPES.get(header["type"]) if isinstance(header["type"], str) else None
        if kind is None:
            raise ProtocolError(f"not a message: unknown type {str(header['type'])[:80]!r}")
        fields = header["fields"]
        if not isinstance(fields, dict):
            raise ProtocolError(f"not a message: {kind.__name__} without fields")
        for name, hint in _hints(kind).items():
            if hint is bytes:
                fields[name] = data[end:]
        return typing.cast(Message, _build(kind, fields))
    except ProtocolError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no NaN; `_read` takes the text back where a float is declared
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: type, fields: Any) -> Any:
    if not isinstance(fields, dict):
        raise ProtocolError(f"not a message: {kind.__name__} is not an object")
    hints = _hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}
    missing = [name for name, f in known.items() if name not in fields and _required(f)]
    unknown = [str(name)[:80] for name in fields if name not in known]
    if missing or unknown:
        raise ProtocolError(f"not a message: {kind.__name__} with missing {missing} and unknown {unknown} fields")
    return kind(**{name: _read(hints[name], value, f"{kind.__name__}.{name}") for name, value in fields.items()})


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _read(hint: Any, value: Any, where: str) -> Any:
    """Check a value from JSON against a type hint and give it that type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
    elif origin is tuple and isinstance(value, list):
        if arguments[1:] == (...,):
            return tuple(_read(arguments[0], item, where) for item in value)
        if len(arguments) == len(value):
            return tuple(_read(each, item, where) for each, item in zip(arguments, value, strict=True))
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if value in ("nan", "inf", "-inf"):
            return float(value)
    elif hint is type(None):
        if value is None:
            return None
    elif type(value) is hint:  # not isinstance: True is an int
        return value
    raise ProtocolError(f"not a message: {where} is not {hint}")


def _read_union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    for each in arguments:
        try:
            return _read(each, value, where)
        except ProtocolError:
            continue
    raise ProtocolError(f"not a message: {where} is none of {arguments}")


EXIT_DEVICE_LOST = 70  # how a worker ends after an error that leaves its GPU unusable
