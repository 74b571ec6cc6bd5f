"""The worker process: `python -m hookscope.dashboard.worker FD LIFE`.

FD is its end of the server's socket, LIFE the reading end of a pipe whose other end the server holds open.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from hookscope.dashboard.worker.mailbox import Mailbox

F_SETSIG = 10  # of Linux's fcntl.h, which the module fcntl does not name
NICENESS = 5
OOM_SCORE = 500  # when the memory runs out, the server outlives the worker


def main() -> None:
    """Listen, then import torch, then work until the server goes."""
    faulthandler.enable()
    descriptor, life = map(int, sys.argv[1:3])
    for each in (descriptor, life):
        os.set_inheritable(each, False)  # processes that the model's code starts must not keep them open
    _end_with_the_server(life)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    mailbox = Mailbox(Connection(descriptor))

    from hookscope.dashboard.worker.loop import work

    work(mailbox, loaded=_stand_back)


def _stand_back(model: object) -> None:
    """Let the server go first when the model takes all cores; once it is loaded, because a start should be fast."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)


def _end_with_the_server(life: int) -> None:
    """Have the kernel kill this process and its group when the pipe's other end closes, however the server dies.

    The mailbox notices that too, but its thread cannot run while the model's code holds Python's lock. Elsewhere than
    on Linux there is only the mailbox.
    """
    if sys.platform == "linux":
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    main()
