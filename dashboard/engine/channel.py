"""What a supervisor speaks to: a worker, wherever it runs. `process.py` has the one in a process of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Protocol

from hookscope.dashboard.engine import protocol


class WorkerEnded(Exception):
    """The worker is gone, or said something that no worker says; the text is what happened, without a subject."""


class WorkerOutdated(WorkerEnded):
    """What the worker has loaded is no longer what it should have: the next one loads it anew, and at once."""


class Channel(Protocol):
    """A running worker. Used by one thread, `kill` excepted."""

    @property
    def pid(self) -> int | None:
        """Its process id; None if it has no process of its own."""

    @property
    def lines(self) -> Sequence[str]:
        """The last that it printed, where that can be told from what others print."""

    def send(self, message: protocol.ToWorker) -> None:
        """Send a message.

        Raises:
            WorkerEnded: the worker is gone or does not read.
        """

    def receive(self) -> protocol.Message:
        """The next message; called when `wait_for_news` said that there is one.

        Raises:
            WorkerEnded: the worker is gone, stopped in the middle of a message, or sent something else.
        """

    def wait_for_news(self, wake: int, timeout_seconds: float, *, listen: bool = True) -> bool:
        """Wait for a message, a byte on the file `wake`, or the timeout.

        Arguments:
            listen: without it messages are left where they are: the worker waits as soon as no more fit in between.

        Returns:
            Whether there is something to `receive`.

        Raises:
            WorkerEnded: the worker has ended.
        """

    def pass_on_output(self) -> None:
        """Write what the worker printed to our stderr, where it goes nowhere by itself."""

    def close(self) -> None:
        """Ask the worker to end, wait a moment, and leave nothing of it."""

    def kill(self) -> None:
        """End the worker, now; safe from any thread, and more than once."""

    def release(self) -> None:
        """Close the files, after the worker has ended."""


StartWorker = Callable[[int, float], Channel]
"""Starts a worker.

Arguments:
    threads: for torch's and OpenMP's pools.
    stall_seconds: a message that cannot be passed on within this time means that the worker hangs.

Raises:
    OSError: the system refuses.
"""


class Messages(ABC):
    """Messages over a connection, for those channels that have one."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def send(self, message: protocol.ToWorker) -> None:
        """See `Channel`."""
        try:
            self.connection.send_bytes(protocol.encode(message))
        except OSError as error:
            raise WorkerEnded(self.why(error)) from error

    def receive(self) -> protocol.Message:
        """See `Channel`."""
        try:
            return protocol.decode(self.connection.recv_bytes(protocol.MAXIMUM_BYTES))
        except (EOFError, OSError) as error:
            raise WorkerEnded(self.why(error)) from error
        except protocol.ProtocolError as error:
            raise WorkerEnded(f"sent something that cannot be read ({error})") from error

    @abstractmethod
    def why(self, error: BaseException | None) -> str:
        """How the worker ended, as the rest of a sentence."""
