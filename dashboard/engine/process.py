"""One worker process: started as a fresh interpreter, spoken to in messages, ended with everything it started.

The child is `python -m hookscope.dashboard.worker FD LIFE`, where FD is one end of a socket pair and LIFE the reading
end of a pipe that closes when the server dies. Not `multiprocessing`'s spawn: that sends its arguments as a pickle,
runs the operator's main module again, and leaves a resource tracker process behind.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from multiprocessing.connection import Connection, wait
from pathlib import Path

from hookscope.dashboard.engine import protocol
from hookscope.dashboard.engine.channel import Messages, WorkerEnded
from hookscope.dashboard.engine.protocol import EXIT_DEVICE_LOST
from hookscope.dashboard.engine.strays import MARK, end_strays, new_mark
from hookscope.dashboard.places import IMPORTED_FROM

LINES_KEPT = 60
LINE_BYTES = 20_000  # a longer line is passed on in pieces
READS_AT_ONCE = 16  # of what the worker prints, before its messages have their turn
CLOSE_SECONDS = 0.3
# What a process that has imported torch and answered once holds for itself, beside the weights: 436 to 509 MB for two
# small models with torch 2.15.
PROCESS_BYTES = 450_000_000


class WorkerProcess(Messages):
    """A running worker; see `engine.channel.Channel`."""

    def __init__(self, threads: int, stall_seconds: float) -> None:
        """Start the process. Arguments: see `engine.channel.StartWorker`."""
        self._ooms = _ooms()
        self._mark = new_mark()
        ours, theirs = socket.socketpair()
        self._stderr, write_end = os.pipe()
        life, self._life = os.pipe()
        os.set_blocking(self._stderr, False)
        # Without these a stopped worker would block the supervisor's thread for ever in the middle of a message.
        limit = struct.pack("ll", max(1, int(stall_seconds)), 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            self.process = subprocess.Popen(
                # -P: the current directory must not shadow our modules; the worker adds it where a factory needs it.
                [sys.executable, "-P", "-m", "hookscope.dashboard.worker", str(theirs.fileno()), str(life)],
                pass_fds=[theirs.fileno(), life],
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,  # its own group, to be killed whole; and Ctrl-C reaches only the server
                env=environment(threads) | {MARK: self._mark},
            )
        except BaseException:
            ours.close()
            os.close(self._stderr)
            os.close(self._life)
            raise
        finally:
            theirs.close()
            os.close(write_end)
            os.close(life)
        super().__init__(Connection(ours.detach()))
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._partial = b""
        self._stderr_open = True

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self.process.pid

    def wait_for_news(self, wake: int, timeout_seconds: float, *, listen: bool = True) -> bool:
        """See `engine.channel.Channel`; passes on what the worker printed meanwhile."""
        sources: list[int | Connection] = [self.connection, wake] if listen else [wake]
        if self._stderr_open:
            sources.append(self._stderr)
        news = wait(sources, timeout_seconds)
        if self._stderr in news:
            self.pass_on_output()
        if self.connection in news:
            return True
        # The end shows as end of file; not while a process that the model's code forked holds the socket open.
        if _poll_group(self.process) is not None:
            raise WorkerEnded(self.why(None))
        return False

    def pass_on_output(self) -> None:
        """Write what the worker printed to our stderr, and keep the last lines."""
        for _ in range(READS_AT_ONCE):
            if not self._stderr_open:
                return
            try:
                chunk = os.read(self._stderr, 65536)
            except BlockingIOError:
                return
            if not chunk:
                self._stderr_open = False
                chunk = b"\n" if self._partial else b""
            *whole, self._partial = (self._partial + chunk).split(b"\n")
            if len(self._partial) > LINE_BYTES:
                whole, self._partial = [*whole, self._partial], b""
            for line in whole:
                text = line.decode(errors="replace")
                self.lines.append(text)
                try:
                    print(text, file=sys.stderr, flush=True)
                except (OSError, ValueError):  # the server's own stderr is closed
                    pass

    def close(self) -> None:
        """Ask the worker to end, wait a moment, and leave nothing of it."""
        try:
            self.send(protocol.Close())
            self.process.wait(CLOSE_SECONDS)
        except (WorkerEnded, subprocess.TimeoutExpired):
            pass
        self.kill()
        self.release()

    def kill(self) -> None:
        """End the process and whatever it started, now; safe from any thread, and more than once."""
        if self.process.returncode is None:  # not reaped: the group's number is still its own
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        self.process.wait()
        end_strays(self._mark, self.process.pid)

    def release(self) -> None:
        """Close the files, after the process has ended."""
        self.pass_on_output()
        self.connection.close()
        if self._stderr >= 0:
            os.close(self._stderr)
            os.close(self._life)
            self._stderr, self._stderr_open = -1, False

    def why(self, error: BaseException | None) -> str:
        """See `engine.channel.Messages`."""
        if isinstance(error, BlockingIOError):
            return "stopped answering"
        deadline = time.monotonic() + 1.0  # the socket closes a moment before the process can be waited for
        while (code := _poll_group(self.process)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return describe_exit(code, out_of_memory=_ooms() > self._ooms)


def _poll_group(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code if the process has ended, killing its group before the number is given back."""
    if process.returncode is None:
        try:
            ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            ended = True
        if not ended:
            return None
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    return process.wait()


def describe_exit(code: int | None, *, out_of_memory: bool = False) -> str:
    """How a process ended, as the rest of a sentence that starts with its name."""
    if code is None:
        return "stopped answering"
    if code == EXIT_DEVICE_LOST:
        return "had to end after an error of the GPU, which only a new process gets over"
    if code >= 0:
        return f"ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        if out_of_memory:
            return "was killed because the machine ran out of memory"
        return f"was killed ({name}); if nobody did that by hand, the machine may have run out of memory"
    if -code in (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT):
        return f"crashed in native code ({name})"
    return f"was ended from outside ({name})"


def _ooms() -> int:
    """How often the kernel has killed for want of memory so far; 0 where that is not known (macOS)."""
    count = 0
    for path in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        try:
            for line in Path(path).read_text().splitlines():
                if line.startswith("oom_kill "):
                    count += int(line.split()[1])
        except (OSError, ValueError):
            pass
    return count


def environment(threads: int) -> dict[str, str]:
    """The variables of a process that runs our code and torch with so many threads."""
    environment = dict(os.environ)
    paths = [str(IMPORTED_FROM), *filter(None, [environment.get("PYTHONPATH", "")])]
    environment |= {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",  # also while torch is being imported
        "OMP_NUM_THREADS": str(threads),
        # torch's OpenMP threads spin while they wait for each other. Beside one other busy program the 31 ms of a
        # ResNet-50 became 155 on two cores, and at times seconds; spinning for less and then sleeping it is 31 and 91.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "2000"),
        "MKL_NUM_THREADS": str(threads),
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",  # torchvision reads its own files as full pickles
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    return environment
