"""Starts the decoding child, waits no longer than it may take, and turns whatever happens to it into a sentence."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hookscope.dashboard.places import IMPORTED_FROM

_log = logging.getLogger(__name__)

# With -I and -S the child reads no environment, no .pth file and no current folder; it is told where its packages lie.
_START = """
import json, sys
sys.path += json.loads(sys.argv[1])
from hookscope.dashboard.inputs.child.decoding import main
sys.exit(main(sys.argv[2:]))
"""
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TMPDIR")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_START_SECONDS = 2.0
_END_SECONDS = 0.5
MANY = "--many"  # instead of a file: which ones, the child reads from its input
_BUSY = "Too many pictures are being read at the moment; try again in a minute."
_ANOTHER_FORM = "open it in a picture editor, save it as PNG, and upload that."


class InputRefused(Exception):
    """A picture is not accepted; `str(error)` says what is wrong and what to do next.

    Attributes:
        status: the HTTP status that says the same.
    """

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Decoded:
    """What the child made: `target`.rgb and `target`.jpg.

    Attributes:
        digest: SHA-256 of size and pixels. width, height: the orientation applied.
        notes: what was done to the pixels, for the person. spread: whether its values use less than half of what their
            type could hold. channels: of what stands behind the pixels. either: whether its axes may be read in two
            ways.
    """

    digest: str
    width: int
    height: int
    notes: tuple[str, ...]
    spread: bool = False
    channels: int = 0
    either: bool = False


class Decoder:
    """Decodes pictures in child processes, a few at once.

    Arguments:
        timeout_seconds: how long one picture may take.
        at_once: how many children may run; each may need 0.7 GB at worst.
        waiting: how many pictures may wait for their turn; each holds one of the server's threads, of which most have
            to stay free for everybody else.
        queue_seconds: how long a picture waits for its turn before it is refused as "busy".
    """

    def __init__(
        self, timeout_seconds: float = 10.0, at_once: int = 2, waiting: int = 16, queue_seconds: float = 30.0
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._queue_seconds = queue_seconds
        self._turns = threading.BoundedSemaphore(at_once)
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def decode(self, source: Path, target: Path) -> Decoded:
        """Decode `source` into `target`.rgb and `target`.jpg.

        Raises:
            InputRefused: in a sentence, whatever happened.
        """
        if not self._places.acquire(blocking=False):
            raise InputRefused(_BUSY, 503)
        try:
            if not self._turns.acquire(timeout=self._queue_seconds):
                raise InputRefused(_BUSY, 503)
            try:
                return self._run(source, target)
            finally:
                self._turns.release()
        finally:
            self._places.release()

    @contextlib.contextmanager
    def many(self) -> Iterator[Many]:
        """Decode many pictures of one set, one after the other, in one child that begins anew where it dies."""
        child = Many(self)
        try:
            yield child
        finally:
            child.end()

    def close(self) -> None:
        """End the children that run; what waits for them is refused."""
        with self._lock:
            self._closed = True
            for child in self._running:
                child.kill()

    def _run(self, source: Path, target: Path) -> Decoded:
        child = self.start(str(source), str(target))
        try:
            output, _ = child.communicate(timeout=self._timeout_seconds + _START_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise InputRefused(self.too_long()) from None
        except BaseException:
            child.kill()
            child.communicate()
            raise
        finally:
            with self._lock:
                self._running.discard(child)
        if self._closed:
            raise InputRefused("The server is stopping; upload the picture again when it is back.", 503)
        if child.returncode != 0:
            raise InputRefused(self.why_ended(child.returncode))
        return _answer(output)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a child.

        Raises:
            InputRefused: it cannot be started.
        """
        command = [sys.executable, "-I", "-S", "-c", _START, json.dumps(_package_folders())]
        command += [*arguments, str(self._timeout_seconds)]
        environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        # numpy's threads would each take address space from the child's limit.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with self._lock:
            if self._closed:
                raise InputRefused("The server is stopping; upload the picture again when it is back.", 503)
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE if MANY in arguments else subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the server, which then ends its children
                )
            except OSError as error:
                _log.error("The decoding process could not be started: %s", error)
                raise InputRefused(
                    "The server has no room to read a picture now; try again in a minute.", 503
                ) from error
            self._running.add(child)
            return child

    @property
    def seconds(self) -> float:
        """How long one picture may take, the start of a child included."""
        return self._timeout_seconds + _START_SECONDS

    def forget(self, child: subprocess.Popen[bytes]) -> None:
        """End a child, and wait for it."""
        child.kill()
        child.communicate()
        with self._lock:
            self._running.discard(child)

    def why_ended(self, code: int) -> str:
        """What is to be said of a picture on which a child ended."""
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return self.too_long()
        _log.warning("The decoding process ended with %d", code)
        if code == -signal.SIGKILL:
            return "The system ended the reading of this picture, perhaps for want of memory; make it smaller."
        return f"This picture's decoder crashed, so the file is probably damaged; {_ANOTHER_FORM}"

    def too_long(self) -> str:
        """What is to be said of a picture that takes too long."""
        return (
            f"Reading this picture takes longer than {self._timeout_seconds:g} s; make it smaller, or {_ANOTHER_FORM}"
        )


