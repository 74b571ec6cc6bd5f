"""Decodes a set's pictures ahead of whoever runs the model over them, in a child process that nothing else shares.

A sweep asks for one picture after the other. When it asks for one, those after it are begun; so the model and the
decoder work side by side, and a picture on which the decoder dies costs that picture alone.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from hookscope.dashboard.inputs.decoder import Decoder, InputRefused
from hookscope.dashboard.inputs.rows import SUFFIX
from hookscope.dashboard.sets.members import no_picture

AHEAD = 24  # pictures that are decoded and wait: some seconds' work of a model on a processor
PATIENCE_SECONDS = 60.0  # for one picture, its turn in the queue included


class Feed:
    """The pictures of one set, one after the other.

    Arguments:
        sources: where each picture lies, by number; None of one that has no file.
        previews: where a small copy of each is kept, NUMBER.jpg; made if it is not there.
        decoder: runs the children.
    """

    def __init__(self, sources: Sequence[Path | None], previews: Path, decoder: Decoder) -> None:
        self._sources = sources
        self._previews = previews
        self._decoder = decoder
        self._folder = Path(tempfile.mkdtemp(prefix="hookscope-set-"))
        self._changed = threading.Condition()
        self._ready: dict[int, str] = {}  # number -> why it cannot be read, "" if it can
        self._next = self._wanted = 0
        self._doing = -1
        self._closed = False
        self._thread: threading.Thread | None = None

    def take(self, number: int) -> bytes:
        """Every pixel of a picture, as `inputs.rows` has them; it is let go of.

        Raises:
            InputRefused: it cannot be read.
        """
        with self._changed:
            comes = number in self._ready or number == self._doing or self._next <= number < self._next + AHEAD
            if not comes:  # the sweep goes on elsewhere
                self._next = number
            self._wanted = number
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="decoding a set", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            there = self._changed.wait_for(lambda: number in self._ready or self._closed, PATIENCE_SECONDS)
            problem = self._ready.pop(number, "") if there else "Reading this picture took too long; make it smaller."
            if self._closed:
                problem = "The sweep was stopped."
        if problem:
            raise InputRefused(problem)
        path = self._folder / f"{number}{SUFFIX}"
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputRefused(f"The decoded picture is gone ({error.strerror}); sweep the set again.") from error
        finally:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop decoding, and remove what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(2.0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        with self._decoder.many() as child:
            while (number := self._claim()) is not None:
                source, target = self._sources[number], self._folder / str(number)
                problem = ""
                try:
                    if source is None:
                        raise InputRefused("This picture has no file.")
                    check_file(source)
                    child.decode(source, target)
                    self._keep_preview(number, target)
                except InputRefused as refused:
                    problem = str(refused)
                with self._changed:
                    self._ready[number], self._doing = problem, -1
                    self._changed.notify_all()

    def _claim(self) -> int | None:
        """The next picture to decode, once there is room for it; None, and the thread ends, when no more is wanted."""
        with self._changed:
            number = self._next_number()
            if number is None:
                self._thread = None
            return number

    def _next_number(self) -> int | None:
        """The same; holds the lock."""
        while not self._closed:
            if self._next >= len(self._sources):
                return None
            if self._next <= self._wanted + AHEAD:
                number, self._next = self._next, self._next + 1
                if number not in self._ready:
                    self._doing = number
                    return number
            elif not self._changed.wait(PATIENCE_SECONDS):  # nobody asks any more
                return None
        return None

    def _keep_preview(self, number: int, target: Path) -> None:
        with contextlib.suppress(OSError):
            self._previews.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(target.with_suffix(".jpg"), self._previews / f"{number}.jpg")


def check_file(path: Path) -> None:
    """Refuse what has come into a picture's place: a link, a pipe, a folder.

    Raises:
        InputRefused: it has; or nothing is there.
    """
    try:
        reason = no_picture(path.lstat())
    except OSError as error:
        raise InputRefused("This file is no longer there.") from error
    if reason:
        raise InputRefused(reason)
