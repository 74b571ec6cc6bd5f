"""A worker in a thread of this process, for models that exist only here: of a notebook, or of a test.

It answers as a worker in a process of its own does, by the same code and the same messages. What a process gives
besides is missing: a crash in native code, or the want of memory, ends everything; a model that hangs cannot be ended,
and is left to itself; what it prints goes where everything goes; torch's threads and the priority stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import NoReturn

from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.channel import Messages, WorkerEnded
from hookscope.dashboard.sources.load import LoadedModel
from hookscope.dashboard.worker.loop import work
from hookscope.dashboard.worker.mailbox import Ended, Mailbox

CLOSE_SECONDS = 0.3


class WorkerThread(Messages):
    """A running worker; see `engine.channel.Channel`."""

    pid = None
    lines: tuple[str, ...] = ()

    def __init__(self, threads: int, stall_seconds: float) -> None:
        """Start the thread. Arguments: see `engine.channel.StartWorker`; `threads` is not used."""
        ours, theirs = socket.socketpair()
        super().__init__(Connection(ours.detach()))
        self._theirs = theirs
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def send(self, message: protocol.ToWorker) -> None:
        """See `engine.channel.Channel`."""
        super().send(replace(message, threads=0) if isinstance(message, protocol.Load) else message)

    def wait_for_news(self, wake: int, timeout_seconds: float, *, listen: bool = True) -> bool:
        """See `engine.channel.Channel`."""
        news = wait([self.connection, wake] if listen else [wake], timeout_seconds)
        if self.connection in news:
            return True
        if not self._thread.is_alive():
            raise WorkerEnded(self.why(None))
        return False

    def pass_on_output(self) -> None:
        """It is there already."""

    def close(self) -> None:
        """See `engine.channel.Channel`; one that does not listen is left to itself."""
        try:
            self.send(protocol.Close())
        except WorkerEnded:
            pass
        self._thread.join(CLOSE_SECONDS)

    def kill(self) -> None:
        """Have it stop at the model's next module."""
        try:
            self.send(protocol.Close())
        except WorkerEnded:
            pass

    def release(self) -> None:
        """See `engine.channel.Channel`."""
        self.connection.close()

    def why(self, error: BaseException | None) -> str:
        """See `engine.channel.Messages`."""
        return "ended by itself"

    def loaded(self, model: LoadedModel) -> None:
        """Called in the worker's thread once the model is there; for whoever derives from this."""

    def _work(self) -> None:
        try:
            work(Mailbox(Connection(os.dup(self._theirs.fileno())), end=_end), self.loaded)
        except Ended:
            pass
        finally:
            with contextlib.suppress(OSError):
                self._theirs.shutdown(socket.SHUT_RDWR)  # so that whoever reads at either end hears of it
            self._theirs.close()


def _end(code: int) -> NoReturn:
    raise Ended
