"""What the server and a worker say to each other: typed messages, as a JSON header with bytes behind it.

    header length, uint32 little-endian | header JSON | data

The header is what `typed.plain` makes of a message; the one field of type `bytes` of a message, if it has one, is the
data behind the header. Never a pickle: what a worker sends cannot run code in the server. A reader builds exactly the
dataclasses named here, with every value of the type that its field declares, or raises `ProtocolError`.
"""

from __future__ import annotations

import json
import typing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine.base import ModelInfo
from hookscope.dashboard.engine.options import ModelOptions
from hookscope.hooks.results import typed
from hookscope.hooks.results.looks import LiveHook

MAXIMUM_BYTES = 2**31 - 1  # one message
ANSWER_BYTES = 128_000_000  # the values of one answer; the worker makes larger ones smaller, and says so
JOB_OVER = "The job is over."  # in the place of an input that is asked for by a task of which nobody waits any more


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
    """Answer these units, which one run of the model answers, in this order where there is a choice.

    Attributes:
        other: the model of the other side that they are about, if that is another one. fingerprint: that model's.
    """

    task: int
    units: tuple[Unit, ...]
    other: ModelOptions | None = None
    fingerprint: str = ""


@dataclass(frozen=True)
class GivenInput:
    """The pixels that `NeedInput` asked for, as in `inputs.rows`; or, without data, the sentence why there are none.

    Attributes:
        ends: there are none of anything else, either, and the task fails with that sentence.
    """

    task: int
    data: bytes = field(repr=False)
    sentence: str = ""
    ends: bool = False


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


def encode(message: Message) -> bytes:
    """Turn a message into bytes."""
    attached: list[Any] = []
    header = json.dumps(typed.plain(message, attached), allow_nan=False).encode()
    return b"".join((len(header).to_bytes(4, "little"), header, *attached))


def decode(data: bytes) -> Message:
    """Turn bytes from `encode` into the message they came from.

    Raises:
        ProtocolError: the bytes were cut, damaged, or were never a message.
    """
    end = 4 + int.from_bytes(data[:4], "little")
    if len(data) < end or end == 4:
        raise ProtocolError("not a message: the header is cut")
    try:
        header = json.loads(data[4:end].decode())
        return typing.cast(Message, typed.read(Message, header, _Behind(data, end), "a message"))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a message: {error}") from error


@dataclass
class _Behind:
    """The bytes behind a header, to its end; a message has one such field at most, and no array."""

    message: bytes
    start: int

    def data(self, length: int) -> bytes:
        if length != len(self.message) - self.start:
            raise ProtocolError("not a message: its data are cut")
        return self.message[self.start :]

    def array(self, dtype: str, shape: list[int]) -> np.ndarray:
        raise ProtocolError("not a message: it holds an array")


EXIT_DEVICE_LOST = 70  # how a worker ends after an error that leaves its GPU unusable
