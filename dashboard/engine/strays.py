"""Processes that a model's code started and that left their worker's group: found by a mark in their environment.

A worker leads a process group, which is killed whole; but what a model starts may have made a group of its own, and
once the worker is dead nothing else says where it came from. Only Linux shows a process's environment; elsewhere the
group has to do.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "HOOKSCOPE_WORKER"  # the environment variable, which every descendant inherits
ATTEMPTS = 5  # a stray may start another one while we look


def new_mark() -> str:
    """A value for the variable that no other worker has."""
    return secrets.token_hex(16)


def end_strays(mark: str, worker: int) -> None:
    """Kill every process that carries this mark, and wait until it is dead.

    Arguments:
        worker: the process id of the worker, which is not touched: whoever started it waits for it.
    """
    for _ in range(ATTEMPTS):
        found = list(_marked(mark, worker))
        for handle in found:
            try:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], 0.5)
            except (ProcessLookupError, PermissionError):
                pass
            finally:
                os.close(handle)
        if not found:
            return


def _marked(mark: str, worker: int) -> Iterator[int]:
    """Handles of the processes; a handle cannot come to mean another process, as a number can."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        process = int(folder.name)
        if process in (worker, os.getpid()):
            continue
        try:
            handle = os.pidfd_open(process)
        except (OSError, AttributeError):
            continue
        try:
            carries = wanted in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it is gone, or another user's
            carries = False
        if carries:
            yield handle
        else:
            os.close(handle)