class Many:
    """One child that decodes one picture after the other."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, source: Path, target: Path) -> Decoded:
        """Decode `source` into `target`.rgb and `target`.jpg.

        Raises:
            InputRefused: in a sentence, whatever happened; the next picture finds a new child.
        """
        if self._child is None:
            self._child = self._decoder.start(MANY)
        child = self._child
        assert child.stdin is not None and child.stdout is not None
        with contextlib.suppress(OSError):  # it is gone: then it does not answer either
            child.stdin.write(json.dumps([str(source), str(target)]).encode() + b"\n")
            child.stdin.flush()
        line = _line(child.stdout.fileno(), time.monotonic() + self._decoder.seconds)
        if line.endswith(b"\n"):
            return _answer(line)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_END_SECONDS)  # its output may end before it does
        code = child.returncode
        self.end()
        raise InputRefused(self._decoder.too_long() if code is None else self._decoder.why_ended(code))

    def end(self) -> None:
        """End the child."""
        if self._child is not None:
            self._decoder.forget(self._child)
            self._child = None


def _line(file: int, deadline: float) -> bytes:
    """A line of a child's output; without its end if the child ended, or did not write it in time."""
    found = b""
    with selectors.DefaultSelector() as selector:
        selector.register(file, selectors.EVENT_READ)
        while not found.endswith(b"\n") and (left := deadline - time.monotonic()) > 0:
            if selector.select(left):
                part = os.read(file, 2**16)
                if not part:
                    break
                found += part
    return found


def _answer(output: bytes) -> Decoded:
    try:
        answer = json.loads(output)
        if "refused" in answer:
            if "details" in answer:
                _log.info("A picture was refused: %s", answer["details"])
            raise InputRefused(str(answer["refused"]))
        size, notes = (int(answer["width"]), int(answer["height"])), tuple(answer["notes"])
        more = {"spread": bool(answer.get("spread")), "either": bool(answer.get("either"))}
        decoded = Decoded(str(answer["digest"]), *size, notes, channels=int(answer.get("channels", 0)), **more)
        if not _DIGEST.fullmatch(decoded.digest):
            raise ValueError("the digest is none")
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("The decoding process answered nonsense: %s", error)
        raise InputRefused(f"This picture could not be read; {_ANOTHER_FORM}") from error
    return decoded


def _package_folders() -> list[str]:
    """Where this package, Pillow and numpy lie, without importing any of them."""
    folders = [str(IMPORTED_FROM)]
    for name in ("PIL", "numpy"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(str(Path(spec.origin).resolve().parent.parent))
    return list(dict.fromkeys(folders))
