"""Receives the server's messages in a thread of its own, so that they arrive while a forward pass runs.

Imports no torch: the thread listens before torch is imported, and ends the process when the server is gone.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.sources.unfinished import remove_unfinished


class Mailbox:
    """The worker's end of the connection. `send` from the main thread only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._orders: queue.SimpleQueue[protocol.Load | protocol.Run] = queue.SimpleQueue()
        self._inputs: queue.SimpleQueue[protocol.GivenInput] = queue.SimpleQueue()
        self._withdrawn: dict[int, frozenset[Unit]] = {}
        threading.Thread(target=self._listen, name="mailbox", daemon=True).start()

    def send(self, message: protocol.FromWorker) -> None:
        """Send a message; ends the process if the server is gone."""
        try:
            self._connection.send_bytes(protocol.encode(message))
        except OSError:
            end(0)

    def order(self) -> protocol.Load | protocol.Run:
        """The next thing to do; waits for it."""
        return self._orders.get()

    def input(self, task: int) -> protocol.GivenInput:
        """The picture that was asked for with `NeedInput`; waits for it."""
        while (message := self._inputs.get()).task != task:
            pass
        return message

    def withdrawn(self, task: int) -> frozenset[Unit]:
        """Units of the task that nobody waits for any more."""
        return self._withdrawn.get(task, frozenset())

    def forget(self, task: int) -> None:
        """The task is over."""
        self._withdrawn = {number: units for number, units in self._withdrawn.items() if number > task}

    def _listen(self) -> None:
        while True:
            try:
                message = protocol.decode(self._connection.recv_bytes(protocol.MAXIMUM_BYTES))
            except (EOFError, OSError):  # the server is gone, however it went
                end(0)
            except protocol.ProtocolError as error:
                print(f"hookscope worker: {error}", file=sys.stderr, flush=True)
                end(4)
            match message:
                case protocol.Load() | protocol.Run():
                    self._orders.put(message)
                case protocol.GivenInput():
                    self._inputs.put(message)
                case protocol.Withdraw(task, units):
                    self._withdrawn[task] = self.withdrawn(task) | frozenset(units)
                case protocol.Close():
                    end(0)


def end(code: int) -> None:
    """End this process now, whatever the model is doing, with the processes that its code started."""
    remove_unfinished()
    if os.getpgrp() == os.getpid() and code == 0:
        os.killpg(0, signal.SIGKILL)
    os._exit(code)
