"""Receives the server's messages in a thread of its own, so that they arrive while a forward pass runs.

Imports no torch: the thread listens before torch is imported, and ends the process when the server is gone.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn

from hookscope.dashboard.asking.questions import Unit
from hookscope.dashboard.engine import protocol
from hookscope.dashboard.sources.unfinished import remove_unfinished


def end_process(code: int) -> NoReturn:
    """End this process now, whatever the model is doing, with the processes that its code started."""
    remove_unfinished()
    if os.getpgrp() == os.getpid() and code == 0:
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


class Ended(BaseException):
    """The worker's thread is to end; derived so that no model's code catches it by accident."""


class Mailbox:
    """The worker's end of the connection. `send` from the main thread only.

    Arguments:
        end: ends the worker, called with an exit code by whichever thread finds that it is over. It may raise
            `Ended`: what waits for an order or an input then does too, and every unit counts as withdrawn.
    """

    def __init__(self, connection: Connection, end: Callable[[int], NoReturn] = end_process) -> None:
        self.end = end
        self._connection = connection
        self._orders: queue.SimpleQueue[protocol.Load | protocol.Run | None] = queue.SimpleQueue()
        self._inputs: queue.SimpleQueue[protocol.GivenInput | None] = queue.SimpleQueue()
        self._runs: dict[int, protocol.Run] = {}
        self._withdrawn: dict[int, frozenset[Unit]] = {}
        threading.Thread(target=self._listen, name="mailbox", daemon=True).start()

    def send(self, message: protocol.FromWorker) -> None:
        """Send a message; ends the process if the server is gone."""
        try:
            self._connection.send_bytes(protocol.encode(message))
        except OSError:
            self.end(0)

    def order(self) -> protocol.Load | protocol.Run:
        """The next thing to do; waits for it."""
        return self._orders.get() or self.end(0)

    def next_order(self, patience: float = 0.0) -> protocol.Run | None:
        """A batch that has come meanwhile, or comes within so many seconds."""
        try:
            order = self._orders.get(timeout=patience) if patience > 0 else self._orders.get_nowait()
            order = order or self.end(0)
        except queue.Empty:
            return None
        return order if isinstance(order, protocol.Run) else None

    def input(self, task: int) -> protocol.GivenInput:
        """The picture that was asked for with `NeedInput`; waits for it."""
        while (message := self._inputs.get() or self.end(0)).task != task:
            pass
        return message

    def withdrawn(self, task: int) -> frozenset[Unit]:
        """Units of the task that nobody waits for any more."""
        return self._withdrawn.get(task, frozenset())

    def forget(self, task: int) -> None:
        """The task is over."""
        self._runs.pop(task, None)
        self._withdrawn.pop(task, None)

    def _listen(self) -> None:
        try:
            self._sort()
        except Ended:
            self._withdrawn |= {number: frozenset(run.units) for number, run in self._runs.items()}
            self._orders.put(None)
            self._inputs.put(None)

    def _sort(self) -> None:
        while True:
            try:
                message = protocol.decode(self._connection.recv_bytes(protocol.MAXIMUM_BYTES))
            except (EOFError, OSError):  # the server is gone, however it went
                self.end(0)
            except protocol.ProtocolError as error:
                print(f"hookscope worker: {error}", file=sys.stderr, flush=True)
                self.end(4)
            match message:
                case protocol.Load():
                    self._orders.put(message)
                case protocol.Run():
                    self._runs[message.task] = message
                    self._orders.put(message)
                case protocol.GivenInput():
                    self._inputs.put(message)
                case protocol.Withdraw(task, units) if task in self._runs:
                    self._withdrawn[task] = self.withdrawn(task) | frozenset(units)
                case protocol.Close():
                    self.end(0)
