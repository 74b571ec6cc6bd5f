"""The worker process: `python -m dashboard.worker FD`, where FD is its end of the server's socket."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from dashboard.worker.mailbox import Mailbox

OOM_SCORE = 500  # when the memory runs out, the server outlives the worker


def main() -> None:
    """Listen, then import torch, then work until the server goes."""
    faulthandler.enable()
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)  # processes that the model's code starts must not keep the socket open
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    mailbox = Mailbox(Connection(descriptor))

    from dashboard.worker.loop import work

    work(mailbox)


if __name__ == "__main__":
    main()
